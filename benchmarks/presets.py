#!/usr/bin/env python3
"""Train every preset of conf/ on digits with 2, 11 and 137 classes, and write the guide's tables.

The data are eight minutes of the Free Spoken Digit Dataset, 200 recordings by each of six speakers.
They are aligned by a flat start that finds silence, with three lexicons: 2 classes are speech and
silence; 11 are the ten words and silence; 137 are three states of each of 44 phones, which belong
to one word each, and five of silence.  Such labels are rough, as those of a first training are.

Networks and minibatches are the preset's.  Those for more than an hour of speech are trained in
small: nine iterations of one job that has few samples, with a layer added in each of the first.
It begins with the highest learning rate that any job of the preset has.

A training that has ended is in docs/presets.csv, and is not done again: for that, delete its line
there, and its directory in <dir>.  Without --fsdd-dir nothing is trained."""

import math
import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path

from preset_tables import (
    GUIDE,
    NUM_CLASSES,
    PRESETS,
    ROOT,
    Training,
    add_training,
    read_trainings,
    with_tables,
)

from nnet.cli import log, option, program
from nnet.drivers.egs_options import EgsOptions
from nnet.drivers.settings import read_words
from nnet.drivers.training_options import TrainingOptions
from nnet.drivers.training_schedule import Schedule
from nnet.errors import NgtrainError
from nnet.io.tables import INTEGERS, sequential_table
from nnet.launch.commands import read_from
from nnet.report.training_logs import objective, objectives

# What is tried ------------------------------------------------------------------------------------

SAMPLES = {
    "hours.conf": 6000,
    "defaults": 6000,
    "relu.conf": 3000,
    "multisplice.conf": 2000,  # takes longest
    "pnorm_paper.conf": 3000,
}
"""Those that are trained in small, and how many samples the job has, about."""

TWO_CLASSES = 4
"""So many times as many with two classes, of which large networks take longer to learn anything."""

NUM_ITERATIONS = 9
IN_SMALL = (
    "--num-jobs-initial 1 --num-jobs-final 1 --add-layers-period 1 --max-models-combine 2 "
    "--prior-subset-size 1000"
)
LITTLE_DATA = {"small.conf": "--samples-per-iter 4000"}
QUICK = (
    "--num-jobs-compute-prior 1 --egs-opts '--num-utts-subset 40 --num-train-frames-combine 1000'"
)
"""Of all: diagnostics and combination are not what is tried."""


def options_for(name: str, num_classes: int, num_frames: int) -> list[str]:
    """List the options of a preset for a training on so many frames."""
    words = shlex.split(f"{PRESETS[name]} {QUICK} {LITTLE_DATA.get(name, '')}")
    if name in SAMPLES:
        highest, last = rates_of_jobs(given(words))
        samples = SAMPLES[name] * (TWO_CLASSES if num_classes == 2 else 1)
        words += [*shlex.split(IN_SMALL), f"--samples-per-iter={samples}"]
        words += [f"--initial-effective-lrate={highest:g}"]
        words += [f"--final-effective-lrate={last:g}"]
        epochs = NUM_ITERATIONS / jobs_per_epoch(given(words), num_frames)
        words.append(f"--num-epochs={math.ceil(1000 * epochs) / 1000:g}")
    return words


def rates_of_jobs(o: TrainingOptions) -> tuple[float, float]:
    """Compute the highest learning rate that a job has, and that of the last iteration."""
    schedule = Schedule.of(o, num_archives=10, frames_per_eg=o.frames_per_eg)
    rates = [schedule.learning_rate(x) for x in range(schedule.num_iters)]
    return max(rates), rates[-1]


def given(words: list[str]) -> TrainingOptions:
    """Read options of a training whose data do not matter."""
    return read_words(TrainingOptions, [*words, "data", "lang", "ali"])


def jobs_per_epoch(o: TrainingOptions, num_frames: int) -> int:
    """Count the jobs that see all data once, as steps/get_egs2.py divides them."""
    words = f"--samples-per-iter={o.samples_per_iter}", f"--frames-per-eg={o.frames_per_eg}"
    num_archives, frames_per_eg = read_words(EgsOptions, words).plan_archives(num_frames)
    return num_archives * frames_per_eg


# Data ---------------------------------------------------------------------------------------------

NUM_RECORDINGS = 200
"""Of a speaker, of 400."""

PHONES_OF_WORDS = {
    **{"zero": 5, "one": 4, "two": 4, "three": 4, "four": 4},
    **{"five": 4, "six": 5, "seven": 6, "eight": 4, "nine": 4},
}
"""44 in all; the longer a word lasts, the more it has."""

STATES = {2: (1, 1), 11: (1, 1), 137: (3, 5)}
"""By the number of classes, how many states phones have, and how many silence has."""


def lexicon(num_classes: int) -> list[str]:
    """Spell the digits so that there are so many classes, with those of silence."""
    return {
        2: [f"{word} speech" for word in PHONES_OF_WORDS],
        11: [f"{word} {word}" for word in PHONES_OF_WORDS],
        137: [
            " ".join([word, *(f"{word}{k + 1}" for k in range(num_phones))])
            for word, num_phones in PHONES_OF_WORDS.items()
        ],
    }[num_classes]


