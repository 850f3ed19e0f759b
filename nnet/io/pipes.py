"""Pipes: commands of the shell that are read or written in the place of files.

A name with a pipe is a command for the shell, and a script file from others is full of names. Where
the environment variable NGTRAIN_NO_PIPES is set (which --no-pipes does), such names are refused.

The shell is bash, and its option pipefail is set: a command fails when any part of it does. In a
command that is read, a part that SIGPIPE ends has not failed: the next part wanted no more of it.
So `gunzip -c FILE | head |` can be read, as in Kaldi, and so can the beginning alone of any pipe.
"""

import os
import signal

from nnet.errors import NgtrainError
from nnet.io.messages import shortened

_SHELL = ("bash", "-o", "pipefail", "-c")  # as run.py runs commands

ENDED_BY_SIGPIPE = (128 + signal.SIGPIPE, -signal.SIGPIPE)
"""Statuses of a command that SIGPIPE ended: a part of it, as bash says, or bash itself."""


def refuse_pipes() -> None:
    """Make commands in the names of files errors from now on, in child processes, too."""
    os.environ["NGTRAIN_NO_PIPES"] = "1"


def start(command: str, output: bool):
    """Start a shell command with one end of it piped to us, unbuffered; a subprocess.Popen.

    It is written to if `output`, else read from.

    Raises:
        NgtrainError: pipes are refused, or there is no bash.
    """
    if os.environ.get("NGTRAIN_NO_PIPES", "0") not in ("", "0"):
        refused = shortened(command.strip())
        raise NgtrainError(f"pipes are refused (--no-pipes or NGTRAIN_NO_PIPES): {refused}")
    import subprocess  # slow to import, and most programs open no pipe

    try:
        return subprocess.Popen(
            [*_SHELL, command],
            bufsize=0,
            stdin=subprocess.PIPE if output else None,
            stdout=None if output else subprocess.PIPE,
        )
    except OSError as error:
        reason = f"cannot start {_SHELL[0]} for the command {shortened(command.strip())}"
        raise NgtrainError(f"{reason}: {error.strerror}") from error


def failure(process, status: int) -> NgtrainError:
    """Make the error to raise when a command has ended with a status that is not zero."""
    reason = f"with status {status}" if status > 0 else f"of signal {-status}"
    return NgtrainError(f"command failed {reason}: {shortened(process.args[-1].strip())}")
