"""What the tests share: where the reference data is, and how to run a program."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import schedulers

from nnet.io.tables import INTEGERS, sequential_table, table_writer

ROOT = Path(__file__).resolve().parent.parent


# A shell starts what runs in the background with signals ignored, and programs respect that; the
# tests of signals are about programs that do not.
for number in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data: ../shared beside the checkout, or $NGTRAIN_SHARED."""
    path = Path(os.environ.get("NGTRAIN_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"needs the reference data, which is not at {path} (see $NGTRAIN_SHARED)")
    return path


@pytest.fixture(scope="session")
def golden(shared) -> Path:
    """Files that Kaldi wrote from known inputs."""
    return shared / "kaldi" / "golden"


@pytest.fixture(scope="session", autouse=True)
def environment():
    """The search paths that path.sh sets; pipes inside rspecifiers need them too."""
    programs = [Path(sys.executable).parent, *(ROOT / name for name in ("bin", "steps", "utils"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join(map(str, programs)), prepend=os.pathsep)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def run_program(environment):
    """run_program(name, *args, stdin=None, check=True, cwd=None) runs bin/name, steps/name or
    utils/name and returns the CompletedProcess; its stdout and stderr are bytes.  With `check` a
    failure of the program fails the test and shows what the program said."""

    def run(name, *args, stdin=None, check=True, cwd=None) -> subprocess.CompletedProcess:
        result = subprocess.run(
            [name, *map(str, args)], input=stdin, capture_output=True, cwd=cwd, check=False
        )
        if check and result.returncode != 0:
            pytest.fail(f"{name} ended with {result.returncode}:\n{result.stderr.decode()}")
        return result

    return run


@pytest.fixture(scope="session")
def corpus(shared, tmp_path_factory) -> SimpleNamespace:
    """A data directory with 60 utterances of one speaker, and their alignment."""
    root = tmp_path_factory.mktemp("corpus")
    kaldi = shared / "kaldi"
    data, ali = root / "data", root / "ali"
    data.mkdir()
    shutil.copytree(kaldi / "exp" / "tri2_ali", ali, copy_function=shutil.copyfile)
    rows = (kaldi / "data" / "train" / "feats.scp").read_text().splitlines()[:60]
    keys = {row.split()[0] for row in rows}
    feats = [row.replace("../shared", str(shared)) for row in rows]
    (data / "feats.scp").write_text("".join(f"{row}\n" for row in feats))
    for name in "utt2spk", "text":
        lines = (kaldi / "data" / "train" / name).read_text().splitlines(keepends=True)
        (data / name).write_text("".join(line for line in lines if line.split()[0] in keys))
    speakers = {line.split()[1] for line in (data / "utt2spk").read_text().splitlines()}
    (speaker,) = speakers
    (data / "spk2utt").write_text(f"{speaker} {' '.join(sorted(keys))}\n")
    cmvn = (kaldi / "data" / "train" / "cmvn.scp").read_text().splitlines()
    cmvn = [row.replace("../shared", str(shared)) for row in cmvn if row.split()[0] == speaker]
    (data / "cmvn.scp").write_text(f"{cmvn[0]}\n")
    alignments = {}
    for part in ali.glob("ali.*.gz"):
        with sequential_table(f"ark:gunzip -c {part} |", INTEGERS) as table:
            alignments.update({key: value for key, value in table if key in keys})
        part.unlink()
    with table_writer(f"ark:| gzip -c > {ali}/ali.1.gz", INTEGERS) as writer:
        for key in sorted(alignments):
            writer.write(key, alignments[key])
    (ali / "num_jobs").write_text("1\n")
    return SimpleNamespace(data=data, ali=ali, lang=kaldi / "data" / "lang")


@pytest.fixture(scope="session")
def slurm(environment):
    """Slurm with two nodes; programs that a test starts submit to it."""
    yield from _running("slurm")


@pytest.fixture(scope="session")
def gridengine(environment):
    """GridEngine; programs that a test starts submit to it."""
    yield from _running("gridengine")


def _running(name):
    if missing := schedulers.missing(name):
        pytest.skip(f"needs {name}, Debian's {schedulers.PACKAGES[name]}: no {', '.join(missing)}")
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            with schedulers.SCHEDULERS[name](Path(folder)) as variables:
                for variable, value in variables.items():
                    patch.setenv(variable, value)
                yield
        except schedulers.DidNotStart as error:
            pytest.skip(f"{name} is installed but does not start here: {error}")


def pytest_terminal_summary(terminalreporter):
    """Say which tests were left out, and why: a line for each reason."""
    files: dict[str, Counter] = defaultdict(Counter)
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        files[reason.removeprefix("Skipped: ")][report.location[0]] += 1
    for reason, counts in files.items():
        terminalreporter.write_line(f"LEFT OUT {counts.total()} tests: {reason}")
        for file, count in sorted(counts.items()):
            terminalreporter.write_line(f"  {file}: {count}")
