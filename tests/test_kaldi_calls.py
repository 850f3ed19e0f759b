"""Programs take the command lines that tests/kaldi_scripts.sh notes of Kaldi's scripts."""

import re
import runpy
from pathlib import Path

import kaldi_calls
import pytest
from click import ClickException

from nnet.errors import NgtrainError
from nnet.io.tables import is_rspecifier, is_wspecifier

BIN = Path(__file__).parent.parent / "bin"
CALLS = kaldi_calls.table()


def accept(program, name: str, words: list[str], config: Path) -> None:
    """Read a command line as the program does, without running it."""
    program.make_context(name, [word.replace("=FILE", f"={config}") for word in words])


@pytest.mark.parametrize("name", CALLS)
def test_command_lines_of_kaldis_scripts(name, tmp_path):
    (tmp_path / "config").touch()
    program = runpy.run_path(str(BIN / name))["main"]
    for words in CALLS[name]:
        accept(program, name, words, tmp_path / "config")
        for word in words:
            if re.match(r"(ark|scp)[,:]", word):
                assert is_rspecifier(word) or is_wspecifier(word), word


def test_what_is_not_accepted(tmp_path):
    """An option that is not there, a value of another kind, and too few arguments."""
    program = runpy.run_path(str(BIN / "nnet-shuffle-egs"))["main"]
    for words, reason in (
        (["--buffer-sizes=5", "ark:-", "ark:-"], "no option"),
        (["--srand=often", "ark:-", "ark:-"], "integer"),
        (["ark:-"], "Missing"),
    ):
        with pytest.raises((NgtrainError, ClickException), match=reason):
            accept(program, "nnet-shuffle-egs", words, tmp_path)


def test_lines_without_names():
    lines = [
        "apply-cmvn --utt2spk=ark:data/u scp:data/c.scp 'ark,s,cs:copy-feats scp:a ark:- |' ark:-",
        "apply-cmvn --utt2spk=ark:other scp:x/c.scp 'ark,s,cs:cat b |' ark:-",
        "apply-cmvn --norm-vars=true scp:c.scp scp:f ark:out",
        "nnet-copy-egs --srand=3 ark:a ark:b ark:c ark:d",
        "nnet-copy-egs --srand=4 ark:a ark:b",
        "copy-feats --compress=true 'nnet/1.mdl' - ark,scp:a.ark,a.scp",
    ]
    assert kaldi_calls.reduced(lines) == [
        "apply-cmvn --norm-vars=true scp:FILE scp:FILE ark:FILE",
        "apply-cmvn --utt2spk=ark:FILE scp:FILE 'ark,s,cs:COMMAND |' ark:-",
        "copy-feats --compress=true FILE - ark,scp:FILE,FILE",
        "nnet-copy-egs --srand=3 ark:FILE ark:FILE ark:FILE ark:FILE",
    ]
