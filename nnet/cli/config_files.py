"""Files of conf/: those of a recipe or a site or, if it has none, of the project."""

import os

from nnet.cli.environment import ROOT

FOLDERS = (ROOT / "nnet", ROOT)
"""Folders with conf/: where pip installed the project, and in a clone."""


def find_config(name: str) -> str:
    """Find a file conf/...: in the current folder or, if it is not there, in the project's root.

    Other names, and those of files that are in neither, come back as they are.
    """
    if name.startswith("conf/") and not os.path.exists(name):
        for folder in FOLDERS:
            if (folder / name).is_file():
                return str(folder / name)
    return name
