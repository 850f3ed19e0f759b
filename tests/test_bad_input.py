"""Ten kinds of bad input: each ends in one clear line, a non-zero status and no output file."""

import os
import re

import numpy as np
import pytest

from nnet.io.tables import MATRIX, table_writer
from nnet.io.tokens import write_object


@pytest.fixture
def files(golden, tmp_path):
    """Good inputs, to be spoiled by the tests; outputs go to a directory of their own."""
    (tmp_path / "out").mkdir()
    return {
        "model": golden / "training" / "sgd_relu" / "0.mdl",
        "network": golden / "components" / "affine.raw",
        "egs": golden / "egs_1frame.ark",
        "feats": golden / "in40.ark",
        "dir": tmp_path,
        "out": tmp_path / "out" / "file",
    }


@pytest.fixture
def fails(run_program, files):
    """fails(command, *words): the command, with names of files in braces, fails as it should."""

    def run(command, *words):
        program, *arguments = (part.format(**files) for part in command.split(" "))
        result = run_program(program, *(a.replace("~", " ") for a in arguments), check=False)
        said = result.stderr.decode()
        assert result.returncode != 0, said
        assert result.stdout == b""
        assert os.listdir(files["dir"] / "out") == []
        assert "Traceback" not in said
        *log, error = said.splitlines()
        # What stands before the error: the command line, if it could be read, and the log.
        expected = rf"{program} |(LOG|WARNING) \({program}\["
        assert not [line for line in log if not re.match(expected, line)], said
        assert error.startswith(f"ERROR ({program}["), said
        for word in words:
            assert word.format(**files) in error, said
        return error

    return run


# 1. A file that is not there ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "nnet-am-copy /no/such/file {out}",
        "nnet-train-simple /no/such/file ark:{egs} {out}",
        "nnet-train-simple {model} ark:/no/such/file {out}",
        "nnet-average {model} /no/such/file {out}",
        "nnet-init /no/such/file {out}",
        "nnet-copy-egs ark:/no/such/file ark:{out}",
        "nnet-compute {network} scp:/no/such/file ark:{out}",
        "splice-feats scp:/no/such/file ark:{out}",
        "nnet-get-feature-transform {out} /no/such/file",
    ],
)
def test_missing_file(fails, command):
    fails(command, "/no/such/file", "No such file or directory")


def test_missing_file_in_a_script(fails, files):
    (files["dir"] / "scp").write_text("utt1 /no/such/file:12\n")
    fails("copy-feats scp:{dir}/scp ark:{out}", "/no/such/file")


# 2. A model that is cut short ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("length", [0, 1, 300, 3000, 100_000, -20])
@pytest.mark.parametrize(
    "command", ["nnet-am-copy {dir}/cut {out}", "nnet-train-simple {dir}/cut ark:{egs} {out}"]
)
def test_truncated_model(fails, files, command, length):
    (files["dir"] / "cut").write_bytes(files["model"].read_bytes()[:length])
    fails(command, "{dir}/cut")


def test_truncated_model_in_text(fails, files, run_program):
    text = files["dir"] / "text"
    run_program("nnet-am-copy", "--binary=false", files["model"], text)
    (files["dir"] / "cut").write_bytes(text.read_bytes()[:20000])
    fails("nnet-am-copy {dir}/cut {out}", "{dir}/cut", "truncated")


# 3. An archive that is cut in the middle of a matrix ----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "copy-feats ark:{dir}/cut ark:{out}",
        "add-deltas ark,bg:{dir}/cut ark,scp:{out},{out}.scp",
        "compute-cmvn-stats ark:{dir}/cut ark:{out}",
        "nnet-compute {network} ark:{dir}/cut ark:{out}",
    ],
)
def test_truncated_features(fails, files, command):
    (files["dir"] / "cut").write_bytes(files["feats"].read_bytes()[:-100])
    fails(command, "{dir}/cut, key ", "truncated")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "nnet-copy-egs ark:{dir}/cut ark:{out}",
        "nnet-shuffle-egs ark:{dir}/cut ark:{out}",
        "nnet-subset-egs --n=100000 ark:{dir}/cut ark:{out}",
        "nnet-train-simple {model} ark:{dir}/cut {out}",
    ],
)
def test_truncated_examples(fails, files, command):
    (files["dir"] / "cut").write_bytes(files["egs"].read_bytes()[:100_000])
    fails(command, "{dir}/cut, key ", "truncated")


# 4. Text where binary is expected, and the other way round ----------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "contents",
    [b"utt1 \0Bhello world, this is text\n", b"utt1 hello\n", b"\0Butt1 ", b"hello\n", b"\xff\xfe"],
)
@pytest.mark.parametrize(
    "command",
    [
        "copy-feats ark:{dir}/text ark:{out}",
        "nnet-copy-egs ark:{dir}/text ark:{out}",
        "nnet-compute {network} ark:{dir}/text ark:{out}",
        "nnet-am-copy {dir}/text {out}",
    ],
)
def test_text_for_binary(fails, files, command, contents):
    (files["dir"] / "text").write_bytes(contents)
    fails(command, "{dir}/text")


def test_binary_for_text(fails):
    fails("copy-int-vector ark:{model} ark:{out}", "{model}", "not an archive")
    fails("copy-feats scp:{model} ark:{out}", "{model}", "line 1")
    fails("nnet-init {model} {out}", "{model}")


