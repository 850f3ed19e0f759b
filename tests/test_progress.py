"""Progress that is shown on a terminal, and nowhere else."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

WATCHED = """
import logging, sys
from nnet.cli.progress import progress_bar
logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("ngtrain")
log.addHandler(logging.StreamHandler())
log.propagate = False
with progress_bar(2, 10) as show:
    show(4, "iteration 3/6, epoch 1.5/4")
    log.info("a message")
"""


def run_at_terminal(code: str) -> str:
    """What a program writes to a terminal."""
    primary, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=terminal)
    os.close(terminal)
    written = b""
    try:
        while piece := os.read(primary, 1000):
            written += piece
    except OSError:  # which is how a terminal ends
        pass
    finally:
        os.close(primary)
    assert process.wait() == 0
    return written.decode()


def test_progress_at_a_terminal(environment):
    lines = re.split(r"[\r\n]+", run_at_terminal(WATCHED))
    (shown,) = {line.split("|")[0] for line in lines if line.startswith("iteration")}
    assert shown == "iteration 3/6, epoch 1.5/4 40 % "
    assert any(re.search(r"\| \d\d:\d\d elapsed, \S+ left", line) for line in lines)
    assert "a message" in lines


def test_no_progress_elsewhere(environment):
    result = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True
    )
    assert result.stderr == "a message\n"
