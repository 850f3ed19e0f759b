"""Tables: every kind of specifier, Kaldi's files byte for byte, and archives that are damaged."""

import gzip
import os
import shlex
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnet.errors import NgtrainError
from nnet.io.random_access import mapped_table, random_access_table
from nnet.io.streams import open_input
from nnet.io.tables import (
    COMPRESSED_MATRIX,
    INTEGER,
    INTEGERS,
    MATRIX,
    POSTERIOR,
    REAL,
    TOKEN,
    TOKENS,
    VECTOR,
    read_ahead,
    read_script,
    sequential_table,
    table_writer,
)
from nnet.io.text import BYTE_ORDER_MARK


def read_all(rspecifier, holder):
    with sequential_table(rspecifier, holder) as table:
        return list(table)


def write_all(wspecifier, holder, entries):
    with table_writer(wspecifier, holder) as table:
        for key, value in entries:
            table.write(key, value)


@pytest.fixture
def words(tmp_path):
    """An archive of words, sorted by key."""
    path = tmp_path / "words"
    path.write_text("a one\nb two\nc three\nd four\n")
    return path


# Kaldi's files ------------------------------------------------------------------------------------


def test_golden_features(golden, tmp_path):
    entries = read_all(f"ark:{golden}/feats.ark", MATRIX)
    write_all(f"ark:{tmp_path}/out.ark", MATRIX, entries)
    assert (tmp_path / "out.ark").read_bytes() == (golden / "feats.ark").read_bytes()
    write_all(f"ark,t:{tmp_path}/out.txt", MATRIX, entries)
    head = (golden / "feats.head.txt").read_bytes()
    assert (tmp_path / "out.txt").read_bytes().startswith(head)


def test_golden_alignments(golden, shared, tmp_path):
    entries = read_all(f"ark,t:{golden}/pdf_ali.txt", INTEGERS)
    write_all(f"ark,t:{tmp_path}/out.txt", INTEGERS, entries)
    assert (tmp_path / "out.txt").read_bytes() == (golden / "pdf_ali.txt").read_bytes()
    compressed = shared / "kaldi" / "exp" / "tri2_ali" / "ali.1.gz"
    entries = read_all(f"ark:gunzip -c {compressed} |", INTEGERS)
    write_all(f"ark,t:{tmp_path}/out.ark", INTEGERS, entries)
    assert (tmp_path / "out.ark").read_bytes() == gzip.decompress(compressed.read_bytes())


def test_golden_compressed_features(reference, tmp_path):
    archive = reference("kaldi/mfcc/raw_mfcc_test.1.ark")
    entries = read_all(f"ark:{archive}", COMPRESSED_MATRIX)
    assert entries[0][1].layout == "CM"
    write_all(f"ark:{tmp_path}/out.ark", COMPRESSED_MATRIX, entries)
    assert (tmp_path / "out.ark").read_bytes() == archive.read_bytes()


def test_compressing_again_gives_kaldis_bytes(reference):
    """What Kaldi's compression made of features is a fixed point of ours, column by column, unless
    the quantiles of the decompressed values fall on other levels."""
    same = total = 0
    archive = reference("kaldi/mfcc/raw_mfcc_test.1.ark")
    for _, stored in read_all(f"ark:{archive}", COMPRESSED_MATRIX):
        again = stored.compress(stored.decompress(), stored.layout)
        first, second = (np.frombuffer(matrix.data, np.uint8) for matrix in (stored, again))
        same += (first == second).sum()
        total += len(first)
    assert same / total > 0.95


# Round trips --------------------------------------------------------------------------------------

WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
)
KEYS = WORDS.filter(lambda word: not word.startswith(BYTE_ORDER_MARK))  # see test_bad_keys
VALUES = {
    INTEGERS: st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=5),
    INTEGER: st.integers(-(1 << 31), (1 << 31) - 1),
    REAL: st.floats(width=32, allow_nan=False),
    POSTERIOR: st.lists(
        st.lists(
            st.tuples(st.integers(0, 1000), st.sampled_from([0.0, 0.25, 0.5, 1.0])), max_size=3
        ),
        max_size=4,
    ),
    TOKEN: WORDS,
    TOKENS: st.lists(WORDS, max_size=4),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ark", "ark,t"])
