#!/usr/bin/env python3
"""Run a command, or many like it at the same time, on this machine, each with its own log.

Usage:  run.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]
 e.g.:  run.py JOB=1:4 exp/log/copy.JOB.log nnet-copy-egs "ark:gunzip -c egs.JOB.gz |" ark:egs.JOB

The interface is that of Kaldi's run.pl (egs/wsj/s5/utils/parallel/run.pl), so that each can stand
for the other, or for queue.pl and slurm.pl.  JOB, or whatever name stands left of =1:<n>, becomes
the job's number in the log file's name and in the command.  The words of the command are joined
and run by bash: a word with white space stays one word, operators such as \\| act.  A pipeline
fails when any of its commands does.  The exit status is 1 if any job failed.

Options:
  --max-jobs-run <n>  How many jobs run at the same time (default: as many as there are processors,
                      or GPUs when --gpu is given)
  --num-threads <n>   Threads that each job uses (default: 1)
  --gpu <n>           GPUs that each job has for itself, through CUDA_VISIBLE_DEVICES (default: 0)
Other options, which would be for a queueing system, are accepted with their value and ignored.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

# Asked to end, bash waits for the command that it is running, which was asked too, and then ends.
TRAP = f"trap 'exit {128 + signal.SIGTERM}' TERM"


class Error(Exception):
    """A mistake in the call; the message is one line."""


@dataclass
class Call:
    """What the command line asks for."""

    log: str = ""
    command: str = ""
    job_name: str | None = None
    jobs: range = range(1, 2)
    max_jobs_run: int | None = None
    num_threads: int = 1
    gpus_per_job: int = 0

    def of_job(self, text: str, job: int) -> str:
        return text if self.job_name is None else text.replace(self.job_name, str(job))


def parse(args: list[str]) -> Call:
    """Read the command line; options may stand on either side of JOB=1:n."""
    call = Call()
    args = read_options(args, call)
    if args and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", args[0])):
        first, last = int(match[2]), int(match[3] or match[2])
        if not 1 <= first <= last:
            raise Error(f"invalid job range {args[0]}: it must count upwards from 1 or more")
        call.job_name, call.jobs = match[1], range(first, last + 1)
        args = read_options(args[1:], call)
    if len(args) < 2:
        raise Error("usage: run.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]")
    call.log, call.command = args[0], " ".join(map(quote, args[1:]))
    if len(call.jobs) > 1 and call.job_name not in call.log:
        raise Error(f"the log of {len(call.jobs)} jobs must have {call.job_name} in it: {call.log}")
    return call


def read_options(args: list[str], call: Call) -> list[str]:
    """Take the options that `args` starts with; return the rest."""
    while args and args[0].startswith("-"):
        name, *args = args
        if name in ("-h", "--help"):
            print(__doc__.strip())
            sys.exit(0)
        if name == "-V":  # qsub's one option without a value
            continue
        if not args:
            raise Error(f"option {name} needs a value")
        value, *args = args
        match name:
            case "--max-jobs-run" | "-tc":
                call.max_jobs_run = min(number(name, value, 1), call.max_jobs_run or sys.maxsize)
            case "--num-threads":
                call.num_threads = number(name, value, 1)
            case "--gpu":
                call.gpus_per_job = number(name, value, 0)
            case "-pe":  # -pe smp <n>
                args = args[1:]
    return args


def number(name: str, value: str, smallest: int) -> int:
    if not value.isdecimal() or int(value) < smallest:
        raise Error(f"option {name} needs a number of at least {smallest}, not '{value}'")
    return int(value)


def quote(word: str) -> str:
    """Keep the white space of a word; leave everything else to bash, as run.pl does."""
    if re.fullmatch(r"\S+", word):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


# GPUs -------------------------------------------------------------------------------------------


def visible_gpus() -> list[str]:
    """The GPUs of this machine, or those that CUDA_VISIBLE_DEVICES leaves, by name or number."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip()]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU (\d+):", listing.stdout, flags=re.MULTILINE)


@contextmanager
def reserved_gpus(gpus: list[str], count: int, stopping: threading.Event) -> Iterator[str]:
    """Wait for `count` free GPUs and hold them; yields the value of CUDA_VISIBLE_DEVICES.

    A lock on a file stands for a GPU, so that several run.py at the same time share the machine;
    a lock goes with the process that holds it.  Once `stopping` is set it yields no GPU.
    """
    from tempfile import gettempdir

    folder = Path(gettempdir()) / f"ngtrain-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        with ExitStack() as locks:
            held = []
            for gpu in gpus:
                if len(held) < count:
                    file = locks.enter_context(open(folder / gpu.replace("/", "_"), "w"))
                    with suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        held.append(gpu)
            if len(held) == count:
                yield ",".join(held)
                return
        if stopping.wait(0.2):
            yield ""
            return


# Jobs -------------------------------------------------------------------------------------------


def num_cores() -> int:
    """How many cores of this machine are ours to use."""
    return len(os.sched_getaffinity(0))


