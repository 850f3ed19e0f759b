"""The environment that path.sh makes, for a program that is started without it."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [str(ROOT / name) for name in ("bin", "steps", "utils")]


def set_up() -> None:
    """Let programs that this one starts find each other and the project, and sort by bytes."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if FOLDERS[0] in path or not (ROOT / "path.sh").exists():  # or it was installed by pip
        return
    os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), *FOLDERS, *path])
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
