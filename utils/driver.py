"""What the drivers in steps/ and utils/ share: their command line, and commands through ``--cmd``.

    from utils.driver import argument, cmd_option, driver, log, nj_option, run

    @driver("Usage:  steps/align.py [options] <data> <dir>")
    @argument("data")
    @argument("dir")
    @nj_option
    @cmd_option
    def main(data, dir, nj, cmd):
        log.info("aligning %s", data)
        run(cmd, f"{dir}/log/align.JOB.log", "nnet-align", f"{dir}/JOB.mdl", "|", "gzip", jobs=nj)

A driver takes options as Kaldi's scripts do (utils/parse_options.sh): ``--name value`` or
``--name=value``, and a bare ``--name`` for true.  Its messages begin with its name:
``steps/align.py: aligning data/train``.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click

from nnet.cli import Choice, Program, argument, gpu_option, log, option, program, tf32_option
from nnet.errors import NgtrainError
from utils.run import Error, Runner, num_cores, parse, wait_for

__all__ = [
    "Background",
    "Choice",
    "argument",
    "cmd_option",
    "driver",
    "gpu_option",
    "log",
    "nj_option",
    "option",
    "output_of",
    "read_integer",
    "require_files",
    "run",
    "tf32_option",
    "threads_per_job",
    "tool",
]

cmd_option = option(
    "--cmd",
    default="run.py",
    help="How to launch jobs: run.py (this machine), or queue.pl, slurm.pl, ... with their options",
)

nj_option = option(
    "--nj",
    type=int,
    default=num_cores(),
    help="Number of parallel jobs; if not given, one for each core of this machine",
)


def driver(usage: str) -> Callable[[Callable], Driver]:
    """Make a driver of a function, as nnet.cli.program makes a program."""
    return program(usage, cls=Driver)


def tool(usage: str) -> Callable[[Callable], Driver]:
    """Make a driver that does not echo its command line: a small tool, usable as a filter."""
    return program(usage, cls=Tool)


class Driver(Program):
    """A program whose options may be written ``--name value``."""

    STANDARD = Program.STANDARD - {"num_threads"}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join options with their values, then read them as every program does."""
        return super().parse_args(ctx, self._join_values(args))

    def _join_values(self, args: list[str]) -> list[str]:
        """``--name value`` or ``-n value`` becomes ``--name=value``, up to the first argument."""
        joined, rest = [], list(args)
        while rest and re.match(r"--?[A-Za-z]", rest[0]):
            word = rest.pop(0)
            option = self.options.get(word.lower().replace("_", "-"))
            if option is not None and rest:
                is_flag = option.type is click.BOOL
                if not is_flag or rest[0].lower() in ("true", "false"):
                    word = f"{option.opts[0]}={rest.pop(0)}"
            joined.append(word)
        return joined + rest

    def called(self, path: str) -> str:
        return "/".join(Path(path).parts[-2:])

    def log_formatter(self, name: str) -> logging.Formatter:
        return _DriverFormatter(name)

    def set_num_threads(self, ctx: click.Context) -> None:
        """A driver computes nothing; its ``--num-threads``, if it has one, is for its jobs."""

    def select_device(self, ctx: click.Context) -> None:
        """So is its ``--use-gpu``."""


class Tool(Driver):
    """A driver without ``--print-args``."""

    STANDARD = Driver.STANDARD - {"print_args"}


