"""Files that others made on purpose: they are read or refused in one clear line, they run no
commands, and what they claim costs nothing that they do not have."""

import io
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.decoding.fst import ArrayFst
from nnet.errors import NgtrainError
from nnet.io.numbers import natural
from nnet.io.random_access import random_access_table
from nnet.io.streams import InputStream, open_input, open_output, split_offset
from nnet.io.tables import INTEGERS, MATRIX, POSTERIOR, sequential_table, table_writer
from nnet.io.tokens import Reader, start_writing

FUZZ = Path(__file__).parent / "fuzz"


# The fuzzer ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzz():
    """The modules of tests/fuzz."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FUZZ))
        import mutations
        import readers
        import run

        yield {"mutations": mutations, "readers": readers, "run": run}


@pytest.mark.slow
def test_no_reader_fails(tmp_path):
    """What once made a reader fail, and some damage to the seeds of each."""
    result = subprocess.run(
        [sys.executable, FUZZ / "run.py", "--inputs=20", f"--save={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    header, *rows, last = result.stdout.splitlines()
    assert header.split() == ["reader", "inputs", "read", "refused", "failed", "seconds"]
    assert len(rows) == 50
    numbers = [list(map(int, row.split()[-5:-1])) for row in rows]
    assert all(count >= 20 and failed == 0 for count, _, _, failed in numbers)
    assert last.split()[:2] == ["all", str(sum(count for count, *_ in numbers))]


def test_seeds_are_good(fuzz, tmp_path):
    """A fuzzer whose seeds are refused would only see how they are refused."""
    for reader in fuzz["readers"].READERS:
        if reader.name in ("rspecifier", "script"):  # they name what is not there
            continue
        for seed in reader.seeds:
            (tmp_path / "seed").write_bytes(seed)
            reader.read(str(tmp_path / "seed"))


def bad_readers():
    def allocate(path):
        np.ones(1 << 28, np.uint8)

    def raise_error(path):
        raise KeyError("a key")

    def hang(path):
        while True:
            pass

    def hang_in_a_library(path):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
        time.sleep(60)

    def crash(path):
        os.kill(os.getpid(), signal.SIGSEGV)

    return {
        "MemoryError": allocate,
        "KeyError": raise_error,
        "Hang": hang,
        "hang": hang_in_a_library,
        "ended with status -11": crash,
    }


@pytest.mark.parametrize("reason", bad_readers().keys())
def test_the_fuzzer_sees_what_fails(fuzz, tmp_path, reason):
    """Half of the inputs do harm; each of them is seen, and the others are read."""
    seeds = [b"good", b"bad!"]

    def read(path):
        if Path(path).read_bytes()[:1] == b"b":
            bad_readers()[reason](path)

    reader = fuzz["readers"].FuzzedReader("bad", read, lambda: seeds)
    fuzzer = fuzz["run"].Fuzzer(reader, srand=0, timeout=0.1, save=tmp_path)
    fuzzer.corpus = seeds * 2
    result = fuzzer.run(0, num_inputs=4)
    assert result.counts == {"read": 2, "failed": 2, "refused": 0}
    # On a busy machine, the time to wait may be over before the CPU time is.
    assert all(line.lower().startswith(reason.lower()) for line in result.reasons)
    assert {path.read_bytes() for path in (tmp_path / "bad").iterdir()} == {b"bad!"}


def test_the_seed_decides_what_is_damaged(fuzz, tmp_path):
    [reader] = [r for r in fuzz["readers"].READERS if r.name == "tree"]

    def inputs(srand):
        fuzzer = fuzz["run"].Fuzzer(reader, srand, 1, tmp_path)
        return [fuzzer.input(number) for number in range(50)]

    assert inputs(1) == inputs(1) != inputs(2)
    assert len(set(inputs(1))) > 35


# Memory -------------------------------------------------------------------------------------------


def stream_of(contents: bytes) -> InputStream:
    return InputStream(io.BytesIO(contents), "contents")


def written(write, binary: bool) -> bytes:
    stream = io.BytesIO()
    write(start_writing(stream, binary))
    return stream.getvalue()


# Numbers of one digit are the worst case in text: a word of two bytes becomes an object.
LARGE = {
    "matrix": (MATRIX, np.ones((300, 300), np.float32)),
    "integers": (INTEGERS, np.ones(100_000, np.int32)),
    "posterior": (POSTERIOR, [[(1, 1.0)]] * 20_000),
    "posterior of several": (POSTERIOR, [[(1, 0.5), (2, 0.5)]] * 10_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", LARGE)
def test_memory_follows_the_size_of_the_file(fuzz, name, binary):
    holder, value = LARGE[name]
    contents = written(lambda writer: holder.format(writer, value), binary)
    tracemalloc.start()
    try:
        holder.read(stream_of(contents))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < fuzz["run"].MEMORY_FACTOR * len(contents)


# Numbers ------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31 - 1))
def test_natural_numbers(number):
    assert natural(str(number)) == natural(str(number).encode()) == number


@pytest.mark.slow
@settings(max_examples=200)
@given(st.text(max_size=12))
def test_what_is_no_natural_number(text):
    if not (text and set(text) <= set("0123456789")) or int(text) >= 2**31:
        with pytest.raises(ValueError):
            natural(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1_0", "\u0661", "\u00b2", "1.0"])
def test_what_python_takes_for_a_number_is_none(text):
    with pytest.raises(ValueError):
        natural(text)


# Pipes --------------------------------------------------------------------------------------------


@pytest.fixture
def mark(tmp_path):
    """A file that a command would make."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists()


