"""What a training directory says of its training, as plain data: jobs, models, time, results.

The directory may be one of steps/train_multisplice.py or of Kaldi's steps/nnet2 scripts, whose logs
have the same lines, and the training may still be running.  What a log does not say, or not yet, is
None, or absent from a dictionary; a line that is still being written does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from nnet.errors import NgtrainError

SUBSETS = ("valid", "train")
"""Data that models are evaluated on: held-out utterances, and some of the training data."""

SMALL = 1 << 16  # bytes of a file that is shown as it stands


class Score(NamedTuple):
    """Of a model on a subset: log-probability per frame, and the share of frames that are right."""

    log_prob: float
    accuracy: float


ROUNDING_S = 2.0
"""Times in logs are in whole seconds: so much may be between two of them and what passed."""


class Span(NamedTuple):
    """When a command started and ended, in whole seconds of local time.

    elapsed_s: seconds that passed, as a clock says that nobody sets.
    """

    start: datetime | None
    end: datetime | None
    elapsed_s: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, also where the local time was changed meanwhile; None until it ended.

        As at the end of summer, when an hour comes twice.
        """
        if not (self.start and self.end):
            return None
        between = (self.end - self.start).total_seconds()
        if self.elapsed_s is None:
            return max(0.0, between)
        return between if abs(between - self.elapsed_s) <= ROUNDING_S else self.elapsed_s


class Times(NamedTuple):
    """What an iteration took, in seconds: three parts, one after the other.

    training: of a job, on average.  waiting: of a job for the others, and for its turn in a queue.
    averaging: from the end of the last job until the one model is there.
    """

    training: float
    waiting: float
    averaging: float


@dataclass(frozen=True)
class Job:
    """One job of an iteration.

    samples: frames that it trained on; log_prob: per frame, while it did so; steps_s: seconds that
    the gradient steps alone took; code: "code 0" and the like once it has ended.
    """

    number: int
    span: Span
    code: str | None
    learning_rate: float | None
    minibatch_size: float | None
    samples: int | None
    log_prob: float | None
    steps_s: float | None


@dataclass(frozen=True)
class Change:
    """What an iteration changed, by updatable component from the input to the output.

    absolute, relative: the norm of the change of its parameters, and that over the norm of the
    parameters.  objective: what the change did to the log-probability per frame.
    """

    absolute: list[float]
    relative: list[float]
    objective: list[float]


@dataclass(frozen=True)
class Iteration:
    """Iteration `number` makes model number + 1 of model `number`.

    averages: whether of all its jobs, else of the best one.  merged: the numbers of the jobs that
    went into the model; empty where no log says so.  reasons: why jobs did not count, by number.
    """

    number: int
    jobs: list[Job]
    averages: bool
    merged: list[int]
    merge: Span
    change: Change | None
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[int]:
        """The numbers of jobs that an average is without."""
        if not (self.averages and self.merged):
            return []
        jobs = {job.number for job in self.jobs} | self.reasons.keys()
        return sorted(jobs - set(self.merged))

    @property
    def start(self) -> datetime | None:
        return min((job.span.start for job in self.jobs if job.span.start), default=None)

    @property
    def samples(self) -> int:
        return sum(job.samples or 0 for job in self.jobs)

    @property
    def learning_rate(self) -> float | None:
        """Of a job."""
        return next((job.learning_rate for job in self.jobs if job.learning_rate is not None), None)

    @property
    def times(self) -> Times | None:
        """None until all its jobs have ended."""
        spans = [job.span for job in self.jobs]
        if not all(span.start and span.end for span in spans):
            return None
        first, last = min(span.start for span in spans), max(span.end for span in spans)
        jobs = max((span.start - first).total_seconds() + span.seconds for span in spans)
        training = sum(span.seconds for span in spans) / len(spans)
        averaging = 0.0  # Kaldi's choice of the best job has no log
        if self.merge.end:
            averaging = max(0.0, (self.merge.start - last).total_seconds()) + self.merge.seconds
        return Times(training, jobs - training, averaging)

    @property
    def failed(self) -> list[Job]:
        """Jobs that ended badly, and whose models did not count.

        One that was told to end when it had written its model ended badly, and counts.
        """
        bad = (job for job in self.jobs if job.code not in (None, "code 0"))
        return [job for job in bad if job.number not in self.merged]


