"""The face that drivers in steps/ and utils/ share: command line, and commands through ``--cmd``.

    from nnet.launch.commands import JOB
    from nnet.drivers.driver import driver, job_options, log, paths, run

    @driver("Usage:  steps/align.py [options] <data> <dir>")
    @paths("data", "dir")
    @job_options
    def main(data, dir, nj, cmd):
        log.info("aligning %s", data)
        run(cmd, f"{dir}/align.{JOB}.log", "nnet-align", f"{dir}/{JOB}.mdl", "|", "gzip", jobs=nj)

A driver takes options as Kaldi's scripts do (utils/parse_options.sh): ``--name value`` or
``--name=value``, and a bare ``--name`` for true.  Its messages begin with its name:
``steps/align.py: aligning data/train``.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nnet.cli import (  # noqa: F401 - for the drivers
    Choice,
    Program,
    argument,
    click,  # by way of what says where it is missing
    gpu_option,
    integer,
    log,
    option,
    program,
    real,
    tf32_option,
)
from nnet.cli.environment import find_program
from nnet.errors import NgtrainError
from nnet.io.ending import ENDING
from nnet.io.text import ENCODING
from nnet.launch import lifeline
from nnet.launch.commands import JOB
from nnet.launch.directory_lock import only_driver_in
from nnet.launch.jobs import Background, parse_cmd, run  # noqa: F401 - for the drivers
from nnet.launch.local import num_cores, wait_for

INTERRUPTED = frozenset(128 + number for number in (signal.SIGINT, *ENDING))
"""Statuses of a program that was asked to end."""


class _Launcher(click.types.StringParamType):
    """A launcher and its options, looked at before anything is done."""

    def convert(self, value, param, ctx) -> str:
        parse_cmd(value)
        return super().convert(value, param, ctx)


cmd_option = option(
    "--cmd",
    type=_Launcher(),
    default="run.py",
    help="How to launch jobs: run.py (this machine), slurm.py, queue.pl, ... with their options; "
    "--max-retries <n> among these starts a job that failed again",
)

nj_option = option(
    "--nj",
    type=integer(least=1),
    default=num_cores(),
    help="Number of parallel jobs; if not given, one for each core of this machine",
)


def flag(name: str) -> str:
    """Write the option of a parameter: ``--some-name``."""
    return f"--{name.replace('_', '-')}"


def decorated_by(*decorators: Callable) -> Callable[[Callable], Callable]:
    """Make one decorator of several, which stand in the order that they would stand in."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def paths(*names: str) -> Callable[[Callable], Callable]:
    """Decorator that gives a driver arguments which are directories or files, as paths."""
    return decorated_by(*(argument(name, type=Path) for name in names))


job_options = decorated_by(nj_option, cmd_option)


def driver(usage: str, *, writes: str = "", **attributes) -> Callable[[Callable], Driver]:
    """Make a driver of a function, as nnet.cli.program makes a program.

    `writes` is the argument that names the directory which it fills: one driver at a time.
    """
    return program(usage, cls=Driver, writes=writes, **attributes)


def tool(usage: str) -> Callable[[Callable], Driver]:
    """Make a driver that does not echo its command line: a small tool, usable as a filter."""
    return program(usage, cls=Tool)