def run(*words: object) -> None:
    """Run a program of the project, or of its recipes, to its end."""
    subprocess.run(list(map(str, words)), check=True, stdin=subprocess.DEVNULL)


def prepare(fsdd_dir: Path, directory: Path) -> None:
    """Make digits, and lang and ali of each number of classes, where they are missing."""
    data, recordings = directory / "digits", directory / "fsdd"
    if not (data / "cmvn.scp").exists():
        run(ROOT / "egs/digits/local/prepare_fsdd.py", "--split=seen", fsdd_dir, recordings)
        run("subset_data_dir.py", "--per-spk=true", recordings / "train", NUM_RECORDINGS, data)
        run("make_mfcc.py", "--nj", 1, data)
        run("compute_cmvn_stats.py", data)
    for n in NUM_CLASSES:
        lang, ali, dict_dir = (directory / f"{name}{n}" for name in ("lang", "ali", "dict"))
        if (ali / "num_jobs").exists():
            continue
        (directory / f"lexicon{n}.txt").write_text("".join(f"{line}\n" for line in lexicon(n)))
        run("make_dict.py", directory / f"lexicon{n}.txt", dict_dir)
        of_phones, of_silence = STATES[n]
        run(
            *["prepare_lang.py", "--position-dependent-phones=false"],
            *[f"--num-nonsil-states={of_phones}", f"--num-sil-states={of_silence}"],
            *[dict_dir, "!SIL", directory / f"lang_tmp{n}", lang],
        )
        flat = ["flat_start.py", "--nj=1", "--find-silence=true", "--cmvn-opts=--norm-vars=true"]
        run(*flat, data, lang, ali)


def entropy_of_classes(ali: Path) -> float:
    """Compute what a network loses per frame that knows of classes how frequent they are."""
    read = ["ali-to-pdf", ali / "final.mdl", "ark:-", "ark:-"]
    with sequential_table(read_from(["gunzip", "-c", ali / "ali.1.gz"], read), INTEGERS) as table:
        counts = Counter(pdf for _, pdfs in table for pdf in map(int, pdfs))
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values())


# Trainings ----------------------------------------------------------------------------------------


def train(name: str, num_classes: int, srand: int, directory: Path) -> Training:
    """Train a preset to its end, or until the driver says that it diverges."""
    names = "digits", f"lang{num_classes}", f"ali{num_classes}"
    data, lang, ali = (directory / name for name in names)
    num_frames = sum(map(int, (data / "utt2num_frames").read_text().split()[1::2]))
    words = [*options_for(name, num_classes, num_frames), f"--srand={srand}"]
    exp = directory / f"{re.sub('[^a-z]+', '_', name.lower())}_{num_classes}_{srand}"
    said = exp.with_suffix(".log")
    with open(said, "w") as output:
        cmd = ["--cmd=run.py --max-jobs-run 1", "--num-threads=1", "--combine-num-threads=1"]
        command = ["train_multisplice.py", *cmd, *words, data, lang, ali, exp]
        status = subprocess.run(list(map(str, command)), stderr=output, check=False).returncode
    diverged = "training diverges" in said.read_text()
    if status and not diverged:
        raise NgtrainError(f"{name} with {num_classes} classes: {said} says what went wrong")
    o = given(words)
    along = [value for x, value in objectives(exp, "valid").items() if x > 0]
    final = objective(exp, "valid", "final")
    return Training(
        preset=name,
        classes=num_classes,
        srand=srand,
        jobs=f"{o.num_jobs_initial} to {o.num_jobs_final}",
        samples=num_frames // jobs_per_epoch(o, num_frames),
        iterations=len(along),
        priors=round(-entropy_of_classes(ali), 3),
        lowest=round(min(along), 3),
        highest=round(max(along), 3),
        final=round(along[-1] if final is None else final, 3),
        diverged="yes" if diverged else "no",
    )


@program(
    """\
Usage:  benchmarks/presets.py [options]
 e.g.: benchmarks/presets.py --fsdd-dir=../shared/fsdd --dir=exp/presets"""
)
@option("--fsdd-dir", default="", help="A clone of free-spoken-digit-dataset, to train")
@option("--dir", default="exp/presets", help="Where data and trainings go")
@option("--preset", default="", help="Only this one, as minutes.conf; all if not given")
@option("--classes", type=int, default=0, help="With so many classes only; 0: with 2, 11, and 137")
@option("--srand", type=int, default=0, help="Seed of everything random")
def main(fsdd_dir, dir, preset, classes, srand):
    if preset and preset not in PRESETS:
        raise NgtrainError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    if classes and classes not in NUM_CLASSES:
        raise NgtrainError(f"--classes {classes}: expected one of {NUM_CLASSES}")
    if fsdd_dir:
        directory = Path(dir).resolve()
        prepare(Path(fsdd_dir), directory)
        for n in [classes] if classes else NUM_CLASSES:
            for name in [preset] if preset else PRESETS:
                if any(
                    (t.preset, t.classes, t.srand) == (name, n, srand) for t in read_trainings()
                ):
                    continue
                training = train(name, n, srand, directory)
                add_training(training)
                log.info("%s", training)
    GUIDE.write_text(with_tables(GUIDE.read_text()))


if __name__ == "__main__":
    main()