@pytest.mark.parametrize(
    "holder",
    VALUES,
    ids=["list of integers", "integer", "number", "posterior", "word", "list of words"],
)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_round_trip(tmp_path_factory, holder, form, data):
    entries = data.draw(st.dictionaries(KEYS, VALUES[holder], max_size=4))
    path = tmp_path_factory.mktemp("tables") / "table"
    write_all(f"{form}:{path}", holder, entries.items())
    read = read_all(f"ark:{path}", holder)
    assert [key for key, _ in read] == list(entries)
    for (_, value), expected in zip(read, entries.values(), strict=True):
        if holder is INTEGERS:
            assert value.dtype == np.int32 and value.tolist() == expected
        elif holder is REAL:
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-44)
        else:
            assert value == expected


def test_text_of_each_kind(tmp_path):
    """The text that the holders of Kaldi's util/kaldi-holder-inl.h and hmm/posterior.cc write."""
    for holder, value, text in [
        (INTEGERS, [1, -2], "k 1 -2 \n"),
        (INTEGERS, [], "k \n"),
        (INTEGER, 3, "k 3 \n"),
        (REAL, 0.1, "k 0.1 \n"),
        (POSTERIOR, [[(3, 0.25), (4, 0.75)], []], "k [ 3 0.25 4 0.75 ] [ ] \n"),
        (TOKEN, "word", "k word\n"),
        (TOKENS, ["two", "words"], "k two words \n"),
        (VECTOR, np.array([0.5, 1.0]), "k  [ 0.5 1 ]\n"),
        (MATRIX, np.eye(2), "k  [\n  1 0 \n  0 1 ]\n"),
    ]:
        write_all(f"ark,t:{tmp_path}/table", holder, [("k", value)])
        assert (tmp_path / "table").read_text() == text


def test_bytes_of_integers_and_posteriors(tmp_path):
    """In binary every number of a table has its size before it."""
    write_all(f"ark:{tmp_path}/table", INTEGERS, [("k", [1, -2])])
    assert (tmp_path / "table").read_bytes() == (
        b"k \0B\x04\x02\0\0\0\x04\x01\0\0\0\x04\xfe\xff\xff\xff"
    )
    write_all(f"ark:{tmp_path}/table", POSTERIOR, [("k", [[(3, 0.5)]])])
    assert (tmp_path / "table").read_bytes() == (
        b"k \0B\x04\x01\0\0\0\x04\x01\0\0\0\x04\x03\0\0\0\x04\0\0\0\x3f"
    )


# Specifiers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rspecifier", ["ark:{}", "ark,t:{}", "ark,bg:{}", "s,cs,ark:cat {} |"])
def test_archive_specifiers(words, rspecifier):
    assert read_all(rspecifier.format(words), TOKEN) == [
        ("a", "one"),
        ("b", "two"),
        ("c", "three"),
        ("d", "four"),
    ]


def test_standard_input_and_output(run_python, words):
    code = (
        "from nnet.io.tables import *\n"
        "with table_writer('ark,t:-', TOKEN) as out:\n"
        "    for entry in sequential_table('ark:-', TOKEN): out.write(*entry)"
    )
    assert run_python(code, stdin=words.read_bytes()).stdout == words.read_bytes()


@pytest.fixture
def run_python():
    import subprocess
    import sys

    def run(code, stdin):
        return subprocess.run(
            [sys.executable, "-c", code], input=stdin, capture_output=True, check=True
        )

    return run


@pytest.mark.parametrize(
    "specifier", ["ark,scp:{0}/m.ark,{0}/m.scp", "ark,t,scp:{0}/m.ark,{0}/m.scp"]
)
def test_archive_with_script(tmp_path, specifier):
    entries = [(key, np.full((3, 2), i, np.float32)) for i, key in enumerate("xyz")]
    write_all(specifier.format(tmp_path), MATRIX, entries)
    assert sorted(os.listdir(tmp_path)) == ["m.ark", "m.scp"]
    for key, rxfilename in read_script(f"{tmp_path}/m.scp"):
        path, _, offset = rxfilename.rpartition(":")
        with open(path, "rb") as archive:
            archive.seek(int(offset) - 2)
            assert archive.read(2).decode() == key + " "
    for (key, value), (expected_key, expected) in zip(
        read_all(f"scp:{tmp_path}/m.scp", MATRIX), entries, strict=True
    ):
        assert key == expected_key
        np.testing.assert_array_equal(value, expected)
    with random_access_table(f"scp:{tmp_path}/m.scp", MATRIX) as table:
        assert [table[key][0, 0] for key in "zxy"] == [2, 0, 1]
        assert "w" not in table


