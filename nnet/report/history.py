"""The history of a training as plain data: iterations and their jobs, models, time, results.

A value that the logs do not tell, or not yet, is None, or absent from a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from nnet.report.error_files import WordErrorFiles


class Score(NamedTuple):
    """A model's log-probability per frame on a subset, and its share of frames that are right."""

    log_prob: float
    accuracy: float


ROUNDING_S = 2.0
"""Most error of a difference of two times, which logs have in whole seconds."""


class Span(NamedTuple):
    """The time between start and end of a command, in whole seconds of local time.

    Attributes:
        elapsed_s: seconds that passed, by a clock that nobody sets.
    """

    start: datetime | None
    end: datetime | None
    elapsed_s: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds that it took; None until it ended.

        Right also where the local time was changed meanwhile, as at the end of summer, when an hour
        comes twice.
        """
        if not (self.start and self.end):
            return None
        between = (self.end - self.start).total_seconds()
        if self.elapsed_s is None:
            return max(0.0, between)
        return between if abs(between - self.elapsed_s) <= ROUNDING_S else self.elapsed_s


class Times(NamedTuple):
    """The three parts of the time of an iteration, one after the other, in seconds.

    Attributes:
        training: of a job, on average.
        waiting: of a job for the others, and for its turn in a queue.
        averaging: from the end of the last job until the one model is there.
    """

    training: float
    waiting: float
    averaging: float


@dataclass(frozen=True)
class JobLog:
    """One job of an iteration.

    Attributes:
        code: "code 0" and the like once it has ended.
        samples: frames that it trained on.
        log_prob: per frame, while it did so.
        steps_s: seconds that the gradient steps alone took.
        limited: the share of its steps, each of one layer, that the limit on the change shortened.
    """

    number: int
    span: Span
    code: str | None
    learning_rate: float | None
    minibatch_size: float | None
    samples: int | None
    log_prob: float | None
    steps_s: float | None
    limited: float | None = None


class Change(NamedTuple):
    """The effect of an iteration by updatable component, from the input to the output.

    Attributes:
        relative: norm of the change of the parameters over that of the parameters.
        absolute: norm of the change.
        objective: change of the log-probability per frame.
    """

    relative: list[float]
    absolute: list[float]
    objective: list[float]


@dataclass(frozen=True)
class IterationLog:
    """An iteration, which makes model number + 1 of model `number`.

    Attributes:
        averages: whether the model is the average of all jobs, and not that of the best one.
        merged: numbers of the jobs whose models went into it; empty where no log says so.
        merge: the time that this took.
        change: the difference that the iteration made.
        reasons: why jobs did not count, by number.
    """

    number: int
    jobs: list[JobLog]
    averages: bool
    merged: list[int]
    merge: Span
    change: Change | None
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[int]:
        """Numbers of the jobs that an average is without."""
        if not (self.averages and self.merged):
            return []
        jobs = {job.number for job in self.jobs} | self.reasons.keys()
        return sorted(jobs - set(self.merged))

    @property
    def start(self) -> datetime | None:
        """Start of the first job."""
        return min((job.span.start for job in self.jobs if job.span.start), default=None)

    @property
    def samples(self) -> int:
        """Frames that all its jobs together trained on."""
        return sum(job.samples or 0 for job in self.jobs)

    @property
    def learning_rate(self) -> float | None:
        """Learning rate of a job."""
        return next((job.learning_rate for job in self.jobs if job.learning_rate is not None), None)

    @property
    def minibatch_size(self) -> float | None:
        """Minibatch size of a job."""
        return next((job.minibatch_size for job in self.jobs), None)

    @property
    def limited(self) -> float | None:
        """The share of its jobs' steps that were shortened; None if no job says it."""
        shares = [job.limited for job in self.jobs if job.limited is not None]
        return sum(shares) / len(shares) if shares else None

    @property
    def steps_s(self) -> float | None:
        """Seconds that the gradient steps of a job took, on average; None if one is not known."""
        steps = [job.steps_s for job in self.jobs]
        return None if None in steps else sum(steps) / len(steps)

    @property
    def times(self) -> Times | None:
        """Parts of the time that it took; None until all its jobs have ended."""
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
    def failed(self) -> list[JobLog]:
        """Jobs that ended badly, and whose models did not count.

        A job that was told to end when it had written its model ended badly, and counts.
        """
        bad = (job for job in self.jobs if job.code not in (None, "code 0"))
        return [job for job in bad if job.number not in self.merged]


class Position(NamedTuple):
    """The progress of training when a model was made.

    Attributes:
        samples: frames.
        epochs: passes over the data.
        seconds: of iterations, without the time between them, such as an interruption.
    """

    samples: int
    epochs: float | None
    seconds: float


class ComponentInfo(NamedTuple):
    """A line of nnet-am-info about a component."""

    number: int
    type: str
    details: str


@dataclass(frozen=True)
class ModelInfo:
    """The output of nnet-am-info for a model: its sizes by name, and its components."""

    number: int
    sizes: dict[str, str]
    components: list[ComponentInfo]


class WerLine(NamedTuple):
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
class TrainingLog:
    """All that a training directory tells of its training.

    Attributes:
        scores: by subset and number of the model; model x is that before iteration x.
        final_scores: of final.mdl, by subset.
        options: of the driver.
        info: of the examples, from their info/ directory.
        texts: small files about features and network.
        details: of errors, word by word.
    """

    dir: Path
    finished: bool
    iterations: list[IterationLog]
    scores: dict[str, dict[int, Score]]
    final_scores: dict[str, Score]
    model: ModelInfo | None
    word_errors: list[WerLine]
    options: dict[str, str]
    info: dict[str, str]
    texts: dict[str, str] = field(repr=False)
    details: list[WordErrorFiles] = field(default_factory=list, repr=False)

    @cached_property
    def positions(self) -> list[Position]:
        """Positions of models 0, 1, ... up to the one that the last iteration makes."""
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
    def limited(self) -> float | None:
        """The share of steps that the limit on the change shortened; None if no log says it."""
        known = [(i.limited, i.samples) for i in self.iterations if i.limited is not None]
        samples = sum(of for _, of in known)
        return sum(share * of for share, of in known) / samples if samples else None

    @property
    def num_models(self) -> int:
        """Number of iterations that have ended with a model."""
        count = len(self.iterations)
        return count if self.finished or self.iterations[-1].merge.end else count - 1

    @property
    def last_sign(self) -> datetime | None:
        """Time at which the last job started or ended, as far as the logs of iterations tell."""
        spans = [span for i in self.iterations for span in (i.merge, *(job.span for job in i.jobs))]
        times = (time for span in spans for time in (span.start, span.end))
        return max(filter(None, times), default=None)


def number(text: str | None) -> float | None:
    """Parse a number; None if the text is none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None