class Position(NamedTuple):
    """How far training was when a model was made.

    epochs: passes over the data.  seconds: of iterations, without what was between them, such as
    an interruption.
    """

    samples: int
    epochs: float | None
    seconds: float


class Component(NamedTuple):
    """A line of nnet-am-info."""

    number: int
    type: str
    details: str


@dataclass(frozen=True)
class Model:
    """What nnet-am-info says of a model: its sizes by name, and its components."""

    number: int
    sizes: dict[str, str]
    components: list[Component]


class WordErrors(NamedTuple):
    """A line of compute-wer, from a file of scoring."""

    file: str
    rate: float
    errors: int
    words: int
    insertions: int
    deletions: int
    substitutions: int
    setting: str


@dataclass(frozen=True)
class Training:
    """A training directory.

    scores: by subset and number of the model; model x is that before iteration x.
    final_scores: by subset, of final.mdl.  options: of the driver.  info: of the examples, their
    info/ directory.  texts: small files that say how features and network were made.
    """

    dir: Path
    finished: bool
    iterations: list[Iteration]
    scores: dict[str, dict[int, Score]]
    final_scores: dict[str, Score]
    model: Model | None
    word_errors: list[WordErrors]
    options: dict[str, str]
    info: dict[str, str]
    texts: dict[str, str] = field(repr=False)

    @cached_property
    def positions(self) -> list[Position]:
        """Of models 0, 1, ... up to that which the last iteration makes."""
        archives = number(self.info.get("num_archives")), number(self.info.get("frames_per_eg"))
        jobs_per_epoch = archives[0] * archives[1] if all(archives) else None
        position = Position(0, 0.0 if jobs_per_epoch else None, 0.0)
        positions = [position]
        for iteration in self.iterations:
            position = Position(
                samples=position.samples + iteration.samples,
                epochs=jobs_per_epoch and position.epochs + len(iteration.jobs) / jobs_per_epoch,
                seconds=position.seconds + sum(iteration.times or ()),
            )
            positions.append(position)
        return positions

    @property
    def num_models(self) -> int:
        """How many iterations have ended with a model."""
        count = len(self.iterations)
        return count if self.finished or self.iterations[-1].merge.end else count - 1

    @property
    def last_sign(self) -> datetime | None:
        """When the last job started or ended, as far as the logs of iterations tell."""
        spans = [span for i in self.iterations for span in (i.merge, *(job.span for job in i.jobs))]
        times = (time for span in spans for time in (span.start, span.end))
        return max(filter(None, times), default=None)


def read_training(dir: str | Path) -> Training:
    """Read a training directory.  Raises NgtrainError if there is no log of an iteration in it."""
    dir = Path(dir)
    if not dir.is_dir():
        raise NgtrainError(f"{dir}: there is no such directory")
    iterations = list(read_iterations(dir))
    if not iterations:
        raise NgtrainError(
            f"{dir}: no iteration of a training has begun, log/train.*.log is missing"
        )
    finished = (dir / "final.mdl").exists()
    models = range(len(iterations) + 1)
    scores = {
        subset: {x: found for x in models if (found := score(dir, subset, x))} for subset in SUBSETS
    }
    options = read_options(dir / "train_options")
    infos = [dir / "info", dir / "egs" / "info", Path(options.get("egs_dir") or dir) / "info"]
    return Training(
        dir=dir,
        finished=finished,
        iterations=iterations,
        scores=scores,
        final_scores={s: found for s in SUBSETS if finished and (found := score(dir, s, "final"))},
        model=next(filter(None, (read_model(dir, x) for x in reversed(models))), None),
        word_errors=list(read_word_errors(dir)),
        options=options,
        info={
            file.name: small_text(file).strip()
            for info in infos
            for file in sorted(info.glob("*"))
            if file.is_file()
        },
        texts={
            file.name: small_text(file)
            for pattern in ("cmvn_opts", "splice_opts", "nnet.config", "hidden*.config")
            for file in sorted(dir.glob(pattern))
        },
    )


