#!/usr/bin/env python3
"""Time nnet-latgen-faster beside Kaldi's own, and compare what both of them write.

Kaldi's is that below $KALDI_ROOT.  The programs take turns, each as a whole process by one thread,
start and reading of the graph included; features are made before.  What is shown are seconds of a
processor per second of speech (100 frames), the median of the rounds, and for how many utterances
the words and the alignment are the same."""

import os
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from measure import kaldi_program, measure, write_json

from nnet.cli import argument, log, option, program
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.errors import NgtrainError
from nnet.io.tables import INTEGERS, MATRIX, sequential_table, table_writer
from nnet.lattices.tables import COMPACT_LATTICE
from nnet.lattices.times import depth

OURS = Path(__file__).resolve().parent.parent / "bin/nnet-latgen-faster"
OUTPUTS = "lattices", "words", "alignments"


@program("""\
Usage:  benchmarks/latgen.py [options] <nnet-dir> <graph-dir> <data>
 e.g.: KALDI_ROOT=~/kaldi benchmarks/latgen.py exp/nnet exp/nnet/graph data/dev""")
@argument("nnet_dir", "graph_dir", "data", type=Path)
@option("--every", 10, "Of the utterances, every so manyth", least=1)
@option("--rounds", 5, "How many times each program runs", least=1)
@option("--acoustic-scale", 0.1, "Scale of likelihoods", above=0)
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--max-active", 7000, "States active at most", least=2)
@option("--lattice-beam", 8.0, "Beam of the lattices", above=0)
@option("--json", "", "Write the figures into this file, too")
def main(nnet_dir, graph_dir, data, every, rounds, json, **search):
    theirs = kaldi_program(OURS.name)
    if theirs is None:
        raise NgtrainError(f"there is no {OURS.name} below $KALDI_ROOT/src")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in search.items()]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        num_utterances, num_frames = write_features(nnet_dir, data, every, f"{folder}/feats")
        inputs = nnet_dir / "final.mdl", graph_dir / "HCLG.fst", f"ark:{folder}/feats"
        costs = {"ours": [], "Kaldi's": []}
        for number in range(rounds):
            for who, path in ("ours", OURS), ("Kaldi's", theirs):
                outputs = [f"ark:{folder}/{who}.{name}" for name in OUTPUTS]
                command = [path, "--allow-partial=true", *options, *inputs, *outputs]
                costs[who].append(measure(command, env=one_thread))
                log.info("round %d, %s: %s", number + 1, who, costs[who][-1])
        per_second = {
            who: 100 * median(c.cpu_s for c in of) / num_frames for who, of in costs.items()
        }
        ratios = [a.cpu_s / b.cpu_s for a, b in zip(costs["ours"], costs["Kaldi's"], strict=True)]
        print(f"{num_utterances} utterances, {num_frames} frames, {rounds} rounds")
        print("seconds of a processor per second of speech:")
        for who, seconds in per_second.items():
            print(
                f"{who:8} {seconds:.3f}   ({depth_of(f'{folder}/{who}.lattices'):.1f} arcs a frame)"
            )
        print(f"ours / Kaldi's: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        same = {name: count_same(folder, name) for name in OUTPUTS[1:]}
        for name, count in same.items():
            print(f"the same {name}: {count} of {num_utterances}")
    if json:
        figures = {"seconds": per_second, "ratios": ratios, "same": same}
        write_json(json, num_utterances=num_utterances, num_frames=num_frames, **figures)


def write_features(nnet_dir: Path, data: Path, every: int, file: str) -> tuple[int, int]:
    """Write what the network takes of every so manyth utterance; return how many, and frames."""
    lengths = []
    with (
        sequential_table(FeaturePipeline.of(nnet_dir).rspecifier(data), MATRIX) as table,
        table_writer(f"ark:{file}", MATRIX) as output,
    ):
        for n, (key, features) in enumerate(table):
            if n % every == 0:
                output.write(key, features)
                lengths.append(len(features))
    return len(lengths), sum(lengths)


def depth_of(file: str) -> float:
    """Compute how many arcs there are at a frame, on average."""
    with sequential_table(f"ark:{file}", COMPACT_LATTICE) as table:
        depths, frames = np.array([depth(lattice) for _, lattice in table]).T
    return float(depths @ frames / frames.sum())


def count_same(folder: str, name: str) -> int:
    """Count the utterances for which both have written the same."""
    tables = []
    for who in "ours", "Kaldi's":
        with sequential_table(f"ark:{folder}/{who}.{name}", INTEGERS) as table:
            tables.append({key: list(value) for key, value in table})
    return sum(tables[0].get(key) == value for key, value in tables[1].items())


if __name__ == "__main__":
    main()
