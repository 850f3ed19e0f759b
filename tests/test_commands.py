"""Words of commands are words: whatever is in names of files and in small files of others."""

import re
import subprocess

import pytest

from nnet.drivers.driver import run
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.transcripts import transcript_rspecifier
from nnet.errors import NgtrainError
from nnet.io.streams import open_input, open_output
from nnet.io.text import write_lines
from nnet.launch.commands import (
    JOB,
    for_launcher,
    options_of,
    pipeline,
    quote,
    read_from,
    read_numbers,
    unzipped,
    zipped,
)
from nnet.launch.jobs import parse_cmd

NASTY = [
    "it's", 'say "x"', "it's \"x\"", "'\"", "two words", " ends ", "tab\tin it", "$HOME",
    "a $HOME b", "$(touch PWNED)", "a $(touch PWNED)", "`touch PWNED`", "a `touch PWNED`",
    "a;touch PWNED;",
    "a\\", "a \\", "a \\$b", "*", "a *", "~", "#x", "a # b", "{a,b}", "!x", "a\u00a0;touch PWNED",
    "é", "", "-n", "a|b", "&", "x > y", "'a b' \"c\" $d `e` \\f",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("word", NASTY)
def test_a_word_stays_that_word(word, tmp_path, monkeypatch, environment):
    """In a shell, through a launcher, and in a pipe within a command of a launcher."""
    monkeypatch.chdir(tmp_path)
    shell = ["bash", "-c", f"printf '[%s]' {quote(word)}"]
    assert subprocess.run(shell, capture_output=True, check=True).stdout.decode() == f"[{word}]"
    inner = pipeline(["printf", "<%s>", word], ["cat"])
    run("run.py", "log", "printf", "[%s]", word, inner)
    run("run.py", "inner.log", "bash", "-c", inner)
    assert f"[{word}][{inner}]" in (tmp_path / "log").read_text()
    assert f"<{word}>" in (tmp_path / "inner.log").read_text()
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("word", NASTY)
def test_launchers_of_kaldi_read_it_so(word):
    """As utils/parallel/run.pl of Kaldi makes a command of its arguments."""
    word_for_it = for_launcher(word)
    if not re.search(r"\s", word_for_it, re.ASCII):
        line = word_for_it
    elif '"' in word_for_it:
        line = f"'{word_for_it}'"
    else:
        line = f'"{word_for_it}"'
    shell = ["bash", "-c", f"printf '[%s]' {line}"]
    assert subprocess.run(shell, capture_output=True, check=True).stdout.decode() == f"[{word}]"


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NASTY if n and "/" not in n])
def test_tables_in_files_of_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / f"{name}.gz"
    with open_output(zipped(archive).removeprefix("ark:")) as stream:
        stream.write(b"contents")
    with open_input(unzipped(archive).removeprefix("ark:")) as stream:
        assert stream.read() == b"contents"
    nested = read_from(["cat", archive], ["gunzip"], options="s,cs")
    assert nested.startswith("ark,s,cs:cat ")
    with open_input(nested.removeprefix("ark,s,cs:")) as stream:
        assert stream.read() == b"contents"
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_a_line_break_is_refused():
    with pytest.raises(NgtrainError, match=r"cannot have a line break in it: 'a\\nb'"):
        quote("a\nb")
    with pytest.raises(NgtrainError, match="line break"):
        for_launcher("a b\nc")


@pytest.mark.parametrize("name", ["JOBS", "JOB", "my.JOB1.JOB"])
def test_folders_with_the_name_of_the_number_of_a_job(name, tmp_path, environment):
    folder = tmp_path / name
    folder.mkdir()
    run("run.py", folder / f"log/x.{JOB}.log", "touch", folder / f"made.{JOB}", jobs=2)
    assert sorted(path.name for path in folder.iterdir()) == ["log", "made.1", "made.2"]
    assert sorted(path.name for path in (folder / "log").iterdir()) == ["x.1.log", "x.2.log"]
    with pytest.raises(NgtrainError, match=rf"{name}/x\.2\.log"):
        run("run.py", folder / f"x.{JOB}.log", "test", JOB, "=", 1, jobs=2)


@pytest.mark.parametrize("cmd", ["run.py JOB=1:4 --mem 2G", "queue.pl --mem 2G X=1:4"])
def test_the_number_of_jobs_is_not_in_the_launcher(cmd):
    with pytest.raises(NgtrainError, match=r"=1:4 in --cmd: the number of jobs is an option"):
        parse_cmd(cmd)


def test_values_of_schedulers_are_left_alone():
    _, options, _ = parse_cmd("queue.py -l h_rt=10:00 -l x=1 --max-jobs-run 5")
    assert options == ["-l", "h_rt=10:00", "-l", "x=1", "--max-jobs-run", "5"]


def test_pipelines_fail_through_launchers_of_kaldi(tmp_path, environment):
    """Those that leave bash as it is, as run.pl does."""
    launcher = tmp_path / "like_run.pl"
    launcher.write_text('#!/bin/bash\nlog=$1; shift; bash -c "( $* )" > $log 2>&1\n')
    launcher.chmod(0o755)
    run(str(launcher), tmp_path / "well.log", "true", "|", "cat")
    with pytest.raises(NgtrainError, match=r"ill\.log"):
        run(str(launcher), tmp_path / "ill.log", "false", "|", "cat")


# Small files ----------------------------------------------------------------------------------


def test_options_of_a_program():
    assert options_of("apply-cmvn", "--norm-vars=true\n --skip_dims=1:2 ", "x") == (
        "--norm-vars=true --skip_dims=1:2"
    )
    assert options_of("splice-feats", "", "x") == ""


@pytest.mark.parametrize(
    "text",
    [
        "--norm-means=true; touch PWNED", "--norm-means=$(touch~PWNED)", "--norm-means=`id`",
        "--no-such=1", "norm-means", "--utt2spk=ark:touch~PWNED|", "--utt2spk=|x", "--config=x",
        "--skip-dims=1>x", "-x", "--norm-vars true", "\ufeff--norm-vars=true",
    ],
)  # fmt: skip
def test_what_is_no_option_of_it(text, tmp_path):
    with pytest.raises(NgtrainError, match=r"cmvn_opts: '.*' is not an option of apply-cmvn"):
        options_of("apply-cmvn", text, tmp_path / "cmvn_opts")


@pytest.mark.parametrize("text", ["1:2\n", "7", "", "1:2:3"])
def test_lists_of_numbers(text, tmp_path):
    (tmp_path / "silence.csl").write_text(text)
    assert read_numbers(tmp_path / "silence.csl") == [int(n) for n in text.split(":") if n]


@pytest.mark.parametrize("text", ["1;touch x", "1:$(x)", "one", "1::2", "-1", "1:2 3", "9" * 5000])
def test_what_is_no_list_of_numbers(text, tmp_path):
    write_lines(tmp_path / "silence.csl", [text])
    with pytest.raises(NgtrainError, match=r"silence.csl: expected numbers and colons") as error:
        read_numbers(tmp_path / "silence.csl")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("cmvn_opts", "--norm-means=true $(touch PWNED)", FeaturePipeline.of),
        ("delta_order", "2; touch PWNED", FeaturePipeline.of),
        ("oov.int", "1; touch PWNED; true", lambda lang: transcript_rspecifier(lang, lang)),
    ],
)
def test_small_files_of_a_directory(name, text, read, tmp_path):
    """What drivers make commands of is refused by its name, and nothing of it is run."""
    (tmp_path / name).write_text(text)
    with pytest.raises(NgtrainError, match=f"{name}: "):
        read(tmp_path)