# Iterations -------------------------------------------------------------------------------------


def read_iterations(dir: Path) -> Iterator[Iteration]:
    """Iterations 0, 1, ... as far as there are logs of their jobs.

    Logs that are older than those of the iteration before them are of an earlier run of a script of
    Kaldi's, of which this one does some iterations again: they do not count.  Our driver removes
    such logs, so that where it was at work no time in a log decides anything: clocks are set.
    """
    is_ours = (dir / "train_options").exists()
    jobs: dict[int, list[int]] = {}
    for path in (dir / "log").glob("train.*.log"):
        if match := re.fullmatch(r"train\.(\d+)\.(\d+)\.log", path.name):
            jobs.setdefault(int(match[1]), []).append(int(match[2]))
    x, before = 0, None
    while x in jobs:
        iteration = read_iteration(dir, x, sorted(jobs[x]))
        if before and iteration.start and iteration.start < before and not is_ours:
            return
        yield iteration
        x, before = x + 1, iteration.start or before


def read_iteration(dir: Path, x: int, jobs: list[int]) -> Iteration:
    average, select = (read_log(dir / "log" / f"{name}.{x}.log") for name in ("average", "select"))
    merge = average or select
    command = merge.partition("\n")[0]
    return Iteration(
        number=x,
        jobs=[read_job(dir, x, n) for n in jobs],
        averages=bool(average),
        merged=[int(n) for n in re.findall(rf"\b{x + 1}\.(\d+)\.mdl\b", command)],
        merge=span_of(merge),
        change=read_change(dir, x + 1),
        reasons=read_left_out(dir).get(x, {}),
    )


def read_left_out(dir: Path) -> dict[int, dict[int, str]]:
    """By iteration and number of the job: why it did not count (nnet/drivers/iteration.py)."""
    reasons: dict[int, dict[int, str]] = {}
    for line in read_log(dir / "left_out").splitlines():
        if match := re.fullmatch(r"(\d+) (\d+) (.*)", line):
            reasons.setdefault(int(match[1]), {})[int(match[2])] = match[3]
    return reasons


def read_job(dir: Path, x: int, n: int) -> Job:
    text = read_log(dir / "log" / f"train.{x}.{n}.log")
    samples = last(r"Did backprop on (\d+) examples", text)
    return Job(
        number=n,
        span=span_of(text),
        code=(re.findall(r"^# Ended \((.+?)\)", text, flags=re.MULTILINE) or [None])[-1],
        learning_rate=last(r"--learning-rate=(\S+)", text.partition("\n")[0]),
        minibatch_size=last(r"--minibatch-size=(\d+)", text.partition("\n")[0]),
        samples=None if samples is None else int(samples),
        log_prob=last(r"log-prob-per-frame=(\S+)", text),
        steps_s=last(r"training examples in (\S+) seconds", text),
    )


def read_change(dir: Path, x: int) -> Change | None:
    """How model x differs from the one before; None if that had other layers."""
    text = read_log(dir / "log" / f"progress.{x}.log")
    vectors = [
        numbers(found[1].split())
        for name in (
            "Parameter differences per layer are",
            "Relative parameter differences per layer are",
            "Total objf change per component is",
        )
        if (found := re.search(rf" {name} +\[ (.*?) \]", text))
    ]
    whole = len(vectors) == 3 and all(vectors) and len(set(map(len, vectors))) == 1
    return Change(*vectors) if whole else None


# Models -----------------------------------------------------------------------------------------


def score(dir: Path, subset: str, model: int | str) -> Score | None:
    """How good a model is (a number, or "final"), if it has been computed; see SUBSETS."""
    found = re.findall(
        r"average probability is (\S+) and accuracy is (\S+) with",
        read_log(dir / "log" / f"compute_prob_{subset}.{model}.log"),
    )
    values = numbers(found[-1]) if found else None
    return Score(*values) if values else None


