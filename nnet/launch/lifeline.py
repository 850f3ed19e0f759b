"""Have what a process starts end with it, even where SIGKILL gives it no time to say so.

A lifeline is a pipe of which only one process holds the end to write to.  When that process is
gone, however it went, those that hold the other end read the end of the file.

    process = subprocess.Popen(command, **lifeline.given())   # the parent
    lifeline.end_with_parent()                                # the child, at its start

Jobs of run.py, which are not ours, have a watcher in bash beside them (see WATCHER).
"""

from __future__ import annotations

import os
import signal
import threading
from functools import cache

VARIABLE = "NGTRAIN_LIFELINE"


@cache
def fd() -> int:
    """The end to read of this process's lifeline; nothing is ever written to it."""
    reading, _writing = os.pipe()  # the other end stays open, and is ours alone: not inheritable
    return reading


def given() -> dict:
    """Arguments of subprocess.Popen that hand the lifeline to a child."""
    return {"pass_fds": (fd(),), "env": {**os.environ, VARIABLE: f"{fd()} {os.getpid()}"}}


def end_with_parent() -> bool:
    """Have SIGTERM end this process when its giver of a lifeline is gone; True if there is one."""
    lifeline, _, giver = os.environ.pop(VARIABLE, "").partition(" ")
    if giver != str(os.getppid()):  # it went to another, and the variable came on to us
        return False
    threading.Thread(target=_wait_for_the_end, args=(int(lifeline),), daemon=True).start()
    return True


def _wait_for_the_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


WATCHER = """\
trap '' TERM  # the watcher outlives what asks a job to end; trap in the job comes after it
{{ read -ru {fd}; kill -KILL 0; }} < /dev/null > /dev/null 2>&1 &
disown  # a wait in the job is not for it
trap "kill -KILL $! 2> /dev/null" EXIT
trap 'exit 143' TERM  # when the command that runs, which was asked too, has ended
"""
"""For the start of a bash script that leads a process group: kills the group at the end of the
lifeline, also where the group was asked to end before and has not.  format() puts its number in."""
