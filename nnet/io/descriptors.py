"""Standard input, output and error, some of which the caller may have closed; and many open files.

The next file that is opened gets the number of a closed one, and what is meant for the user then
goes into that file: a command line into an archive, say.
"""

import os
import sys

FEW = 100
"""Files that a program may have open beside those that it is asked to write."""


def reserve_standard_descriptors() -> None:
    """Take the numbers 0, 1 and 2 where they are free.

    Using a closed standard input or output fails as before, with "Bad file descriptor": it becomes
    /dev/null, open for the other direction (as in gnulib's stdopen.c).  What is said on a closed
    standard error is lost.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        if not _is_open(number):
            opened = os.open(os.devnull, mode)  # the lowest number that is free
            os.set_inheritable(opened, True)
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        if getattr(sys, name) is None:  # so Python starts when it is closed
            buffering = 1 if number == 2 else -1
            file = open(number, mode, buffering, closefd=False)  # noqa: SIM115 - as long as we live
            setattr(sys, name, file)


def allow_open_files(count: int) -> None:
    """Raise the limit on open files, as far as it may be, to have `count` beside a few others.

    It is 1024 where nobody has changed it, and much data goes into more archives at a time.
    """
    import resource  # not for --help

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + FEW
    if now < wanted and resource.RLIM_INFINITY not in (now, most):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
