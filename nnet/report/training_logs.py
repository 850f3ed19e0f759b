"""Reading a training directory: the logs of its jobs, its models and its results.

The directory may be one of steps/train_multisplice.py or of Kaldi's steps/nnet2 scripts, whose logs
have the same lines, and the training may still be running. A line that is still being written does
not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io import log_lines
from nnet.report.error_files import read_error_files
from nnet.report.history import (
    Change,
    ComponentInfo,
    IterationLog,
    JobLog,
    ModelInfo,
    Score,
    Span,
    TrainingLog,
    WerLine,
    number,
)

SUBSETS = ("valid", "train")
"""Data that models are evaluated on: held-out utterances, and some of the training data."""

SMALL = 1 << 16  # bytes of a file that is shown as it stands


def read_training(dir: str | Path) -> TrainingLog:
    """Read a training directory.

    Raises:
        NgtrainError: there is no log of an iteration in it.
    """
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
    return TrainingLog(
        dir=dir,
        finished=finished,
        iterations=iterations,
        scores=scores,
        final_scores={s: found for s in SUBSETS if finished and (found := score(dir, s, "final"))},
        model=next(filter(None, (read_model(dir, x) for x in reversed(models))), None),
        word_errors=list(read_word_errors(dir)),
        details=list(read_error_files(dir)),
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


def read_iterations(dir: Path) -> Iterator[IterationLog]:
    """Read iterations 0, 1, ... as far as there are logs of their jobs.

    Logs that are older than those of the iteration before them do not count: they are of an earlier
    run of one of Kaldi's scripts, some iterations of which are being done again. Our driver removes
    such logs; where it was at work no time in a log decides anything, because clocks may be set.
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


def read_iteration(dir: Path, x: int, jobs: list[int]) -> IterationLog:
    """Read the logs of iteration x and of its jobs, whose numbers are given."""
    average, select = (read_log(dir / "log" / f"{name}.{x}.log") for name in ("average", "select"))
    merge = average or select
    command = merge.partition("\n")[0]
    return IterationLog(
        number=x,
        jobs=[read_job(dir, x, n) for n in jobs],
        averages=bool(average),
        merged=[int(n) for n in re.findall(rf"\b{x + 1}\.(\d+)\.mdl\b", command)],
        merge=span_of(merge),
        change=read_change(dir, x + 1),
        reasons=read_left_out(dir).get(x, {}),
    )


def read_left_out(dir: Path) -> dict[int, dict[int, str]]:
    """Read why jobs did not count, by iteration and job (nnet/drivers/iteration_jobs.py)."""
    reasons: dict[int, dict[int, str]] = {}
    for line in read_log(dir / "left_out").splitlines():
        if match := re.fullmatch(log_lines.LEFT_OUT.pattern, line):
            reasons.setdefault(int(match[1]), {})[int(match[2])] = match[3]
    return reasons


def read_job(dir: Path, x: int, n: int) -> JobLog:
    """Read the log of job n of iteration x."""
    text = read_log(dir / "log" / f"train.{x}.{n}.log")
    samples = last(log_lines.BACKPROP.pattern, text)
    return JobLog(
        number=n,
        span=span_of(text),
        code=(re.findall(log_lines.ENDED_CODE, text, flags=re.MULTILINE) or [None])[-1],
        learning_rate=last(r"--learning-rate=(\S+)", text.partition("\n")[0]),
        minibatch_size=last(r"--minibatch-size=(\d+)", text.partition("\n")[0]),
        samples=None if samples is None else int(samples),
        log_prob=last(log_lines.OBJECTIVE.pattern, text),
        steps_s=last(log_lines.STEPS_SECONDS.pattern, text),
        limited=limited_share(text),
    )


def limited_share(log: str) -> float | None:
    """Find the share of steps that the limit on the change shortened, if a log of a job has it."""
    found = re.findall(log_lines.LIMITED.pattern, log)
    limited, steps = map(int, found[-1]) if found else (0, 0)
    return limited / steps if steps else None


def read_change(dir: Path, x: int) -> Change | None:
    """Read how model x differs from the one before; None if that had other layers."""
    text = read_log(dir / "log" / f"progress.{x}.log")
    vectors = [
        numbers(found[1].split())
        for line in (log_lines.RELATIVE_CHANGE, log_lines.CHANGE, log_lines.OBJECTIVE_CHANGE)
        if (found := re.search(line.pattern, text))
    ]
    whole = len(vectors) == 3 and all(vectors) and len(set(map(len, vectors))) == 1
    return Change(*vectors) if whole else None


