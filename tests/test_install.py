"""What `pip install .` installs: all programs, for any folder, without a clone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nnet import __version__
from nnet.report.training_logs import read_training

ROOT = Path(__file__).resolve().parents[1]

PACKAGED = ["bin", "conf", "nnet", "requirements", "steps", "utils"]
PACKAGED += ["LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of programs of a new environment in which the wheel is installed.

    It has the packages of this one besides, which the wheel asks for: no network is needed.
    """
    root = tmp_path_factory.mktemp("install")
    (root / "source").mkdir()
    for name in PACKAGED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, root / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", root, root / "source"]
    execute(wheel, check=True)
    execute([sys.executable, "-m", "venv", "--without-pip", root / "env"], check=True)
    (packages,) = root.glob("env/lib/python*/site-packages")
    (packages / "those_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    (file,) = root.glob("*.whl")
    python = root / "env/bin/python"
    execute([*pip, "--python", python, "install", *offline, "--ignore-installed", file], check=True)
    return root / "env/bin"


@pytest.fixture
def call(installed, tmp_path, monkeypatch):
    """call(name, *args) runs a program by its path; no variable shows it a clone."""
    for variable in "PYTHONPATH", "VIRTUAL_ENV", "LC_ALL":
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    (tmp_path / "empty").mkdir()

    def run(name, *args) -> str:
        result = execute([installed / name, *map(str, args)], cwd=tmp_path / "empty")
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    return run


def execute(command, check=False, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=cwd)


def test_every_program_is_there(installed, call):
    programs = {
        path.name
        for folder in ("bin", "steps", "utils")
        for path in (ROOT / folder).iterdir()
        if path.is_file() and os.access(path, os.X_OK) and path.suffix != ".sh"
    }
    assert len(programs) > 100
    assert programs - {path.name for path in installed.iterdir()} == {"queue.py"}
    for name in "train_multisplice.py", "run.py", "slurm.py", "gridengine.py", "nnet-am-info":
        assert "Usage:" in call(name, "--help"), name


def test_no_module_of_another_name_is_there(installed, call):
    """Nothing that would stand for a module of Python, or of another package."""
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    ours = {"nnet", f"ngtrain-{__version__}.dist-info", "those_of_the_tests.pth"}
    assert {path.name for path in packages.iterdir()} <= ours | {"__pycache__", "_virtualenv.py"}
    modules = {path.stem for path in installed.glob("*.py")}
    assert not modules & sys.stdlib_module_names
    script = "import nnet, queue, sys; print(nnet.__file__); print(queue.Queue)"
    assert call("python", "-c", script).startswith(str(packages))


def test_jobs(call, tmp_path):
    call("run.py", "JOB=1:2", "log/JOB.log", "echo", "JOB")
    logs = [tmp_path / f"empty/log/{job}.log" for job in (1, 2)]
    assert all("# Ended (code 0)" in log.read_text() for log in logs)


def test_queue_py_is_the_launcher_of_gridengine(installed, call, tmp_path):
    """As --cmd, though no program has that name."""
    script = "from nnet.launch.launcher import program_of; print(program_of('queue.py'))"
    (tmp_path / "demo.py").write_text(script)
    assert call("python", tmp_path / "demo.py").strip() == str(installed / "gridengine.py")


def test_a_training(call, corpus, tmp_path):
    options = "--config", "conf/small.conf", "--exit-stage", "2"
    said = call(*corpus.command(tmp_path / "nnet", *options))
    assert re.search(r"iteration 2/\d+, ", said)
    assert (tmp_path / "nnet/2.mdl").exists()
    assert read_training(tmp_path / "nnet").iterations
    assert "nnet" in call("nnet-am-info", tmp_path / "nnet/2.mdl")