COMMANDS = [
    "copy-feats {o} ark:{pipe} ark:{out}",
    "copy-feats {o} scp:{dir}/scp ark:{out}",
    "copy-feats {o} scp:{dir}/range.scp ark:{out}",
    "nnet-am-copy {o} {pipe} {out}",
    "nnet-copy-egs {o} ark,bg:{pipe} ark:{out}",
    "nnet-init {o} {dir}/config {out}",
    "copy-feats {o} ark:{feats} ark:|{command}",
]
NO_PIPES = "--no-pipes"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command, how",
    [
        *((command, NO_PIPES) for command in COMMANDS),
        (COMMANDS[1], "--config={dir}/options"),
        (COMMANDS[1], "NGTRAIN_NO_PIPES"),
    ],
)
def test_no_pipes(run_program, golden, tmp_path, monkeypatch, mark, command, how):
    (tmp_path / "scp").write_text(f"utt1 touch {mark} |\n")
    (tmp_path / "range.scp").write_text(f"utt1 touch {mark} |[0:1]\n")
    (tmp_path / "config").write_text(f"FixedAffineComponent matrix=>{mark}|\n")
    (tmp_path / "options").write_text("--no-pipes=true\n")
    if how == "NGTRAIN_NO_PIPES":
        monkeypatch.setenv("NGTRAIN_NO_PIPES", "1")
    names = {
        "o": "" if how == "NGTRAIN_NO_PIPES" else how.format(dir=tmp_path),
        "dir": tmp_path,
        "out": tmp_path / "out",
        "feats": golden / "feats.ark",
        "pipe": f"touch~{mark};cat|",
        "command": f"touch~{mark};cat",
    }
    program, *arguments = (part.format(**names).replace("~", " ") for part in command.split())
    result = run_program(program, *filter(None, arguments), check=False)
    said = result.stderr.decode()
    assert result.returncode != 0 and result.stdout == b"" and "Traceback" not in said
    assert "pipes are refused (--no-pipes or NGTRAIN_NO_PIPES): " in said.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_pipes_are_not_refused_otherwise(run_program, golden, tmp_path, monkeypatch):
    feats = f"ark:cat {golden}/feats.ark|"
    run_program("copy-feats", feats, f"ark:{tmp_path}/1")
    monkeypatch.setenv("NGTRAIN_NO_PIPES", "0")
    run_program("copy-feats", "--no-pipes=false", feats, f"ark:{tmp_path}/2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_standard_streams_are_no_pipes(run_program, golden, tmp_path):
    feats = (golden / "feats.ark").read_bytes()
    result = run_program("copy-feats", "--no-pipes", "ark:-", "ark:-", stdin=feats)
    assert len(result.stdout) == len(feats)


def test_opening_refuses_pipes(monkeypatch, mark):
    monkeypatch.setenv("NGTRAIN_NO_PIPES", "1")
    for open_pipe in (
        lambda: open_input(f"touch {mark}|"),
        lambda: open_output(f"|touch {mark}"),
        lambda: sequential_table(f"ark:touch {mark}|", MATRIX),
        lambda: random_access_table(f"scp:touch {mark}|", MATRIX),
    ):
        with pytest.raises(NgtrainError, match="pipes are refused"):
            open_pipe()


# Places in files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "offset, reason",
    [
        ("1000", "cannot seek to 1000: it has 28 bytes"),
        ("28", "expected a matrix in text form"),
        (str(2**63), "no file is so large"),
        ("9" * 5000, "no file is so large"),
        ("-1", "No such file"),
        ("\u0661", "No such file"),
        ("5[0:99999999999999999999]", "bad range"),
        ("5[0:" + "9" * 5000 + "]", "bad range"),
        ("5[2:1]", "outside of an object"),
        ("5[0:1:1]", "bad range"),
    ],
)
def test_offsets_in_script_files(tmp_path, offset, reason):
    with table_writer(f"ark:{tmp_path}/ark", MATRIX) as table:
        table.write("utt1", np.ones((1, 1)))
    (tmp_path / "scp").write_text(f"utt1 {tmp_path}/ark:{offset}\n")
    sequential = sequential_table(f"scp:{tmp_path}/scp", MATRIX)
    with sequential, pytest.raises(NgtrainError, match=reason):
        next(sequential)
    by_key = random_access_table(f"scp:{tmp_path}/scp", MATRIX)
    with by_key, pytest.raises(NgtrainError, match=reason):
        by_key["utt1"]


