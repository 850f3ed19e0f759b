"""Extended file names: what is read and written through them, and what happens when it fails."""

import errno
import io
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NgtrainError
from nnet.io import streams
from nnet.io.streams import CHUNK, open_input, open_output

CONTENTS = np.random.default_rng(0).bytes(CHUNK + 1792)  # more than one chunk


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENTS)
    return path


def names(directory):
    return sorted(os.listdir(directory))


@pytest.mark.parametrize("form", ["{}", "cat {} |", "{}:1000"])
def test_reading_forms(file, form):
    offset = 1000 if form.endswith("1000") else 0
    with open_input(form.format(file)) as stream:
        assert stream.tell() == offset
        assert stream.peek(5) == CONTENTS[offset : offset + 5]
        assert stream.read_exact(CHUNK) == CONTENTS[offset : offset + CHUNK]
        assert stream.tell() == offset + CHUNK
        assert stream.peek(10**9) == CONTENTS[offset + CHUNK :]
        assert stream.read() == CONTENTS[offset + CHUNK :]
        assert stream.read() == stream.peek(1) == b""


def test_lines_and_words_across_chunks(tmp_path):
    path = tmp_path / "text"
    lines = [b"x" * length + b" y\n" for length in (CHUNK - 3, 5, 2 * CHUNK, 0)]
    path.write_bytes(b"".join(lines) + b"  last")
    with open_input(str(path)) as stream:
        for line in lines:
            assert stream.readline() == line
        assert stream.readline() == b"  last"
        assert stream.readline() == b""
    path.write_bytes(b" " * (2 * CHUNK) + b"word" + b"\n" * CHUNK)
    with open_input(str(path)) as stream:
        assert stream.read_token() == b"word"
        assert stream.tell() == 2 * CHUNK + 4
        assert stream.read_token() == b""


