"""The places of the programs, and what path.sh does for one that is started without it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "path.sh").exists()


def _folders() -> Iterator[Path]:
    """List the folders of programs: those of a clone, else where pip puts them."""
    if IS_CLONE:
        yield from (ROOT / name for name in ("bin", "steps", "utils"))
    else:
        import sysconfig  # which a clone can do without

        yield Path(sys.argv[0]).resolve().parent
        yield Path(sysconfig.get_path("scripts"))
        yield Path(sysconfig.get_path("scripts", f"{os.name}_user"))


FOLDERS = [str(folder) for folder in _folders() if IS_CLONE or (folder / "run.py").exists()]


def find_program(name: str) -> str:
    """Find a program of the project by its name; it is as it was where there is none of that name.

    queue.py is gridengine.py where pip has put it: see nnet/launch/gridengine.py.
    """
    if name == "queue.py" and not IS_CLONE:
        name = "gridengine.py"
    places = (os.path.join(folder, name) for folder in FOLDERS)
    return next(filter(os.path.exists, places), name)


def set_up() -> None:
    """Let programs that this one starts find each other and the project, and sort by bytes."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if IS_CLONE and FOLDERS[0] in path:
        return
    python = os.path.dirname(sys.executable)
    first = dict.fromkeys([python, *FOLDERS])
    os.environ["PATH"] = os.pathsep.join([*first, *(place for place in path if place not in first)])
    if IS_CLONE:
        modules = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, modules)])
    os.environ["LC_ALL"] = "C"


def without_packages(error: ImportError) -> None:
    """Start again with the Python of .venv, which has the packages; else say what is missing."""
    python = ROOT / ".venv" / "bin" / "python3"
    if python.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(python, [str(python), *sys.orig_argv[1:]])
    name = os.path.basename(sys.argv[0])
    sys.exit(
        f"{name}: {sys.executable} has no package {error.name}; utils/setup_env.sh makes a Python "
        f"that has what is needed, and '. {ROOT}/path.sh' puts it first"
    )
