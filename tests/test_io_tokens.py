"""Basic types, vectors and matrices: round trips, Kaldi's bytes, senseless contents."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from submatrix import rows_of

from nnet.errors import NgtrainError
from nnet.io.matrices import CompressedMatrix
from nnet.io.streams import open_input
from nnet.io.tokens import Reader, read_object, write_object

BOTH_FORMS = pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
few = settings(max_examples=50, deadline=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tokens") / "object")


def contents_of(path):
    return Path(path).read_bytes()


def read_bytes(path, contents, parse):
    Path(path).write_bytes(contents)
    return read_object(path, parse)


def round_trip(path, write, parse, binary):
    write_object(path, write, binary)
    return read_object(path, parse)


@BOTH_FORMS
def test_basic_types(path, binary):
    def write(writer):
        writer.token("<Nnet>")
        writer.newline()
        for i in (0, -(1 << 31), (1 << 31) - 1):
            writer.integer(i)
        writer.unsigned((1 << 32) - 1)
        writer.real(0.1)
        writer.double(1e-300)
        writer.boolean(True)
        writer.boolean(False)
        writer.integers([3, -1, 2])
        writer.integers([])
        writer.token("</Nnet>")

    def parse(reader):
        assert reader.binary == binary
        assert reader.peek_token() == "<Nnet>"
        reader.expect("<Nnet>")
        assert [reader.integer() for _ in range(3)] == [0, -(1 << 31), (1 << 31) - 1]
        assert reader.unsigned() == (1 << 32) - 1
        assert reader.real() == pytest.approx(0.1, rel=1e-7)
        assert reader.real() == 1e-300
        assert [reader.boolean(), reader.boolean()] == [True, False]
        assert reader.integers().tolist() == [3, -1, 2]
        assert reader.integers().tolist() == []
        assert reader.peek_token() == "</Nnet>"
        reader.expect("</Nnet>")
        assert reader.peek_token() == ""

    round_trip(path, write, parse, binary)


def test_bytes_of_basic_types(path):
    """The bytes that base/io-funcs-inl.h puts."""

    def write(writer):
        writer.token("<A>")
        writer.integer(-2)
        writer.unsigned(7)
        writer.real(0.5)
        writer.double(-0.5)
        writer.boolean(True)
        writer.integers([1, 2])
        writer.newline()

    write_object(path, write, binary=False)
    assert contents_of(path) == b"<A> -2 7 0.5 -0.5 T [ 1 2 ]\n\n"
    write_object(path, write, binary=True)
    expected = (
        b"\0B<A> \x04\xfe\xff\xff\xff\xfc\x07\0\0\0\x04\0\0\0\x3f"
        b"\x08\0\0\0\0\0\0\xe0\xbfT\x04\x02\0\0\0\x01\0\0\0\x02\0\0\0"
    )
    assert contents_of(path) == expected


@pytest.mark.parametrize(
    "value, text",
    [
        (0.1, "0.1"),
        (1 / 3, "0.3333333"),
        (1e-5, "1e-05"),
        (123456789.0, "1.234568e+08"),
        (1234567.0, "1234567"),
        (-0.0, "-0"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (1e-45, "1.401298e-45"),
    ],
)
def test_text_of_numbers_is_that_of_a_cpp_stream(path, value, text):
    write_object(path, lambda writer: writer.vector(np.array([value], np.float32)), binary=False)
    assert contents_of(path) == f" [ {text} ]\n".encode()
    write_object(path, lambda writer: writer.real(value), binary=False)
    assert contents_of(path) == f"{text} ".encode()


MATRICES = arrays.arrays(
    st.sampled_from([np.float32, np.float64]),
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12).filter(
        lambda shape: not shape[0] > shape[1] == 0  # rows without columns come back as none
    ),
    elements=st.floats(width=32),
)
VECTORS = arrays.arrays(
    st.sampled_from([np.float32, np.float64]), st.integers(0, 30), elements=st.floats(width=32)
)


@few
@given(matrix=MATRICES)
def test_binary_matrices_come_back_bit_for_bit(path, matrix):
    read = round_trip(path, lambda writer: writer.matrix(matrix), Reader.matrix, True)
    assert read.dtype == matrix.dtype and read.shape == matrix.shape
    assert read.tobytes() == matrix.tobytes()


@few
@given(vector=VECTORS)
def test_binary_vectors_come_back_bit_for_bit(path, vector):
    read = round_trip(path, lambda writer: writer.vector(vector), Reader.vector, True)
    assert read.dtype == vector.dtype or vector.size == 0
    assert read.tobytes() == vector.tobytes()


@few
@given(matrix=MATRICES.filter(lambda m: m.size))
def test_text_matrices_come_back_to_seven_digits(path, matrix):
    read = round_trip(path, lambda writer: writer.matrix(matrix), Reader.matrix, False)
    np.testing.assert_allclose(read, matrix, rtol=1e-6, atol=1e-44)
    first = contents_of(path)
    write_object(path, lambda writer: writer.matrix(read), binary=False)
    assert contents_of(path) == first


@few
@given(vector=VECTORS)
def test_text_vectors_come_back_to_seven_digits(path, vector):
    read = round_trip(path, lambda writer: writer.vector(vector), Reader.vector, False)
    np.testing.assert_allclose(read, vector, rtol=1e-6, atol=1e-44)


@BOTH_FORMS
def test_empty_matrix(path, binary):
    empty = np.zeros((0, 0), np.float32)
    assert round_trip(path, lambda w: w.matrix(empty), Reader.matrix, binary).shape == (0, 0)


def test_requested_type(path):
    write_object(path, lambda writer: writer.matrix(np.eye(2)))
    assert read_object(path, Reader.matrix).dtype == np.float64
    assert read_object(path, lambda reader: reader.matrix(np.float32)).dtype == np.float32


def test_what_is_read_can_be_written_to(path):
    write_object(path, lambda writer: writer.matrix(np.eye(2)))
    matrix = read_object(path, Reader.matrix)
    matrix += 1.0
    assert matrix[0, 1] == 1.0


@pytest.mark.parametrize(
    "text, rows",
    [
        (" [\n  1 2 \n  3 4 ]\n", [[1, 2], [3, 4]]),
        ("[ 1 2 ; 3 4 ]", [[1, 2], [3, 4]]),
        ("[ 1 -inf\r\n NaN 1e3 ]\r\n", [[1, -np.inf], [np.nan, 1000]]),
        ("[1 2\n]", [[1, 2]]),
    ],
)
def test_text_that_kaldi_reads(path, text, rows):
    np.testing.assert_array_equal(read_bytes(path, text.encode(), Reader.matrix), rows)


COMPRESSIBLE = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 24), st.integers(1, 5)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@few
@given(matrix=COMPRESSIBLE, layout=st.sampled_from([None, "CM", "CM2", "CM3"]))
def test_compressed_matrices(path, matrix, layout):
    compressed = CompressedMatrix.compress(matrix, layout)
    assert compressed.shape == matrix.shape
    read = round_trip(
        path, lambda writer: writer.compressed_matrix(compressed), Reader.compressed_matrix, True
    )
    assert read == compressed and read.data == compressed.data
    decompressed = read_object(path, Reader.matrix)
    np.testing.assert_array_equal(decompressed, compressed.decompress())
    span = np.ptp(matrix) or 1.0 + abs(matrix.flat[0])
    steps = {"CM": 1 / 63, "CM2": 1 / 65535, "CM3": 1 / 255}[compressed.layout]
    assert np.abs(decompressed - matrix).max() <= 1.01 * span * steps + 1e-3


@few
@given(matrix=COMPRESSIBLE, data=st.data(), layout=st.sampled_from(["CM", "CM2", "CM3"]))
def test_rows_of_compressed_matrices(matrix, data, layout):
    compressed = CompressedMatrix.compress(matrix, layout)
    count = data.draw(st.integers(1, len(matrix)))
    start = data.draw(st.integers(0, len(matrix) - count))
    part = rows_of(compressed, start, count)
    rows = compressed.decompress()[start : start + count]
    if layout == "CM" and count < 8:
        assert part.layout == "CM2"
        assert np.abs(part.decompress() - rows).max() <= (np.ptp(rows) + 1) / 65535
    else:
        assert part.layout == layout
        np.testing.assert_array_equal(part.decompress(), rows)


def test_automatic_layout():
    assert CompressedMatrix.compress(np.ones((9, 2))).layout == "CM"
    assert CompressedMatrix.compress(np.ones((8, 2))).layout == "CM2"
    with pytest.raises(NgtrainError, match="NaN"):
        CompressedMatrix.compress(np.full((3, 3), np.nan))


GIANT = (0x7FFFFFFF).to_bytes(4, "little")
HOSTILE = {
    "nothing": b"",
    "only the header": b"\0B",
    "another header": b"\0C",
    "a token cut short": b"\0BFM",
    "dimensions cut short": b"\0BFM \x04\x02\0",
    "data cut short": b"\0BFM \x04\x02\0\0\0\x04\x02\0\0\0" + b"\0" * 15,
    "negative dimension": b"\0BFM \x04\xff\xff\xff\xff\x04\x02\0\0\0",
    "two negative dimensions": b"\0BFM \x04\xff\xff\xff\xff\x04\xff\xff\xff\xff",
    "giant dimensions": b"\0BFM \x04" + GIANT + b"\x04" + GIANT + b"\0" * 100,
    "giant rows": b"\0BFM \x04" + GIANT + b"\x04\x01\0\0\0" + b"\0" * 100,
    "product that overflows to little": b"\0BFM \x04\0\0\x01\0\x04\x01\0\x01\0" + b"\0" * 100,
    "wrong size marker": b"\0BFM \x08\x02\0\0\0\x04\x02\0\0\0" + b"\0" * 16,
    "a vector": b"\0BFV \x04\x02\0\0\0" + b"\0" * 8,
    "unknown compression": b"\0BCM4 " + b"\0" * 100,
    "compressed header cut short": b"\0BCM \0\0\0",
    "compressed data cut short": b"\0BCM2 " + b"\0" * 8 + b"\x02\0\0\0" * 2 + b"\0" * 7,
    "compressed with negative dimension": b"\0BCM " + b"\0" * 8 + b"\xff\xff\xff\xff\x02\0\0\0",
    "compressed with giant dimensions": b"\0BCM3 " + b"\0" * 8 + GIANT * 2 + b"\0" * 100,
    "binary where text should be": b"FM \x04\x02\0\0\0\x04\x02\0\0\0" + b"\0" * 16,
    "text where binary should be": b"\0B [ 1 2 ]\n",
    "text without end": b" [ 1 2\n 3 4",
    "text with words": b" [ 1 two ]\n",
    "ragged text": b" [ 1 2\n 3 ]\n",
    "something else": b"hello world\n",
    "long without space": b"\0B" + b"x" * 100000,
}


@pytest.mark.parametrize("parse", [Reader.matrix, Reader.compressed_matrix])
@pytest.mark.parametrize("contents", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_matrices(path, contents, parse):
    with pytest.raises(NgtrainError) as caught:
        read_bytes(path, contents, parse)
    message = str(caught.value)
    assert path in message and "\n" not in message and len(message) < len(path) + 200


@pytest.mark.parametrize(
    "contents",
    [
        b"\0BFV \x04\x02\0\0\0" + b"\0" * 7,
        b"\0BFV \x04\xff\xff\xff\xff",
        b"\0BFV \x04" + GIANT,
        b"\0BFM \x04\x02\0\0\0\x04\x02\0\0\0" + b"\0" * 16,
        b" [ 1 2\n 3 4 ]\n",
        b" [ 1 2 ",
        b"[ a ]",
        b"",
    ],
)
def test_hostile_vectors(path, contents):
    with pytest.raises(NgtrainError, match="object"):
        read_bytes(path, contents, Reader.vector)


@pytest.mark.parametrize(
    "contents, parse",
    [
        (b"\0B\x04\x01\0", Reader.integer),
        (b"\0B\x08\x01\0\0\0\0\0\0\0", Reader.integer),
        (b"\0B\x04\x01\0\0\0", Reader.unsigned),
        (b"1.5 ", Reader.integer),
        (b"99999999999 ", Reader.integer),
        (b"-1 ", Reader.unsigned),
        (b"", Reader.integer),
        (b"\0B\x05abcde", Reader.real),
        (b"\0B\x04\0", Reader.real),
        (b"abc ", Reader.real),
        (b"\0B\x01", Reader.boolean),
        (b"X ", Reader.boolean),
        (b"\0B<Token", Reader.token),
        (b"\0B\xff\xfe ", Reader.token),
        (b"\0B", Reader.token),
        (b"<Other> ", lambda reader: reader.expect("<Token>")),
        (b"\0B\x04\xff\xff\xff\xff", Reader.integers),
        (b"\0B\x04" + GIANT, Reader.integers),
        (b"[ 1 x ]", Reader.integers),
        (b"[ 1 99999999999 ]", Reader.integers),
        (b"[ 1 2", Reader.integers),
    ],
)
def test_hostile_basic_types(path, contents, parse):
    with pytest.raises(NgtrainError, match="object"):
        read_bytes(path, contents, parse)


@few
@given(contents=st.binary(max_size=60), binary=st.booleans(), data=st.data())
def test_noise_never_raises_anything_else(path, contents, binary, data):
    names = ["matrix", "compressed_matrix", "vector", "integers", "token", "integer", "real"]
    parse = getattr(Reader, data.draw(st.sampled_from(names)))
    mark = data.draw(st.sampled_from([b"FM ", b"FV ", b"CM ", b"CM2 ", b"[ ", b"\x04", b""]))
    try:
        read_bytes(path, (b"\0B" if binary else b"") + mark + contents, parse)
    except NgtrainError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["affine", "splice_list", "fixed_scale", "block_affine"])
def test_golden_parameters_as_text(golden, path, name):
    """Matrices and vectors inside of Kaldi's models, from binary to Kaldi's text."""
    binary = (golden / "components" / f"{name}.raw").read_bytes()
    text = (golden / "components" / f"{name}.raw.txt").read_bytes()
    objects = 0
    for mark, parse, write in [
        (b"FM ", Reader.matrix, "matrix"),
        (b"FV ", Reader.vector, "vector"),
    ]:
        for start in [i for i in range(len(binary)) if binary.startswith(mark, i)]:
            value = read_bytes(path, b"\0B" + binary[start:], parse)
            write_object(path, lambda w, v=value, write=write: getattr(w, write)(v), binary=False)
            assert contents_of(path) in text
            objects += 1
    assert objects > 0 or name == "splice_list"


def test_kaldi_io_is_fenced():
    """Importing and using the package changes neither the environment nor standard error."""
    code = (
        "import os, sys, io; before = dict(os.environ); popen = os.popen\n"
        "from nnet.io.matrices import kaldi_io; module = kaldi_io()\n"
        "assert dict(os.environ) == before and os.popen is popen\n"
        "assert 'kaldi_io' in sys.modules"
    )
    environment = {name: os.environ[name] for name in os.environ if name != "KALDI_ROOT"}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_message_names_file_and_position(path):
    Path(path).write_bytes(b"<A> <B> ")
    with open_input(path) as stream:
        reader = Reader(stream, False)
        reader.expect("<A>")
        with pytest.raises(NgtrainError, match=r"object: expected <C>, found '<B>' \(at byte 8\)"):
            reader.expect("<C>")