@settings(max_examples=200, deadline=None)
@given(
    contents=st.binary(max_size=60).map(lambda b: bytes(b"ab \n"[c % 4] for c in b)),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["read", "peek", "readline", "read_token", "seek", "rest"]),
            st.integers(0, 40),
        ),
        max_size=12,
    ),
)
def test_any_calls_on_a_small_buffer(contents, calls):
    """A stream behaves as its bytes do, wherever the buffer ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CHUNK", 7)
        stream = streams.InputStream(io.BytesIO(contents), "bytes")
        at = 0
        for call, n in calls:
            rest = contents[at:]
            if call == "seek":
                at = min(n, len(contents))
                stream.seek(at)
            elif call == "peek":
                assert stream.peek(n) == rest[:n]
            elif call == "read_token":
                words = rest.split(None, 1)
                expected = words[0] if words else b""
                assert stream.read_token() == expected
                at += rest.find(expected) + len(expected) if words else len(rest)
            else:
                arguments = {"read": (n,), "rest": (-1,), "readline": ()}[call]
                expected = {
                    "read": rest[:n],
                    "rest": rest,
                    "readline": rest[: rest.find(b"\n") + 1] or rest,
                }[call]
                assert getattr(stream, "read" if call == "rest" else call)(*arguments) == expected
                at += len(expected)
            assert stream.tell() == at


@pytest.mark.parametrize("before", [0, 3, 5000, CHUNK - 2, CHUNK, CHUNK + 5000])
def test_word_at_the_end(tmp_path, before):
    (tmp_path / "text").write_bytes(b"x" * before + b" word")
    with open_input(str(tmp_path / "text")) as stream:
        stream.read_exact(before)
        assert stream.read_token() == b"word"
        assert stream.tell() == before + 5
        assert stream.peek(1) == stream.read_token() == b""
        assert stream.tell() == before + 5


def test_seek_inside_and_outside_of_the_buffer(file):
    with open_input(str(file)) as stream:
        for offset, size in [
            (3, 7),
            (5, CHUNK + 1000),
            (1500, 7),
            (CHUNK + 5, 7),
            (10, 7),
            (11, 7),
        ]:
            stream.seek(offset)
            assert stream.tell() == offset
            assert stream.peek(1) == CONTENTS[offset : offset + 1]
            assert stream.read(size) == CONTENTS[offset : offset + size]


def test_a_size_is_not_believed(file):
    with open_input(str(file)) as stream, pytest.raises(NgtrainError, match="truncated"):
        stream.read_exact(1 << 50)


def test_command_that_fails_after_its_output():
    with (
        pytest.raises(NgtrainError, match=r"command failed with status 3: echo a; exit 3"),
        open_input("echo a; exit 3 |") as stream,
    ):
        stream.read()


def test_failed_command_is_the_reason_for_what_is_missing():
    with (
        pytest.raises(NgtrainError, match="status 127"),
        open_input("no-such-command-there 2>/dev/null |") as stream,
    ):
        stream.read_exact(10)


def test_command_killed_by_a_signal():
    with pytest.raises(NgtrainError, match="of signal 9"), open_input("kill -9 $$ |") as stream:
        stream.read()


@pytest.mark.parametrize("command", ["yes", "yes || exit 2", "trap '' PIPE; yes 2>/dev/null"])
def test_command_that_we_stop_reading_has_not_failed(command):
    with open_input(f"{command} |") as stream:
        assert stream.read(4) == b"y\ny\n"


def test_command_fails_when_what_was_wanted_is_all_that_came():
    with pytest.raises(NgtrainError, match="status 3"), open_input("echo a; exit 3 |") as stream:
        assert stream.read(2) == b"a\n"


@pytest.mark.parametrize("command", ["(echo a; exit 3) | cat", "echo a | (cat; exit 3) | cat"])
def test_a_part_of_a_command_fails(command, tmp_path):
    failure = pytest.raises(NgtrainError, match=r"command failed with status 3: .*echo a")
    with failure, open_input(f"{command} |") as stream:
        assert stream.read() == b"a\n"
    failure = pytest.raises(NgtrainError, match="command failed with status 3")
    with failure, open_output(f"| (cat; exit 3) | cat > {tmp_path}/out") as stream:
        stream.write(b"a\n")


def test_a_part_of_a_command_that_ends_by_sigpipe_has_not_failed():
    """Its reader wanted no more, which is so in Kaldi, too."""
    with open_input("yes | head -n 2 |") as stream:
        assert stream.read() == b"y\ny\n"
    with open_input("yes || exit 2 | head -n 2 |") as stream:
        assert stream.read(2) == b"y\n"


def test_a_line_of_any_length_takes_linear_time(tmp_path, monkeypatch):
    """Copying all that was read at each of the 30000 reads would take minutes."""
    (tmp_path / "line").write_bytes(b"utt " + b"x" * 4_000_000 + b"\nend")
    monkeypatch.setattr(streams, "CHUNK", 128)
    start = time.process_time()
    with open_input(f"{tmp_path}/line") as stream:
        assert len(stream.readline()) == 4_000_005
        assert stream.readline() == b"end"
    with open_input(f"{tmp_path}/line") as stream:
        assert len(stream.read_until(b"n")) == 4_000_007
    assert time.process_time() - start < 10


def test_what_errors_quote_is_short(tmp_path):
    name = "x" * 100_000
    for bad in name, f"{name} ", f"ark:{name}", f"| {name}", f"{name}\0", f"{name}:{'9' * 100_000}":
        with pytest.raises(NgtrainError) as error:
            open_input(bad)
        assert len(str(error.value)) < 1000
    with pytest.raises(NgtrainError) as error, open_input(f"false {name} |") as stream:
        stream.read(1)
    assert len(str(error.value)) < 1000


def test_error_in_what_a_command_wrote_is_not_hidden_by_our_closing_it():
    with pytest.raises(NgtrainError, match="nonsense"), open_input("yes || exit 2 |") as stream:
        stream.read(2)
        raise stream.fail("nonsense")


def test_errors_of_the_body_are_not_replaced():
    with pytest.raises(KeyError), open_input("exit 3 |") as stream:
        stream.read()
        raise KeyError


@pytest.mark.parametrize(
    "name", ["/no/such/file", "ark:file", "scp,p:x", " file", "| cat", "a | b"]
)
def test_bad_input_names(name):
    with pytest.raises(NgtrainError):
        open_input(name)


def test_directory_is_no_input(tmp_path):
    with pytest.raises(NgtrainError, match="directory"):
        open_input(str(tmp_path)).read(1)


def test_output_appears_whole(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with open_output(str(path)) as stream:
        stream.write(CONTENTS)
        stream.write(b"end")
        stream.flush()
        assert path.read_bytes() == b"old"
        assert stream.tell() == len(CONTENTS) + 3
    assert path.read_bytes() == CONTENTS + b"end"
    assert names(tmp_path) == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_output_is_not_left_after_an_exception(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_output(str(tmp_path / "out")) as stream:
        stream.write(CONTENTS)
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_output_through_a_symbolic_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "egs").mkdir()
    link = tmp_path / "egs" / "egs.1.ark"
    link.symlink_to("../disk/egs.1.ark")
    with open_output(str(link)) as stream:
        stream.write(b"x")
    assert link.is_symlink()
    assert names(tmp_path / "disk") == ["egs.1.ark"]
    assert (tmp_path / "disk" / "egs.1.ark").read_bytes() == b"x"


def test_output_to_devices_and_named_pipes(tmp_path):
    with open_output("/dev/null") as stream:
        stream.write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(NgtrainError, match="No space left"), open_output("/dev/full") as stream:
        stream.write(b"x")
    os.mkfifo(tmp_path / "fifo")
    with open_input(f"cat {tmp_path}/fifo |") as reader:
        with open_output(str(tmp_path / "fifo")) as writer:
            writer.write(b"through")
        assert reader.read() == b"through"


def test_a_quota_that_is_noticed_at_the_end(tmp_path, monkeypatch):
    """Over NFS, and with some quotas, writing succeeds, and what was written does not fit."""

    def fsync(_):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "x").write_bytes(b"before")
    failure = pytest.raises(NgtrainError, match="x: Disk quota exceeded")
    with failure, open_output(f"{tmp_path}/x") as stream:
        stream.write(b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_a_limit_on_the_size_of_files(tmp_path):
    script = (
        "import resource; from nnet.io.streams import open_output\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        f"with open_output('{tmp_path}/x') as stream: stream.write(bytes(200000))\n"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.strip().endswith("x: File too large")
    assert not list(tmp_path.iterdir())


def test_a_signal_while_a_file_gets_its_name(tmp_path, monkeypatch):
    """It ends the program by an exception, and leaves nothing."""

    def fsync(_):
        raise SystemExit(143)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SystemExit), open_output(f"{tmp_path}/x") as stream:
        stream.write(b"x")
    assert not list(tmp_path.iterdir())


def test_output_pipe(tmp_path):
    with open_output(f"| gzip -c > {tmp_path}/out.gz") as stream:
        stream.write(CONTENTS)
    with open_input(f"gunzip -c {tmp_path}/out.gz |") as stream:
        assert stream.read() == CONTENTS


@pytest.mark.parametrize("command", ["cat >/dev/null; exit 5", "exit 5"])
def test_output_pipe_that_fails(command):
    with (
        pytest.raises(NgtrainError, match=r"status 5|ended before"),
        open_output("| " + command) as stream,
    ):
        for _ in range(10):
            stream.write(CONTENTS)


@pytest.mark.parametrize("name", ["{}", "{}/no/dir/file", "{}/x:12", "ark:{}/x", "{}/x |", "{}/y "])
def test_bad_output_names(tmp_path, name):
    with pytest.raises(NgtrainError):
        open_output(name.format(tmp_path))
    assert names(tmp_path) == []
