"""The places of the programs, and what path.sh does for one that is started without it."""

import os
import sys
from os.path import dirname, exists, realpath

ROOT = dirname(dirname(dirname(realpath(__file__))))
IS_CLONE = exists(f"{ROOT}/path.sh")

if IS_CLONE:
    FOLDERS = [f"{ROOT}/{name}" for name in ("bin", "steps", "utils")]
else:  # where pip puts programs
    import sysconfig  # which a clone can do without

    _user = sysconfig.get_path("scripts", f"{os.name}_user")
    _places = dirname(realpath(sys.argv[0])), sysconfig.get_path("scripts"), _user
    FOLDERS = [folder for folder in _places if exists(f"{folder}/run.py")]


def find_program(name: str) -> str:
    """Find a program of the project by its name; it is as it was where there is none of that name.

    queue.py is gridengine.py where pip has put it: see nnet/launch/gridengine.py.
    """
    if name == "queue.py" and not IS_CLONE:
        name = "gridengine.py"
    places = (os.path.join(folder, name) for folder in FOLDERS)
    return next(filter(exists, places), name)


def set_up() -> None:
    """Let programs that this one starts find each other and the project, and sort by bytes."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if IS_CLONE and FOLDERS[0] in path:
        return
    first = dict.fromkeys([dirname(sys.executable), *FOLDERS])
    os.environ["PATH"] = os.pathsep.join([*first, *(place for place in path if place not in first)])
    if IS_CLONE:
        modules = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, modules)])
    os.environ["LC_ALL"] = "C"


def without_packages(error: ImportError) -> None:
    """Start again with the Python of .venv, which has the packages; else say what is missing."""
    python = f"{ROOT}/.venv/bin/python3"
    if exists(python) and realpath(sys.prefix) != realpath(f"{ROOT}/.venv"):
        os.execv(python, [python, *sys.orig_argv[1:]])
    name = os.path.basename(sys.argv[0])
    sys.exit(
        f"{name}: {sys.executable} has no package {error.name}; utils/setup_env.sh makes a Python "
        f"that has what is needed, and '. {ROOT}/path.sh' puts it first"
    )
