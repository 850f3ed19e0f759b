"""Examples in HDF5 files: what went in comes out, in order or shuffled, or in one clear line."""

import os
import subprocess
import sys

import numpy as np
import pytest
from archives import keys_of
from minibatches_joined import joined

from nnet.egs import store as example_store
from nnet.egs.minibatches import Minibatch, read_minibatches
from nnet.egs.record import EXAMPLE, NnetExample
from nnet.egs.store import _FOOTER, FORMAT, ExampleStore, Footer, read_store_shuffled
from nnet.egs.tables import ExampleWriter, read_blocks
from nnet.errors import NgtrainError
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import table_writer

h5py = pytest.importorskip("h5py")

ARCHIVES = ["golden/egs_1frame.ark", "golden/egs_8frames.ark", "exp/nnet_ms/combine.egs"]


def copy(source, target):
    with ExampleWriter(target) as writer:
        return sum(map(writer.write, read_blocks(source)))


def write_various(path, count=60):
    """Examples of many layouts, in an order that mixes them: labels of all kinds, iVectors, ..."""
    rng = np.random.default_rng(0)
    with table_writer(f"ark:{path}", EXAMPLE) as writer:
        for i in range(count):
            num_frames, left, spk_dim = rng.integers(1, 4), rng.integers(0, 3), rng.integers(0, 3)
            labels = [[(int(rng.integers(9)), 1.0)] for _ in range(num_frames)]
            if i % 4 == 0:
                labels[0] = [(3, 0.25)] * int(rng.integers(0, 3))
            rows = rng.standard_normal((left + num_frames + 4, 5)).astype(np.float32)
            matrix = CompressedMatrix.compress(rows, ["CM", "CM2", "CM3"][i % 3])
            spk_info = rng.standard_normal(spk_dim).astype(np.float32)
            example = NnetExample(labels, matrix, int(left), spk_info)
            writer.write(f"utt{'x' * (i % 5)}-{i}", example)


def same(a: Minibatch, b: Minibatch) -> bool:
    fields = ("frames", "rows", "pdfs", "weights")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


@pytest.fixture
def store(golden, tmp_path):
    """The examples of golden/egs_8frames.ark."""
    copy(f"ark:{golden}/egs_8frames.ark", f"h5:{tmp_path}/egs.h5")
    return tmp_path / "egs.h5"


# There and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_come_back_as_they_were(reference, tmp_path, name):
    source = reference(f"kaldi/{name}")
    count = copy(f"ark:{source}", f"h5:{tmp_path}/h5")
    assert copy(f"h5:{tmp_path}/h5", f"ark:{tmp_path}/ark") == count > 200
    assert (tmp_path / "ark").read_bytes() == source.read_bytes()
    with h5py.File(tmp_path / "h5") as file:
        assert file["records"].chunks
        assert file["records"][()].tobytes() == source.read_bytes()