class _DriverFormatter(logging.Formatter):
    """``steps/train.py: message``, or ``steps/train.py: error: message``."""

    def __init__(self, name: str):
        super().__init__(f"{name}: %(kind)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        serious = record.levelno >= logging.WARNING
        record.kind = f"{record.levelname.lower()}: " if serious else ""
        return super().format(record)


# Commands ---------------------------------------------------------------------------------------


def run(cmd: str, log_file: str, *words, jobs: int | None = None, **resources: int | str) -> None:
    """Run a command through the launcher `cmd`, and wait for it.

    `log_file` gets what it prints.  With `jobs`, JOB in `log_file` and `words` stands for the
    numbers 1 to `jobs`.  `words` are the command and its arguments; the words in OPERATORS act as
    in the shell, other words without white space are taken literally, and in words with white space
    the shell expands ``$`` as between double quotes.  `resources` are options of the launcher:
    max_jobs_run=4, num_threads=2, gpu=1, mem="2G".

    Raises NgtrainError, with the reason from the log, if any job fails.
    """
    with Background() as background:
        background.start(cmd, log_file, *words, jobs=jobs, **resources)


def threads_per_job(cmd: str, num_jobs: int) -> int:
    """How many threads each of `num_jobs` jobs at the same time should have.

    On this machine, through run.py, so many that no core is idle and none has two to run where that
    can be; one where another launcher decides which machines there are.
    """
    return max(1, num_cores() // num_jobs) if shlex.split(cmd)[0] == "run.py" else 1


OPERATORS = frozenset({"|", "&&", "||", ";", "(", ")", "<", ">", ">>", "2>", "2>&1"})


class Background:
    """Commands that run at the same time: a block that ends when all of them have ended.

    with Background() as background:
        for n in range(1, num_jobs + 1):
            background.start(cmd, f"{dir}/log/train.{n}.log", "nnet-train-simple", ...)

    Leaving the block raises NgtrainError if any of them failed; when an exception leaves the block,
    they are stopped.
    """

    def __init__(self):
        self._running: list[tuple[subprocess.Popen | Runner, list[str]]] = []

    def __enter__(self) -> Background:
        return self

    def start(
        self, cmd: str, log_file: str, *words, jobs: int | None = None, **resources: int | str
    ) -> None:
        """Start a command; the arguments are those of run()."""
        launcher, *options = shlex.split(cmd)
        for name, value in resources.items():
            options += [f"--{name.replace('_', '-')}", str(value)]
        if jobs is not None:
            options.append(f"JOB=1:{jobs}")
        arguments = [*options, str(log_file), *map(_quote, map(str, words))]
        process = _launch(launcher, arguments)
        numbers = range(1, jobs + 1) if jobs is not None else ["JOB"]
        logs = [str(log_file).replace("JOB", str(number)) for number in numbers]
        self._running.append((process, logs))

    def __exit__(self, exception_type, *_) -> None:
        try:
            if exception_type is None:
                failed = [logs for process, logs in self._running if wait_for(process) != 0]
                if failed:
                    raise NgtrainError(_reason_of_failure(failed[0]))
        finally:
            for process, _ in self._running:
                process.terminate()  # does nothing to those that have ended
            for process, _ in self._running:
                wait_for(process)


def _launch(launcher: str, arguments: list[str]) -> subprocess.Popen | Runner:
    """Start a launcher; run.py, which would only wait as we do, without a process for it."""
    try:
        if launcher == "run.py":
            return Runner(parse(arguments))
        return subprocess.Popen([launcher, *arguments], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise NgtrainError(f"cannot run --cmd '{launcher}': {error.strerror}") from None
    except Error as error:
        raise NgtrainError(f"run.py: {error}") from None


def _quote(word: str) -> str:
    """Prepare a word for a launcher, which quotes those with white space and only those."""
    return word if word in OPERATORS or re.search(r"\s", word) else shlex.quote(word)


def _reason_of_failure(logs: list[str]) -> str:
    """One line: how many jobs failed, and the first error, or else the last line, of one's log."""
    said = {path: _lines_of(path) for path in logs}
    failed = [path for path in logs if not said[path][-1].startswith("# Ended (code 0)")]
    if not failed:
        return f"a command failed, but not according to its log {logs[0]}"
    lines = [line for line in said[failed[0]] if line and not line.startswith("#")]
    errors = [line for line in lines if line.startswith("ERROR")]
    reason = [*errors, *lines[-1:], "it ended without a word"][0]
    count = f"{len(failed)} of {len(logs)} jobs failed: " if len(logs) > 1 else ""
    return f"{count}{failed[0]}: {reason}"


def _lines_of(log: str) -> list[str]:
    """The lines of a job's log, at least one."""
    if not os.path.exists(log):
        return ["it left no log"]
    return Path(log).read_text(errors="replace").splitlines() or [""]


def output_of(*words) -> str:
    """Run a small program here and now, and return what it prints on standard output.

    Raises NgtrainError with its last line on standard error if it fails.
    """
    command = [str(word) for word in words]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NgtrainError(f"cannot run {command[0]}: {error.strerror}") from None
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"]
        named = said[-1] if command[0] in said[-1] else f"{command[0]}: {said[-1]}"
        raise NgtrainError(named)
    return result.stdout


def require_files(*paths: str | os.PathLike) -> None:
    """Raises NgtrainError that names every file of `paths` that is not there."""
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        raise NgtrainError(f"no such file: {', '.join(missing)}")


def read_integer(path: Path) -> int:
    """The number in a file.  Raises NgtrainError."""
    require_files(path)
    text = path.read_text(errors="replace").strip()
    if not text.isdecimal():
        raise NgtrainError(f"{path}: expected a number, found '{text}'")
    return int(text)
