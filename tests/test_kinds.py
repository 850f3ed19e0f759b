"""Files are called what they are: in the errors of readers, and by nnet-file-info."""

import bz2
import gzip
import lzma
import pickle
import random
import re
import wave
import zipfile

import numpy as np
import pytest
import soundfile

from nnet.decoding.fst import ArrayFst
from nnet.decoding.lexicon import usual_topology
from nnet.egs.programs import copy_examples
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import monophone_tree
from nnet.io.kinds import kind_of
from nnet.io.tables import INTEGERS, MATRIX, POSTERIOR, VECTOR, table_writer
from nnet.io.tokens import write_object
from nnet.model.network import Network
from nnet.report.file_info import describe

SHORTEN = (
    b"NIST_1A\n   1024\nsample_count -i 8000\nsample_coding -s26 pcm,embedded-shorten-v2.00\n"
    b"end_head\n"
).ljust(1024)
PAGE = b"<!DOCTYPE html>\n<html><body>404 not found</body></html>\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, by a short name of the kind."""
    folder = tmp_path_factory.mktemp("files")
    topology = usual_topology([2, 3], [1])
    tree = monophone_tree([[1], [2], [3]], {p: topology.num_pdf_classes(p) for p in (1, 2, 3)})
    transitions = TransitionModel.from_tree(tree, topology)
    network = Network.from_config(
        ["AffineComponent input-dim=4 output-dim=11 learning-rate=0.1", "SoftmaxComponent dim=11"],
        np.random.default_rng(0),
    )

    def model(writer, rest):
        transitions.write(writer)
        rest(writer)

    def gaussians(writer):
        writer.token("<DIMENSION>")
        writer.integer(39)
        writer.token("<NUMPDFS>")
        writer.integer(11)

    def acoustic(writer):
        network.write(writer)
        writer.vector(np.ones(11, np.float32))

    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    for binary in True, False:
        form = "" if binary else ".txt"
        objects = {
            "tree": tree.write,
            "topo": topology.write,
            "network": network.write,
            "model": lambda writer: model(writer, acoustic),
            "gmm": lambda writer: model(writer, gaussians),
            "transitions": transitions.write,
            "matrix": lambda writer: writer.matrix(matrix),
            "vector": lambda writer: writer.vector(matrix[0]),
        }
        for name, write in objects.items():
            write_object(f"{folder}/{name}{form}", write, binary)
        tables = {
            "feats": (MATRIX, matrix),
            "vectors": (VECTOR, matrix[0]),
            "ali": (INTEGERS, [5, 6, 7]),
            "post": (POSTERIOR, [[(5, 1.0)], [(6, 1.0)]]),
        }
        for name, (holder, value) in tables.items():
            with table_writer(f"ark{'' if binary else ',t'}:{folder}/{name}{form}", holder) as out:
                for key in "a", "b":
                    out.write(key, value)
    ArrayFst(0, np.zeros(2, np.float32), np.zeros(3, np.int64), np.zeros(0, [
        ("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")
    ])).save(f"{folder}/fst")  # fmt: skip
    feats = (folder / "feats").read_bytes()
    for name, data in {
        "feats.gz": gzip.compress(feats), "feats.bz2": bz2.compress(feats),
        "feats.xz": lzma.compress(feats), "page": PAGE, "empty": b"", "pickle": pickle.dumps([1]),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100), "numpy": b"\x93NUMPY\x01\0" + bytes(100),
        "feats.scp": b"a x.ark:12\nb x.ark:99\n", "words.txt": b"<eps> 0\nyes 1\n",
        "text": b"utt1 hello there\n", "noise": random.Random(0).randbytes(5000),
        "utf16": "hello".encode("utf-16"), "lfs": b"version https://git-lfs.github.com/spec/v1\n",
        "gmm_of_nnet3": (folder / "transitions").read_bytes() + b"<Nnet3> ",
    }.items():  # fmt: skip
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "torch", "w") as archive:
        archive.writestr("model/data.pkl", b"")
    np.savez(folder / "arrays.npz", x=matrix)
    with wave.open(f"{folder}/wav", "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(bytes(1000))
    return folder


KINDS = {
    "tree": ["a decision tree", "num-pdfs 11", "context-width 1"],
    "topo": ["an HMM topology", "num-phones 3"],
    "network": ["a network without its transition model", "input-dim 4", "parameter-dim 55"],
    "model": ["a transition model", "an acoustic model of nnet2", "num-pdfs 11", "num-priors 11"],
    "gmm": ["a transition model", "a model of a GMM system", "feature-dim 39"],
    "transitions": ["a transition model", "nothing follows it"],
    "gmm_of_nnet3": ["a transition model", "nnet3"],
    "matrix": ["a matrix", "shape 3 by 4"],
    "vector": ["a vector", "shape 4"],
    "feats": ["its first entry is a matrix", "entries 2", "keys a to b", "rows 6", "columns 4"],
    "vectors": ["its first entry is a vector", "entries 2", "elements 8, at most 4"],
    "ali": ["list of integers, as of an alignment", "entries 2", "integers 6, at most 3"],
    "post": ["its first entry is a posterior", "entries 2", "frames 4, at most 2"],
    "ali.txt": ["lists of integers as text", "lines 2"],
    "fst": ["a transducer", "num-states 2", "num-arcs 0"],
    "feats.gz": ["compressed by gzip", "its first entry is a matrix", "rows 6"],
    "feats.bz2": ["compressed by bzip2", "its first entry is a matrix", "rows 6"],
    "feats.xz": ["compressed by xz", "its first entry is a matrix", "rows 6"],
    "page": ["a web page"],
    "empty": ["an empty file"],
    "pickle": ["a Python pickle, which is never read"],
    "torch": ["a PyTorch checkpoint"],
    "arrays.npz": ["a NumPy archive (npz)"],
    "numpy": ["a NumPy array"],
    "utf16": ["text in UTF-16"],
    "lfs": ["a pointer of Git LFS"],
    "feats.scp": ["a script file, for scp:", "lines 2", "first a x.ark:12", "last b x.ark:99"],
    "words.txt": ["a table of numbers", "lines 2"],
    "text": ["text", "lines 1"],
    "wav": ["a WAV recording", "sample-rate 8000"],
}


@pytest.mark.parametrize(
    "file_format, subtype, kind, coding",
    [
        ("WAV", "PCM_16", "a WAV recording", "Signed 16 bit PCM"),
        ("WAV", "FLOAT", "a WAV recording", "32 bit float"),
        ("RF64", "PCM_24", "a WAV recording", "Signed 24 bit PCM"),
        ("FLAC", "PCM_16", "a FLAC recording", "Signed 16 bit PCM"),
        ("NIST", "ULAW", "a SPHERE recording", "U-Law"),
    ],
)
def test_what_is_in_a_recording(tmp_path, file_format, subtype, kind, coding):
    """By its header alone, also where the file is compressed and its samples are many."""
    path = f"{tmp_path}/recording"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (300_000, 2))
    soundfile.write(path, noise, 16000, subtype, format=file_format)
    said = [kind, "sample-rate 16000", "channels 2", f"coding {coding}", "duration 18.75 s"]
    assert list(describe(path)) == said
    assert list(describe(f"gzip -c {path} |")) == ["compressed by gzip", *said]
    assert list(describe(f"head -c 2000000 {path} |")) == said


