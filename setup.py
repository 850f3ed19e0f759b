"""What pyproject.toml cannot say: which files are programs, and that conf/ lies in the package."""

import os
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Python looks for modules beside the program first: beside a file queue.py, no other program would
# find the module of the standard library.  It is gridengine.py.
PROGRAMS = [
    str(path.relative_to(ROOT))
    for folder in ("bin", "steps", "utils")
    for path in sorted((ROOT / folder).iterdir())
    if path.is_file() and os.access(path, os.X_OK) and path.suffix in ("", ".py")
    if path.name != "queue.py"
]

setup(
    packages=[*find_packages(include=["nnet", "nnet.*"]), "nnet.conf"],
    package_dir={"nnet.conf": "conf"},
    package_data={
        "nnet": ["py.typed"],
        "nnet.conf": ["*.conf"],
        "nnet.device.cuda": ["*.cu", "*.cuh"],
        "nnet.report": ["*.css"],
    },
    scripts=PROGRAMS,
)
