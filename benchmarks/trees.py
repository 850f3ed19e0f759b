#!/usr/bin/env python3
"""Build trees of several sizes on several features, train a small network on each, and compare.

<exp> is a directory in which egs/speechocean/run.sh has come to its tree. Trees are built of its
alignment without context on cepstra with deltas, on seven frames of cepstra that are transformed
(LDA), and on the last hidden layer of the network that made the alignment, transformed alike
(bottleneck). A line for each tree goes to <dir>/trees.csv: leaves, gain of likelihood per frame (of
Gaussians, so comparable between trees on the same features alone), processor time, and the largest
memory of a process.

With --train true a network of conf/small.conf is trained on the alignments of each tree. Their
log-probabilities are of different classes; what compares is the information that frames have about
their classes, the held-out log-probability less that of the priors alone, and the word error rate
of data/dev. A tree that has its line is not built again.
"""

import csv
import math
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

from nnet.cli import argument, log, option, program
from nnet.errors import NgtrainError
from nnet.io.tables import INTEGERS, sequential_table
from nnet.launch.commands import read_from

COLUMNS = ["features", "num_leaves", "num_pdfs", "gain", "cpu_seconds", "megabytes",
           "information", "accuracy", "wer"]  # fmt: skip
OPTIONS = {
    "delta": ["--tree-feats", "delta"],
    "lda": ["--tree-feats", "lda"],
    "bottleneck": ["--tree-feats", "lda", "--splice", "0"],
}


@program(
    "Usage:  benchmarks/trees.py [options] <exp> <dir>\n"
    " e.g.:  benchmarks/trees.py --train=true --num-leaves=1000 egs/speechocean/exp /tmp/trees"
)
@argument("exp", "directory", type=Path)
@option("--features", "delta,lda,bottleneck", "What the Gaussians of the tree see")
@option("--num-leaves", "500,1000,2000", "Leaves at most")
@option("--train", False, "Train a network on each")
def main(exp, directory, features, num_leaves, train):
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "trees.csv"
    lines = list(csv.DictReader(file.open())) if file.exists() else []
    there = {(line["features"], line["num_leaves"]) for line in lines}
    for kind in features.split(","):
        for leaves in num_leaves.split(","):
            if (kind, leaves) in there:
                continue
            lines.append(measure(exp, directory, kind, leaves, train))
            with open(file, "w", newline="") as out:
                writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(lines)
            log.info(" ".join(f"{name} {value}" for name, value in lines[-1].items()))


def measure(exp: Path, directory: Path, kind: str, leaves: str, train: bool) -> dict:
    """Build one tree, and train on it."""
    data, tree = exp / "data/augmented", directory / f"{kind}_{leaves}"
    if kind == "bottleneck":
        data = bottleneck(exp, directory)
    words = ["build_tree.py", *OPTIONS[kind], "--num-leaves", leaves]
    seconds, megabytes = run(*words, data, exp / "lang", exp / "flat_ali", tree)
    text = (tree / "log/build_tree.log").read_text()
    gain = float(re.search(r"like-impr = ([-\d.e]+) per frame", text)[1])
    gain += float(re.search(r"due to clustering ([-\d.e]+) per frame", text)[1])
    pdfs = int(re.search(r"clustering .* num-leaves is now (\d+)", text)[1])
    line = dict(zip(COLUMNS, (kind, leaves, pdfs, f"{gain:.3f}", f"{seconds:.0f}",
                              f"{megabytes:.0f}"), strict=False))  # fmt: skip
    return line | (train_on(exp, tree, directory / f"nnet_{tree.name}") if train else {})


def bottleneck(exp: Path, directory: Path) -> Path:
    """Make a data directory whose features are the last hidden layer of the aligning network."""
    data, train = directory / "bottleneck", exp / "data/augmented"
    if (data / "cmvn.scp").exists():
        return data
    network = max((exp / "flat").glob("round*/nnet/final.mdl"))
    info = subprocess.run(["nnet-am-info", network], capture_output=True, text=True, check=True)
    last = max(n for n, kind in re.findall(r"component (\d+) : (\w+)", info.stdout)
               if kind == "NormalizeComponent")  # fmt: skip
    data.mkdir(exist_ok=True)
    for name in ("utt2spk", "spk2utt", "text"):
        (data / name).write_bytes((train / name).read_bytes())
    run("nnet-to-raw-nnet", f"--truncate={int(last) + 1}", network, data / "raw")
    normalized = read_from(
        ["apply-cmvn", "--norm-vars=true", f"--utt2spk=ark:{train}/utt2spk",
         f"scp:{train}/cmvn.scp", f"scp:{train}/feats.scp", "ark:-"]
    )  # fmt: skip
    run("nnet-compute", data / "raw", normalized, f"ark,scp:{data}/feats.ark,{data}/feats.scp")
    run("compute_cmvn_stats.py", data)
    return data


def train_on(exp: Path, tree: Path, nnet: Path) -> dict:
    """Train a small network on the classes of a tree, and see what it knows of other speakers."""
    run("train_multisplice.py", "--config", "conf/small.conf", "--num-epochs", "2",
        "--egs-opts", "--num-utts-subset 190", exp / "data/augmented", exp / "lang", tree,
        nnet)  # fmt: skip
    prob, accuracy = re.search(
        r"average probability is ([-\d.e+]+) and accuracy is ([\d.]+)",
        (nnet / "log/compute_prob_valid.final.log").read_text(),
    ).groups()
    run("mkgraph.py", exp / "lang", nnet, nnet / "graph")
    run("decode.py", "--nj", "2", "--beam", "13", "--max-active", "3000", "--lattice-beam", "6",
        "--lmwt", "6,8,10,12,14", "--word-ins-penalty", "0.0,0.5,1.0,1.5",
        nnet / "graph", exp / "data/dev", nnet / "decode_dev")  # fmt: skip
    information = float(prob) + entropy(tree)
    wer = (nnet / "decode_dev/best_wer").read_text().split()[1]
    return {"information": f"{information:.3f}", "accuracy": accuracy, "wer": wer}


def entropy(tree: Path) -> float:
    """Compute the entropy of the classes of an alignment, in nats."""
    counts: Counter = Counter()
    command = ["ali-to-pdf", tree / "final.mdl", f"ark:gunzip -c {tree}/ali.*.gz |", "ark:-"]
    with sequential_table(read_from(command), INTEGERS) as table:
        for _, pdfs in table:
            counts.update(pdfs)
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def run(*words) -> tuple[float, float]:
    """Run a program; the processor seconds of all that it ran, and the megabytes of the largest."""
    process = subprocess.Popen([str(word) for word in words])
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise NgtrainError(f"{words[0]} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
