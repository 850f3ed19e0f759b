#!/usr/bin/env python3
"""Give every reader damaged files: each must be read, or refused with the one clear error.

A reader that raises anything else than NgtrainError, computes for longer than --timeout, wants more
memory than 64 times the size of the file (and 64 MiB), or ends the process, has failed. What made
it fail is kept in --save. In tests/fuzz/corpus is what once made a reader fail; it comes first.

Usage:  tests/fuzz/run.py [--seconds=60] [--inputs=0] [--srand=0] [--readers=tree,examples]
"""

import argparse
import ctypes
import faulthandler
import hashlib
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mutations import mutated
from readers import READERS, FuzzedReader

from nnet.errors import NgtrainError
from nnet.io.pipes import refuse_pipes

CORPUS = Path(__file__).parent / "corpus"
MEMORY_FACTOR, MEMORY_OFFSET = 64, 64 << 20
M_ARENA_MAX = -8
"""Of malloc.h: how many arenas threads may have."""
WAITING = 20
"""Times the --timeout, which is of CPU time: when a process that does not answer is killed."""
OUTCOMES = ("read", "refused", "failed")
_PROGRESS = struct.Struct("<qqqq")  # inputs begun, and of them: read, refused, failed


class Hang(BaseException):
    """A reader took too long; no `except Exception` of it may hide that."""


def outcome(reader: FuzzedReader, path: str, timeout: float) -> tuple[str, str]:
    """Read a file: "read", "refused" or "failed", and how it failed (type and place)."""
    limit = address_space() + MEMORY_OFFSET + MEMORY_FACTOR * os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, timeout)
    try:
        reader.read(path)
    except NgtrainError:
        return "refused", ""
    except (Exception, Hang) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/fuzz/" not in frame.filename] or frames
        place = f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno}"
        return "failed", f"{type(error).__name__} at {place}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "read", ""


