#!/usr/bin/env python3
"""Time how long every program and driver takes to start: its --help, and a trivial job.

The jobs are on the smallest data that there can be, two utterances of a second, which the first of
them make: what is measured is starting, importing, opening and closing.  With $KALDI_ROOT set,
Kaldi's programs of the same names do the same jobs on the same files, in turns with ours.  The
table shows the median of some rounds, in milliseconds, and in its last line the slowest; beside it
the number of modules that --help imports, which is the same every time."""

import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import kaldi_program, measure, write_json

from nnet.cli import log, option, program

ROOT = Path(__file__).resolve().parent.parent

# In this order: each makes what later ones read.
JOBS = """
compute-mfcc-feats --dither=0 scp:wav.scp ark,scp:feats.ark,feats.scp
compute-fbank-feats --dither=0 scp:wav.scp ark:fbank.ark
wav-copy scp:wav.scp ark:wav.ark
compute-cmvn-stats --spk2utt=ark:spk2utt scp:feats.scp ark,scp:cmvn.ark,cmvn.scp
apply-cmvn --utt2spk=ark:utt2spk scp:cmvn.scp scp:feats.scp ark:normalized.ark
add-deltas scp:feats.scp ark:deltas.ark
splice-feats scp:feats.scp ark:spliced.ark
subsample-feats --n=2 scp:feats.scp ark:subsampled.ark
paste-feats scp:feats.scp scp:feats.scp ark:pasted.ark
copy-feats scp:feats.scp ark,t:feats.txt
copy-matrix scp:feats.scp ark:copied.ark
feat-to-dim scp:feats.scp -
feat-to-len scp:feats.scp
matrix-sum-rows scp:feats.scp ark:rows.ark
copy-vector ark:rows.ark ark,t:rows.txt
vector-sum ark:rows.ark sum.vec
init-mono topo tree trans.mdl
tree-info tree
copy-tree --binary=false tree tree.txt
copy-transition-model trans.mdl copied.mdl
show-transitions phones.txt trans.mdl
ali-to-pdf trans.mdl ark:ali.txt ark:pdf.ark
ali-to-post ark:ali.txt ark:post.ark
ali-to-phones trans.mdl ark:ali.txt ark,t:-
show-alignments phones.txt trans.mdl ark:ali.txt
copy-int-vector ark:ali.txt ark:ali.ark
weight-silence-post 0.0 1 trans.mdl ark:post.ark ark:weighted.ark
post-to-tacc --per-pdf=true trans.mdl ark:post.ark counts.vec
acc-lda trans.mdl scp:feats.scp ark,s,cs:post.ark lda.acc
sum-lda-accs lda.sum lda.acc
est-lda --dim=4 lda.mat lda.acc
nnet-get-feature-transform --dim=13 transform.mat lda.acc
transform-feats lda.mat scp:feats.scp ark:transformed.ark
nnet-get-egs --left-context=1 --right-context=1 scp:feats.scp ark,s,cs:pdf_post.txt ark:egs.ark
nnet-copy-egs ark:egs.ark ark:copy.ark
nnet-shuffle-egs ark:egs.ark ark:shuffled.ark
nnet-subset-egs --n=10 ark:egs.ark ark:subset.ark
nnet-init net.config raw
raw-nnet-info raw
raw-nnet-copy raw copied.raw
nnet-compute raw scp:feats.scp ark:output.ark
nnet-am-init tree topo raw 1.mdl
nnet-train-transitions 1.mdl ark:ali.txt 2.mdl
nnet-am-info 2.mdl
nnet-am-copy 2.mdl 3.mdl
nnet-to-raw-nnet 2.mdl copied.raw
nnet-insert 2.mdl hidden.raw 3.mdl
nnet-replace-last-layers 2.mdl last.raw 3.mdl
nnet-am-reinitialize 2.mdl trans.mdl 3.mdl
nnet-am-switch-preconditioning 2.mdl 3.mdl
nnet-train-simple --minibatch-size=64 2.mdl ark:egs.ark 3.mdl
nnet-modify-learning-rates 2.mdl 3.mdl 4.mdl
nnet-am-average 2.mdl 3.mdl average.mdl
nnet-average 2.mdl 3.mdl average.mdl
nnet-am-fix 3.mdl fixed.mdl
nnet-normalize-stddev 3.mdl normalized.mdl
nnet-compute-prob 3.mdl ark:egs.ark
nnet-show-progress 2.mdl 3.mdl ark:egs.ark
nnet-combine-fast --num-lbfgs-iters=3 2.mdl 3.mdl ark:egs.ark combined.mdl
nnet-compute-from-egs copied.raw ark:egs.ark ark:posteriors.ark
nnet-adjust-priors 3.mdl priors.vec final.mdl
nnet-am-compute final.mdl scp:feats.scp ark:likelihoods.ark
nnet-relabel-egs ark:pdf.ark ark:egs.ark ark:relabelled.ark
compile-train-graphs tree final.mdl L.fst ark:words.txt ark:graphs.ark
nnet-align-compiled final.mdl ark:graphs.ark scp:feats.scp ark:ali.ark
align-equal-compiled ark:graphs.ark scp:feats.scp ark:equal.ark
compute-wer ark:words.txt ark:words.txt
"""


