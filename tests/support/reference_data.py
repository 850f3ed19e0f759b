#!/usr/bin/env python3
"""The reference data of the tests: all of it beside the checkout, or the part in tests/reference.

The part is laid out as the whole is, but packed: X.xz holds the file X, and X.tar.xz the folder X.
Kaldi's archives of examples follow to the byte from its features and alignments; so they are made,
and compared with the checksums of Kaldi's own.

Run with the folder of the whole, it packs the part anew:  tests/support/reference_data.py ../shared
"""

import fcntl
import hashlib
import io
import lzma
import shutil
import sys
import tarfile
from pathlib import Path

PACKED = Path(__file__).resolve().parent.parent / "reference"

MARK = "unpacked"
"""A file in the folder that is made of tests/reference, once it is complete."""

NUM_UTTERANCES = 150
"""With features in the part: Kaldi's example features are of every third among these."""

COMPONENTS = (
    *("affine", "affine_simple", "affine_online", "block_affine", "conv1d", "dct"),
    *("fixed_affine", "fixed_bias", "fixed_linear", "fixed_scale", "logsoftmax", "maxout"),
    *("normalize", "permute", "pnorm1", "pnorm2", "pnorm3", "power", "relu", "scale", "sigmoid"),
    *("softhinge", "softmax", "splice", "splice_list", "splicemax", "sumgroup", "tanh"),
)
"""Names of golden/components."""

WITHOUT_OUTPUT = "dct", "fixed_bias", "logsoftmax", "permute", "power", "scale", "softhinge"
"""Those whose output is only in the whole."""

FOLDERS = """
    kaldi/data/lang kaldi/data/lang_test kaldi/exp/nnet_ms/info kaldi/exp/nnet_ms/log
    kaldi/exp/tri2/graph kaldi/golden/tree
"""
FILES = """
    fsdd/recordings/5_george_0.wav
    kaldi/data/train/*.scp kaldi/data/train/spk2utt kaldi/data/train/text
    kaldi/data/train/utt2spk kaldi/mfcc/cmvn_train.ark
    kaldi/exp/nnet_ms/*.config kaldi/exp/nnet_ms/*_opts kaldi/exp/nnet_ms/best_wer
    kaldi/exp/nnet_ms/tree
    kaldi/exp/tri2/*_opts kaldi/exp/tri2/tree
    kaldi/exp/tri2_ali/*.gz kaldi/exp/tri2_ali/*_opts kaldi/exp/tri2_ali/final.mat
    kaldi/exp/tri2_ali/final.occs kaldi/exp/tri2_ali/num_jobs kaldi/exp/tri2_ali/phones.txt
    kaldi/exp/tri2_ali/tree
    kaldi/golden/*.head.txt kaldi/golden/feats.ark kaldi/golden/fixed_*.mat
    kaldi/golden/discriminative/combined.degs
    kaldi/golden/ivector/*.dubm kaldi/golden/ivector/final.ubm kaldi/golden/ivector/0.acc.gz
    kaldi/golden/in40.ark kaldi/golden/pdf_ali.txt kaldi/golden/programs/block.*
    kaldi/golden/vec40.vec
"""
LARGE_LATTICES = "phones.txt", "raw.ark.gz"
"""Files of golden/lattices that are only in the whole."""

TRAININGS = "sgd_relu", "online_multisplice"
"""Of golden/training: their models before and after, and what is small."""

CONTEXT = {"left_context": 4, "right_context": 4}


def unpacked(folder: Path) -> Path:
    """Unpack tests/reference into a folder of `folder`, which processes may share."""
    target = folder / "shared"
    with open(folder / "shared.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_part(target):
            shutil.rmtree(target, ignore_errors=True)
            unpack(target)
            (target / MARK).touch()
    return target


def is_part(folder: Path) -> bool:
    """Whether reference data is what unpacked() made, whole or not."""
    return (folder / MARK).exists()


def unpack(target: Path) -> None:
    for path in sorted(path for path in PACKED.rglob("*") if path.is_file()):
        place = target / path.relative_to(PACKED)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".tar.xz"):
            with tarfile.open(path) as archive:
                for member in archive.getmembers():
                    file = place.parent / member.name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(archive.extractfile(member).read())
        elif path.suffix == ".xz":
            place.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, place)
    make_examples(target / "kaldi/golden")


