"""Commands through a launcher, ``--cmd``: started, waited for, and started again when they fail.

    with Background() as background:
        for n in range(1, num_jobs + 1):
            background.start("slurm.py --max-retries 2", f"{dir}/log/train.{n}.log",
                             "nnet-train-simple", ...)

One option in ``--cmd`` is for us and not for the launcher: ``--max-retries <n>``, how many more
times a job that failed is started (default 0).  That is on another node where the launcher can see
to it, and the log of the attempt that failed is kept as ``train.3.failed1.log``.
"""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, count, pairwise
from pathlib import Path
from typing import NamedTuple

from nnet.errors import NgtrainError
from nnet.launch import lifeline
from nnet.launch.commands import JOB, for_launcher
from nnet.launch.launcher import (
    OURS,
    Error,
    end_of,
    exit_status,
    host_of,
    parse,
    program_of,
    remove_log,
)  # fmt: skip
from nnet.launch.local import Runner, wait_for

log = logging.getLogger("ngtrain")


def run(cmd: str, log_file: str, *words, jobs: int | None = None, **resources: int | str) -> None:
    """Run a command through the launcher `cmd`, and wait for it.

    `log_file` gets what it prints.  With `jobs`, nnet.launch.commands.JOB in `log_file` and `words`
    stands for the numbers 1 to `jobs`; where none of them has it, the plain letters JOB do.
    `words` are the command and its arguments; the words in OPERATORS act as in the shell, and all
    others are taken literally.  `resources` are options of the launcher: max_jobs_run=4,
    num_threads=2, gpu=1, mem="2G".

    Raises NgtrainError, with the reason from the log, if any job fails.
    """
    with Background() as background:
        background.start(cmd, log_file, *words, jobs=jobs, **resources)


OPERATORS = frozenset({"|", "&&", "||", ";", "(", ")", "<", ">", ">>", "2>", "2>&1"})

PIPEFAIL = ["set", "-o", "pipefail", "&&"]
"""What makes a failure anywhere in a pipeline one of the command; launchers of ours see to it."""


class Failure(NamedTuple):
    """A job that failed for good: its log, and why in a line."""

    log: str
    reason: str


class Background:
    """Commands that run at the same time: a block that ends when all of them have ended.

    Leaving the block raises NgtrainError if any of them failed, but for failures that wait() has
    returned; when an exception leaves the block, they are stopped.

    start_timeout: seconds after which a job that has not started counts as failed; 0 for never.
    """

    def __init__(self, start_timeout: float = 0.0):
        self.start_timeout = start_timeout
        self._running: list[LauncherCall] = []
        self._failures: list[Failure] = []
        self._num_jobs = 0

    def __enter__(self) -> Background:
        return self

    def start(
        self, cmd: str, log_file: str, *words, jobs: int | None = None, **resources: int | str
    ) -> None:
        """Start a command; the arguments are those of run()."""
        launcher, options, max_retries = parse_cmd(cmd)
        for name, value in resources.items():
            options += [f"--{name.replace('_', '-')}", str(value)]
        log_file, words = str(log_file), [str(word) for word in words]
        job = _name_of_job([log_file, *words])
        numbers = None if jobs is None else range(1, jobs + 1)
        log_file = log_file.replace(JOB, job)
        words = [w if w in OPERATORS else for_launcher(w).replace(JOB, job) for w in words]
        self._launch(LauncherCall(launcher, options, log_file, words, numbers, max_retries, job))
        self._num_jobs += jobs or 1

    def _launch(self, call: LauncherCall) -> None:
        self._running.append(call)  # first, so that whatever comes between, it is ended
        call.launch()

    def running(self) -> bool:
        """Say whether any command has yet to end; start those again that failed."""
        for call in list(self._running):
            call.check_start(self.start_timeout)
            if call.process.poll() is not None:
                self._running.remove(call)
                again, failed = call.after()
                self._failures += failed
                for call in again:
                    self._launch(call)
        return bool(self._running)

    def wait(self) -> list[Failure]:
        """Wait for all commands; start those again that fail.  Returns what failed for good."""
        while self.running():
            with suppress(subprocess.TimeoutExpired):
                self._running[0].process.wait(timeout=0.5)
        failures, self._failures = self._failures, []
        return failures

    def __exit__(self, exception_type, *_) -> None:
        try:
            if exception_type is None and (failures := self.wait()):
                many = f"{len(failures)} of {self._num_jobs} jobs failed: "
                count = many if self._num_jobs > 1 else ""
                raise NgtrainError(f"{count}{failures[0].log}: {failures[0].reason}")
        finally:
            processes = [call.process for call in self._running if call.process is not None]
            for process in processes:
                process.terminate()  # does nothing to those that have ended
            for process in processes:
                wait_for(process)