# 5. Dimensions that do not fit --------------------------------------------------------------------


@pytest.mark.slow
def test_wrong_dimension(fails, files):
    with table_writer(f"ark:{files['dir']}/feats", MATRIX) as table:
        table.write("utt1", np.ones((5, 7), np.float32))
    write_object(f"{files['dir']}/cmvn", lambda w: w.matrix(np.ones((2, 41))))
    fails("apply-cmvn {dir}/cmvn ark:{dir}/feats ark:{out}", "utt1", "40", "7")
    fails("nnet-compute {network} ark:{dir}/feats ark:{out}", "7")
    fails("nnet-compute-prob {network} ark:{egs}", "")
    fails("nnet-train-simple {dir}/feats ark:{egs} {out}", "{dir}/feats")


# 6. NaN in features -------------------------------------------------------------------------------


@pytest.mark.slow
def test_nan_in_features(fails, files):
    features = np.ones((20, 40), np.float32)
    features[3, 4] = np.nan
    with table_writer(f"ark:{files['dir']}/feats", MATRIX) as table:
        table.write("good", np.ones((20, 40), np.float32))
        table.write("bad", features)
    (files["dir"] / "post").write_text(
        "good " + "[ 1 1 ] " * 20 + "\nbad " + "[ 1 1 ] " * 20 + "\n"
    )
    fails("compute-cmvn-stats ark:{dir}/feats ark:{out}", "key bad", "frame 3, dimension 4")
    fails("splice-feats ark:{dir}/feats ark:{out}", "key bad", "NaN")
    fails("copy-feats --compress=true ark:{dir}/feats ark:{out}", "NaN")
    fails("nnet-compute {network} ark:{dir}/feats ark:{out}", "bad", "NaN")
    fails("nnet-get-egs ark:{dir}/feats ark:{dir}/post ark:{out}", "bad", "NaN")


# 7. A pipe that fails -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "copy-feats ark:cat~{feats};~exit~3| ark:{out}",
        "copy-feats ark,bg:exit~3| ark:{out}",
        "nnet-am-copy cat~{model};~exit~3| {out}",
        "nnet-copy-egs ark:cat~{egs};~exit~3| ark:{out}",
        "nnet-train-simple {model} ark:cat~{egs};~exit~3| {out}",
    ],
)
def test_failing_pipe(fails, command):
    fails(command, "command failed with status 3", "exit 3")


def test_failing_output_pipe(fails):
    fails("copy-feats ark:{feats} ark:|cat~>/dev/null;~exit~4", "status 4", "exit 4")


# 8. A component that nobody knows -----------------------------------------------------------------


def test_unknown_component(fails, files):
    (files["dir"] / "config").write_text("TanhComponent dim=4\nFancyComponent dim=4\n")
    fails("nnet-init {dir}/config {out}", "FancyComponent")
    network = files["network"].read_bytes().replace(b"AffineComponent>", b"FancyyComponent>")
    (files["dir"] / "network").write_bytes(network)
    fails("raw-nnet-copy {dir}/network {out}", "{dir}/network", "FancyyComponent")


# 9. Options that do not exist, or make no sense ---------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, word",
    [
        ("nnet-am-copy --binnary=false {model} {out}", "--binnary"),
        ("nnet-train-simple --minibatch-size=many {model} ark:{egs} {out}", "--minibatch-size"),
        ("nnet-am-copy {model} {out} --binary=false", "--binary"),
        ("splice-feats --left-context=-1 ark:{feats} ark:{out}", "--left-context"),
        ("copy-feats --compression-method=9 ark:{feats} ark:{out}", "--compression-method"),
        ("lattice-scale --acoustic-scale=1e39 ark:{feats} ark:{out}", "1e39 is not a finite"),
        ("copy-feats {feats} ark:{out}", "{feats}"),
        ("copy-feats ark,x:{feats} {out}", "ark,x:{feats}"),
    ],
)
def test_bad_option(fails, command, word):
    fails(command, word)


# 10. An output that cannot be written -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, name",
    [
        ("nnet-am-copy {model} {out}/no/dir/file", "{out}/no/dir/file"),
        ("nnet-train-simple {model} ark:{egs} {dir}", "{dir}"),
        ("nnet-copy-egs ark:{egs} ark:{dir}/no/dir/egs", "{dir}/no/dir/egs"),
        ("copy-feats ark:{feats} ark,scp:{out},{dir}/no/dir/scp", "{dir}/no/dir/scp"),
        ("copy-feats ark:{feats} ark:/dev/full", "/dev/full"),
        ("nnet-am-copy {model} /dev/full", "/dev/full"),
    ],
)
def test_unwritable_output(fails, command, name):
    fails(command, name)


# 11. A table without entries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),  # which is Kaldi's
    [("copy-feats {} ark:{out}", 1), ("lattice-copy {} ark:-", 1), ("splice-feats {} ark:-", 0)],
)
@pytest.mark.parametrize("kind", ["ark", "scp"])
def test_empty_table(run_program, files, command, status, kind):
    (files["dir"] / "empty").touch()
    table = f"{kind}:{files['dir']}/empty"
    program, *arguments = command.replace("{}", table).format(**files).split()
    result = run_program(program, *arguments, check=False)
    what = "archive" if kind == "ark" else "script file"
    assert result.returncode == status
    assert f"{files['dir']}/empty: the {what} is empty" in result.stderr.decode()