def address_space() -> int:
    """Bytes of memory that the process has mapped."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE


@dataclass
class Result:
    """What became of the inputs of a reader."""

    counts: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    reasons: Counter = field(default_factory=Counter)


class Fuzzer:
    """Feeds one reader, in a child process that is replaced when it ends or hangs."""

    def __init__(self, reader: FuzzedReader, srand: int, timeout: float, save: Path):
        self.reader = reader
        self.srand = srand
        self.timeout = timeout
        self.save = save
        self.seeds = reader.seeds  # made here once, not in every child
        old_failures = sorted((CORPUS / reader.directory).glob("*"))
        self.corpus = [path.read_bytes() for path in old_failures]
        self.result = Result()

    def input(self, number: int) -> bytes:
        """The input of a number, the same in every run with one --srand; the corpus comes first."""
        if number < len(self.corpus):
            return self.corpus[number]
        rng = Random(f"{self.srand}/{self.reader.name}/{number}")
        return mutated(rng, self.seeds)

    def run(self, seconds: float, num_inputs: int) -> Result:
        """Go on for some time, or for a number of inputs if that is not 0."""
        begin = time.monotonic()
        number = 0
        with tempfile.TemporaryDirectory() as directory:
            path = f"{directory}/input"
            while not self._is_over(begin, seconds, number, num_inputs):
                number = self._run_child(path, number, begin, seconds, num_inputs)
        self.result.seconds = time.monotonic() - begin
        return self.result

    def _is_over(self, begin: float, seconds: float, number: int, num_inputs: int) -> bool:
        if num_inputs or number < len(self.corpus):
            return number >= max(num_inputs, len(self.corpus))
        return time.monotonic() >= begin + seconds

    def _run_child(self, path: str, first: int, begin: float, *limits) -> int:
        """Feed from input `first` on, until all is done or the child ends; returns the next."""
        shared = mmap.mmap(-1, _PROGRESS.size)
        shared[:] = _PROGRESS.pack(first, 0, 0, 0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self._feed(path, first, begin, shared, *limits)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        status = self._watch(child, shared)
        number, *counts = _PROGRESS.unpack(shared[:])
        self.result.counts.update(dict(zip(OUTCOMES, counts, strict=True)))
        for line in self._reasons_file(path).read_text().splitlines():
            self.result.reasons[line] += 1
        self._reasons_file(path).write_text("")
        if status != 0:
            how = "hang" if status == -signal.SIGKILL else f"ended with status {status}"
            self.result.counts["failed"] += 1
            self.result.reasons[how] += 1
            self._keep(Path(path).read_bytes(), how)
            number += 1
        return number

    @staticmethod
    def _reasons_file(path: str) -> Path:
        file = Path(f"{path}.reasons")
        file.touch()
        return file

    def _watch(self, child: int, shared: mmap.mmap) -> int:
        """Wait for the child, and kill it when an input takes much too long."""
        last, since = -1, time.monotonic()
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            number = _PROGRESS.unpack(shared[:])[0]
            if number != last:
                last, since = number, time.monotonic()
            elif time.monotonic() - since > WAITING * self.timeout:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)

    def _feed(self, path, number, begin, shared, seconds, num_inputs) -> None:
        prepare_child()
        counts = Counter()
        while not self._is_over(begin, seconds, number, num_inputs):
            contents = self.input(number)
            with open(path, "wb") as file:
                file.write(contents)
            kind, reason = outcome(self.reader, path, self.timeout)
            counts[kind] += 1
            if kind == "failed":
                with self._reasons_file(path).open("a") as file:
                    file.write(" ".join(reason[:200].split()) + "\n")
                self._keep(contents, reason)
            number += 1
            shared[:] = _PROGRESS.pack(number, *(counts[name] for name in OUTCOMES))

    def _keep(self, contents: bytes, reason: str) -> None:
        """Keep an input, one for each place in the code where a reader fails."""
        place = reason.split(": ")[0].encode()
        name = f"{hashlib.sha1(place).hexdigest()[:8]}"
        directory = self.save / self.reader.directory
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / name).exists() or len(contents) < (directory / name).stat().st_size:
            (directory / name).write_bytes(contents)


def prepare_child() -> None:
    """In the child: no pipes, nothing to read from, no noise, and an end to every hang."""
    refuse_pipes()
    # Else a thread that finds no memory for an arena of its own below the limit may end before it
    # has told Thread.start() that it began, which waits for that for ever.
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)

    def stop(number, frame):
        raise Hang("too slow")

    signal.signal(signal.SIGPROF, stop)


def keep_files_in_memory() -> None:
    """Have temporary files where that is, if there is such a place."""
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--inputs", type=int, default=0, help="for each reader, whatever it takes")
    parser.add_argument("--srand", type=int, default=0, help="seed of the damage")
    parser.add_argument("--readers", default="", help="only these, separated by commas")
    parser.add_argument("--timeout", type=float, default=5, help="CPU seconds for one input")
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"))
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    keep_files_in_memory()
    chosen = [name for name in arguments.readers.split(",") if name]
    readers = [reader for reader in READERS if not chosen or reader.name in chosen]
    total = Result()
    row = "{:<20} {:>9} {:>9} {:>9} {:>7} {:>8}"
    print(row.format("reader", "inputs", *OUTCOMES, "seconds"))
    for reader in readers:
        fuzzer = Fuzzer(reader, arguments.srand, arguments.timeout, arguments.save)
        result = fuzzer.run(arguments.seconds / len(readers), arguments.inputs)
        total.counts.update(result.counts)
        total.seconds += result.seconds
        print_row(row, reader.name, result)
        for reason, count in result.reasons.most_common(10):
            print(f"    {count} times: {reason}")
        sys.stdout.flush()
    print_row(row, "all", total)
    if total.counts["failed"]:
        print(f"the inputs that made readers fail are in {arguments.save}")
    return 1 if total.counts["failed"] else 0


def print_row(row: str, name: str, result: Result) -> None:
    counts = [result.counts[kind] for kind in OUTCOMES]
    print(row.format(name, sum(counts), *counts, f"{result.seconds:.1f}"))


if __name__ == "__main__":
    sys.exit(main())
