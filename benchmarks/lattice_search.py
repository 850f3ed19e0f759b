#!/usr/bin/env python3
"""Time the search for lattices beside Kaldi's search for one path, on the same utterances.

The peer is the FasterDecoder of the package kaldi-decoder, which is Kaldi's code: with the same
beam and limits it finds the best path and nothing else.  Both have the same likelihoods and one
thread, and take turns utterance by utterance.  What is shown are seconds of a processor per second
of speech (100 frames), of all utterances; and of how many utterances the search for lattices has
a best path that is better or worse."""

import time
from pathlib import Path

from nnet.cli import argument, option, program
from nnet.decoding.decoder import Decoder, SearchOptions
from nnet.decoding.fst import ArrayFst
from nnet.decoding.lattice_decoder import LatticeDecoder, LatticeOptions
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.io.tables import MATRIX, sequential_table
from nnet.lattices.paths import best_path
from nnet.model.acoustic_model import AcousticModel


class Clock:
    """Seconds of this process, by the part that they went to."""

    def __init__(self):
        self.seconds = {}

    def time(self, part, function, *args):
        start = time.process_time()
        result = function(*args)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - start
        return result


@program("""\
Usage:  benchmarks/lattice_search.py [options] <nnet-dir> <graph-dir> <data>
 e.g.: benchmarks/lattice_search.py exp/nnet exp/nnet/graph data/dev""")
@argument("nnet_dir", "graph_dir", "data", type=Path)
@option("--every", 10, "Of the utterances, every so manyth", least=1)
@option("--acoustic-scale", 0.1, "Scale of likelihoods", above=0)
@option("--beam", 15.0, "Decoding beam", above=0)
@option("--max-active", 7000, "States active at most", least=2)
@option("--lattice-beam", 8.0, "Beam of the lattices", above=0)
def main(nnet_dir, graph_dir, data, every, acoustic_scale, beam, max_active, lattice_beam):
    acoustic_model = AcousticModel.load(str(nnet_dir / "final.mdl"))
    graph, model = ArrayFst.load(f"{graph_dir}/HCLG.fst"), acoustic_model.transition_model
    widths = {"beam": beam, "max_active": max_active, "min_active": 200}
    peer = Decoder(graph, model, SearchOptions(**widths))
    decoder = LatticeDecoder(graph, model, LatticeOptions(**widths, lattice_beam=lattice_beam))
    clock, num_frames, num_better, num_worse, num_utterances = Clock(), 0, 0, 0, 0
    with sequential_table(FeaturePipeline.of(nnet_dir).rspecifier(data), MATRIX) as table:
        for n, (key, features) in enumerate(table):
            if n % every:
                continue
            likelihoods = acoustic_model.log_likelihoods(features, key)
            decoder.search.begin()
            clock.time("search", decoder.search.advance, likelihoods, acoustic_scale)
            lattice = clock.time("lattice", decoder.search.lattice)
            clock.time("determinization", decoder.determinized, lattice)
            expected = clock.time("peer", peer.decode, likelihoods, acoustic_scale, True)
            found = best_path(lattice).weight(lattice).sum()
            num_better += found < -expected.log_likelihood - 0.01
            num_worse += found > -expected.log_likelihood + 0.01
            num_frames += len(features)
            num_utterances += 1
    print(f"{num_utterances} utterances, {num_frames} frames; seconds per second of speech:")
    for part, seconds in clock.seconds.items():
        print(f"{part:16} {100 * seconds / num_frames:.3f}")
    print(f"best path better than the peer's: {num_better}, worse: {num_worse}")


if __name__ == "__main__":
    main()
