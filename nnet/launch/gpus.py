"""The GPUs of this machine, shared with everyone who runs jobs on it by run.py.

For each GPU there is a file, in a folder that all users of the machine have, and the bytes of that
file stand for the memory of the GPU: who has locked the first half of the bytes may use half of the
GPU.  A job that has the GPU for itself locks them all.  The lock belongs to the processes of the
job, so it goes when they have ended, whatever became of the program that started them.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCKS = "/tmp/ngtrain-gpus"
"""Not in $TMPDIR, which is another for each user; $NGTRAIN_GPU_LOCKS names another folder."""

SIZE = 1 << 20  # bytes that stand for the memory of a GPU, of which locks are parts
POOLED = 0.9  # of a shared GPU's memory is for arrays; CUDA itself needs some for each process


@dataclass
class Reservation:
    """GPUs that a job has, or none: their names, and the open files that hold the locks."""

    gpus: list[str]
    locks: list[int]
    jobs_per_gpu: int

    def environment(self) -> dict[str, str]:
        """Give the variables that tell CUDA, and CuPy, what to use; none without a GPU."""
        if not self.gpus:
            return {}
        variables = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}
        if self.jobs_per_gpu > 1:
            variables["CUPY_GPU_MEMORY_LIMIT"] = f"{100 * POOLED / self.jobs_per_gpu:.1f}%"
        return variables


def visible_gpus() -> list[str]:
    """The GPUs of this machine, or those that CUDA_VISIBLE_DEVICES leaves.

    They are named by what nvidia-smi calls them, which is the same for all users and programs; the
    numbers of CUDA_VISIBLE_DEVICES are taken to be those of nvidia-smi.
    """
    installed = installed_gpus()
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return list(installed.values())
    named = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    return [_full_name(name, installed) for name in named if name]


def installed_gpus() -> dict[str, str]:
    """Number and name (UUID) of each GPU, as nvidia-smi knows them."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(re.findall(r"^GPU (\d+):.*\(UUID: (\S+)\)", listing.stdout, flags=re.MULTILINE))


def _full_name(name: str, installed: dict[str, str]) -> str:
    """Complete the name of a GPU that is given by number, or by how its UUID begins."""
    if name in installed:
        return installed[name]
    return next((uuid for uuid in installed.values() if uuid.startswith(name)), name)


@contextmanager
def reserved_gpus(
    gpus: list[str], count: int, jobs_per_gpu: int, stopping: threading.Event
) -> Iterator[Reservation]:
    """Wait for `count` of `gpus` (perhaps 0), or a share of one, and hold them.

    Of `jobs_per_gpu` jobs on a GPU each has that part of its memory.  Once `stopping` is set it
    gives no GPU.  Raises OSError if the locks cannot be made.
    """
    if not count:
        yield Reservation([], [], 1)
        return
    folder = Path(os.environ.get("NGTRAIN_GPU_LOCKS", LOCKS))
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)  # all users may make files there, and remove only their own
    while True:
        with ExitStack() as files:
            held: dict[str, int] = {}
            for part in range(jobs_per_gpu):  # the first part of every GPU, then the second, ...
                for gpu in gpus:
                    if gpu not in held and len(held) < count:
                        lock = open_lock(folder / gpu.replace("/", "_"))
                        if take_part(lock, part, jobs_per_gpu):
                            files.callback(os.close, lock)
                            held[gpu] = lock
                        else:
                            os.close(lock)
            if len(held) == count:
                yield Reservation(list(held), list(held.values()), jobs_per_gpu)
                return
        if stopping.wait(0.2):
            yield Reservation([], [], jobs_per_gpu)
            return


def open_lock(path: Path) -> int:
    """Open the file of a GPU, whoever made it; makes it if there is none."""
    while True:
        with suppress(FileNotFoundError):
            # Linux lets none but its owner open a file in such a folder with O_CREAT.
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            os.utime(file)  # programs that clean up remove what is old
            return file
        with suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(file, 0o666)
            os.close(file)


def take_part(lock: int, part: int, parts: int) -> bool:
    """Lock one of equal parts of a file; says whether it was free.

    The lock is one of an open file description (Linux): those who inherit it hold it, too.
    """
    start, end = (SIZE * n // parts for n in (part, part + 1))
    flock = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, start, end - start, 0)
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, flock)
    except BlockingIOError:
        return False
    return True
