"""Directories of examples: what is damaged in them is found, and utils/validate_egs_dir.py says all
of it at once."""

import shutil
import zlib

import pytest

from nnet.drivers.egs_dir import check_archive, training_archive
from nnet.egs.programs import copy_examples

INFO = {
    "num_frames": 2200,
    "num_archives": 3,
    "frames_per_eg": 8,
    "egs_per_archive": 94,
    "left_context": 4,
    "right_context": 4,
    "ivector_dim": 0,
}


def damaged_archives(egs_dir, numbers, thorough=False):
    """By number, what check_archive() finds wrong with archives."""
    problems = {n: check_archive(training_archive(egs_dir, n), thorough)[1] for n in numbers}
    return {n: "; ".join(found) for n, found in problems.items() if found}


def make_egs_dir(path, golden, shared, kind):
    (path / "info/archives").mkdir(parents=True)
    for name, value in INFO.items():
        (path / "info" / name).write_text(f"{value}\n")
    (path / "info/egs_format").write_text(f"{kind}\n")
    shutil.copy(shared / "kaldi/exp/tri2_ali/tree", path)
    archives = [f"{kind}:{path}/egs.{n}.{kind}" for n in (1, 2, 3)]
    subsets = [f"ark:{path}/{name}" for name in ("combine.egs", "train_diagnostic.egs")]
    info_dir = f"{path}/info/archives"
    copy_examples(f"ark:{golden}/egs_8frames.ark", archives, info_dir=info_dir)
    for name in *subsets, f"ark:{path}/valid_diagnostic.egs":
        copy_examples(f"ark:{golden}/egs_1frame.ark", [name], info_dir=info_dir)


@pytest.fixture(params=["ark", "h5"])
def kind(request):
    return request.param


@pytest.fixture
def egs_dir(golden, shared, tmp_path, kind):
    path = tmp_path / "egs"
    make_egs_dir(path, golden, shared, kind)
    return path


@pytest.fixture
def validate(run_program, egs_dir):
    """Returns the exit status and the lines that it says."""

    def run(*options):
        result = run_program("validate_egs_dir.py", *options, egs_dir, check=False)
        said = result.stderr.decode().replace(f"{egs_dir}/", "").splitlines()
        return result.returncode, [line.partition(": ")[2] for line in said]

    return run


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_value(path):
    """Change a bit of the input of an example, where nothing but a checksum can tell."""
    data = bytearray(path.read_bytes())
    data[data.index(b"<InputFrames> ") + 500] ^= 1
    path.write_bytes(data)


def test_archive_info(egs_dir, golden, kind, run_program):
    """What is said is true, and the same whether it was gathered in writing or in reading."""
    archive = egs_dir / f"egs.2.{kind}"
    said = (egs_dir / "info/archives" / archive.name).read_text()
    assert run_program("nnet-egs-info", f"{kind}:{archive}").stdout.decode() == said
    info = dict(line.split() for line in said.splitlines())
    copy_examples(f"{kind}:{archive}", [f"ark:{egs_dir}/copy"])
    assert info == {
        "num-examples": "94",
        "num-frames": info["num-frames"],
        "frames-per-eg": "1,2,3,4,5,6,7,8",
        "left-context": "4",
        "right-context": "4",
        "input-dim": "40",
        "ivector-dim": "0",
        "largest-pdf": info["largest-pdf"],
        "crc32": f"{zlib.crc32((egs_dir / 'copy').read_bytes()):08x}",
        "file-size": str(archive.stat().st_size),
    }
    others = [egs_dir / "info/archives" / f"egs.{n}.{kind}" for n in (1, 3)]
    counts = [dict(map(str.split, path.read_text().splitlines())) for path in others]
    assert int(info["num-frames"]) + sum(int(count["num-frames"]) for count in counts) == 2093