def test_offsets_that_are_good():
    assert split_offset("a:b:12") == ("a:b", 12)
    assert split_offset("file") == ("file", 0)


# Transducers in text ------------------------------------------------------------------------------


def test_transducers_in_text_are_as_openfst_reads_them():
    import kaldifst

    text = "2 0 1 2 0.5\n2 1 0 0\n0 1 3 0 -1\n1 0.25\n0\n"
    theirs = ArrayFst.from_kaldifst(kaldifst.compile(text, keep_state_numbering=True))
    ours = ArrayFst.parse(text)
    assert ours.start == theirs.start == 2
    for name in "finals", "first_arc", "arcs":
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    empty = ArrayFst.parse("")
    assert (empty.start, empty.num_states, len(empty.arcs)) == (-1, 0, 0)


@pytest.mark.parametrize(
    "text",
    ["0 1 2\n", "0 1 -1 0\n", "a\n", "0 1 1 1 nan\n", "0 -inf\n", "0 9999999 1 1\n", "0 1 1 1 1 1"],
)
def test_what_is_no_transducer(text):
    with pytest.raises(ValueError):
        ArrayFst.parse(text)


# Properties ---------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_after_a_binary_mark(contents):
    """The basic readers, one after the other, on anything."""
    for read in (
        *(Reader.token, Reader.integer, Reader.real, Reader.boolean, Reader.vector),
        *(Reader.matrix, Reader.compressed_matrix, Reader.symmetric_matrix, Reader.integers),
    ):
        for binary in True, False:
            try:
                read(Reader(stream_of(contents), binary))
            except NgtrainError as error:
                assert str(error).startswith("contents: ")
