"""The face that drivers in steps/ and utils/ share: command line, and commands through ``--cmd``.

    from nnet.launch.commands import JOB
    from nnet.drivers.driver import argument, driver, job_options, log, run

    @driver("Usage:  steps/align.py [options] <data> <dir>")
    @argument("data", "dir")
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
import re
import signal
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
from nnet.drivers.programs import Background, output_of, read_integer, require_files, run  # noqa: F401
from nnet.io.ending import ENDING
from nnet.launch import lifeline
from nnet.launch.directory_lock import only_driver_in
from nnet.launch.jobs import parse_cmd
from nnet.launch.local import num_cores

INTERRUPTED = frozenset(128 + number for number in (signal.SIGINT, *ENDING))
"""Statuses of a program that was asked to end."""


class _Launcher(click.types.StringParamType):
    """A launcher and its options, looked at before anything is done."""

    def convert(self, value, param, ctx) -> str:
        parse_cmd(value)
        return super().convert(value, param, ctx)


cmd_option = option(
    "--cmd", "run.py",
    "How to launch jobs: run.py (this machine), slurm.py, queue.pl, ... with their options; "
    "--max-retries <n> among these starts a job that failed again", type=_Launcher(),
)  # fmt: skip
nj_option = option(
    "--nj", 4, least=1,
    help="Number of parallel jobs; not that of this machine's cores, as networks depend on it",
)  # fmt: skip


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
