"""The command line that every program shares."""

import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from imports import SLOW, click_imports, imported

from nnet import __version__

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted(path for path in (ROOT / "bin").iterdir() if path.is_file() and not path.suffix)

DEMO = '''#!/usr/bin/env python3
"""Show what the command line gave."""

import hashlib
import os
import time
import warnings

from nnet.cli import Choice, argument, log, option, program, real
from nnet.io.ending import finished_before_ending
from nnet.errors import NgtrainError
from nnet.io.streams import open_output


@program("Usage:  demo [options] <what> [<more> ...]\\n e.g.: demo nothing")
@argument("what")
@argument("more", nargs=-1, required=False)
@option("--srand", 0, "Seed")
@option("--binary", True, "Write binary")
@option("--alpha", 4.0, "Smoothing")
@option("--frame-name", "", "Frame")
@option("--lambda", None, "A word that Python reserves", "scale", type=float)
@option("--width", 3, "Width", least=1, most=9)
@option("--rate", 0.1, "Rate", above=0)
@option("--share", None, "Share", type=real(0, 1))
@option("--how", "well", "How", type=Choice(["fast", "well"]))
def main(what, more, **options):
    match what:
        case "show":
            print(more, sorted(options.items()))
        case "threads":
            print(os.environ["OMP_NUM_THREADS"], os.environ.get("MKL_NUM_THREADS"))
        case "log":
            log.info("information")
            log.warning("caution")
            log.debug("detail")
            log.log(9, "finer detail")
        case "bytes":
            print(*more)
        case "python-warning":
            warnings.warn("overflow encountered", RuntimeWarning, stacklevel=2)
        case "status":
            return 3
        case "user-error":
            raise NgtrainError("x.ark: key utt1: 3 columns,\\nnot 4")
        case "missing-file":
            open("no/such/file")
        case "memory":
            raise MemoryError("1 TiB")
        case "bug":
            return [][1]
        case "much":
            for _ in range(100000):
                print("0123456789")
        case "wait":
            try:
                print("waiting", flush=True)
                time.sleep(60)
            finally:
                print("cleaned up")
        case "stubborn":
            try:
                print("waiting", flush=True)
                time.sleep(60)
            finally:
                print("cleaning up", flush=True)
                time.sleep(60)
        case "library":
            with open_output(more[0]) as output:
                output.write(b"half")
                output.flush()
                print("waiting", flush=True)
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2_000_000_000)
        case "write":
            with finished_before_ending():
                print("writing", flush=True)
                time.sleep(0.5)
                print("written", flush=True)
            time.sleep(60)


if __name__ == "__main__":
    main()
'''


