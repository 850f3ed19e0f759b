#!/usr/bin/env python3
"""Time a whole training on real data: features and alignments in, a model out, and what is fixed.

The training is that of steps/train_multisplice.py, with options for some 75 000 frames of speech:
three p-norm layers 1000/200, eight epochs, two to four jobs.  The first table says where its time
goes, as the driver reports it: what is called fixed is what an iteration takes beyond the gradient
steps of its slowest job, that is starting programs, averaging, and waiting.  The second shows how
this grows with the number of jobs: starting them all at once on a single minibatch each, and
averaging what they make; seconds, and processor seconds in brackets.

Data directories name files relative to where they are used: start this from there.  With
$KALDI_ROOT set, and all programs that it needs built, Kaldi's train_multisplice_accel2.sh trains on
the same data with the same options."""

import re
import shlex
from os import environ, pathsep, times
from pathlib import Path
from subprocess import check_output
from tempfile import TemporaryDirectory

from measure import kaldi_program, measure, write_json

from nnet.cli import argument, option, program
from nnet.drivers.driver import Background, run
from nnet.io.log_lines import PROBABILITY, SECONDS

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = (
    "--num-epochs 8 --num-jobs-initial 2 --num-jobs-final 4 --samples-per-iter 15000 "
    "--minibatch-size 128 --num-hidden-layers 3 --pnorm-input-dim 1000 --pnorm-output-dim 200 "
    "--splice-indexes 'layer0/-2:-1:0:1:2 layer1/-1:2' --initial-effective-lrate 0.01 "
    "--final-effective-lrate 0.001 --egs-opts '--num-utts-subset 60' --num-jobs-compute-prior 2"
)
KALDI_PROGRAMS = """
acc-lda ali-to-pdf ali-to-post apply-cmvn copy-feats copy-int-vector feat-to-dim feat-to-len
matrix-sum-rows nnet-adjust-priors nnet-am-average nnet-am-copy nnet-am-info nnet-am-init
nnet-combine-fast nnet-compute-from-egs nnet-compute-prob nnet-copy-egs nnet-get-egs
nnet-get-feature-transform nnet-init nnet-insert nnet-normalize-stddev nnet-show-progress
nnet-shuffle-egs nnet-subset-egs nnet-to-raw-nnet nnet-train-simple nnet-train-transitions
post-to-tacc splice-feats sum-lda-accs transform-feats tree-info vector-sum weight-silence-post
"""
NUMBERS_OF_JOBS = (1, 2, 4, 8, 16)


@program(
    """\
Usage:  benchmarks/recipe.py [options] <data> <lang> <ali-dir>
 e.g.: benchmarks/recipe.py --json=recipe.json data/train data/lang exp/tri2_ali"""
)
@argument("data")
@argument("lang")
@argument("ali_dir")
@option("--options", default=OPTIONS, help="Options of the training")
@option("--json", default="", help="Write all figures to this file, too")
def main(data, lang, ali_dir, options, json):
    places = [Path(path).resolve() for path in (data, lang, ali_dir)]
    with TemporaryDirectory() as directory:
        exp = Path(directory, "nnet")
        figures = training(exp, shlex.split(options), places)
        print_training(figures)
        figures["jobs"] = {n: cost_of_jobs(exp, n) for n in NUMBERS_OF_JOBS}
        print_jobs(figures["jobs"])
        missing = [name for name in KALDI_PROGRAMS.split() if not kaldi_program(name)]
        if missing:
            print(f"Kaldi is not compared: $KALDI_ROOT has no {', '.join(missing)}")
        else:
            figures["kaldi_s"] = kaldi_training(Path(directory), shlex.split(options), places)
            ratio = figures["seconds"]["all"] / figures["kaldi_s"]
            print(f"{'Kaldi':24}{figures['kaldi_s']:8.1f}   (ours / Kaldi's: {ratio:.2f})")
    if json:
        write_json(json, options=options, **figures)


