#!/usr/bin/env python3
"""Kill a small training at random moments, go on with it, and compare the models' bytes.

A training is run undisturbed, then again and again: each time SIGKILL ends the driver, or some
process that works for it, at a random moment, and the same command is run again if the driver
ended.  The exit status is 1 if a final model has other bytes than the undisturbed one's.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from nnet.drivers.driver import log, option, tool

ROOT = Path(__file__).resolve().parents[2]


@tool(
    "Usage:  tests/support/kill_and_resume.py [options]\n"
    " e.g.:  tests/support/kill_and_resume.py --times=30"
)
@option("--times", type=int, default=30, help="How often to kill")
@option("--seed", type=int, default=0, help="Of the moments and of what is killed")
@option("--shared", default=str(ROOT.parent / "shared"), help="The reference data")
def main(times, seed, shared):
    from tiny_training import make_corpus

    root = Path(tempfile.mkdtemp(prefix="kill_and_resume."))
    corpus = make_corpus(Path(shared), root / "corpus")
    expected, seconds = undisturbed(corpus, root)
    log.info("undisturbed, it takes %.1f seconds", seconds)
    same = 0
    for n in range(1, times + 1):
        rng = random.Random(f"{seed} {n}")
        command = corpus.command(root / "nnet")
        model, what = b"", ""
        while not what:  # it may end before its time has come
            shutil.rmtree(root / "nnet", ignore_errors=True)
            what = kill(command, rng.uniform(0, seconds), rng)
            model = (root / "nnet" / "final.mdl").read_bytes()
        is_same = model == expected
        same += is_same
        log.info("%d: %s: %s", n, what, "the same bytes" if is_same else "OTHER BYTES")
    log.info("%d of %d end with the undisturbed model's bytes", same, times)
    if same < times:
        log.info("the last is in %s", root)
        return 1
    shutil.rmtree(root)
    return 0


def undisturbed(corpus, root: Path) -> tuple[bytes, float]:
    """The bytes of the model, and how long the training takes."""
    start = time.monotonic()
    run(corpus.command(root / "undisturbed"))
    return (root / "undisturbed" / "final.mdl").read_bytes(), time.monotonic() - start


def run(command: list[str]) -> None:
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"the training failed, with status {result.returncode}:\n{result.stderr}")


def kill(command: list[str], moment: float, rng: random.Random) -> str:
    """Train, kill something after `moment` seconds, and train to the end.

    Returns what was killed, and when; nothing if training ended before.
    """
    with tempfile.TemporaryFile("w+") as output:
        driver = subprocess.Popen(command, stderr=output)
        with suppress(subprocess.TimeoutExpired):
            if driver.wait(timeout=moment) != 0:
                sys.exit(f"the training failed:\n{said_into(output)}")
            return ""
        victim = driver.pid
        if rng.random() < 0.5:
            victim = rng.choice([driver.pid, *descendants(driver.pid)])
        name = "the driver" if victim == driver.pid else name_of(victim)
        with suppress(ProcessLookupError):
            os.kill(victim, SIGKILL)
        said = said_into(output).splitlines()[1:]
        status = driver.wait()
    if status != 0:
        run(command)
    return (
        f"{name} killed after {moment:.1f} seconds, when it last said "
        f"'{said[-1][:50] if said else ''}', {'then run again' if status else 'which went on'}"
    )


def said_into(output) -> str:
    """What a process that may go on has written into an open file, whose position is its own."""
    return Path(f"/proc/self/fd/{output.fileno()}").read_text()


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that these have."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            stat = (directory / "stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                yield int(directory.name)
                yield from descendants(int(directory.name))


def name_of(pid: int) -> str:
    """The program that a process runs, as far as one can tell."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return "a process that was just ending"
    script = next((word for word in words[1:] if "/" in word and "." in word), "")
    return Path(words[0] if "python" not in words[0] else words[1] or script).name


if __name__ == "__main__":
    main()
