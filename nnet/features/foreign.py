"""Features in the formats of HTK and Sphinx, as values of tables.

Source: ReadHtk() and WriteHtk() of Kaldi's matrix/kaldi-matrix.cc, SphinxMatrixHolder of its
util/kaldi-holder-inl.h; parameter kinds from the HTK book, section 5.10.
"""

import struct

import numpy as np

from nnet.errors import NgtrainError
from nnet.io.tables import FLOAT_MATRIX
from nnet.io.tokens import LARGEST_ARRAY, Holder, Reader, Writer

_HTK_HEADER = struct.Struct(">iihH")
"""Frames, frame shift in 100 ns, bytes of a frame, kind of parameters."""
_KINDS = {"mfcc": 0o6, "fbank": 0o7, "plp": 0o13}
_WITH_ENERGY, _WITH_C0 = 0o100, 0o20000
_COMPRESSED, _CHECKSUM, _VECTOR_QUANTIZED = 0o2000, 0o10000, 0o40000
_BASE_KIND = 0o77
_NO_FEATURES = {0: "waveforms", 5: "integer reflection coefficients", 10: "discrete symbols"}

_SPHINX_SIZE = struct.Struct(">i")
_SPHINX_DIM = 13


def _read_htk(reader: Reader) -> np.ndarray:
    """Read features (T, D) float32."""
    header = _HTK_HEADER.unpack(reader.stream.read_exact(_HTK_HEADER.size))
    num_frames, shift, frame_size, kind = header
    if num_frames < 0 or shift <= 0 or frame_size <= 0 or frame_size % 4:
        raise reader.fail(f"not features of HTK: a header of {', '.join(map(str, header))}")
    if kind & (_COMPRESSED | _VECTOR_QUANTIZED) or kind & _BASE_KIND in _NO_FEATURES:
        what = _NO_FEATURES.get(kind & _BASE_KIND, "compressed or quantized features")
        raise reader.fail(f"{what} of HTK are not read")
    features = _read_floats(reader, num_frames, frame_size // 4)
    if kind & _CHECKSUM:
        reader.stream.read_exact(2)
    return features


def _read_sphinx(reader: Reader) -> np.ndarray:
    """Read features (T, 13) float32."""
    (size,) = _SPHINX_SIZE.unpack(reader.stream.read_exact(_SPHINX_SIZE.size))
    if size < 0 or size % _SPHINX_DIM:
        raise reader.fail(f"not features of Sphinx: {size} numbers, not {_SPHINX_DIM} a frame")
    return _read_floats(reader, size // _SPHINX_DIM, _SPHINX_DIM)


def _read_floats(reader: Reader, *shape: int) -> np.ndarray:
    num_bytes = 4 * shape[0] * shape[1]
    if num_bytes > LARGEST_ARRAY:
        raise reader.fail(f"{shape[0]} frames of {shape[1]} numbers are too many")
    data = np.frombuffer(reader.stream.read_exact(num_bytes), ">f4")
    return data.reshape(shape).astype(np.float32)


def form_of(format_name: str, kind: str, use_energy: bool) -> Holder:
    """Return the form in which tables store features of a kind, "mfcc", "fbank" or "plp".

    The files of HTK say, as Kaldi's do, that the frame shift is 10 ms.

    Args:
        format_name: "kaldi" or "htk".
        use_energy: whether one of the dimensions is the energy.
    """
    if format_name == "kaldi":
        return FLOAT_MATRIX
    number = _KINDS[kind] | (_WITH_ENERGY if use_energy else _WITH_C0)

    def write(writer: Writer, features: np.ndarray) -> None:
        num_frames, dim = features.shape
        writer.raw(_HTK_HEADER.pack(num_frames, 100_000, 4 * dim, number))
        writer.raw(features.astype(">f4").tobytes())

    return Holder(_read_htk, write, has_binary_form=False)


def _not_written(writer: Writer, features: np.ndarray) -> None:
    raise NgtrainError("features are not written in this format")


HTK = Holder(_read_htk, _not_written, has_binary_form=False)
SPHINX = Holder(_read_sphinx, _not_written, has_binary_form=False)