class Runner:
    """The jobs of a call, from when it is made on; like a subprocess.Popen to wait for and to end.

    Each job has a thread here that starts it, waits for it, and writes its log.
    """

    def __init__(self, call: Call):
        self.call = call
        self.gpus = visible_gpus() if call.gpus_per_job else []
        if call.gpus_per_job > len(self.gpus):
            raise Error(f"--gpu {call.gpus_per_job}: this machine shows {len(self.gpus)} GPUs")
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        with_threads = ThreadPoolExecutor(self.max_jobs_run())
        self.successes = {job: with_threads.submit(self.run_job, job) for job in call.jobs}
        with_threads.shutdown(wait=False)

    def max_jobs_run(self) -> int:
        """By default one job per core or GPU; a few more at once rather than a few left over."""
        call, jobs = self.call, len(self.call.jobs)
        if call.max_jobs_run:
            return call.max_jobs_run
        if call.gpus_per_job:
            return len(self.gpus) // call.gpus_per_job
        room = max(1, num_cores() // call.num_threads)
        return jobs if jobs < 1.4 * room else room

    def poll(self) -> int | None:
        """The exit status, 1 if any job failed; None while there are jobs to run."""
        if not all(success.done() for success in self.successes.values()):
            return None
        return 1 if self.failed() else 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait for all jobs; the exit status.  Raises TimeoutExpired after `timeout` seconds."""
        if wait(self.successes.values(), timeout).not_done:
            raise subprocess.TimeoutExpired(self.call.command, timeout)
        return 1 if self.failed() else 0

    def failed(self) -> list[int]:
        """The numbers of the jobs that failed, or never ran; all must have ended."""
        return [job for job, success in self.successes.items() if not success.result()]

    def run_job(self, job: int) -> bool:
        """Run one job with its log; says whether it succeeded."""
        if self.stopping.is_set():
            return False
        call = self.call
        log_name, command = call.of_job(call.log, job), call.of_job(call.command, job)
        environment = dict(os.environ)
        with ExitStack() as stack:
            if call.gpus_per_job:
                held = stack.enter_context(
                    reserved_gpus(self.gpus, call.gpus_per_job, self.stopping)
                )
                environment["CUDA_VISIBLE_DEVICES"] = held
            try:
                Path(log_name).parent.mkdir(parents=True, exist_ok=True)
                log = stack.enter_context(open(log_name, "w", encoding="utf-8"))
            except OSError as error:
                print(f"run.py: cannot write the log {log_name}: {error.strerror}", file=sys.stderr)
                return False
            start = time.time()
            print(f"# {command}\n# Started at {date(start)}\n#", file=log, flush=True)
            status = self.execute(command, log, environment)
            end = time.time()
            elapsed = round(end) - round(start)
            code = f"code {status}" if status >= 0 else f"code 0; signal {-status}"
            log.write(f"# Accounting: time={elapsed} threads={call.num_threads}\n")
            log.write(f"# Ended ({code}) at {date(end)}, elapsed time {elapsed} seconds\n")
        return status == 0

    def execute(self, command: str, log: IO, environment: dict[str, str]) -> int:
        """Run `command` by bash in a process group of its own; returns the exit status."""
        with self.lock:
            if self.stopping.is_set():
                return -signal.SIGTERM
            process = subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", f"{TRAP}\n{command}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            self.running.add(process)
        status = process.wait()
        self.running.discard(process)
        return status

    def terminate(self) -> None:
        """Begin to end all jobs with all that they started; kill what does not obey."""
        if self.poll() is None:
            threading.Thread(target=self._stop).start()

    def _stop(self) -> None:
        with self.lock:
            self.stopping.set()
        # A process that bash was just about to start may miss the first signal.
        for number, patience_s in (signal.SIGTERM, 1), (signal.SIGTERM, 5), (signal.SIGKILL, 1):
            for process in list(self.running):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + patience_s
            while self.running and time.monotonic() < deadline:
                time.sleep(0.05)


def wait_for(process: subprocess.Popen | Runner) -> int:
    """Wait for its end briefly, again and again; the exit status.

    A signal that comes just before a wait is only seen after it.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=0.5)


def date(seconds: float) -> str:
    """As the program `date` prints it."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y", time.localtime(seconds))


def report(call: Call, failed: list[int]) -> str:
    """The line on failed jobs that users and scripts of Kaldi know."""
    if len(call.jobs) > 1:
        return f"{len(failed)} / {len(call.jobs)} failed, log is in {call.of_job(call.log, '*')}"
    line = f"job failed, log is in {call.of_job(call.log, call.jobs[0])}"
    if call.job_name is None and "JOB" in call.log:
        line += " (there is JOB in it, but no JOB=1:<n> stands before it)"
    return line


def interrupt(number: int, _) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, interrupt)
    try:
        call = parse(sys.argv[1:])
        runner = Runner(call)
    except Error as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    try:
        status = wait_for(runner)
    except BaseException:
        runner.terminate()
        wait_for(runner)
        raise
    if status:
        print(f"run.py: {report(call, runner.failed())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