def training(exp, options, places):
    """Seconds by stage, of the whole and of the gradient steps; fixed seconds per iteration."""
    log = exp.with_suffix(".log")
    command = [ROOT / "steps/train_multisplice.py", *options, *places, exp]
    with open(log, "w") as output:
        cost = measure(["bash", "-c", f"{shlex.join(map(str, command))} 2>&1"], stdout=output)
    text = log.read_text()
    stages, steps, fixed = re.search(SECONDS.pattern, text).groups()
    seconds = {name: float(value) for name, value in (s.split() for s in stages.split(", "))}
    valid = (exp / "log/compute_prob_valid.final.log").read_text()
    return {
        "seconds": {"all": cost.wall_s, **seconds, "gradient steps": float(steps)},
        "processor_s": cost.cpu_s,
        "fixed_s_per_iteration": float(fixed),
        "valid_log_prob": float(re.findall(PROBABILITY.pattern, valid)[-1][0]),
    }


def print_training(figures):
    for name, seconds in figures["seconds"].items():
        print(f"{name:24}{seconds:8.1f} s")
    print(f"{'processor':24}{figures['processor_s']:8.1f} s")
    print(f"{'fixed, per iteration':24}{figures['fixed_s_per_iteration']:8.2f} s")
    print(f"{'held-out log-prob':24}{figures['valid_log_prob']:8.3f}\n")


def cost_of_jobs(exp, num_jobs):
    """Seconds, and processor seconds, of starting so many jobs and of averaging their models."""
    model, egs, log = exp / "final.mdl", exp / "one_minibatch.egs", f"{exp}/log/jobs"
    if not egs.exists():
        source = f"ark:{exp}/egs/valid_diagnostic.egs"
        run("run.py", f"{log}.subset.log", "nnet-subset-egs", "--n=128", source, f"ark:{egs}")
    results = [exp / f"job.{n}.mdl" for n in range(num_jobs)]

    def start():
        with Background() as jobs:
            for n, result in enumerate(results):
                jobs.start(
                    *["run.py", f"{log}.{n}.log", "nnet-train-simple", "--minibatch-size=128"],
                    *[model, f"ark:{egs}", result],
                )

    def average():
        run("run.py", f"{log}.average.log", "nnet-am-average", *results, exp / "average.mdl")

    return {"start": cost(start), "average": cost(average)}


def cost(action):
    """Wall and processor seconds of what `action` starts and waits for."""
    before = times()
    action()
    after = times()
    processor_s = sum(getattr(after, f) - getattr(before, f) for f in CHILDREN)
    return after.elapsed - before.elapsed, processor_s


CHILDREN = ("children_user", "children_system")


def print_jobs(jobs):
    print(f"{'jobs':>4}{'to start':>18}{'to average':>18}")
    for n, costs in jobs.items():
        columns = (f"{wall:8.2f} s ({cpu:5.2f})" for wall, cpu in costs.values())
        print(f"{n:4}" + "".join(f"{column:>18}" for column in columns))
    print()


def kaldi_training(directory, options, places):
    """Seconds that Kaldi's script takes, in a directory like that of a recipe."""
    data, lang, ali = places
    recipe = Path(environ["KALDI_ROOT"], "egs/wsj/s5")
    for name in "steps", "utils":
        (directory / name).symlink_to(recipe / name)
    here = directory / "data"
    here.mkdir()
    for file in data.iterdir():
        if file.is_file():
            (here / file.name).write_text(absolute(file))
    lengths = check_output([kaldi_program("feat-to-len"), f"scp:{here}/feats.scp", "ark,t:-"])
    rows = (line.split() for line in lengths.decode().splitlines())
    # Otherwise the script would measure the recordings.
    (here / "utt2dur").write_text("".join(f"{key} {int(n) / 100}\n" for key, n in rows))
    (directory / "path.sh").touch()
    folders = {str(kaldi_program(name).parent) for name in KALDI_PROGRAMS.split()}
    path = pathsep.join([*folders, str(recipe / "utils"), environ["PATH"]])
    script = ["steps/nnet2/train_multisplice_accel2.sh", "--cmd", "utils/run.pl"]
    script += ["--num-threads", "1", "--parallel-opts", "", "--combine-num-threads", "1"]
    command = [*script, *options, here, lang, ali, directory / "kaldi"]
    return measure(command, cwd=directory, env={**environ, "PATH": path}).wall_s


def absolute(file):
    """The text of a file of a data directory, the files that a .scp names with their full path."""
    text = file.read_text()
    if file.suffix != ".scp":
        return text
    rows = (line.split(maxsplit=1) for line in text.splitlines())
    return "".join(
        f"{key} {value if '|' in value else Path(value).resolve()}\n" for key, value in rows
    )


if __name__ == "__main__":
    main()