def test_script_of_files_and_pipes(tmp_path, words):
    (tmp_path / "one").write_text("uno\n")
    script = tmp_path / "script"
    script.write_text(f"a {tmp_path}/one\nb echo dos |\nc {words}:2\n")
    assert read_all(f"scp:{script}", TOKEN) == [("a", "uno"), ("b", "dos"), ("c", "one")]
    assert read_all(f"scp:cat {script} |", TOKEN)[1] == ("b", "dos")
    (tmp_path / "targets").write_text("".join(f"{key} {tmp_path}/to-{key}\n" for key in "ab"))
    write_all(f"scp:{tmp_path}/targets", TOKEN, [("a", "x"), ("b", "y")])
    assert (tmp_path / "to-b").read_text() == "y\n"
    with pytest.raises(NgtrainError, match="no key c"):
        write_all(f"scp:{tmp_path}/targets", TOKEN, [("c", "x")])
    write_all(f"scp,p:{tmp_path}/targets", TOKEN, [("c", "x")])


@pytest.mark.parametrize("holder", [MATRIX, COMPRESSED_MATRIX])
def test_ranges_in_scripts(tmp_path, holder):
    matrix = np.arange(40, dtype=np.float32).reshape(10, 4)
    write_all(f"ark,scp:{tmp_path}/m.ark,{tmp_path}/m.scp", MATRIX, [("m", matrix)])
    line = (tmp_path / "m.scp").read_text().strip()
    script = tmp_path / "ranges.scp"
    for text, expected in [
        ("2:4", matrix[2:5]),
        (":,1:2", matrix[:, 1:3]),
        ("8:12", matrix[8:]),  # as in Kaldi, segments may be a little longer than the features
        ("0:0,3:3", matrix[:1, 3:]),
    ]:
        script.write_text(f"{line}[{text}]\n")
        np.testing.assert_array_equal(read_all(f"scp:{script}", holder)[0][1], expected)
    for text in ["4:2", "0:13", "10:10", "1", "a:b", "0:1,2:4", "0:1,0:1,0:1", ""]:
        script.write_text(f"{line}[{text}]\n")
        with pytest.raises(NgtrainError):
            read_all(f"scp:{script}", holder)


@pytest.mark.parametrize(
    "specifier",
    ["", "file", "ark", "ark,x:file", "scp,ark:f,g", "ark,ark:f", "ark:file ", "t:file"],
)
def test_bad_specifiers(specifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NgtrainError, match="not a rspecifier"):
        sequential_table(specifier, TOKEN)
    with pytest.raises(NgtrainError, match="not a rspecifier"):
        random_access_table(specifier, TOKEN)
    with pytest.raises(NgtrainError, match="not a wspecifier"):
        table_writer(specifier, TOKEN)
    for specifier in ["ark,scp:file", "ark,scp:-,file", "ark,scp:| cat,file"]:
        with pytest.raises(NgtrainError, match="ARCHIVE-FILE"):
            table_writer(specifier, TOKEN)
    assert os.listdir(tmp_path) == []


# Asking for keys ----------------------------------------------------------------------------------


def test_random_access(words):
    with random_access_table(f"ark:{words}", TOKEN) as table:
        assert table["c"] == "three"
        assert table["a"] == "one"
        assert "e" not in table
        with pytest.raises(NgtrainError, match="no key e in ark:"):
            table["e"]


def test_entries_that_nobody_asks_for_are_read_from_standard_input():
    """Their writer would end by SIGPIPE, and with it a pipeline that does not overlook that."""
    reader = (
        "from nnet.io.tables import TOKEN\n"
        "from nnet.io.random_access import random_access_table\n"
        "with random_access_table('ark,s,cs:-', TOKEN) as table: assert KEY in table"
    )
    writer = "awk 'BEGIN { for (n = 0; n < 200000; n++) printf \"k%06d v\\n\", n }'"
    for asked in "'k000000'", "'k199999'", "'x' not":  # the first, the last, and all of them
        program = [sys.executable, "-c", reader.replace("KEY", asked)]
        command = f"{writer} | {shlex.join(program)}"
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True)


def test_once_does_not_keep(words):
    with random_access_table(f"ark,o:{words}", TOKEN) as table:
        assert "b" in table
        assert table["b"] == "two"
        assert "b" not in table
        assert table["a"] == "one"