def objective(dir: Path, subset: str, model: int | str) -> float | None:
    """Log-probability per frame of a model, if it has been computed."""
    found = score(dir, subset, model)
    return found.log_prob if found else None


def objectives(dir: Path, subset: str) -> dict[int, float]:
    """The same of all models before the combination, by number, in order."""
    logs = (dir / "log").glob(f"compute_prob_{subset}.*.log")
    numbers = sorted(int(n) for log in logs if (n := log.name.split(".")[1]).isdecimal())
    found = {n: objective(dir, subset, n) for n in numbers}
    return {n: log_prob for n, log_prob in found.items() if log_prob is not None}


def read_model(dir: Path, x: int) -> Model | None:
    text = read_log(dir / "log" / f"progress.{x}.log")
    components = re.findall(r"^component (\d+) : (\w+),? ?(.*?),? *$", text, flags=re.MULTILINE)
    if not components:
        return None
    return Model(
        number=x,
        sizes=dict(re.findall(r"^([a-z-]+) (\d+)$", text, flags=re.MULTILINE)),
        components=[Component(int(n), type, details) for n, type, details in components],
    )


# Results ----------------------------------------------------------------------------------------


def read_word_errors(dir: Path) -> Iterator[WordErrors]:
    """Of best_wer and tuned_wer in the directory and its decode*/, else of the best wer_*."""
    for decoded in [dir, *sorted(path for path in dir.glob("decode*") if path.is_dir())]:
        kept = [decoded / name for name in ("tuned_wer", "best_wer", "scoring_kaldi/best_wer")]
        results = [line for file in kept if (line := word_errors(dir, file))]
        tried = [line for file in sorted(decoded.glob("wer_*")) if (line := word_errors(dir, file))]
        yield from results or sorted(tried, key=lambda line: line.rate)[:1]


def word_errors(dir: Path, file: Path) -> WordErrors | None:
    """The line of one file; the setting is the name of the file wer_LMWT_PENALTY."""
    line = (
        r"%WER (\d+\.?\d*) \[ (\d+) / (\d+), (\d+) ins, (\d+) del, (\d+) sub \](?: (?:.*/)?(\S+))?"
    )
    found = re.search(line, small_text(file)) if file.is_file() else None
    if not found:
        return None
    rate, *counts, setting = found.groups()
    return WordErrors(
        str(file.relative_to(dir)), number(rate), *map(int, counts), setting or file.name
    )


# Files ------------------------------------------------------------------------------------------


def read_log(file: Path) -> str:
    """The whole lines of a log; none if it is not there."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return text[: text.rfind("\n") + 1]


def small_text(file: Path) -> str:
    """What a file begins with."""
    with file.open(errors="replace") as stream:
        return stream.read(SMALL)


def read_options(file: Path) -> dict[str, str]:
    """The lines "name value" that steps/train_multisplice.py leaves."""
    lines = small_text(file).splitlines() if file.exists() else []
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def span_of(log: str) -> Span:
    """What a launcher, run.pl or the like, notes at the beginning and the end of a log."""
    times = (date(rf"^# {word} .*?at {DATE}", log) for word in ("Started", "Ended"))
    return Span(*times, last(r"elapsed time (\d+) seconds", log))


# As the program `date` prints it.  The time zone is left out: all machines of a cluster have one.
DATE = r"\w{3} (\w{3} +\d+ \d+:\d+:\d+) \S+ (\d{4})"


def date(pattern: str, text: str) -> datetime | None:
    found = re.search(pattern, text, flags=re.MULTILINE)
    try:
        return datetime.strptime(" ".join(found.groups()), "%b %d %H:%M:%S %Y") if found else None
    except ValueError:
        return None


def last(pattern: str, text: str) -> float | None:
    """The number that `pattern` last matches, if there is one."""
    found = re.findall(pattern, text)
    return number(found[-1]) if found else None


def last_number(pattern: str, file: Path) -> float | None:
    """The same of a file, if that is there."""
    return last(pattern, read_log(file))


def number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def numbers(texts: Iterable[str]) -> list[float] | None:
    """All of them, or None if one is no number."""
    values = [number(text) for text in texts]
    return None if None in values else values