class Driver(Program):
    """A program whose options may be written ``--name value``."""

    # Without --no-pipes, because the commands that drivers start are full of pipes.
    STANDARD = Program.STANDARD - {"num_threads", "no_pipes"}

    GOES_ON = True  # its work takes so long that it is worth saying

    def __init__(self, *args, writes: str = "", **kwargs):
        super().__init__(*args, **kwargs)
        self.writes = writes

    def invoke(self, ctx: click.Context) -> int | None:
        """Run the function, alone in its directory."""
        if not self.writes:
            return super().invoke(ctx)
        with only_driver_in(Path(ctx.params[self.writes])):
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join options with their values, then read them as every program does."""
        return super().parse_args(ctx, self._join_values(args))

    def main(self, args: list[str] | None = None, **_) -> NoReturn:
        """Run as a process, which ends with the driver that started it, if one did."""
        has_parent = lifeline.end_with_parent()
        try:
            super().main(args)
        except SystemExit as end:
            if end.code in INTERRUPTED and self.GOES_ON and not has_parent:
                log.warning("interrupted; run it again to go on")
            raise

    def _join_values(self, args: list[str]) -> list[str]:
        """``--name value`` or ``-n value`` becomes ``--name=value``, up to the first argument.

        Raises NgtrainError for what is no option: whether the next word is its value is not known.
        """
        joined, rest = [], list(args)
        while rest and re.match(r"--?[A-Za-z]", rest[0]):
            word = rest.pop(0)
            key, equals, _ = word.partition("=")
            _, option = self.option_named(key)
            if not equals and rest:
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
        """Do nothing: a driver computes nothing, and its ``--num-threads`` is for its jobs."""

    def select_device(self, ctx: click.Context) -> None:
        """Do nothing: ``--use-gpu`` is for its jobs, too."""


class Tool(Driver):
    """A driver without ``--print-args``."""

    STANDARD = Driver.STANDARD - {"print_args"}
    GOES_ON = False


class _DriverFormatter(logging.Formatter):
    """``steps/train.py: message``, or ``steps/train.py: error: message``."""

    def __init__(self, name: str):
        super().__init__(f"{name}: %(kind)s%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        serious = record.levelno >= logging.WARNING
        record.kind = f"{record.levelname.lower()}: " if serious else ""
        return super().format(record)


def threads_per_job(cmd: str, num_jobs: int) -> int:
    """Choose how many threads each of `num_jobs` jobs at the same time should have.

    On this machine, through run.py, so many that no core is idle and none has two to run where that
    can be; one where another launcher decides which machines there are.
    """
    return max(1, num_cores() // num_jobs) if parse_cmd(cmd)[0] == "run.py" else 1


def of_jobs(pattern: str | Path, num_jobs: int) -> list[Path]:
    """Name the files of jobs, in the name of which JOB stands for a number from 1 on."""
    return [Path(str(pattern).replace(JOB, str(n + 1))) for n in range(num_jobs)]


def run_step(name: str, *words) -> None:
    """Run another driver of steps/, which speaks for itself.  Raises NgtrainError if it fails."""
    command = [sys.executable, find_program(name), *map(str, words)]
    process = subprocess.Popen(command, **lifeline.given())
    try:
        if wait_for(process) != 0:
            raise NgtrainError(f"steps/{name} failed")
    finally:
        process.terminate()
        process.wait()


def output_of(*words) -> str:
    """Run a small program here and now, and return what it prints on standard output.

    Raises NgtrainError with its last line on standard error if it fails.
    """
    command = [str(word) for word in words]
    try:
        result = subprocess.run(command, capture_output=True, check=False, **ENCODING)
    except OSError as error:
        raise NgtrainError(f"cannot run {command[0]}: {error.strerror}") from None
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"]
        named = said[-1] if command[0] in said[-1] else f"{command[0]}: {said[-1]}"
        raise NgtrainError(named)
    return result.stdout


def require_files(*paths: str | os.PathLike) -> None:
    """Raise NgtrainError that names every file of `paths` that is not there."""
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        raise NgtrainError(f"no such file: {', '.join(missing)}")


def require_contents(*paths: str | os.PathLike) -> None:
    """Raise NgtrainError that names every file of `paths` that is not there, or else is empty."""
    require_files(*paths)
    empty = [str(path) for path in paths if os.path.getsize(path) == 0]
    if empty:
        raise NgtrainError(f"there is nothing in {', '.join(empty)}")


def read_integer(path: Path) -> int:
    """Read the number in a file.  Raises NgtrainError."""
    require_files(path)
    text = path.read_text(errors="replace").strip()
    if not text.isdecimal() or len(text) > 18:
        raise NgtrainError(f"{path}: expected a number, found '{text}'")
    return int(text)