def test_sorted_and_called_sorted_keeps_one(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_text("a 1\nb 2\nd 3\ne 4\nf 5\n"))
    writer.start()
    with random_access_table(f"ark,s,cs:{path}", TOKEN) as table:
        assert table["b"] == "2"
        assert table["b"] == "2"
        assert "c" not in table
        assert table["d"] == "3"
        assert len(table._kept) == 1
        with pytest.raises(NgtrainError, match="option cs"):
            "a" in table  # noqa: B015
        assert table["f"] == "5"
        assert "g" not in table
    writer.join()


def test_sorted_archive_is_checked(tmp_path):
    (tmp_path / "t").write_text("b 1\na 2\n")
    with (
        random_access_table(f"ark,s:{tmp_path}/t", TOKEN) as table,
        pytest.raises(NgtrainError, match="a comes after b"),
    ):
        "c" in table  # noqa: B015


def test_same_key_twice(tmp_path):
    (tmp_path / "t").write_text("a 1\na 2\n")
    with (
        random_access_table(f"ark:{tmp_path}/t", TOKEN) as table,
        pytest.raises(NgtrainError, match="twice"),
    ):
        "b" in table  # noqa: B015
    with pytest.raises(NgtrainError, match="same key"):
        random_access_table(f"scp:{tmp_path}/t", TOKEN)


def test_mapped_table(tmp_path, words):
    (tmp_path / "utt2spk").write_text("u1 a\nu2 a\nu3 z\n")
    with mapped_table(f"ark:{words}", f"ark:{tmp_path}/utt2spk", TOKEN) as table:
        assert table["u1"] == table["u2"] == "one"
        assert "u3" not in table
        with pytest.raises(NgtrainError, match="no key u4"):
            table["u4"]
    with mapped_table(f"ark:{words}", "", TOKEN) as table:
        assert table["b"] == "two"


# Damage -------------------------------------------------------------------------------------------


