"""What the tests share: where the reference data is, and how to run a program."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import reference_data
import schedulers
from archives import read_table
from tiny_training import Corpus, make_corpus

from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency
from nnet.io.tables import INTEGERS
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.tables import COMPACT_LATTICE

ROOT = Path(__file__).resolve().parent.parent


# A shell starts what runs in the background with signals ignored, and programs respect that; the
# tests of signals are about programs that do not.
for number in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


SLOW = frozenset({"ali_dir", "corpora", "corpus", "egs_dir", "experiment", "pages"})
"""Fixtures that take seconds to make, or that tests train on: a test with one of them is slow."""


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        if not SLOW.isdisjoint(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """The reference data: $NGTRAIN_SHARED, or ../shared beside the checkout; or else as much of it
    as tests/reference has."""
    whole = Path(os.environ.get("NGTRAIN_SHARED", ROOT.parent / "shared"))
    if whole.is_dir():
        return whole
    folder = tmp_path_factory.getbasetemp()
    return reference_data.unpacked(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def reference(shared):
    """reference(name) is the path of a file of the reference data.  A test that names one which
    tests/reference does not have is left out where there is no more than that."""

    def path(name: str) -> Path:
        file = shared / name
        if not file.exists():
            leave_out_with_a_part_of(shared)
        return file

    return path


def leave_out_with_a_part_of(shared: Path) -> None:
    """Skip a test if the reference data are those of tests/reference alone."""
    if reference_data.is_part(shared):
        pytest.skip("needs more of the reference data than tests/reference has: $NGTRAIN_SHARED")


@pytest.fixture(scope="session")
def gaussians(shared) -> Path:
    """The directory of a system of Kaldi's with Gaussian mixtures, which a part has not."""
    leave_out_with_a_part_of(shared)
    return shared / "kaldi/exp/tri2"


@pytest.fixture(scope="session")
def kaldi_lattices(reference) -> Path:
    """The folder with Kaldi's lattices of 13 utterances, lat.ark, and what it makes of these."""
    return reference("kaldi/golden/lattices/lat.ark").parent


@pytest.fixture(scope="session")
def lattices(kaldi_lattices) -> dict[str, CompactLattice]:
    return read_table(f"ark:{kaldi_lattices}/lat.ark", COMPACT_LATTICE)


@pytest.fixture(scope="session")
def kaldi(shared) -> Path:
    """What Kaldi made."""
    return shared / "kaldi"


@pytest.fixture(scope="session")
def golden(shared) -> Path:
    """Files that Kaldi wrote from known inputs."""
    return shared / "kaldi/golden"


@pytest.fixture(scope="session")
def kaldi_training(shared) -> Path:
    """Kaldi's own multisplice training."""
    return shared / "kaldi/exp/nnet_ms"


@pytest.fixture(scope="session")
def tree(kaldi) -> ContextDependency:
    return ContextDependency.load(str(kaldi / "exp/tri2_ali/tree"))


@pytest.fixture(scope="session")
def model(kaldi) -> TransitionModel:
    return TransitionModel.load(str(kaldi / "exp/tri2_ali/final.mdl"))


@pytest.fixture(scope="session")
def alignments(kaldi) -> dict:
    """Of the training data, as transition-ids."""
    return read_table(f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.*.gz |", INTEGERS)


@pytest.fixture(scope="session")
def kaldi_ivector(reference):
    """ivector(name) is one of Kaldi's files; what is compressed is unpacked by a pipe."""

    def path(name: str) -> str:
        file = reference(f"kaldi/golden/ivector/{name}")
        return f"gunzip -c {file} |" if name.endswith(".gz") else str(file)

    return path


@pytest.fixture(scope="session")
def ivector_scp(kaldi_ivector, reference, shared, tmp_path_factory):
    """feats.scp of every tenth utterance, with the place where the features are."""
    reference("kaldi/mfcc/raw_mfcc_train.2.ark")  # where that is, the first is whole, too
    text = Path(kaldi_ivector("feats.scp")).read_text().replace("../shared", str(shared))
    path = tmp_path_factory.mktemp("ivectors") / "feats.scp"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def ivector_features(kaldi_ivector, ivector_scp, run_program, tmp_path_factory):
    """Normalized online, spliced and transformed, as what Kaldi trained on; ark:FILE."""
    ark = tmp_path_factory.mktemp("ivectors") / "features.ark"
    spliced = (
        f"ark:apply-cmvn-online --config={kaldi_ivector('online_cmvn.conf')} "
        f"{kaldi_ivector('global_cmvn.stats')} scp:{ivector_scp} ark:- | "
        "splice-feats --left-context=3 --right-context=3 ark:- ark:- |"
    )
    run_program("transform-feats", kaldi_ivector("final.mat"), spliced, f"ark:{ark}")
    return f"ark:{ark}"


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
def corpus(shared, tmp_path_factory) -> Corpus:
    """A data directory with 60 utterances of one speaker, and their alignment."""
    return make_corpus(shared, tmp_path_factory.mktemp("corpus"))


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
    """Say what tests have recorded, and which were left out, and why: a line for each reason."""
    passed = terminalreporter.stats.get("passed", [])
    for name, value in sorted({item for report in passed for item in report.user_properties}):
        terminalreporter.write_line(f"{name} {value}")
    files: dict[str, Counter] = defaultdict(Counter)
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        files[reason.removeprefix("Skipped: ")][report.location[0]] += 1
    for reason, counts in files.items():
        terminalreporter.write_line(f"LEFT OUT {counts.total()} tests: {reason}")
        for file, count in sorted(counts.items()):
            terminalreporter.write_line(f"  {file}: {count}")
