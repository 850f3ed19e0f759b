"""Write the tables of presets in the guide: what is in conf/, and what came of trying it."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import log
from pathlib import Path

from nnet.drivers.multisplice_configs import context, parse_splice_indexes
from nnet.drivers.settings import read_words
from nnet.drivers.training_options import TrainingOptions

ROOT = Path(__file__).resolve().parent.parent
TRAININGS = ROOT / "docs" / "presets.csv"
GUIDE = ROOT / "docs" / "tuning.md"

RELU = "--nonlin relu --hidden-dim 200"
PRESETS = {
    "minutes.conf": "--config conf/minutes.conf",
    "minutes.conf, ReLU": f"--config conf/minutes.conf {RELU}",
    "small.conf": "--config conf/small.conf",
    "hours.conf": "--config conf/hours.conf",
    "defaults": "",
    "relu.conf": "--config conf/relu.conf",
    "multisplice.conf": "--config conf/multisplice.conf",
    "pnorm_paper.conf": "--config conf/pnorm_paper.conf",
}
"""Names, and options for steps/train_multisplice.py."""

NUM_CLASSES = (2, 11, 137)

# Trainings ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """What came of training a preset: log-probabilities per frame held out.

    jobs: as "1 to 8"; samples: of each in an iteration, about.
    priors: what a network has that knows only how frequent classes are.
    lowest, highest: along the iterations, without the network of the beginning, which guesses.
    final: of the combination, or of the last iteration before the driver stopped the training.
    diverged: "yes" if it did so, or "no".
    """

    preset: str
    classes: int
    srand: int
    jobs: str
    samples: int
    iterations: int
    priors: float
    lowest: float
    highest: float
    final: float
    diverged: str


NAMES = [each.name for each in fields(Training)]
KINDS = {"int": int, "float": float, "str": str}


def read_trainings() -> list[Training]:
    """Read those that have been made."""
    if not TRAININGS.exists():
        return []
    with open(TRAININGS, newline="") as file:
        return [
            Training(**{x.name: KINDS[x.type](row[x.name]) for x in fields(Training)})
            for row in csv.DictReader(file)
        ]


def add_training(training: Training) -> None:
    """Add one at the end of the file."""
    new = not TRAININGS.exists()
    with open(TRAININGS, "a", newline="") as file:
        writer = csv.DictWriter(file, NAMES, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(training))


# Tables -------------------------------------------------------------------------------------------


def with_tables(text: str) -> str:
    """Replace the tables in the guide's text, each of which stands between two comments."""
    for name, rows in {"networks": networks(), "trainings": trainings()}.items():
        begin, end = f"<!-- {name}: benchmarks/presets.py writes this -->\n", f"<!-- {name} end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def networks() -> Iterator[list[str]]:
    """Describe every preset in a row: by the head of its file, and by what is in it."""
    yield ["preset", "for", "network", "training", "expect"]
    yield ["---"] * 5
    for name, options in PRESETS.items():
        o = read_words(TrainingOptions, [*shlex.split(options), "data", "lang", "ali"])
        head = head_of(name)
        yield [shown(name), head["For"], network(o), schedule(o), head["Expect"]]


def shown(name: str) -> str:
    """Show the name of a preset as code, if it is that of a file."""
    return re.sub(r"\S+\.conf", r"`\g<0>`", name) if ".conf" in name else "the driver's defaults"


def head_of(name: str) -> dict[str, str]:
    """Read what a file says at its head after "For:" and "Expect:", without a full stop."""
    if name == "defaults":
        return {
            "For": "tens to hundreds of hours, 3000 to 6000 classes",
            "Expect": "[by simulation](large-runs.md)",
        }
    if name == "minutes.conf, ReLU":
        return {"For": f"the same, with `{RELU}`", "Expect": "as long"}
    comments = re.match(r"(#.*\n)+", (ROOT / "conf" / name).read_text())
    text = " ".join(line.lstrip("# ") for line in comments[0].splitlines())
    parts = re.split(r" (For|Expect|Tried on): ", text)
    return {
        key: value.removesuffix(".") for key, value in zip(parts[1::2], parts[2::2], strict=True)
    }


def network(o: TrainingOptions) -> str:
    """Say how many layers there are, of what, on how many frames."""
    units = f"{o.pnorm_input_dim}/{o.pnorm_output_dim}" if o.nonlin == "pnorm" else o.hidden_dim
    kind = {"pnorm": "p-norm", "relu": "ReLU", "tanh": "tanh"}[o.nonlin]
    left, right = context(parse_splice_indexes(o.splice_indexes))
    return f"{o.num_hidden_layers} {kind} layers of {units}; {left} + 1 + {right} frames"


def schedule(o: TrainingOptions) -> str:
    """Say how much a job does, how many there are, how long, and how fast."""
    jobs = {o.num_jobs_initial: None, o.num_jobs_final: None}  # once, if they are equal
    samples = f"{o.samples_per_iter:,}".replace(",", " ")
    return (
        f"{samples} samples, {' to '.join(map(str, jobs))} jobs; {o.num_epochs:g} epochs; "
        f"rates {o.initial_effective_lrate:g} to {o.final_effective_lrate:g}"
    )


def trainings() -> Iterator[list[str]]:
    """Show for every preset what came of it with each number of classes."""
    done = {(t.preset, t.classes): t for t in read_trainings()}
    yield ["preset", "iterations", *(f"{n} classes" for n in NUM_CLASSES)]
    yield ["---"] * (2 + len(NUM_CLASSES))
    yield ["*a guess*", "", *(f"{-log(n):.2f}" for n in NUM_CLASSES)]
    priors = {t.classes: f"{t.priors:.2f}" for t in done.values()}
    yield ["*their frequencies known*", "", *(priors.get(n, "") for n in NUM_CLASSES)]
    for name in PRESETS:
        of_preset = [done[name, n] for n in NUM_CLASSES if (name, n) in done]
        if of_preset:
            last = of_preset[-1]
            first_jobs, last_jobs = last.jobs.split(" to ")
            jobs = last_jobs if first_jobs == last_jobs else last.jobs
            jobs += " job" if jobs == "1" else " jobs"
            how = f"{last.iterations}, {jobs} of {last.samples} samples"
            cells = [outcome(done.get((name, n))) for n in NUM_CLASSES]
            yield [shown(name), how, *cells]


def outcome(training: Training | None) -> str:
    """Say what is reached in the end, and the lowest on the way."""
    if training is None:
        return "not tried"
    if training.diverged == "yes":
        return f"**diverged** ({training.final:.2f})"
    return f"{training.final:.2f} ({training.lowest:.2f})"
