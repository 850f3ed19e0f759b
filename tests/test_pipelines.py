"""A failure of any command of a pipeline fails the driver."""

import os
import re
import shutil
from pathlib import Path

import pytest

NNET_OPTIONS = ["--realign-times", "", "--cleanup", "false", "--max-retries", "0"]
EGS_OPTIONS = ["--frames-per-eg", "2", "--samples-per-iter", "1500", "--num-utts-subset", "2"]
EGS_OPTIONS += ["--left-context", "3", "--right-context", "3"]
LDA_OPTIONS = ["--left-context", "1", "--right-context", "1"]
FAILED = re.compile(r"command failed with status 37|# Ended \(code 37\)")


@pytest.fixture(scope="module")
def begun(corpus, run_program, environment, tmp_path_factory):
    """What the drivers start from: a few utterances, a network with examples, and a graph."""
    folder = tmp_path_factory.mktemp("begun")
    run_program("subset_data_dir.py", corpus.data, 12, folder / "data")
    run_program(*corpus.command(folder / "nnet", *NNET_OPTIONS, "--exit-stage", "1"))
    shutil.copyfile(folder / "nnet/1.mdl", folder / "nnet/final.mdl")
    shutil.copytree(corpus.lang.parent.parent / "exp/tri2/graph", folder / "graph")
    return folder


@pytest.fixture
def copies(corpus, begun, tmp_path):
    """Copies of the corpus and of `begun`, for a test to work in."""
    for name, source in ("data", begun / "data"), ("ali", corpus.ali), ("nnet", begun / "nnet"):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("split*"))
    (tmp_path / "lang").symlink_to(corpus.lang)
    (tmp_path / "graph").symlink_to(begun / "graph")
    return tmp_path


@pytest.fixture
def fail_in(tmp_path, monkeypatch):
    """fail_in(program): from now on it does what it does, and then ends with status 37."""

    def sabotage(program: str) -> None:
        folder = tmp_path / "sabotage"
        folder.mkdir()
        path = folder / program
        path.write_text(f'#!/bin/bash\n"{shutil.which(program)}" "$@"\nexit 37\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    return sabotage


COMMANDS = {
    "get_egs2.py": ["get_egs2.py", *EGS_OPTIONS, "{d}/data", "{d}/ali", "{d}/egs"],
    "get_lda.py": ["get_lda.py", *LDA_OPTIONS, "{d}/data", "{d}/lang", "{d}/ali", "{d}/lda"],
    "align.py": ["align.py", "--nj", "1", "{d}/data", "{d}/lang", "{d}/nnet", "{d}/new_ali"],
    "decode.py": [
        "decode.py",
        "--lattices",
        "true",
        "--nj",
        "1",
        "{d}/graph",
        "{d}/data",
        "{d}/nnet/decode",
    ],
    "flat_start.py": ["flat_start.py", "--nj", "1", "{d}/data", "{d}/lang", "{d}/mono"],
    "relabel_egs2.py": ["relabel_egs2.py", "{d}/ali", "{d}/nnet/egs", "{d}/new_egs"],
    "copy_alignments.py": ["copy_alignments.py", "--nj", "1", "{d}/data", "{d}/ali", "{d}/copy"],
    "compute_cmvn_stats.py": ["compute_cmvn_stats.py", "{d}/data", "{d}/log", "{d}/cmvn"],
    "validate_ali_dir.py": ["validate_ali_dir.py", "{d}/ali"],
}

PARTS = {
    "get_egs2.py": [
        "gunzip", "copy-int-vector", "filter_scp.py", "apply-cmvn", "splice-feats",
        "transform-feats", "ali-to-pdf", "ali-to-post", "cat", "nnet-get-egs", "nnet-shuffle-egs",
    ],
    "get_lda.py": ["gunzip", "ali-to-post", "weight-silence-post", "subset_scp.py", "apply-cmvn"],
    "align.py": ["sym2int.py", "compile-train-graphs", "apply-cmvn", "splice-feats", "gzip"],
    "decode.py": [
        "apply-cmvn", "splice-feats", "transform-feats", "nnet-latgen-faster", "gzip", "gunzip",
        "lattice-best-path",
    ],
    "flat_start.py": ["sym2int.py", "compile-train-graphs", "init-mono", "gzip"],
    "relabel_egs2.py": ["gunzip", "ali-to-pdf", "nnet-relabel-egs"],
    "copy_alignments.py": ["gunzip", "copy-int-vector", "gzip"],
    "compute_cmvn_stats.py": ["compute-cmvn-stats"],
    "validate_ali_dir.py": ["gunzip"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("driver", "part"), [(driver, part) for driver, parts in PARTS.items() for part in parts]
)
def test_a_part_of_a_driver_that_fails(copies, run_program, fail_in, driver, part):
    """Even when all that it has to say was said: the driver fails, with the reason."""
    command = [word.format(d=copies) for word in COMMANDS[driver]]
    fail_in(part)
    result = run_program(*command, check=False)
    said = result.stderr.decode()
    assert result.returncode != 0, said
    assert "error: " in said.splitlines()[-1]
    logs = "".join(log.read_text() for log in copies.rglob("*.log"))
    assert FAILED.search(said + logs)  # and nothing else is the reason


@pytest.mark.slow
@pytest.mark.parametrize("part", ["compute-mfcc-feats", "extract-segments", "wav-augment"])
def test_a_part_of_what_reads_recordings_fails(tmp_path, run_program, fail_in, part):
    """Of make_mfcc.py and augment_data_dir.py."""
    data = recordings(tmp_path)
    commands = {
        "wav-augment": ["augment_data_dir.py", "--nj", 1, "x-", data, tmp_path / "augmented"],
    }
    (tmp_path / "mfcc.conf").write_text("--sample-frequency=8000\n")
    mfcc = ["make_mfcc.py", "--nj", 1, "--mfcc-config", tmp_path / "mfcc.conf", data]
    command = commands.get(part, mfcc)
    assert run_program(*command).returncode == 0
    fail_in(part)
    assert run_program(*command, check=False).returncode != 0


def recordings(folder: Path) -> Path:
    """A data directory of two recordings with segments."""
    import wave

    import numpy as np

    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for name in "r1", "r2":
        with wave.open(f"{folder}/{name}.wav", "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(rng.integers(-3000, 3000, 8000).astype("<i2").tobytes())
    tables = {
        "wav.scp": "r1 {f}/r1.wav\nr2 {f}/r2.wav\n",
        "segments": "r1-a r1 0 0.5\nr2-a r2 0.2 0.9\n",
        "utt2spk": "r1-a r1\nr2-a r2\n",
        "spk2utt": "r1 r1-a\nr2 r2-a\n",
    }
    for name, text in tables.items():
        (data / name).write_text(text.format(f=folder))
    return data


@pytest.mark.parametrize("part", ["nnet-init", "ali-to-post"])
def test_a_part_of_the_training_that_fails(corpus, begun, tmp_path, run_program, fail_in, part):
    """In a pipe in the name of a model, or in a pipeline of a job."""
    nnet = shutil.copytree(begun / "nnet", tmp_path / "nnet")
    for model in nnet.glob("*.mdl"):
        model.unlink()
    fail_in(part)
    command = corpus.command(nnet, *NNET_OPTIONS, "--exit-stage", "-100")
    result = run_program(*command, check=False)
    assert result.returncode != 0, result.stderr.decode()
    assert not (nnet / "final.mdl").exists()