def test_recordings_that_do_not_say_how_long_they_are_or_are_compressed(tmp_path):
    path = tmp_path / "recording"
    soundfile.write(path, np.zeros(100), 8000, format="WAV")
    contents = bytearray(path.read_bytes())
    place = contents.index(b"data") + 4
    contents[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(contents)
    assert list(describe(str(path)))[-1] == "duration unknown"
    path.write_bytes(SHORTEN)
    with pytest.raises(NgtrainError, match=r"shorten: use `sph2pipe -f wav -p .*/recording \|`"):
        list(describe(str(path)))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_in_a_file(files, name):
    said = "\n".join(describe(str(files / name)))
    assert said.startswith(kind_of((files / name).read_bytes()[:1024]).name)
    for expected in KINDS[name]:
        assert expected in said
    if (files / f"{name}.txt").exists() and name != "ali":  # the same in text form
        assert "\n".join(describe(str(files / f"{name}.txt"))) == said


def test_the_program(run_program, files):
    good = run_program("nnet-file-info", files / "tree", files / "feats.gz").stdout.decode()
    assert f"{files}/tree: a decision tree\n  num-pdfs 11\n" in good
    assert f"{files}/feats.gz: compressed by gzip\n  an archive" in good
    bad = run_program(
        "nnet-file-info", files / "noise", "/no/such/file", files / "tree", check=False
    )
    assert bad.returncode == 1 and b"a decision tree" in bad.stdout
    said = bad.stderr.decode()
    assert "noise: binary data of no kind that is known here" in said
    assert "/no/such/file: No such file" in said and "Traceback" not in said


def test_damaged_files_and_bombs(files, tmp_path, monkeypatch):
    """They end in the one error; what is endless is cut off."""
    for name in "feats", "model", "tree", "fst", "feats.gz", "feats.xz":
        data = (files / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) - 9])
        with pytest.raises(NgtrainError, match=name):
            list(describe(f"{tmp_path}/{name}"))
    monkeypatch.setattr("nnet.report.file_info.LIMIT_BYTES", 1 << 20)
    monkeypatch.setattr("nnet.report.file_info.MOST_BYTES", 1 << 19)
    (tmp_path / "bomb").write_bytes(gzip.compress(b"key [ 1 " + b"1 " * (1 << 22)))
    with pytest.raises(NgtrainError, match="bomb: more than 1048576 bytes or 60 s"):
        list(describe(f"{tmp_path}/bomb"))
    (tmp_path / "lines").write_bytes(b"some text\n" * (1 << 18))
    assert re.search(r"lines \d+, in the first \d+ bytes", "\n".join(describe(f"{tmp_path}/lines")))


