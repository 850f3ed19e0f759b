"""Files of conf/: those of a recipe or a site or, if it has none, of the project."""

import os

from nnet.cli.environment import ROOT


def find_config(name: str) -> str:
    """Find a file conf/...: in the current folder or, if it is not there, in the project's root.

    Other names, and those of files that are in neither, come back as they are.
    """
    if name.startswith("conf/") and not os.path.exists(name):
        for folder in f"{ROOT}/nnet", ROOT:  # where pip installed the project, and in a clone
            if os.path.isfile(f"{folder}/{name}"):
                return f"{folder}/{name}"
    return name