@dataclass
class LauncherCall:
    """A call of a launcher, for a command or for many like it.

    numbers: what `job_name` in the command stands for; None where it stands for itself.
    retries: how many more times each of them may be started.
    hosts: where they failed before.
    """

    launcher: str
    options: list[str]
    log_file: str
    words: list[str]
    numbers: range | None
    retries: int
    job_name: str
    attempt: int = 1
    hosts: tuple[str, ...] = ()
    process: subprocess.Popen | Runner | None = field(init=False, default=None)
    fault: str = ""

    def launch(self) -> None:
        """Start it.  Raises NgtrainError where there is no such launcher, or not such a call."""
        options = list(self.options)
        if self.hosts and self.launcher in OURS:
            options += ["--exclude-hosts", ",".join(self.hosts)]
        if self.numbers is not None:
            options.append(f"{self.job_name}={self.numbers[0]}:{self.numbers[-1]}")
        pipefail = PIPEFAIL if "|" in self.words and self.launcher not in OURS else []
        arguments = [*options, self.log_file, *pipefail, *self.words]
        for path in self.logs:  # what an earlier job left tells nothing of this one
            remove_log(path)
        self.launched = time.monotonic()
        try:
            if self.launcher == "run.py":  # which would only wait as we do: no process for it
                self.process = Runner(parse(arguments))
                self.process.start()
            else:
                command = [program_of(self.launcher), *arguments]
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, **lifeline.given()
                )
        except OSError as error:
            raise NgtrainError(f"cannot run --cmd '{self.launcher}': {error.strerror}") from None
        except Error as error:
            raise NgtrainError(f"run.py: {error}") from None

    @property
    def logs(self) -> list[str]:
        if self.numbers is None:
            return [self.log_file]
        return [self.log_file.replace(self.job_name, str(number)) for number in self.numbers]

    def check_start(self, timeout: float) -> None:
        """End it if after `timeout` seconds, unless that is 0, there is no sign of a job of it."""
        late = timeout and time.monotonic() - self.launched > timeout
        if late and not self.fault and not any(Path(path).exists() for path in self.logs):
            self.fault = f"it had not started after {timeout:g} seconds"
            self.process.terminate()

    def after(self) -> tuple[list[LauncherCall], list[Failure]]:
        """Return what follows from its end: calls for failed jobs again, and failures for good."""
        if self.process.poll() == 0:
            return [], []
        again, failures = [], []
        for number, path in self.failed():
            reason = self.fault or reason_of_failure(path)
            if not self.retries:
                failures.append(Failure(path, reason))
                continue
            host = host_of(path)
            kept = f"{path.removesuffix('.log')}.failed{self.attempt}.log"
            if Path(path).exists():
                Path(path).replace(kept)
            shown = kept if Path(kept).exists() else path
            where = f" (on {host})" if host else ""
            log.warning("%s%s: %s; starting it again", shown, where, reason)
            call = replace(
                self,
                numbers=None if number is None else range(number, number + 1),
                retries=self.retries - 1,
                attempt=self.attempt + 1,
                hosts=tuple(dict.fromkeys(filter(None, (*self.hosts, host)))),
                fault="",
            )
            again.append(call)
        if not again and not failures:
            reason = "the launcher failed, but not according to this log of its job"
            failures.append(Failure(self.logs[0], reason))
        return again, failures

    def failed(self) -> list[tuple[int | None, str]]:
        """The number and the log of each job that failed, as run.py knows or as its log says."""
        jobs = zip(self.numbers or [None], self.logs, strict=True)
        if isinstance(self.process, Runner):
            numbers = self.process.failed()
            return [(number, path) for number, path in jobs if (number or 1) in numbers]
        return [(number, path) for number, path in jobs if exit_status(path) != 0]


