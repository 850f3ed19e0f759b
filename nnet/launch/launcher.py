"""Launchers' command line, which is that of Kaldi's run.pl, and the logs of jobs.

A launcher, run.py, slurm.py or queue.py, runs a command, or many like it at the same time:

    queue.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]

Each job has a log of its own, in which lines that begin with # tell of the job:

    # nnet-am-average 7.1.mdl 7.2.mdl 7.mdl
    # Started at Mon Sep  1 10:00:00 UTC 2025
    # Running on n2, Slurm job 17_2
    #
    ... what the command printed ...
    # Accounting: time=3 threads=1
    # Ended (code 0) at Mon Sep  1 10:00:03 UTC 2025, elapsed time 3 seconds

The last line is what a launcher believes: a log without it is that of a job that did not end by
itself, whose machine went down, say.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from nnet.cli import environment
from nnet.io.descriptors import reserve_standard_descriptors
from nnet.io.ending import SIGNALS, disregard
from nnet.io.log_lines import ENDED, STARTED
from nnet.launch import lifeline

OURS = frozenset({"run.py", "slurm.py", "queue.py", "gridengine.py"})
"""Launchers that take --exclude-hosts, which Kaldi's do not know."""

MOST_JOBS = 100_000  # of one call; schedulers allow fewer
MOST_DIGITS = 9  # of a number in a call


class Error(Exception):
    """A mistake in the call, or a job that could not be started; the message is one line."""


# The command line ---------------------------------------------------------------------------------


@dataclass
class Call:
    """The command line of a launcher: options, jobs, their log and their command.

    options: value of each option of the form --name <value>, by name, with _ for -.
    native: options with one dash and their values, which are those of a scheduler, as they stand.
    """

    options: dict[str, str] = field(default_factory=dict)
    native: list[str] = field(default_factory=list)
    job_name: str | None = None
    jobs: range = range(1, 2)
    log: str = ""
    words: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command that bash is to run."""
        return " ".join(map(quote, self.words))

    def number(self, name: str, default: int | None, smallest: int = 1) -> int | None:
        """The value of an option that is a number.  Raises Error if it is something else."""
        value = self.options.get(name)
        if value is None:
            return default
        if not value.isdecimal() or len(value) > MOST_DIGITS or int(value) < smallest:
            option = f"--{name.replace('_', '-')}"
            raise Error(f"option {option} needs a number of at least {smallest}, not '{value}'")
        return int(value)

    def of_job(self, text: str, job: int | str) -> str:
        return text if self.job_name is None else text.replace(self.job_name, str(job))

    def log_of(self, job: int) -> str:
        return self.of_job(self.log, job)


def parse(args: list[str]) -> Call:
    """Read the command line, options on either side of JOB=1:n; Error if it makes no sense."""
    call = Call()
    args = read_options(args, call)
    if args and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", args[0])):
        first, last = (int(n[:MOST_DIGITS]) for n in (match[2], match[3] or match[2]))
        if not 1 <= first <= last:
            raise Error(f"invalid job range {args[0]}: it must count upwards from 1 or more")
        if last > MOST_JOBS:
            raise Error(f"invalid job range {args[0]}: numbers go up to {MOST_JOBS}")
        call.job_name, call.jobs = match[1], range(first, last + 1)
        args = read_options(args[1:], call)
    if len(args) < 2:
        raise Error("usage: [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]")
    call.log, *call.words = args
    if len(call.jobs) > 1 and call.job_name not in call.log:
        raise Error(f"the log of {len(call.jobs)} jobs must have {call.job_name} in it: {call.log}")
    return call


NUM_VALUES = {"-V": 0, "-pe": 2}  # of the options of qsub that do not have one


def read_options(args: list[str], call: Call) -> list[str]:
    """Take the options that `args` starts with; return the rest."""
    while args and args[0].startswith("-"):
        name, *args = args
        count = NUM_VALUES.get(name, 1)
        values, args = args[:count], args[count:]
        if len(values) < count:
            raise Error(f"option {name} needs a value")
        if name in ("--max-jobs-run", "-tc"):  # of several the smallest, as in run.pl
            values.append(call.options.get("max_jobs_run", values[0]))
            call.options["max_jobs_run"] = min(values, key=lambda n: (len(n), n))
        elif name.startswith("--"):
            call.options[name.removeprefix("--").replace("-", "_")] = values[0]
        else:
            call.native += [name, *values]
    return args


def quote(word: str) -> str:
    """Keep the white space of a word; leave everything else to bash, as run.pl does."""
    if re.fullmatch(r"\S+", word, re.ASCII):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


# Logs -------------------------------------------------------------------------------------------


def header(command: str, host: str) -> str:
    """Write the head of the log of a job that starts now."""
    return f"# {command}\n{STARTED.format % date()}\n# Running on {host}\n#\n"


def footer(status: int, seconds: float, num_threads: int) -> str:
    """Write the end of a log; a negative `status` is the signal that ended the job."""
    code = f"code {status}" if status >= 0 else f"code 0; signal {-status}"
    accounting = f"# Accounting: time={round(seconds)} threads={num_threads}"
    return f"{accounting}\n{ENDED.format % (code, date(), round(seconds))}\n"


def date() -> str:
    """Now, as the program `date` prints it."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


