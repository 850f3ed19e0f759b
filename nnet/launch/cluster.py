"""Launch jobs through the scheduler of a cluster; slurm.py and gridengine.py say which and how.

The jobs of a call are submitted as one job array, by a command that ends when they have ended.  On
its machine each job is run by run.py, which writes its log as everywhere, and then a file with the
job's exit status.  A job has succeeded when both say so, and not before: neither the scheduler's
word counts, nor a log of before, nor a log of another job that this one printed.  What was
submitted, what the scheduler itself has to say, and those files while the jobs run, are in the
folder q beside that of the logs.

How options become those of the scheduler stands in a file, such as conf/queue.conf of the current
folder or else of the project, in the syntax of Kaldi's queue.pl and slurm.pl:

    command qsub -cwd -S /bin/bash -j y
    option mem=* -l mem_free=$0        what --mem <value> becomes; $0 stands for the value
    option mem=0                       what --mem 0 becomes: nothing
    default gpu=0                      the value where --gpu is not given
    option gpu=0 -q all.q
    option gpu=* -l gpu=$0 -q gpu.q
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nnet.cli.config_files import find_config
from nnet.cli.environment import find_program
from nnet.io.ending import finished_before_ending
from nnet.io.text import ENCODING
from nnet.launch.late_files import eventually
from nnet.launch.launcher import Call, Error, exit_status, remove_log

PATIENCE_S = 60  # for a log to become visible here after its job has ended elsewhere
NUM_TRIES, PAUSE_S = 5, 20  # to submit to a scheduler that does not answer

CARRIED = re.compile(r"PATH|PYTHONPATH|LD_LIBRARY_PATH|LC_ALL|(OMP|OPENBLAS|MKL|NGTRAIN)_\w+")
"""Variables that jobs get from here, whatever the scheduler passes on: where programs are, and how
matrices are multiplied, for other kernels give other last digits."""


@dataclass
class Jobs:
    """The jobs of a call that are submitted.

    output: where the scheduler may write; their machines write beside it how they ended.
    name: theirs at the scheduler.  No other job has it, so that we can ask for ours, and end them,
    from the first moment, and two calls for the same log may run at the same time.
    """

    call: Call
    output: Path
    name: str

    @property
    def script(self) -> Path:
        """The file that is submitted."""
        return self.output.with_name(f"{self.name}.sh")

    def status_file(self, job: int | str) -> Path:
        return self.output.with_name(f"{self.name}.status.{job}")

    def status(self, job: int) -> int | None:
        """Say how a job ended by its machine and its log; None while they do not say so."""
        try:
            status = int(self.status_file(job).read_text())
        except (OSError, ValueError):
            return None
        said = exit_status(self.call.log_of(job))
        return None if said is None else status or said

    def forget(self) -> None:
        """Remove what their machines wrote, and keep the script by a name that is not theirs."""
        for job in self.call.jobs:
            self.status_file(job).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.script.replace(self.output.with_suffix(".sh"))


def filled(words: str, **values: str) -> list[str]:
    """Put values into the words of a command."""
    return [word.format(**values) for word in words.split()]


def ask(command: list[str]) -> subprocess.CompletedProcess:
    """Run a program of the scheduler; what it prints is text.  Raises Error if there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Error(f"cannot run {command[0]}: {error.strerror}") from None