# Models -----------------------------------------------------------------------------------------


def score(dir: Path, subset: str, model: int | str) -> Score | None:
    """Read the score of a model (a number, or "final") on one of SUBSETS, if it was computed."""
    found = re.findall(
        log_lines.PROBABILITY.pattern,
        read_log(dir / "log" / f"compute_prob_{subset}.{model}.log"),
    )
    values = numbers(found[-1]) if found else None
    return Score(*values) if values else None


def objective(dir: Path, subset: str, model: int | str) -> float | None:
    """Read the log-probability per frame of a model, if it was computed."""
    found = score(dir, subset, model)
    return found.log_prob if found else None


def objectives(dir: Path, subset: str) -> dict[int, float]:
    """Read the log-probabilities per frame of all models before the combination, by number."""
    logs = (dir / "log").glob(f"compute_prob_{subset}.*.log")
    numbers = sorted(int(n) for log in logs if (n := log.name.split(".")[1]).isdecimal())
    found = {n: objective(dir, subset, n) for n in numbers}
    return {n: log_prob for n, log_prob in found.items() if log_prob is not None}


def read_model(dir: Path, x: int) -> ModelInfo | None:
    """Read the description of model x in its log of progress, if there is one."""
    text = read_log(dir / "log" / f"progress.{x}.log")
    components = re.findall(r"^component (\d+) : (\w+),? ?(.*?),? *$", text, flags=re.MULTILINE)
    if not components:
        return None
    return ModelInfo(
        number=x,
        sizes=dict(re.findall(r"^([a-z-]+) (\d+)$", text, flags=re.MULTILINE)),
        components=[ComponentInfo(int(n), type, details) for n, type, details in components],
    )


# Results ----------------------------------------------------------------------------------------


def read_word_errors(dir: Path) -> Iterator[WerLine]:
    """Read tuned_wer and best_wer in the directory and its decode*/, else the best of wer_*."""
    for decoded in [dir, *sorted(path for path in dir.glob("decode*") if path.is_dir())]:
        kept = [decoded / name for name in ("tuned_wer", "best_wer", "scoring_kaldi/best_wer")]
        results = [line for file in kept if (line := word_errors(dir, file))]
        tried = [line for file in sorted(decoded.glob("wer_*")) if (line := word_errors(dir, file))]
        yield from results or sorted(tried, key=lambda line: line.rate)[:1]


def word_errors(dir: Path, file: Path) -> WerLine | None:
    """Read the result in a file; its setting is the name of the file wer_LMWT_PENALTY."""
    line = rf"{log_lines.WER.pattern}(?: (?:.*/)?(\S+))?"
    found = re.search(line, small_text(file)) if file.is_file() else None
    if not found or found[1] == "nan":
        return None
    rate, *counts, setting = found.groups()
    return WerLine(
        str(file.relative_to(dir)), number(rate), *map(int, counts), setting or file.name
    )


# Files ------------------------------------------------------------------------------------------


def read_log(file: Path) -> str:
    """Read the whole lines of a log; none if it is not there."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return text[: text.rfind("\n") + 1]


def small_text(file: Path) -> str:
    """Read the beginning of a file."""
    with file.open(errors="replace") as stream:
        return stream.read(SMALL)


def read_options(file: Path) -> dict[str, str]:
    """Read the lines "name value" that steps/train_multisplice.py leaves."""
    lines = small_text(file).splitlines() if file.exists() else []
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def span_of(log: str) -> Span:
    """Find the times that a launcher, run.pl or the like, notes in a log."""
    times = (date(line.pattern, log) for line in (log_lines.STARTED, log_lines.ENDED))
    return Span(*times, last(log_lines.ELAPSED, log))


def date(pattern: str, text: str) -> datetime | None:
    """Find the time that `pattern` matches, if there is one."""
    found = re.search(pattern, text, flags=re.MULTILINE)
    try:
        return datetime.strptime(" ".join(found.groups()), "%b %d %H:%M:%S %Y") if found else None
    except ValueError:
        return None


def last(pattern: str, text: str) -> float | None:
    """Find the number that `pattern` matches last, if there is one."""
    found = re.findall(pattern, text)
    return number(found[-1]) if found else None


def last_number(pattern: str, file: Path) -> float | None:
    """Find the number in a log that `pattern` matches last, if there is one."""
    return last(pattern, read_log(file))


def numbers(texts: Iterable[str]) -> list[float] | None:
    """Parse numbers; None if one is no number."""
    values = [number(text) for text in texts]
    return None if None in values else values
