"""Kinds of files, told by their first bytes: for messages, and for nnet-file-info.

The names in angle brackets are those that Kaldi's objects begin with; the rest are the signatures
of other formats, most of which users meet because a download failed or a file is still compressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

HEAD_SIZE = 1024
"""Bytes that are enough to tell a kind."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: what it is, as in "this is ...".
        remedy: what to do when it is met in the place of another, with {} for the file's name.
        is_foreign: whether no reader of this project reads it as it stands.
        form: how what follows is laid out, where nnet-file-info looks further: the name of one of
            its functions.
        part: what it is where something else comes before it in the file, if that is not the name.
    """

    name: str
    remedy: str = ""
    is_foreign: bool = False
    form: str = ""
    part: str = ""

    def as_part(self) -> FileKind:
        """Return the kind that it is where something else comes before it in the file."""
        return replace(self, name=self.part) if self.part else self

    def of(self, file: str) -> str:
        """Describe a file of this kind, with the remedy."""
        return self.name + (f": {self.remedy.format(file)}" if self.remedy else "")


EMPTY = FileKind("an empty file")


def _foreign(name: str, remedy: str = "", form: str = "") -> FileKind:
    return FileKind(name, remedy, True, form)


def _compressed(by: str, unpack: str) -> FileKind:
    return _foreign(f"compressed by {by}", f"read it as '{unpack} -c {{}} |'", "compressed")


def _recording(name: str) -> FileKind:
    return _foreign(name, "read it as 'ffmpeg -v error -i {} -f wav - |'")


_FOREIGN: dict[bytes, FileKind] = {
    rb"\x1f\x8b": _compressed("gzip", "gunzip"),
    rb"BZh[1-9]1AY&SY": _compressed("bzip2", "bunzip2"),
    rb"\xfd7zXZ\0": _compressed("xz", "xz -d"),
    rb"\x28\xb5\x2f\xfd": _compressed("zstd", "zstd -d"),
    rb"\x89HDF\r\n\x1a\n": _foreign("an HDF5 file", "examples are read as 'h5:{}'", "hdf5"),
    rb"(?s:PK\x03\x04.*?/(data\.pkl|version|byteorder))": _foreign("a PyTorch checkpoint"),
    rb"(?s:PK\x03\x04.*?\.npy)": _foreign("a NumPy archive (npz)"),
    rb"PK\x03\x04": _foreign("a zip archive", "unpack it"),
    rb"\x93NUMPY": _foreign("a NumPy array (npy)"),
    rb"\x80\x02\x8a\nl\xfc\x9cF\xf9 j": _foreign("a PyTorch checkpoint"),
    rb"\x80[\x02-\x05][\x95}\])(cX\x8c]": _foreign("a Python pickle, which is never read"),
    rb"\s*<(?i:!doctype html|html)": _foreign("a web page, as of a download that failed"),
    rb"\s*<\?xml": _foreign("an XML file"),
    rb"version https://git-lfs": _foreign("a pointer of Git LFS", "run 'git lfs pull'"),
    rb"(?s:.{257}ustar)": _foreign("a tar archive", "unpack it"),
    rb"%PDF-": _foreign("a PDF document"),
    rb"\x7fELF": _foreign("a program"),
    rb"#!AMR": _recording("an AMR recording"),
    rb"#!": _foreign("a script"),
    rb"\s*\{\s*\"": _foreign("a JSON file"),
    rb"\xff\xfe|\xfe\xff": _foreign("text in UTF-16", "convert it to UTF-8 with iconv"),
    rb"OggS\0": _recording("an Ogg recording"),
    rb"ID3[\2-\4]|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]": _recording("an MP3 recording"),
    rb"(?s:\0\0..ftyp)": _recording("an MPEG-4 recording (AAC, ALAC)"),
    rb"\x30\x26\xb2\x75": _recording("a Windows Media recording"),
    rb"\x1aE\xdf\xa3": _recording("a Matroska or WebM recording"),
    rb"(?s:RIFF.{4}AVI )": _recording("a film (AVI)"),
    rb"(?s:wvpk.{4}[\x02-\x10]\x04)": _recording("a WavPack recording"),
    rb"(?s:MAC .[\x0e\x0f])": _recording("a Monkey's Audio recording"),
    rb"ajkg[\1-\3]": _foreign("compressed by shorten", "read it as 'shorten -x {} - |'"),
}
"""Kinds by a regular expression that the first bytes match."""

_OBJECTS: dict[bytes, FileKind] = {
    rb"RIFF|RIFX|RF64|BW64": FileKind("a WAV recording", form="recording"),
    rb"fLaC": FileKind("a FLAC recording", form="recording"),
    rb"NIST_1A": FileKind("a SPHERE recording", form="recording"),
    rb"(?s:\xd6\xfd\xb2\x7e.{4}\w+.{4}(compact)?lattice)": FileKind("a lattice", form="transducer"),
    rb"\xd6\xfd\xb2\x7e": FileKind("a transducer (FST)", form="transducer"),
    rb"\x74\xfb\xb2\x7e": FileKind("a symbol table of OpenFst in binary form"),
    rb"<TransitionModel>": FileKind("a transition model", form="model"),
    rb"<Nnet>": FileKind(
        "a network without its transition model", form="network", part="a neural network's model"
    ),
    rb"<Nnet3>": FileKind("a network of nnet3, which is another format than nnet2"),
    rb"<DIMENSION>": FileKind("a Gaussian mixture model"),
    rb"<DiagGMM": FileKind("a Gaussian mixture"),
    rb"<FullGMM": FileKind("a Gaussian mixture with full covariances"),
    rb"<IvectorExtractor>": FileKind("an i-vector extractor"),
    rb"<LDAACCS>": FileKind("statistics for LDA"),
    rb"ContextDependency": FileKind("a decision tree", form="tree"),
    rb"<Topology>": FileKind("an HMM topology", form="topology"),
    rb"<NnetExample>": FileKind("an example to train on", form="example"),
    rb"<DiscriminativeNnetExample>": FileKind("an example for discriminative training"),
    rb"<Nnet3(Chain)?Eg>": FileKind("an example of nnet3, which is another format than nnet2"),
    rb"CM[23]? ": FileKind("a compressed matrix", form="matrix"),
    rb"[FD]M ": FileKind("a matrix", form="matrix"),
    rb"[FD]V ": FileKind("a vector", form="vector"),
    rb"[FD]P ": FileKind("a symmetric matrix"),
}
_BINARY: dict[bytes, FileKind] = {
    # Frames of one class with weight 1, as in posteriors made of alignments.
    rb"(?s:\x04.{4}\x04\x01\0\0\0\x04.{4}\x04\0\0\x80\x3f)": FileKind(
        "a posterior", form="posterior"
    ),
    rb"\x04": FileKind("a list of integers, as of an alignment", form="integers"),
}
_TEXT: dict[bytes, FileKind] = {
    rb"[ \t]*\[ \d+ [\d.e+-]+ (\d+ [\d.e+-]+ )*\] ": FileKind("a posterior", form="posterior"),
    rb"[ \t]*\[[ \t]*\n": FileKind("a matrix", form="matrix"),
    rb"[ \t]*\[[-+.\dadefin \t]+\]?": FileKind("a vector", form="vector"),
    rb"[ \t]*\[": FileKind("a matrix", form="matrix"),
}
_LINES: dict[bytes, FileKind] = {
    rb"\s*\\data\\": FileKind("a language model in the ARPA format"),
    rb"(#.*\n|\s)*--[\w-]+=": FileKind("options for --config", form="lines"),
    rb"(#.*\n|\s)*\w*Component\w* ": FileKind("a config for nnet-init", form="lines"),
    rb"\S+[ \t]+(\S+:\d+|\S.*\||\S+\.(wav|sph|flac|ark|mat))[ \t]*\n": FileKind(
        "a script file, for scp:", form="lines"
    ),
    rb"\S+[ \t]+-?\d+[ \t]*\n": FileKind("a table of numbers, such as symbols", form="lines"),
    rb"\S+([ \t]+-?\d+)+[ \t]*(\n|$)": FileKind("lists of integers as text", form="lines"),
}


def kind_of(head: bytes) -> FileKind | None:
    """Tell a file's kind by its first bytes (HEAD_SIZE, or all there are); None if it is unknown.

    A file of keys and objects is an archive of the first one's kind.
    """
    if not head:
        return EMPTY
    return _match(_FOREIGN, head) or kind_of_object(head) or _archive(head) or _lines(head)


def kind_of_object(head: bytes) -> FileKind | None:
    """Tell the kind of one of Kaldi's objects, with or without the mark of binary form."""
    if head.startswith(b"\0B"):
        return _match(_OBJECTS | _BINARY, head[2:])
    return _match(_OBJECTS | _TEXT, head)


def _archive(head: bytes) -> FileKind | None:
    key = re.match(rb"[^\s\0]+[ \t]", head)
    of = kind_of_object(head[key.end() :]) if key else None
    return FileKind(f"an archive; its first entry is {of.name}", form="archive") if of else None


def _lines(head: bytes) -> FileKind | None:
    text = head.decode("utf-8", "replace")
    strange = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    if "\0" in text or 10 * strange > len(text):
        return None
    return _match(_LINES, head) or FileKind("text", form="lines")


def _match(kinds: dict[bytes, FileKind], head: bytes) -> FileKind | None:
    return next((kind for pattern, kind in kinds.items() if re.match(pattern, head)), None)