@pytest.mark.parametrize("group", [1, 7, 256])
def test_examples_of_many_layouts(tmp_path, monkeypatch, group):
    monkeypatch.setattr(example_store, "_TOGETHER", group)
    write_various(tmp_path / "in")
    copy(f"ark:{tmp_path}/in", f"h5:{tmp_path}/h5")
    copy(f"h5:{tmp_path}/h5", f"ark:{tmp_path}/out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
    copy(f"h5:{tmp_path}/h5", f"h5:{tmp_path}/again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "h5").read_bytes()


def test_no_examples(tmp_path):
    with ExampleWriter(f"h5:{tmp_path}/h5"):
        pass
    assert list(read_blocks(f"h5:{tmp_path}/h5")) == []
    rng = np.random.default_rng(0)
    assert list(read_minibatches(f"h5:{tmp_path}/h5", 9, 0, 0, buffer_size=0, rng=rng)) == []


def test_minibatches_are_those_of_the_archive(golden, store):
    options = {"frame": "random", "rng": np.random.default_rng(1)}
    ours = list(read_minibatches(f"h5:{store}", 64, 4, 4, **options))
    options = {"frame": "random", "rng": np.random.default_rng(1)}
    [whole] = read_minibatches(f"h5:{store}", 1000, 4, 4, **options)
    assert same(joined(ours), whole)
    pairs = zip(
        read_minibatches(f"h5:{store}", 64, 4, 4, frame=2),
        read_minibatches(f"ark:{golden}/egs_8frames.ark", 64, 4, 4, frame=2),
        strict=True,
    )
    assert all(same(a, b) for a, b in pairs)


@pytest.mark.slow
def test_programs_take_a_store_where_they_take_an_archive(golden, run_program, tmp_path):
    def run(name, *arguments):
        run_program(name, *(str(a).replace("DIR", str(tmp_path)) for a in arguments))

    archive, model = golden / "egs_1frame.ark", golden / "training" / "sgd_relu" / "0.mdl"
    run("nnet-copy-egs", f"ark:{archive}", "h5:DIR/egs.h5")
    for kind, egs in ("ark", f"ark:{archive}"), ("h5", "h5:DIR/egs.h5"):
        run("nnet-shuffle-egs", "--srand=3", egs, f"{kind}:DIR/shuffled.{kind}")
        run("nnet-subset-egs", "--n=99", f"{kind}:DIR/shuffled.{kind}", f"{kind}:DIR/few.{kind}")
        assert len(set(keys_of(read_blocks(f"{kind}:{tmp_path}/few.{kind}")))) == 99
        run("nnet-copy-egs", f"{kind}:DIR/shuffled.{kind}", f"ark:DIR/shuffled.from_{kind}")
        run("nnet-relabel-egs", f"ark:{golden}/pdf_ali.txt", egs, f"{kind}:DIR/new.{kind}")
        run("nnet-copy-egs", f"{kind}:DIR/new.{kind}", f"ark:DIR/new.from_{kind}")
        run("nnet-train-simple", "--minibatch-size=128", model, egs, f"DIR/1.{kind}.mdl")
    for name in "shuffled.from", "new.from":
        kinds = [(tmp_path / f"{name}_{kind}").read_bytes() for kind in ("ark", "h5")]
        assert kinds[0] == kinds[1]
    assert (tmp_path / "1.ark.mdl").read_bytes() == (tmp_path / "1.h5.mdl").read_bytes()


@pytest.mark.slow
def test_training_in_shuffled_order(golden, run_program, tmp_path):
    model = golden / "training" / "sgd_relu" / "0.mdl"
    run_program("nnet-copy-egs", f"ark:{golden}/egs_1frame.ark", f"h5:{tmp_path}/egs.h5")

    def train(srand):
        options = [f"--srand={srand}", "--shuffle-buffer-size=600", "--minibatch-size=64"]
        run_program("nnet-train-simple", *options, model, f"h5:{tmp_path}/egs.h5", tmp_path / "1")
        return (tmp_path / "1").read_bytes()

    assert train(1) == train(1) != train(2)


def test_the_library_for_hdf5_is_loaded_only_for_writing(store):
    program = (
        "import sys; from nnet.egs.minibatches import read_minibatches\n"
        f"sum(map(len, read_minibatches('h5:{store}', 64, 4, 4, frame=0)))\n"
        "sys.exit('h5py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool_size", [0, 1, 100, 1000])
def test_shuffling_keeps_every_example(store, monkeypatch, pool_size):
    monkeypatch.setattr(example_store, "_GROUP", 20)
    source = keys_of(read_blocks(f"h5:{store}"))

    def shuffle(seed):
        return keys_of(read_store_shuffled(str(store), pool_size, np.random.default_rng(seed)))

    one = shuffle(1)
    assert sorted(one) == sorted(source)
    assert one == shuffle(1)
    assert shuffle(2) != one != source
    place = {key: i for i, key in enumerate(source)}
    away = np.abs([place[key] - i for i, key in enumerate(one)])
    assert away.mean() > len(source) / 5  # a third, if all orders are equally likely


def test_a_pool_of_all_makes_all_orders_equally_likely(tmp_path, monkeypatch):
    monkeypatch.setattr(example_store, "_GROUP", 2)
    write_various(tmp_path / "in", 3)
    copy(f"ark:{tmp_path}/in", f"h5:{tmp_path}/h5")
    rng = np.random.default_rng(0)
    orders = [tuple(keys_of(read_store_shuffled(f"{tmp_path}/h5", 0, rng))) for _ in range(300)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 25


# What is wrong ------------------------------------------------------------------------------------


def test_names_that_are_no_files(tmp_path):
    for name in "", "-", "cat x |", "| cat":
        with pytest.raises(NgtrainError, match="expected h5:FILE"):
            list(read_blocks(f"h5:{name}"))
        with pytest.raises(NgtrainError, match="expected h5:FILE"):
            ExampleWriter(f"h5:{name}")
    with pytest.raises(NgtrainError, match=r"cannot open .*/none: No such file"):
        list(read_blocks(f"h5:{tmp_path}/none"))
    with pytest.raises(NgtrainError, match=r"cannot write .*/none/x: No such file"):
        ExampleWriter(f"h5:{tmp_path}/none/x")
    with pytest.raises(NgtrainError, match=f"cannot write {tmp_path}: it is not a regular file"):
        ExampleWriter(f"h5:{tmp_path}")
    with pytest.raises(NgtrainError, match="not a regular file"):
        ExampleWriter("h5:/dev/null")


def test_nothing_is_left_of_what_failed(golden, tmp_path):
    data = (golden / "egs_1frame.ark").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    (tmp_path / "out").mkdir()
    with pytest.raises(NgtrainError, match="truncated"):
        copy(f"ark:{tmp_path}/cut", f"h5:{tmp_path}/out/egs.h5")
    assert os.listdir(tmp_path / "out") == []


def test_a_full_disk(golden, environment, tmp_path):
    """What the library for HDF5 would make of it is a crash at the end of the program."""
    (tmp_path / "out").mkdir()
    copying = f"nnet-copy-egs ark:{golden}/egs_1frame.ark h5:{tmp_path}/out/egs.h5"
    command = ["bash", "-c", f"ulimit -f 100; {copying}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.endswith(f"cannot write {tmp_path}/out/egs.h5: File too large")
    assert os.listdir(tmp_path / "out") == []


def test_links_are_followed(golden, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "egs.h5").symlink_to(tmp_path / "disk" / "egs.h5")
    copy(f"ark:{golden}/egs_1frame.ark", f"h5:{tmp_path}/egs.h5")
    assert os.listdir(tmp_path / "disk") == ["egs.h5"]


def fails(path, reason):
    with pytest.raises(NgtrainError, match=rf"{path}: {reason}") as raised:
        for _ in read_minibatches(f"h5:{path}", 64, 4, 4, frame=0):
            pass
    assert "\n" not in str(raised.value)


def test_files_of_something_else(golden, tmp_path):
    fails(golden / "egs_1frame.ark", "no HDF5 file")
    with h5py.File(tmp_path / "other", "w") as file:
        file["records"] = np.zeros(500, np.uint8)
    fails(tmp_path / "other", "an HDF5 file without the footer of examples")


def test_truncated_files(store):
    data = store.read_bytes()
    for size in 0, 100, len(data) // 2, len(data) - 1:
        store.write_bytes(data[:size])
        fails(store, "no HDF5 file" if size == 0 else ".*truncated")


def index_with(**changes):
    """An index in which fields of the second example are changed."""

    def spoil(file):
        index = file["index"][()]
        for name, value in changes.items():
            index[name][1] = value
        file["index"][()] = index

    return spoil


def layout_with(**changes):
    def spoil(file):
        layouts = file["layouts"][()]
        for name, value in changes.items():
            layouts[name][0] = value
        file["layouts"][()] = layouts

    return spoil


def shift(file):
    """The sizes of the first examples do add up, but they are wrong."""
    index = file["index"][()]
    index["key_size"][0] += 1
    index["size"][:2] += [1, -1]
    index["key_size"][1] -= 1
    file["index"][()] = index


def zeros(file):
    file["records"][1000:5000] = 0


def chunks_with(offset):
    def spoil(file):
        file["chunks"][0] = offset

    return spoil


@pytest.fixture
def spoiled(store, monkeypatch):
    """A function that changes a store and its footer; the checksum counts as right."""
    monkeypatch.setattr(ExampleStore, "_check_sum", lambda self: None)
    data = store.read_bytes()
    footer = Footer(*_FOOTER.unpack(data[-_FOOTER.size :])[: len(Footer._fields)])

    def change(spoil=lambda file: None, **fields):
        with h5py.File(store, "r+") as file:
            spoil(file)
        data = store.read_bytes()
        assert len(data) == footer.size
        store.write_bytes(data + _FOOTER.pack(*footer._replace(**fields), 0, FORMAT))
        return store

    return change


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (index_with(size=-5), "do not add up"),
        (index_with(size=1 << 30), "do not add up"),
        (index_with(key_size=-1), "do not add up"),
        (index_with(layout=77), "layouts that it does not have"),
        (index_with(layout=-1), "layouts that it does not have"),
        (shift, "not of the layouts"),
        (zeros, "not of the layouts"),
        (layout_with(num_rows=1 << 30), "impossible Layout"),
        (layout_with(num_cols=-1), "impossible Layout"),
        (layout_with(num_frames=0), "impossible Layout"),
        (layout_with(left_context=99), "impossible Layout"),
        (layout_with(spk_dim=1 << 30), "impossible Layout"),
        (layout_with(matrix=b"CM4"), "impossible Layout"),
        (layout_with(num_frames=2), "do not add up"),
        (layout_with(left_context=3), "not of the layouts"),
        (chunks_with(-1), "not where they could be"),
        (chunks_with(1 << 60), "not where they could be"),
    ],
)
def test_damaged_files(spoiled, spoil, reason):
    fails(spoiled(spoil), f"damaged.*{reason}")


@pytest.mark.parametrize(
    ("footer", "reason"),
    [
        ({"num_examples": 5}, "do not add up"),
        ({"num_examples": 1 << 50}, "/index is said to have"),
        ({"num_layouts": 1 << 62}, "/layouts is said to have"),
        ({"index": 1 << 62}, "/index is said to have"),
        ({"num_records": 1 << 50}, "impossible Footer"),
        ({"num_records": 5}, "do not add up"),
        ({"num_records": -1}, "impossible Footer"),
        ({"chunk_size": 0}, "impossible Footer"),
        ({"chunk_size": 1}, "impossible Footer"),
        ({"chunk_size": 1 << 62}, "impossible Footer"),
        ({"num_chunks": 1 << 62}, "impossible Footer"),
    ],
)
def test_damaged_footers(spoiled, footer, reason):
    fails(spoiled(**footer), f"damaged.*{reason}")


def test_whatever_is_changed_but_records_has_another_checksum(store):
    """The library for HDF5 would not see that, or never end: it is not asked."""
    data = store.read_bytes()
    for place in [*range(9, 1000, 37), data.index(b"EAHD") + 44, len(data) - 40]:
        store.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        fails(store, "damaged: ")


def test_other_tools_read_what_is_written_and_take_the_footer_away(store):
    with h5py.File(store, "r+") as file:
        records = file["records"][()].tobytes()
        file.attrs["format"] = b"x" * 60000
    assert b"<NnetExample>" in records
    fails(store, "an HDF5 file without the footer of examples")


@pytest.mark.slow
@pytest.mark.parametrize("with_checksum", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_give_examples_or_an_error(store, seed, with_checksum):
    """Without the checksum, as if it had been put right."""
    rng = np.random.default_rng(seed)
    data = bytearray(store.read_bytes())
    places = rng.integers(0, len(data), 50), rng.integers(len(data) - 300, len(data), 2)
    for place in np.concatenate(places).tolist():
        data[place] ^= 1 << int(rng.integers(8))
    store.write_bytes(data)
    program = (
        "import sys; from nnet.errors import NgtrainError; from nnet.egs.minibatches import *\n"
        "from nnet.egs.store import ExampleStore\n"
        f"{with_checksum} or setattr(ExampleStore, '_check_sum', lambda self: None)\n"
        "try: sum(map(len, read_minibatches(sys.argv[1], 64, 4, 4, frame=0)))\n"
        "except NgtrainError: pass"
    )
    command = [sys.executable, "-c", program, f"h5:{store}"]
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr.decode()[-500:]