def test_good(validate, egs_dir):
    good = (0, [f"Successfully validated directory of examples {egs_dir}"])
    assert validate() == good
    assert validate("--thorough=false") == good
    assert damaged_archives(egs_dir, [1, 2, 3]) == {}
    assert damaged_archives(egs_dir, [1, 2, 3], thorough=True) == {}


def test_says_all_at_once(validate, egs_dir, kind, golden):
    cut(egs_dir / f"egs.1.{kind}")
    spoil_value(egs_dir / f"egs.2.{kind}")
    (egs_dir / f"egs.3.{kind}").rename(egs_dir / f"egs.4.{kind}")
    (egs_dir / "combine.egs").write_bytes(b"")
    copy_examples(
        f"ark:{golden}/egs_8frames.ark", [f"ark:{egs_dir}/valid_diagnostic.egs"], left_context=3
    )
    (egs_dir / "info/num_frames").write_text("1\n")
    (egs_dir / "info/frames_per_eg").write_text("many\n")
    (egs_dir / "info/egs_per_archive").unlink()
    status, said = validate()
    assert status == 1
    text = "\n".join(said)
    for expected in (
        "info/frames_per_eg: expected a number, found 'many'",
        "no such file: info/egs_per_archive",
        f"error: egs.4.{kind}: it is left over, as info/num_archives is 3",
        f"error: egs.3.{kind}: No such file or directory",
        "error: combine.egs: it is empty",
        "error: valid_diagnostic.egs: left-context is 3, but 4 by info/left_context",
        "error: valid_diagnostic.egs: examples of 1,2,3,4,5,6,7,8 frames, of at most 1 expected",
        "error: valid_diagnostic.egs: num-examples is 283, and was 1280 when it was made",
        "error: info/num_frames: fewer than there are",
        f"error: egs.1.{kind}: file-size is ",
        f"error: egs.1.{kind}: ERROR (nnet-egs-info",
        f"error: egs.2.{kind}: crc32 is ",
    ):
        assert expected in text, text
    assert not [line for line in said if "train_diagnostic" in line]


def test_damaged_archives(egs_dir, kind):
    names = {n: egs_dir / f"egs.{n}.{kind}" for n in (1, 2, 3)}
    size = names[1].stat().st_size
    cut(names[1])
    spoil_value(names[2])
    assert damaged_archives(egs_dir, [1, 2, 3]) == {
        1: f"{names[1]}: file-size is {size - 1000}, and was {size} when it was made"
    }
    found = damaged_archives(egs_dir, [1, 2, 3], thorough=True)
    assert found.keys() == {1, 2}
    assert found[2].startswith(f"{names[2]}: crc32 is ")
    names[3].unlink()
    assert damaged_archives(egs_dir, [3]) == {3: f"{names[3]}: No such file or directory"}


def test_of_kaldis_making(validate, egs_dir, kind):
    """Without checksums it says so, and finds what shows by itself."""
    shutil.rmtree(egs_dir / "info/archives")
    (egs_dir / "info/ivector_dim").unlink()
    status, said = validate()
    assert status == 0
    assert said[0] == (
        "warning: no counts and checksums in info/archives for 6 of 6 archives, such as "
        f"egs.1.{kind}: only damage that shows by itself was found"
    )
    spoil_value(egs_dir / f"egs.2.{kind}")
    assert validate()[0] == 0
    cut(egs_dir / f"egs.1.{kind}")
    status, said = validate()
    assert status == 1
    assert said[1].startswith(f"error: egs.1.{kind}: ERROR (nnet-egs-info")
    assert len(said) == 2
    assert damaged_archives(egs_dir, [1, 2, 3]) == {}
    assert damaged_archives(egs_dir, [1, 2, 3], thorough=True).keys() == {1}


def test_labels_beyond_the_tree(validate, egs_dir, kind):
    (egs_dir / "tree").write_text("ContextDependency 1 0 ToPdf CE 5 EndContextDependency ")
    status, said = validate()
    assert status == 1
    assert said[0] == f"error: egs.1.{kind}: a label of 126, but the tree has 6 pdf-ids"
