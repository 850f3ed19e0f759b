"""What the benchmarks share: running a program and measuring it, and writing down the figures."""

import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What a program took, with all that it started and waited for.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: processor seconds, user and system.
        peak_mb: the largest memory of any one process, in MiB.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(command, **options) -> Cost:
    """Run a command, a list of words, to its end; options are those of subprocess.Popen.

    Raises RuntimeError, with the end of what it said on standard error, when it fails.
    """
    with tempfile.TemporaryFile() as errors:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | options
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), stderr=errors, **options)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")[-1000:]
            raise RuntimeError(f"{command[0]} ended with status {process.returncode}: {said}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def kaldi_program(name: str) -> Path | None:
    """Kaldi's program of that name below $KALDI_ROOT, if there is one."""
    root = os.environ.get("KALDI_ROOT")
    found = sorted(Path(root).glob(f"src/*bin/{name}")) if root else []
    return next((path for path in found if os.access(path, os.X_OK)), None)


def machine() -> dict:
    """Where and when figures were measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "date": date.today().isoformat(),
    }


def write_json(filename: str, **figures) -> None:
    """Write figures, with the machine that they are from."""
    text = json.dumps({"machine": machine(), **figures}, indent=2)
    Path(filename).write_text(text + "\n", encoding="utf-8")