@program(
    """\
Usage:  benchmarks/startup.py [options]
 e.g.: benchmarks/startup.py --num-rounds=7 --json=startup.json"""
)
@option("--num-rounds", type=int, default=5, help="Rounds to be timed")
@option("--only", default="", help="Measure only the program of this name")
@option("--json", default="", help="Write all figures to this file, too")
def main(num_rounds, only, json):
    drivers = [path for folder in ("steps", "utils") for path in (ROOT / folder).glob("*.py")]
    programs = [*(ROOT / "bin").iterdir(), *drivers]
    paths = {path.name: path for path in sorted(programs) if path.stat().st_mode & 0o100}
    jobs, figures = trivial_jobs(), {}
    with TemporaryDirectory() as directory:
        make_data(Path(directory))
        for name, arguments in jobs.items():  # once, for what they leave behind
            measure([paths[name], *arguments], cwd=directory)
        print(f"{'milliseconds':36}{'--help':>8}{'a job':>8}{'Kaldi':>8}{'modules':>9}")
        for name, path in paths.items():
            if only in ("", name):
                figures[name] = rounds(path, jobs.get(name), num_rounds, directory)
                times = "".join(map(milliseconds, figures[name].values()))
                print(f"{name:36}{times}{num_modules(path):9}")
    worst = [max(column_median(row, key) for row in figures.values()) for key in COLUMNS]
    print(f"{'the slowest':36}" + "".join(f"{1000 * seconds:8.0f}" for seconds in worst))
    if json:
        write_json(json, seconds=figures)


def trivial_jobs():
    """The arguments in JOBS by program, in that order."""
    return {line.split()[0]: line.split()[1:] for line in JOBS.strip().splitlines()}