GZIP = "this is compressed by gzip: read it as 'gunzip -c {files}/feats.gz |'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("nnet-am-info {files}/gmm", "expected <Nnet>, found .*: this is a Gaussian mixture model"),
        ("nnet-am-info {files}/gmm.txt", "this is a Gaussian mixture model"),
        ("nnet-am-info {files}/gmm_of_nnet3", "this is a network of nnet3"),
        ("nnet-am-info {files}/tree", "this is a decision tree"),
        ("nnet-am-info {files}/network", "this is a network without its transition model"),
        ("gmm-info {files}/model", "found '<Nnet>'.*: this is a neural network's model"),
        ("nnet-am-info {files}/fst", "this is a transducer"),
        ("nnet-am-info {files}/empty", "this is an empty file"),
        ("nnet-am-info {files}/torch", "this is a PyTorch checkpoint"),
        ("nnet-am-info {files}/page", "this is a web page"),
        ("nnet-am-info {files}/lfs", "a pointer of Git LFS: run 'git lfs pull'"),
        ("nnet-am-info {files}", "Is a directory"),
        ("nnet-am-info {files}/feats.gz", GZIP),
        ("tree-info {files}/model", "this is a transition model"),
        ("raw-nnet-info {files}/pickle", "this is a Python pickle, which is never read"),
        ("copy-feats ark:{files}/feats.gz ark:/dev/null", GZIP),
        ("copy-feats scp:{files}/feats.gz ark:/dev/null", GZIP),
        ("copy-feats ark:{files}/feats.scp ark:/dev/null", "this is a script file, for scp:"),
        (
            "copy-feats scp:{files}/feats ark:/dev/null",
            "an archive; its first entry is a matrix",
        ),
        ("copy-feats ark:{files}/vectors ark:/dev/null", "key a: .*this is a vector"),
        ("copy-feats ark:{files}/wav ark:/dev/null", "this is a WAV recording"),
        ("copy-feats ark:{files}/hdf5 ark:/dev/null", "an HDF5 file: examples are read as 'h5:"),
        ("copy-feats scp:{files}/page ark:/dev/null", "this is a web page"),
        ("copy-int-vector ark:{files}/feats ark:/dev/null", "key a: .*this is a matrix"),
        ("copy-matrix {files}/model /dev/null", "this is a transition model"),
        ("copy-matrix {files}/arrays.npz /dev/null", "this is a NumPy archive"),
        ("nnet-copy-egs ark:{files}/feats ark:/dev/null", "this is .*a matrix"),
        ("nnet-copy-egs ark:{files}/feats.gz ark:/dev/null", GZIP),
        ("nnet-copy-egs ark:{files}/hdf5 ark:/dev/null", "an HDF5 file: examples are read as 'h5:"),
    ],
)
def test_errors_say_what_it_is(run_program, files, command, reason):
    program, *arguments = command.format(files=files).split()
    result = run_program(program, *arguments, check=False)
    assert result.returncode != 0
    *_, last = result.stderr.decode().splitlines()
    assert re.search(reason.format(files=files), last), last


def test_examples(tmp_path, golden):
    said = "\n".join(describe(str(golden / "egs_8frames.ark")))
    assert "its first entry is an example to train on" in said
    assert "entries 283" in said and "input-dim 40, context 4 and 4, frames 8: 240 entries" in said
    copy_examples(f"ark:{golden}/egs_8frames.ark", [f"h5:{tmp_path}/egs.h5"])
    assert list(describe(f"{tmp_path}/egs.h5"))[1:] == ["examples 283"]