def parse_cmd(cmd: str) -> tuple[str, list[str], int]:
    """The launcher of ``--cmd``, its options, and ``--max-retries``.  Raises NgtrainError."""
    try:
        launcher, *options = shlex.split(cmd)
    except ValueError:  # nothing, or a quotation mark alone
        raise NgtrainError(f"--cmd '{cmd}': expected a launcher, such as run.py") from None
    max_retries = 0
    while "--max-retries" in options:
        at = options.index("--max-retries")
        value = "".join(options[at + 1 : at + 2])
        if not value.isdecimal():
            raise NgtrainError(f"--max-retries in --cmd needs a number, not '{value}'")
        max_retries = int(value)
        del options[at : at + 2]
    for before, word in pairwise([launcher, *options]):
        if re.fullmatch(r"\w+=\d+:\d+", word) and not before.startswith("-"):
            raise NgtrainError(f"{word} in --cmd: the number of jobs is an option, such as --nj")
    return launcher, options, max_retries


def _name_of_job(texts: list[str]) -> str:
    """A name for the number of a job that is nowhere in some texts: JOB, or JOB with a number."""
    if not any(JOB in text for text in texts):
        return "JOB"
    rest = " ".join(texts).replace(JOB, " ")
    names = chain(["JOB"], (f"JOB{n}" for n in count(1)))
    return next(name for name in names if name not in rest)


QUOTED = 1 << 16  # bytes at the end of a log in which the reason of a failure is looked for
LONGEST_REASON = 500  # characters

# Of our programs and Kaldi's, or of a driver.
ERROR_LINE = re.compile(r"(ERROR|ASSERTION_FAILED)\b|[\w./-]+: error: ")
# A warning, or the message of a program that puts its name before it: gzip: x.gz: ...
COMPLAINT = re.compile(r"WARNING\b|[^\s:]+: ")


def reason_of_failure(log_file: str) -> str:
    """Why a job failed, in a line: its first error, or how it was killed, or its last complaint."""
    try:
        said = _said(log_file)
    except FileNotFoundError:
        return "it left no log"
    killed = {
        None: "its log has no end, as if its machine had gone down",
        128 + 9: "it was killed by SIGKILL, as when memory runs out",
        128 + 15: "it was ended by SIGTERM, as at the time limit of a scheduler",
    }.get(exit_status(log_file))
    last = (said or ["it ended without a word"])[-1]
    return _first_error(said) or killed or _last_complaint(said) or _shortened(last)


def complaint(log_file: str) -> str | None:
    """The first error in a log, or its last warning, also of a job that succeeded; None if none."""
    with suppress(FileNotFoundError):
        said = _said(log_file)
        return _first_error(said) or _last_complaint(said)
    return None


def _said(log_file: str) -> list[str]:
    """Read what a job printed: the lines at the end of its log, which may be large."""
    lines = end_of(log_file, QUOTED).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _first_error(said: list[str]) -> str | None:
    """The first, because in a pipeline it brings others about."""
    return next((_shortened(line) for line in said if ERROR_LINE.match(line)), None)


def _last_complaint(said: list[str]) -> str | None:
    return next((_shortened(line) for line in reversed(said) if COMPLAINT.match(line)), None)


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}..."