def make_examples(golden: Path) -> None:
    """Make Kaldi's archives of examples as Kaldi did.  Raises ValueError if they differ."""
    from nnet.egs.making import Cut, make_examples
    from nnet.egs.programs import copy_examples
    from nnet.io.tables import INTEGERS, POSTERIOR, sequential_table, table_writer

    posteriors = golden / "posteriors"
    with (
        sequential_table(f"ark:{golden}/pdf_ali.txt", INTEGERS) as alignments,
        table_writer(f"ark:{posteriors}", POSTERIOR) as writer,
    ):
        for key, pdfs in alignments:
            writer.write(key, [[(pdf, 1.0)] for pdf in pdfs.tolist()])
    for name, num_frames in ("egs_1frame.ark", 1), ("egs_8frames.ark", 8):
        cut = Cut(num_frames=num_frames, const_feat_dim=0, **CONTEXT)
        make_examples(f"ark:{golden}/feats.ark", f"ark:{posteriors}", f"ark:{golden}/{name}", cut)
    copy_examples(f"ark:{golden}/egs_8frames.ark", [f"ark:{golden}/egs_frame3.ark"], frame=3)
    posteriors.unlink()
    single = golden / "egs_1frame.ark"
    records = by_key(single.read_bytes())
    keys = (golden / "egs_1frame.keys").read_bytes().split()
    single.write_bytes(b"".join(records[key] for key in keys))
    for line in (golden / "egs.sha256").read_text().splitlines():
        checksum, name = line.split()
        if hashlib.sha256((golden / name).read_bytes()).hexdigest() != checksum:
            raise ValueError(f"{name}, made from features and alignments, is not as Kaldi made it")


def by_key(archive: bytes) -> dict[bytes, bytes]:
    """Single examples, with their keys, by key."""
    end = b"</NnetExample> "
    return {record.split(b" ", 1)[0]: record + end for record in archive.split(end)[:-1]}


# Packing ------------------------------------------------------------------------------------------


def pack(whole: Path) -> None:
    shutil.rmtree(PACKED / "kaldi", ignore_errors=True)
    trainings = [f"kaldi/golden/training/{name}" for name in TRAININGS]
    kinds = "[01].mdl", "*.log", "info.txt", "minibatch", "nnet.config"
    for pattern in [
        *FILES.split(),
        *(f"{training}/{kind}" for training in trainings for kind in kinds),
    ]:
        for path in sorted(whole.glob(pattern)):
            store(str(path.relative_to(whole)), path.read_bytes())
    for name in FOLDERS.split():
        store_folder(name, [path for path in (whole / name).rglob("*") if path.is_file()], whole)
    components = whole / "kaldi/golden/components"
    files = [
        path for path in components.iterdir()
        if path.suffix != ".ark" or path.name.split(".")[0] not in WITHOUT_OUTPUT
    ]  # fmt: skip
    store_folder("kaldi/golden/components", files, whole)
    lattices = (whole / "kaldi/golden/lattices").iterdir()
    files = [path for path in lattices if path.name not in LARGE_LATTICES]
    store_folder("kaldi/golden/lattices", files, whole)
    following = (whole / "kaldi/data/train/feats.scp").read_text().splitlines()[NUM_UTTERANCES]
    key, _, place = following.partition(" ")
    length = int(place.rpartition(":")[2]) - len(key) - 1
    name = "kaldi/mfcc/raw_mfcc_train.1.ark"
    store(name, (whole / name).read_bytes()[:length])
    for name in "kaldi/exp/tri2_ali/final.mdl", "kaldi/exp/tri2/final.mdl":
        transitions, end, _ = (whole / name).read_bytes().partition(b"</TransitionModel> ")
        store(name, transitions + end)
    golden = whole / "kaldi/golden"
    store("kaldi/golden/egs_1frame.keys",
          b"\n".join(by_key((golden / "egs_1frame.ark").read_bytes())))  # fmt: skip
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(golden.glob("egs_*.ark"))]  # fmt: skip
    store("kaldi/golden/egs.sha256", "".join(sums).encode())


def store(name: str, data: bytes) -> None:
    """As it is if it is small or packed already."""
    path = PACKED / name
    if len(data) > 4096 and path.suffix != ".gz":
        path, data = path.with_name(f"{path.name}.xz"), packed(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def store_folder(name: str, files: list[Path], whole: Path) -> None:
    folder = PACKED / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path in sorted(files):
            member = tarfile.TarInfo(str(path.relative_to((whole / name).parent)))
            member.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(member, file)
    folder.with_name(f"{folder.name}.tar.xz").write_bytes(packed(memory.getvalue()))


def packed(data: bytes) -> bytes:
    """By LZMA, which looks at text byte by byte and at numbers as words of four."""
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": lc, "lp": lp}
        for lc, lp in ((3, 0), (0, 2))
    ]
    return min((lzma.compress(data, filters=[way]) for way in filters), key=len)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
