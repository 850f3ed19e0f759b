"""Packaging.  What is needed, and what each extra adds, stands in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
REQUIREMENTS = {
    path.stem: path.read_text().split() for path in sorted((ROOT / "requirements").glob("*.txt"))
}
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "nnet" / "__init__.py").read_text())[1]

setup(
    name="ngtrain",
    version=VERSION,
    description="Natural-gradient training of acoustic models with parameter averaging",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["nnet", "nnet.*"]), "nnet.conf"],
    package_dir={"nnet.conf": "conf"},
    package_data={
        "nnet.conf": ["*.conf"],
        "nnet.device.cuda": ["*.cu", "*.cuh"],
        "nnet.report": ["*.css"],
    },
    scripts=[
        f"bin/{path.name}"
        for path in sorted((ROOT / "bin").iterdir())
        if path.is_file() and not path.suffix
    ],
    install_requires=REQUIREMENTS.pop("core"),
    extras_require=REQUIREMENTS,
)