FOOTER = re.compile(
    r"^# (?:Ended \(code (\d+)(?:; signal (\d+))?\) at .*|Finished at .* with status (\d+))$",
    flags=re.MULTILINE,
)
"""Ours, which is that of run.pl, or that of Kaldi's queue.pl and slurm.pl."""

TAIL = 1 << 12  # bytes at the end of a log in which its footer is


def exit_status(log: str | os.PathLike) -> int | None:
    """Read from a log how its job ended: a status, or 128 and the number of a signal.

    None if it does not say so, or is not there.  What was left behind may print below the footer.
    """
    try:
        footers = FOOTER.findall(end_of(log, TAIL))
    except OSError:
        return None
    if not footers:
        return None
    code, by_signal, status = footers[-1]
    return 128 + int(by_signal) if by_signal else int(code or status)


def end_of(log: str | os.PathLike, size: int) -> str:
    """The last `size` bytes of a log, from the first whole line.  Raises OSError."""
    with open(log, "rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - size)
        file.seek(start)
        text = file.read(size).decode(errors="replace")
    _, newline, rest = text.partition("\n")
    return rest if start and newline else text


def host_of(log: str | os.PathLike) -> str | None:
    """The machine that a job ran on according to its log; None if it does not say."""
    try:
        with open(log, "rb") as file:
            text = file.read(TAIL).decode(errors="replace")
    except OSError:
        return None
    match = re.search(r"^# Running on ([^\s,]+)", text, flags=re.MULTILINE)
    return match[1] if match else None


def remove_log(log: str | os.PathLike) -> None:
    """Forget a log of before, so that none believes it, nor a job that still runs writes to ours.

    A device, such as /dev/null, stays.  Raises OSError if it cannot be removed.
    """
    if Path(log).is_file():
        Path(log).unlink(missing_ok=True)


def program_of(launcher: str) -> str:
    """Find what a launcher's name starts: what the PATH has, or else what the project has."""
    return shutil.which(launcher) or environment.find_program(launcher)


# The program ------------------------------------------------------------------------------------


def main(documentation: str, launch: Callable[[Call], list[int]]) -> int:
    """The program of a launcher, whose `launch` runs a call and returns the jobs that failed."""
    reserve_standard_descriptors()
    name = Path(sys.argv[0]).name
    environment.set_up()
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print((documentation or "").strip())
        return 0
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, interrupt)
    lifeline.end_with_parent()
    try:
        call = parse(sys.argv[1:])
        failed = launch(call)
    except Error as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    if failed:
        print(f"{name}: {report(call, failed)}", file=sys.stderr)
    return 1 if failed else 0


def interrupt(number: int, _) -> NoReturn:
    """End, once: ending the jobs takes a while, in which whoever is impatient asks again."""
    for other in SIGNALS:
        signal.signal(other, disregard)
    sys.exit(128 + number)


def report(call: Call, failed: list[int]) -> str:
    """The line on failed jobs that users and scripts of Kaldi know."""
    if len(call.jobs) > 1:
        return f"{len(failed)} / {len(call.jobs)} failed, log is in {call.of_job(call.log, '*')}"
    line = f"job failed, log is in {call.log_of(call.jobs[0])}"
    if call.job_name is None and "JOB" in call.log:
        line += " (there is JOB in it, but no JOB=1:<n> stands before it)"
    return line