def execute(*command, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture
def demo(tmp_path, environment):
    """Runs the demonstration program: demo(*args) gives status, stdout and stderr as text."""
    path = tmp_path / "demo"
    path.write_text(DEMO)
    path.chmod(0o755)

    def run(*args, **kwargs):
        result = execute(path, *args, **kwargs)
        return result.returncode, result.stdout, result.stderr

    run.path = path
    return run


DEFAULTS = {
    "alpha": 4.0,
    "binary": True,
    "frame_name": "",
    "how": "well",
    "rate": 0.1,
    "scale": None,
    "share": None,
    "srand": 0,
    "width": 3,
}


def shown(more=(), **options) -> str:
    return f"{more} {sorted((DEFAULTS | options).items())}\n"


@pytest.mark.parametrize(
    "options, expected",
    [
        ([], {}),
        (["--srand=5", "--alpha=1e-3"], {"srand": 5, "alpha": 0.001}),
        (["--srand=-5"], {"srand": -5}),
        (["--binary=false"], {"binary": False}),
        (["--binary=F"], {"binary": False}),
        (["--binary=false", "--binary"], {"binary": True}),
        (["--frame_name=a b"], {"frame_name": "a b"}),
        (["--Frame-Name=--x=y"], {"frame_name": "--x=y"}),
        (["--frame-name=x", "--frame-name="], {"frame_name": ""}),
        (["--srand=1", "--srand=2"], {"srand": 2}),
        (["--lambda=2", "--how=fast"], {"scale": 2.0, "how": "fast"}),
        (["--width=9", "--rate=1e-9", "--share=1"], {"width": 9, "rate": 1e-9, "share": 1.0}),
    ],
)
def test_options(demo, options, expected):
    assert demo(*options, "show")[:2] == (0, shown(**expected))


@pytest.mark.parametrize(
    "args, more",
    [
        (["--", "show", "--srand=1"], ("--srand=1",)),
        (["show", "--", "--srand=1"], ("--srand=1",)),
        (["show", "-", "-x", ""], ("-", "-x", "")),
        (["show", "a", "--", "b", "--"], ("a", "b", "--")),
    ],
)
def test_arguments(demo, args, more):
    assert demo(*args)[:2] == (0, shown(more))


@pytest.mark.parametrize(
    "args, words",
    [
        (["--sramd=5", "show"], ["no option --sramd", "(is it --srand"]),
        (["--srand", "show"], ["--srand needs a value: --srand=<int>"]),
        (["--srand=", "show"], ["--srand needs a value"]),
        (["--srand=5x", "show"], ["--srand", "'5x' is not a valid integer"]),
        (["--alpha=x", "show"], ["--alpha", "'x' is not a valid float"]),
        (["--alpha=nan", "show"], ["--alpha", "nan is not a finite number"]),
        (["--alpha=-inf", "show"], ["--alpha", "-inf is not a finite number"]),
        (["--srand=2147483648", "show"], ["--srand", "2147483648 is not in the range"]),
        (["--width=0", "show"], ["--width", "0 is not in the range 1<=x<=9"]),
        (["--rate=0", "show"], ["--rate", "0.0 is not in the range x>0"]),
        (["--rate=nan", "show"], ["--rate", "nan is not a finite number"]),
        (["--share=1.01", "show"], ["--share", "1.01 is not in the range 0<=x<=1"]),
        (["--sramd", "5", "--alpha=1", "show"], ["no option --sramd", "(is it --srand"]),
        (["show", "--sramd=5"], ["no option --sramd", "(is it --srand"]),
        (["--binary=maybe", "show"], ["--binary", "maybe"]),
        (["--how=badly", "show"], ["--how", "'badly'", "'fast', 'well'"]),
        (["--frame-name", "show"], ["--frame-name needs a value"]),
        (["--=3", "show"], ["no option --"]),
        (["show", "--srand=5"], ["--srand=5 stands after an argument"]),
        (["--srand=5"], ["<what>", "Usage:  demo [options] <what> [<more> ...]"]),
        (["--config=nowhere.conf", "show"], ["nowhere.conf", os.strerror(errno.ENOENT)]),
        (["user-error"], ["x.ark: key utt1: 3 columns, not 4"]),
        (["missing-file"], ["no/such/file", os.strerror(errno.ENOENT)]),
        (["memory"], ["out of memory: 1 TiB"]),
        (["bug"], ["IndexError", "--verbose=1"]),
    ],
)
def test_an_error_is_one_line_and_status_1(demo, args, words):
    status, out, err = demo(*args)
    lines = [line for line in err.splitlines() if not line.startswith("demo ")]
    assert (status, out, len(lines)) == (1, "", 1)
    assert lines[0].startswith(f"ERROR (demo[{__version__}]) ")
    assert all(word in lines[0] for word in words)


def test_verbose_shows_where_an_error_was_raised(demo):
    status, _, err = demo("--verbose=1", "bug")
    assert status == 1
    assert "Traceback" in err and "return [][1]" in err


def test_config_file(demo, tmp_path):
    config = tmp_path / "demo.conf"
    config.write_text("# a comment\n\n --srand=7  # another\n--binary=false\n--frame_name=a=b\n")
    expected = {"srand": 8, "binary": False, "frame_name": "a=b"}
    assert demo("--srand=8", f"--config={config}", "show")[1] == shown(**expected)
    unknown = f"no option --seed in config file {config}"
    for line, words in ("srand=7", "line 1"), ("--seed=7", unknown):
        config.write_text(line)
        status, out, err = demo(f"--config={config}", "show")
        assert (status, out) == (1, "")
        assert words in err


def test_the_command_line_is_echoed_so_that_a_shell_can_read_it(demo):
    args = ["--frame-name=it's", "show", "ark:gunzip -c x.gz |"]
    echoed = demo(*args)[2]
    words = execute("bash", "-c", f"printf '%s\\n' {echoed}").stdout.splitlines()
    assert words == ["demo", *args]
    assert demo("--print-args=false", *args)[2] == ""


def test_log_lines(demo):
    name = f"(demo[{__version__}])"
    lines = demo("--print-args=false", "log")[2].splitlines()
    assert lines == [f"LOG {name} information", f"WARNING {name} caution"]
    lines = demo("--print-args=false", "--verbose=1", "log")[2].splitlines()
    assert lines[2:] == [f"VLOG[1] {name} detail"]
    lines = demo("--print-args=false", "--verbose=2", "log")[2].splitlines()
    assert lines[2:] == [f"VLOG[1] {name} detail", f"VLOG[2] {name} finer detail"]


def test_python_warnings_are_log_lines(demo):
    err = demo("--print-args=false", "python-warning")[2]
    assert err == f"WARNING (demo[{__version__}]) RuntimeWarning: overflow encountered\n"


@pytest.mark.parametrize("setting", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii:strict"}])
def test_any_bytes_come_out_as_they_came_in(demo, setting):
    key = b"caf\xc3\xa9-\xff"
    result = subprocess.run(
        [demo.path, "bytes", key],
        capture_output=True,
        check=False,
        env=os.environ | setting,
    )
    assert result.stdout == key + b"\n"


@pytest.mark.parametrize(
    "user, options, expected",
    [
        ({}, [], "1 1"),
        ({"OMP_NUM_THREADS": "3"}, [], "3 None"),
        ({"OMP_NUM_THREADS": "3"}, ["--num-threads=2"], "2 2"),
    ],
)
def test_number_of_threads(demo, user, options, expected):
    others = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    assert demo(*options, "threads", env=others | user)[1].strip() == expected


def test_status_is_what_the_function_returns(demo):
    assert demo("status")[0] == 3


def test_no_arguments_prints_the_usage_and_fails(demo):
    status, out, err = demo()
    assert (status, out) == (1, "")
    assert "Usage:  demo" in err


def test_help(demo):
    status, out, err = demo("--srand=x", "--help")
    assert (status, err) == (0, "")
    assert out.startswith("Show what the command line gave.\n\nUsage:  demo [options]")
    assert " e.g.: demo nothing\n" in out
    assert "--alpha=<float>" in out and "Smoothing (default = 4)" in out
    assert "--binary=true|false" in out and "(default = true)" in out
    assert out.index("--srand") < out.index("Standard options:") < out.index("--config")


def test_a_reader_that_stops_early_is_no_error(demo):
    command = f"{demo.path} --print-args=false much | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = execute("bash", "-c", command)
    assert result.stdout == "0123456789\n"
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("what", ["much", "show"])
def test_full_disk_under_standard_output(demo, what):
    command = f"{demo.path} --print-args=false {what} > /dev/full"
    result = execute("bash", "-c", command)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_lets_the_program_clean_up(demo, number):
    process = subprocess.Popen(
        [demo.path, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore SIGINT, and so would the program in such a one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "cleaned up\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_long_call_of_a_library(demo, tmp_path, number):
    """Python sees no signal before it returns.  Nothing is left of what was half-written."""
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [demo.path, "library", tmp_path / "out/x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"waiting\n"
    assert len(os.listdir(tmp_path / "out")) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, os.listdir(tmp_path / "out")) == (128 + number, [])
    assert b"Traceback" not in err


def test_control_c_a_second_time_ends_at_once(demo):
    process = subprocess.Popen(
        [demo.path, "stubborn"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in "waiting\n", "cleaning up\n":
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_for_what_is_being_written(demo, number):
    process = subprocess.Popen([demo.path, "write"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "written\n")


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_help_of_every_program(path, environment):
    """It explains with an example, and does not import what would make it slow."""
    assert path.stat().st_mode & stat.S_IXUSR
    said, modules = imported(path, "--help")
    assert "Usage:" in said
    assert "e.g." in said.lower()
    assert "click" in modules
    assert not modules & SLOW
    assert len(modules - click_imports()) <= 35


# Started otherwise than is said ----------------------------------------------------------------


@pytest.fixture
def bare():
    """An environment without what path.sh sets."""
    return {"HOME": os.environ.get("HOME", "/"), "PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("name", ["bin/copy-feats", "steps/report.py", "utils/sym2int.py"])
@pytest.mark.parametrize("optimized", ["0", "2"])
def test_a_program_that_is_started_without_path_sh(bare, tmp_path, name, optimized):
    """It finds the project, also where it is called by a link and from elsewhere."""
    (tmp_path / "link").symlink_to(ROOT)
    command = [sys.executable, tmp_path / "link" / name, "--help"]
    result = execute(*command, env=bare | {"PYTHONOPTIMIZE": optimized}, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage:" in result.stdout


def test_it_finds_other_programs(bare, tmp_path):
    (tmp_path / "a.txt").write_text("u1  [\n  1 2 ]\n")
    words = [f"ark:copy-feats ark:{tmp_path}/a.txt ark:- |", "ark,t:-"]
    result = execute(sys.executable, ROOT / "bin/copy-feats", *words, env=bare)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["u1", "[", "1", "2", "]"]
    launcher = [sys.executable, ROOT / "utils/run.py", tmp_path / "x.log"]
    assert execute(*launcher, "copy-feats", "--help", env=bare).returncode == 0


def test_a_package_that_is_missing_is_one_line(bare, tmp_path):
    """Where there is no .venv whose Python has it."""
    (tmp_path / "bin").mkdir()
    for name in "bin/copy-feats", "bin/nnet.py", "path.sh":
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "nnet", tmp_path / "nnet")
    command = [sys.executable, "-S", tmp_path / "bin/copy-feats", "--help"]
    result = execute(*command, env=bare)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "copy-feats: " in result.stderr and "has no package click" in result.stderr


# Standard descriptors that were closed ----------------------------------------------------------


@pytest.fixture
def closed(tmp_path, environment):
    """closed(command) runs it in bash, beside a small archive `in`; the CompletedProcess."""
    (tmp_path / "in").write_text("a [ 1 2 ]\nb [ 3 ]\n")

    def run(command):
        return subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", ["2>&-", "<&-", "<&- 2>&-"])
def test_nothing_gets_into_an_output(closed, tmp_path, descriptors):
    """Not the command line, either, where the output would get the number of standard error."""
    assert closed("copy-vector ark:in ark:good").returncode == 0
    for output in "ark:- > out", "ark:out":
        assert closed(f"copy-vector ark:in {output} {descriptors}").returncode == 0
        assert (tmp_path / "out").read_bytes() == (tmp_path / "good").read_bytes()
        (tmp_path / "out").unlink()


def test_standard_output_that_is_closed(closed, tmp_path):
    """What writes none works, what does says so; neither leaves half of anything."""
    assert closed("copy-vector ark:in ark:out >&-").returncode == 0
    assert (tmp_path / "out").exists()
    for command in "copy-vector ark:in ark:-", "feat-to-dim --help", "tree-info --help":
        result = closed(f"{command} >&-")
        assert result.returncode == 1
        assert b"Bad file descriptor" in result.stderr and b"Traceback" not in result.stderr
    result = closed("copy-vector ark:- ark:out2 <&-")
    assert result.returncode == 1 and b"standard input: Bad file descriptor" in result.stderr
    assert not (tmp_path / "out2").exists()


def test_all_of_them_closed(closed, tmp_path):
    """Programs, pipes, launchers and drivers do what they do."""
    assert closed("copy-vector 'ark:cat in |' 'ark:| cat > out' <&- >&- 2>&-").returncode == 0
    assert (tmp_path / "out").stat().st_size > 10
    assert closed("run.py JOB=1:2 x.JOB.log cat in <&- >&- 2>&-").returncode == 0
    assert "a [ 1 2 ]" in (tmp_path / "x.2.log").read_text()
    assert closed("utt2spk_to_spk2utt.py /dev/null <&- 2>&-").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        "nnet-decode-faster --max-active=0 a b c d",
        "nnet-combine-fast --minibatch-size=0 a b c",
        "nnet-combine-fast --num-threads=0 a b c",
        "nnet-am-copy --num-threads=0 a b",
        "nnet-compute-prob --minibatch-size=-1 a b",
        "nnet-align-compiled --beam=nan a b c d",
        "align.py --nj 0 a b c d",
        "align.py --beam -1 a b c d",
        "get_egs2.py --frames-per-eg 0 a b c",
        "get_lda.py --lda-dim 0 a b c d",
        "decode.py --beam inf a b c",
        "split_data.py a 0",
        "train_ngram_lm.py --order 99999999999999999999 a b c",
    ],
)
def test_a_number_out_of_its_range(environment, tmp_path, words):
    """It is refused before anything is opened or made."""
    result = execute(*words.split(), cwd=tmp_path)
    *_, line = result.stderr.splitlines()
    assert result.returncode == 1 and "Invalid value for" in line
    assert re.search(r"is not (in the range|a finite number)", line)
    assert list(tmp_path.iterdir()) == []