def num_modules(path):
    """The number of modules that --help imports, Python's own included."""
    command = [sys.executable, "-X", "importtime", path, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return said.count("import time:") - 1  # a line is the head


COLUMNS = ("help", "job", "kaldi")


def rounds(path, job, num_rounds, directory):
    """Seconds in each round of --help, of a job if there is one, and of Kaldi with the same."""
    commands = {"help": [path, "--help"], "job": None, "kaldi": None}
    if job is not None:
        commands["job"] = [path, *job]
        kaldi = kaldi_program(path.name)
        commands["kaldi"] = [kaldi, *job] if kaldi else None
    times = {what: [] for what in COLUMNS}
    for _ in range(num_rounds):
        for what, command in commands.items():
            if command is not None:
                times[what].append(measure(command, cwd=directory).wall_s)
    return times


def column_median(row, column):
    return median(row[column]) if row[column] else 0.0


def milliseconds(times):
    return f"{1000 * median(times):8.0f}" if times else f"{'-':>8}"


# The data ---------------------------------------------------------------------------------------

PHONES = {"sil": 1, "a": 2, "b": 3}
NUM_STATES = 3  # per phone, each with a pdf-id of its own
FRAMES = 98  # of a recording of a second


def make_data(directory, num_utterances=2):
    """A recording under some names, their labels, a topology, a lexicon, and small networks."""
    import wave

    import numpy as np

    with wave.open(str(directory / "noise.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        samples = np.random.default_rng(0).integers(-1000, 1000, 16000, np.int16)
        file.writeframes(samples.tobytes())
    keys = [f"spk-{n:06}" for n in range(num_utterances)]
    posterior = " ".join(f"[ {t % (3 * NUM_STATES)} 1 ]" for t in range(FRAMES))
    write = {
        "wav.scp": [f"{key} noise.wav" for key in keys],
        "utt2spk": [f"{key} spk" for key in keys],
        "spk2utt": [f"spk {' '.join(keys)}"],
        "words.txt": [f"{key} 1" for key in keys],
        "phones.txt": ["<eps> 0", *(f"{phone} {number}" for phone, number in PHONES.items())],
        "topo": topology(),
        "ali.txt": [f"{key} {' '.join(map(str, alignment()))}" for key in keys],
        "pdf_post.txt": [f"{key} {posterior}" for key in keys],
        "priors.vec": [f" [ {' '.join(['1'] * 3 * NUM_STATES)} ]"],
        "net.config": [
            "SpliceComponent input-dim=13 context=-1:0:1",
            affine(39, 20),
            "PnormComponent input-dim=20 output-dim=10 p=2",
            "NormalizeComponent dim=10",
            *last_layer(),
        ],
        "hidden.config": [
            affine(10, 20),
            "PnormComponent input-dim=20 output-dim=10 p=2",
            "NormalizeComponent dim=10",
        ],
        "last.config": last_layer(),
    }
    for name, lines in write.items():
        (directory / name).write_text("\n".join(lines) + "\n")
    for name in "hidden", "last":
        measure([ROOT / "bin/nnet-init", f"{name}.config", f"{name}.raw"], cwd=directory)
    write_lexicon(directory / "L.fst")
    log.info("The data is in place")


def affine(input_dim, output_dim):
    return (
        f"AffineComponentPreconditionedOnline input-dim={input_dim} output-dim={output_dim} "
        "alpha=4 num-samples-history=2000 update-period=4 rank-in=5 rank-out=5 "
        f"max-change-per-sample=0.075 learning-rate=0.01 param-stddev=0.1 bias-stddev=0.1"
    )


def last_layer():
    return [affine(10, 3 * NUM_STATES), f"SoftmaxComponent dim={3 * NUM_STATES}"]


def topology():
    """Left to right, in the text form of Kaldi's topo files."""
    states = [
        f"<State> {n} <PdfClass> {n} <Transition> {n} 0.5 <Transition> {n + 1} 0.5 </State>"
        for n in range(NUM_STATES)
    ]
    return [
        "<Topology> <TopologyEntry> <ForPhones> 1 2 3 </ForPhones>",
        *states,
        f"<State> {NUM_STATES} </State> </TopologyEntry> </Topology>",
    ]


def alignment():
    """Transition-ids of the phone `a`: there are two of each state, to itself and onwards."""
    first = 2 * NUM_STATES + 1  # after those of `sil`
    stay = [first, first + 2, first + 4]
    each = FRAMES // NUM_STATES
    frames = [each, each, FRAMES - 2 * each]
    return [i for s, n in zip(stay, frames, strict=True) for i in [s] * (n - 1) + [s + 1]]


def write_lexicon(path):
    """The word 1, which is the phone `a`, once or more often."""
    import kaldifst

    fst = kaldifst.compile("0 1 2 1\n1 1 2 1\n1\n", acceptor=False)
    fst.write(str(path))


if __name__ == "__main__":
    main()
