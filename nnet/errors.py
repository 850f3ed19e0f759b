"""The one exception that the library raises for what a user can cause."""


class NgtrainError(Exception):
    """What went wrong, as one line for the user that names the file, the key and the reason.

    Raised for missing or truncated files, wrong types and dimensions, NaN, failed pipes, full
    disks and bad options. Programming errors stay Python's own exceptions.
    """