def test_every_truncation_is_noticed(tmp_path):
    """Wherever an archive of two entries is cut, except between them, reading it fails."""
    for holder, value in [
        (MATRIX, np.eye(2, dtype=np.float32)),
        (COMPRESSED_MATRIX, COMPRESSED_MATRIX.read(open_compressed(tmp_path))),
        (VECTOR, np.ones(3, np.float32)),
        (INTEGERS, [1, 2, 3]),
        (POSTERIOR, [[(1, 0.5)], [(2, 1.0)]]),
        (REAL, 1.5),
    ]:
        for form in ("ark", "ark,t"):
            path = tmp_path / "whole"
            write_all(f"{form}:{path}", holder, [("key1", value), ("key2", value)])
            whole = path.read_bytes()
            # In text a matrix is complete without the newline after its bracket.
            optional = 1 if form == "ark,t" and whole.endswith(b"]\n") else 0
            for length in range(1, len(whole) - optional):
                if length in (len(whole) // 2, len(whole) // 2 - optional):
                    continue
                path.write_bytes(whole[:length])
                with pytest.raises(NgtrainError, match="whole"):
                    read_all(f"ark:{path}", holder)


def open_compressed(directory):
    path = str(directory / "compressed")
    with table_writer(f"ark:{path}", COMPRESSED_MATRIX) as table:
        table.write("k", COMPRESSED_MATRIX.read(_text_matrix(directory)).astype(np.float32))
    return open_input(path + ":2")


def _text_matrix(directory):
    (directory / "text").write_text(" [ 1 2\n 3 4 ]\n")
    return open_input(str(directory / "text"))


def test_message_names_archive_and_key(tmp_path):
    (tmp_path / "t").write_text("good 1 2 \nbad 1 x \n")
    with pytest.raises(NgtrainError, match=r"/t, key bad: expected integers, found '1 x'"):
        read_all(f"ark:{tmp_path}/t", INTEGERS)


@pytest.mark.parametrize(
    "holder, text",
    [
        (POSTERIOR, "1 2 3"),
        (POSTERIOR, "[ 1 0.5 2 ]"),
        (POSTERIOR, "[ 1 0.5"),
        (POSTERIOR, "[ a 0.5 ]"),
        (INTEGER, "1 2"),
        (INTEGER, "one"),
        (REAL, "1 2"),
        (TOKEN, "two words"),
        (TOKEN, ""),
    ],
)
def test_bad_text(tmp_path, holder, text):
    (tmp_path / "t").write_text(f"k {text}\nl 1\n")
    with pytest.raises(NgtrainError):
        read_all(f"ark:{tmp_path}/t", holder)


def test_a_model_is_no_archive(golden):
    with pytest.raises(NgtrainError, match="not an archive"):
        read_all(f"ark:{golden}/components/affine.raw", MATRIX)
    with pytest.raises(NgtrainError, match="line 1 is not a key"):
        read_all(f"scp:{golden}/components/affine.raw", MATRIX)


def test_permissive_reading(tmp_path, words, caplog):
    script = tmp_path / "script"
    script.write_text(f"a {words}:2\nb /no/such/file\nc {words}:14\n")
    assert read_all(f"scp,p:{script}", TOKEN) == [("a", "one"), ("c", "three")]
    assert "/no/such/file" in caplog.text
    with random_access_table(f"scp,p:{script}", TOKEN) as table:
        assert "a" in table
        assert "b" not in table
    words.write_text("a one\nb two words\nc three\n")
    assert read_all(f"ark,p:{words}", TOKEN) == [("a", "one")]


@pytest.mark.parametrize("options", ["", ",bg"])
def test_failing_pipe(words, options):
    with pytest.raises(NgtrainError, match="status 7"):
        read_all(f"ark{options}:cat {words}; exit 7 |", TOKEN)
    with (
        random_access_table(f"ark:cat {words}; exit 7 |", TOKEN) as table,
        pytest.raises(NgtrainError, match="status 7"),
    ):
        "e" in table  # noqa: B015


def test_missing_file():
    for rspecifier in ("ark:/no/such/file", "scp:/no/such/file", "ark,bg:/no/such/file"):
        with pytest.raises(NgtrainError, match="/no/such/file: No such file"):
            sequential_table(rspecifier, TOKEN)


def test_nothing_is_left_of_a_table_that_was_not_finished(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        table_writer(f"ark,scp:{tmp_path}/a,{tmp_path}/b", TOKEN) as table,
    ):
        table.write("k", "v")
        raise ZeroDivisionError
    with pytest.raises(NgtrainError):
        table_writer(f"ark,scp:{tmp_path}/a,{tmp_path}/no/b", TOKEN)
    assert os.listdir(tmp_path) == []


NO_KEYS = {
    "": "not a key: ''",
    "two words": "not a key: 'two words'",
    " x": "not a key: ' x'",
    "new\nline": r"not a key: 'new\\nline'",
    "a\x1b": r"not a key: 'a\\x1b'",
    "\ufeffa": r"the key \\ufeffa begins with a byte order mark",
}


@pytest.mark.parametrize(("key", "reason"), NO_KEYS.items())
def test_bad_keys(tmp_path, key, reason):
    with (
        pytest.raises(NgtrainError, match=reason),
        table_writer(f"ark:{tmp_path}/t", TOKEN) as table,
    ):
        table.write(key, "v")
    assert os.listdir(tmp_path) == []


# Reading ahead ------------------------------------------------------------------------------------


def test_read_ahead_is_bounded_and_ends():
    made = []

    def items():
        for i in range(1000):
            made.append(i)
            yield i

    before = threading.active_count()
    ahead = read_ahead(items(), depth=2)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.3)
    assert len(made) <= 3 + 2 + 2
    ahead.close()
    assert threading.active_count() == before
    assert list(read_ahead(iter(range(100)))) == list(range(100))


def test_read_ahead_passes_errors_on():
    def items():
        yield 1
        raise NgtrainError("broken")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(NgtrainError, match="broken"):
        next(ahead)


def test_a_command_that_fails_when_all_that_was_asked_for_is_there():
    with pytest.raises(NgtrainError, match="status 3"):  # noqa: SIM117
        with random_access_table("ark:(echo a 1; echo b 2; exit 3) |", INTEGERS) as table:
            assert table["b"].tolist() == [2]


@pytest.mark.parametrize("key", [b"a\0", b"\x1f\x8b", b"a\x7fb"])
def test_what_is_no_key(tmp_path, key):
    (tmp_path / "x").write_bytes(key + b" 1 2\n")
    with pytest.raises(NgtrainError, match="not an archive"):
        read_all(f"ark:{tmp_path}/x", INTEGERS)


def test_a_file_that_a_script_names_is_told_with_its_key(tmp_path):
    (tmp_path / "scp").write_text("utt1 /no/such/file\n")
    with pytest.raises(NgtrainError, match=r"/no/such/file.*\(of the key utt1\)"):
        read_all(f"scp:{tmp_path}/scp", MATRIX)