class Scheduler(ABC):
    """A kind of scheduler: how jobs are submitted, found and ended there."""

    name: str  # that of the launcher
    config_file: str  # where the options stand if --config does not say it
    task: str  # the variable that has the number of a job of an array
    here: str  # what a log says of machine and job, as bash expands it
    submission: str  # options: the {name} of a job, to wait for it, and where its {output} goes
    excluding: str  # options that keep jobs away from {hosts}
    between_hosts: str = ","
    cancel: str  # the command that ends the jobs called {name}
    submitted: re.Pattern  # what the submission has printed if the scheduler took the jobs
    unreachable: re.Pattern  # what it prints when trying again later may help
    own_options: frozenset[str] = frozenset()  # those that need not be in a configuration
    on_node: tuple[str, ...] = ("num_threads",)  # the options that are for run.py, too

    @abstractmethod
    def array(self, call: Call) -> list[str]:
        """Options that make the submission one of all the jobs of `call`."""

    @abstractmethod
    def is_active(self, name: str) -> bool:
        """Ask the scheduler whether any job called `name` has not ended yet."""

    @abstractmethod
    def fates(self, name: str, said: str) -> dict[int, str]:
        """Ask the scheduler what became of the jobs that failed, in a few words.

        The job of a call without JOB is number 1.  `said` is what the submission has printed.
        """

    def launch(self, call: Call) -> list[int]:
        """Run a call; returns the jobs that failed.  Raises Error if it cannot submit them."""
        options = read_config(self, call)
        output = scheduler_log(call)
        jobs = Jobs(call, output, f"{valid_name(output.stem)}.{secrets.token_hex(4)}")
        try:
            for job in call.jobs:
                Path(call.log_of(job)).parent.mkdir(parents=True, exist_ok=True)
                remove_log(call.log_of(job))
            output.parent.mkdir(parents=True, exist_ok=True)
            jobs.script.write_text(self.script(jobs), **ENCODING)
        except OSError as error:
            raise Error(f"cannot write {error.filename}: {error.strerror}") from None
        if call.job_name is not None:
            options += self.array(call)
        hosts = list(filter(None, call.options.get("exclude_hosts", "").split(",")))
        try:
            if hosts:
                try:
                    excluding = filled(self.excluding, hosts=self.between_hosts.join(hosts))
                    return self.run([*options, *excluding], jobs)
                except Error as error:
                    self.say(f"cannot do without {', '.join(hosts)}: {error}")
            return self.run(options, jobs)
        finally:
            jobs.forget()

    def script(self, jobs: Jobs) -> str:
        """Write the script for a machine of the cluster: run.py, for one job."""
        call = jobs.call
        lines = ["#!/bin/bash", f"cd {shlex.quote(os.getcwd())} || exit 1"]
        for name, value in sorted(os.environ.items()):
            if CARRIED.fullmatch(name):
                lines.append(f"export {name}={shlex.quote(value)}")
        words = [sys.executable, find_program("run.py")]
        for name in self.on_node:
            if name in call.options:
                words += [f"--{name.replace('_', '-')}", call.options[name]]
        status = shlex.quote(str(jobs.status_file(call.jobs[0])))
        array = ""
        if call.job_name is not None:
            status = f"{shlex.quote(str(jobs.status_file('')))}${self.task}"
            array = f"{call.job_name}=${self.task} "
        lines += [
            "[ ! -f path.sh ] || . ./path.sh",
            f'exec {shlex.join(words)} --host "{self.here}" --status-file {status} \\',
            f"  {array}{shlex.join([call.log, *call.words])}",
        ]
        return "\n".join([*lines, ""])

    def run(self, options: list[str], jobs: Jobs) -> list[int]:
        """Submit some jobs and wait for them; returns those that failed.

        Raises Error, with what the scheduler said, if it does not take them.
        """
        submission = filled(self.submission, name=jobs.name, output=str(jobs.output))
        command = [*options, *submission, str(jobs.script)]
        for tries_left in reversed(range(NUM_TRIES)):
            unfinished, said = self.submit_and_wait(command, jobs)
            if not unfinished:
                return []
            if self.submitted.search(said):
                return self.failed(unfinished, self.fates(jobs.name, said), jobs)
            reason = " ".join(said.split()) or f"{command[0]} failed"
            if not self.unreachable.search(said):
                break
            if tries_left:
                self.say(f"{reason}; trying again in {PAUSE_S} seconds")
                time.sleep(PAUSE_S)
        raise Error(f"cannot submit: {reason}")

    def submit_and_wait(self, command: list[str], jobs: Jobs) -> tuple[list[int], str]:
        """Run what submits the jobs and waits for them; those not known to succeed, and its output.

        Interrupted, it ends the jobs.
        """
        import tempfile  # not for --help

        with tempfile.TemporaryFile() as output:
            files = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            process = None
            try:
                with finished_before_ending():
                    # In a session of its own: Control-C is for us.
                    process = subprocess.Popen(command, **files, start_new_session=True)
                unfinished = self.wait(process, output, jobs)
            except OSError as error:
                raise Error(f"cannot run {command[0]}: {error.strerror}") from None
            except BaseException:
                if process is not None:
                    self.end(process, jobs)
                raise
            process.kill()  # the jobs themselves have ended
            process.wait()
            return unfinished, text_of(output)

    def wait(self, process: subprocess.Popen, output: IO[bytes], jobs: Jobs) -> list[int]:
        """Wait until all jobs have succeeded, or have ended; those not known to succeed.

        Schedulers notice the end of a job late; what it leaves is the first to know.  But of a
        failure it may not be the end: the scheduler may start the job again.
        """
        unfinished, pause_s = list(jobs.call.jobs), 0.1
        while True:
            ended = process.poll() is not None
            if ended and self.submitted.search(text_of(output)):
                ended = not self.is_active(jobs.name)  # `process` may have lost sight of the jobs
            unfinished = [job for job in unfinished if jobs.status(job) != 0]
            if ended or not unfinished:
                return unfinished
            time.sleep(pause_s)
            pause_s = min(1.2 * pause_s, 3.0)

    def end(self, process: subprocess.Popen, jobs: Jobs) -> None:
        """Cancel all jobs, also those that are just being submitted by `process`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(Error):
                ask(filled(self.cancel, name=jobs.name))
            if process.poll() is not None or time.monotonic() > deadline:
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        process.kill()
        process.wait()

    def failed(self, unfinished: list[int], fates: dict[int, str], jobs: Jobs) -> list[int]:
        """Find those that failed among jobs not known to have succeeded, when all have ended."""
        log_of = jobs.call.log_of
        silent = [job for job in unfinished if job not in fates]
        eventually(
            lambda: all(jobs.status(job) is not None for job in silent),
            *{jobs.output.parent, *(Path(log_of(job)).absolute().parent for job in silent)},
            patience_s=PATIENCE_S,
        )
        failed = [job for job in unfinished if job in fates or jobs.status(job) != 0]
        for job in failed:
            if jobs.status(job) is None:
                fate = fates.get(job, "its log does not say how it ended")
                self.say(f"job {job}: {fate}, log is in {log_of(job)}")
        return failed

    def say(self, line: str) -> None:
        print(f"{self.name}: {line}", file=sys.stderr, flush=True)


# Configuration ----------------------------------------------------------------------------------


def read_config(scheduler: Scheduler, call: Call) -> list[str]:
    """The command that submits, with what the options of `call` become.

    Raises Error for a line that makes no sense, or an option that is not described.
    """
    path = find_config(call.options.get("config", scheduler.config_file))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"cannot read {path}: {getattr(error, 'strerror', error)}") from None
    command: list[str] = []
    becomes: dict[tuple[str, str], str] = {}  # by option and value, or * for any
    values: dict[str, str] = {}
    for line in text.splitlines():
        stripped = re.sub(r"\s*#.*", "", line).strip()
        if match := re.fullmatch(r"command\s+(.+)", stripped):
            command = split(match[1], path)
        elif match := re.fullmatch(r"option\s+([^\s=]+)=(\S+)\s*(.*)", stripped):
            becomes[match[1], match[2]] = match[3]
        elif match := re.fullmatch(r"default\s+([^\s=]+)=(\S+)", stripped):
            values[match[1]] = match[2]
        elif stripped:
            raise Error(f"{path}: cannot understand '{line.strip()}'")
    if not command:
        raise Error(f"{path}: there is no line 'command ...'")
    values |= call.options
    for name, value in values.items():
        if name in ("config", "exclude_hosts"):
            continue
        if name == "max_jobs_run" and call.job_name is None:
            continue
        if (name, value) in becomes:
            command += split(becomes[name, value], path)
        elif (name, "*") in becomes:
            command += split(becomes[name, "*"].replace("$0", value), path)
        elif name not in scheduler.own_options:
            option = f"--{name.replace('_', '-')} {value}"
            raise Error(f"{path} does not say what {option} becomes ('option {name}=* ...')")
    return command + call.native


def split(options: str, path: str) -> list[str]:
    """Words of a line of the configuration, as the shell sees them, but for wildcards."""
    try:
        return shlex.split(os.path.expandvars(options))
    except ValueError as error:
        raise Error(f"{path}: cannot understand '{options}': {error}") from None


def scheduler_log(call: Call) -> Path:
    """Where the scheduler may write: exp/q/align.log where the logs are exp/log/align.JOB.log."""
    log = Path(os.path.abspath(call.log))
    name = log.stem
    if call.job_name is not None:
        name = re.sub(rf"\.?{call.job_name}", "", name).strip(".") or "job"
    parent = log.parent.parent if log.parent.name.lower() == "log" else log.parent
    return parent / "q" / f"{name}.log"


# Files ------------------------------------------------------------------------------------------


def text_of(output: IO[bytes]) -> str:
    """Return the text that a process, which has ended, wrote to a file."""
    output.seek(0)
    return output.read().decode(errors="replace")


def valid_name(name: str) -> str:
    """A name for a job: GridEngine wants a letter first, and no characters that mean something."""
    return re.sub(r"[^\w.-]", "_", name if name[0].isalpha() else f"j{name}")
