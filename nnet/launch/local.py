"""Run jobs on this machine, each in a process group of its own, with its log and GPUs."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures  # whose ThreadPoolExecutor comes when it is asked for
from contextlib import suppress
from pathlib import Path
from typing import IO

from nnet.io.ending import finished_before_ending
from nnet.io.text import ENCODING, write_lines
from nnet.launch import lifeline
from nnet.launch.gpus import Reservation, reserved_gpus, visible_gpus
from nnet.launch.launcher import Call, Error, footer, header, remove_log

PATIENCE_S = 15  # for a job that was asked to end, to finish what it is writing


def num_cores() -> int:
    """Count the cores of this machine that are ours to use."""
    return len(os.sched_getaffinity(0))


class Runner:
    """The jobs of a call, once started; like a subprocess.Popen to wait for and to end.

    Each job has a thread that starts it, waits for it, and writes its log.  Raises Error if the
    call asks for what cannot be.
    """

    def __init__(self, call: Call):
        self.call = call
        self.host = call.options.get("host", os.uname().nodename)
        self.num_threads = call.number("num_threads", 1)
        self.num_gpus = call.number("gpu", 0, smallest=0)
        self.jobs_per_gpu = call.number("jobs_per_gpu", 1)
        self.gpus = visible_gpus() if self.num_gpus else []
        if self.num_gpus > len(self.gpus):
            raise Error(f"--gpu {self.num_gpus}: this machine shows {len(self.gpus)} GPUs")
        if self.num_gpus > 1 and self.jobs_per_gpu > 1:
            raise Error(f"--jobs-per-gpu {self.jobs_per_gpu} goes with --gpu 1 only")
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.max_jobs_run = self.room()
        self.started = False
        self.successes: dict[int, bool] = {}  # of the jobs that have ended

    def start(self) -> None:
        """Begin; not when it is made, so that who has it can end what a signal interrupts here."""
        with finished_before_ending():
            threads = futures.ThreadPoolExecutor(self.max_jobs_run)
            for job in self.call.jobs:
                threads.submit(self.run_job, job)
            threads.shutdown(wait=False)
            self.started = True

    def room(self) -> int:
        """Choose how many jobs run at the same time; rather a few more than a few left over."""
        jobs = len(self.call.jobs)
        room = max(1, num_cores() // self.num_threads)
        if self.num_gpus:
            room = len(self.gpus) // self.num_gpus * self.jobs_per_gpu
        elif jobs < 1.4 * room:
            room = jobs
        return self.call.number("max_jobs_run", room)

    def poll(self) -> int | None:
        """The exit status, 1 if any job failed; None while there are jobs to run."""
        if self.started and len(self.successes) < len(self.call.jobs):
            return None
        return 1 if self.failed() else 0

    def wait(self, timeout: float = math.inf) -> int:
        """Wait for all jobs; the exit status.  Raises TimeoutExpired after `timeout` seconds.

        It looks again and again, as subprocess.Popen.wait does: an exception that a signal brings
        while it has a lock of its threads would leave that closed.
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.call.command, timeout)
            time.sleep(0.01)
        return status

    def failed(self) -> list[int]:
        """The numbers of the jobs that failed, or never ran; all must have ended."""
        return [job for job in self.call.jobs if not self.successes.get(job)]

    def run_job(self, job: int) -> None:
        """Run one job, when there are GPUs for it, and note whether it succeeded."""
        success = False
        try:
            if not self.stopping.is_set():
                wanted = self.gpus, self.num_gpus, self.jobs_per_gpu, self.stopping
                with reserved_gpus(*wanted) as reservation:
                    success = self.run_with_log(job, reservation)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            print(f"run.py: cannot reserve a GPU: {reason}", file=sys.stderr)
        finally:
            self.successes[job] = success

    def run_with_log(self, job: int, reservation: Reservation) -> bool:
        """Run one job and write its log; says whether it succeeded."""
        log_name, command = self.call.log_of(job), self.call.of_job(self.call.command, job)
        try:
            Path(log_name).parent.mkdir(parents=True, exist_ok=True)
            remove_log(log_name)
            with open(log_name, "w", **ENCODING) as log:
                start = time.monotonic()
                print(header(command, self.host), end="", file=log, flush=True)
                status = self.execute(command, log, reservation)
                log.write(footer(status, time.monotonic() - start, self.num_threads))
            if "status_file" in self.call.options:
                write_lines(self.call.options["status_file"], [str(status)])
        except OSError as error:
            print(f"run.py: cannot write the log {log_name}: {error.strerror}", file=sys.stderr)
            return False
        return status == 0

    def execute(self, command: str, log: IO, reservation: Reservation) -> int:
        """Run `command` by bash in a process group, which dies with us; returns the exit status."""
        watcher = lifeline.WATCHER.format(fd=lifeline.fd())
        with self.lock:
            if self.stopping.is_set():
                return -signal.SIGTERM
            process = subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", f"{watcher}{command}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | reservation.environment(),
                pass_fds=(*reservation.locks, lifeline.fd()),
                start_new_session=True,
            )
            self.running.add(process)
        status = process.wait()
        if status < 0:  # bash was killed, but not what it had started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.running.discard(process)
        return status

    def terminate(self) -> None:
        """Begin to end all jobs with all that they started; kill what does not obey."""
        with finished_before_ending():
            with self.lock:
                self.stopping.set()  # no job starts after this
            if self.running:
                threading.Thread(target=self._stop).start()

    def _stop(self) -> None:
        # A process that bash was just about to start may miss the first signal.
        signals = (signal.SIGTERM, 1), (signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, 1)
        for number, patience_s in signals:
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


def launch(call: Call) -> list[int]:
    """Run a call; returns the jobs that failed.  Interrupted, it ends the jobs first."""
    runner = Runner(call)
    try:
        runner.start()
        wait_for(runner)
    except BaseException:
        runner.terminate()
        wait_for(runner)
        raise
    return runner.failed()
