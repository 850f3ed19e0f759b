"""Examples: Kaldi's archives byte for byte, as objects and in blocks; their parts; minibatches."""

import io

import numpy as np
import pytest
from archives import keys_of, read_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from minibatches_joined import joined
from submatrix import rows_of

from nnet.egs import tables as example_tables
from nnet.egs.minibatches import read_minibatches
from nnet.egs.record import EXAMPLE, NnetExample
from nnet.egs.tables import ExampleWriter, Pool, random_subset, read_blocks, shuffled
from nnet.errors import NgtrainError
from nnet.io.matrices import CompressedMatrix
from nnet.io.streams import InputStream
from nnet.io.tables import table_writer

ARCHIVES = [
    "golden/egs_1frame.ark",
    "golden/egs_8frames.ark",
    "golden/egs_frame3.ark",
    "exp/nnet_ms/combine.egs",
    "exp/nnet_ms/valid_diagnostic.egs",
    "exp/nnet_ms/train_diagnostic.egs",
]


def copy_blocks(rspecifier, wspecifier, change=lambda block: block):
    with ExampleWriter(wspecifier) as writer:
        return sum(writer.write(change(block)) for block in read_blocks(rspecifier))


def write_examples(path, examples):
    with table_writer(f"ark:{path}", EXAMPLE) as writer:
        for key, example in examples:
            writer.write(key, example)


def example(num_frames=1, left=2, right=3, dim=5, layout="CM", labels=None, spk_dim=0, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((left + num_frames + right, dim)).astype(np.float32)
    if labels is None:
        labels = [[(int(pdf), 1.0)] for pdf in rng.integers(0, 100, num_frames)]
    spk_info = rng.standard_normal(spk_dim).astype(np.float32)
    return NnetExample(labels, CompressedMatrix.compress(frames, layout), left, spk_info)


def soft_labels(num_frames, seed):
    rng = np.random.default_rng(seed)
    return [
        [(int(rng.integers(0, 9)), float(np.float32(rng.random()))) for _ in range(n)]
        for n in rng.integers(0, 4, num_frames)
    ]


def various_examples():
    """Every kind of labels, matrix and speaker information, in an order that mixes them."""
    kinds = [
        {"num_frames": 1},
        {"num_frames": 3, "spk_dim": 2, "dim": 4},
        {"layout": "CM2", "labels": [[(7, 0.25), (8, 0.75)]]},
        {"layout": "CM3", "num_frames": 2},
        {"num_frames": 4, "labels": soft_labels(4, 1)},
        {"labels": [[(3, 1.0)]], "spk_dim": 3},
        {"labels": [[]]},
    ]
    return [
        (f"utt{'x' * (i % 5)}-{i}", example(**kinds[(i * i + i // 3) % len(kinds)], seed=i))
        for i in range(60)
    ]


# Archives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHIVES)
def test_kaldi_archives_come_out_as_they_went_in(reference, tmp_path, name):
    source = reference(f"kaldi/{name}")
    count = copy_blocks(f"ark:{source}", f"ark:{tmp_path}/blocks")
    assert (tmp_path / "blocks").read_bytes() == source.read_bytes()
    examples = read_examples(f"ark:{source}")
    assert len(examples) == count > 200
    write_examples(tmp_path / "objects", examples)
    assert (tmp_path / "objects").read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_text_is_kaldis_and_reads_back(golden, tmp_path):
    copy_blocks(f"ark:{golden}/egs_1frame.ark", f"ark,t:{tmp_path}/text")
    head = (golden / "egs_1frame.head.txt").read_text()
    assert (tmp_path / "text").read_text().startswith(head)
    from_text = read_examples(f"ark:{tmp_path}/text")
    original = read_examples(f"ark:{golden}/egs_1frame.ark")
    assert [key for key, _ in from_text] == [key for key, _ in original]
    for (_, a), (_, b) in zip(from_text, original, strict=True):
        assert a.labels == b.labels and a.left_context == b.left_context
        spread = np.ptp(b.input_frames.decompress(), axis=0).max()
        difference = a.input_frames.decompress() - b.input_frames.decompress()
        assert np.abs(difference).max() < 0.02 * spread


def test_the_old_form_of_labels(tmp_path):
    text = "utt-0 <NnetExample> <Labels> 2 5 0.5 6 0.5 <InputFrames>  [\n  1 2\n  3 4 ]\n"
    text += "<LeftContext> 1 <SpkInfo>  [ 9 ]\n</NnetExample> "
    (tmp_path / "old").write_text(text)
    [(key, old)] = read_examples(f"ark:{tmp_path}/old")
    assert key == "utt-0"
    assert old.labels == [[(5, 0.5), (6, 0.5)]]
    assert (old.left_context, old.right_context) == (1, 0)
    np.testing.assert_allclose(old.input_frames.decompress(), [[1, 2], [3, 4]], atol=1e-4)
    assert old.spk_info.tolist() == [9.0]
    copy_blocks(f"ark:{tmp_path}/old", f"ark:{tmp_path}/new")
    assert b"<Lab2>" in (tmp_path / "new").read_bytes()


@pytest.mark.parametrize("read_size", [100, 1000, 5000, 1 << 20])
def test_blocks_do_not_depend_on_where_reading_stops(tmp_path, monkeypatch, read_size):
    monkeypatch.setattr(example_tables, "READ_SIZE", read_size)
    write_examples(tmp_path / "in", various_examples())
    assert copy_blocks(f"ark:{tmp_path}/in", f"ark:{tmp_path}/out") == 60
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_most_of_an_archive_is_read_in_large_blocks(golden):
    sizes = [len(block) for block in read_blocks(f"ark:{golden}/egs_1frame.ark")]
    assert sizes == [1, 1279]


def test_binary_and_text_in_one_archive(tmp_path):
    examples = various_examples()
    write_examples(tmp_path / "binary", examples)
    copy_blocks(f"ark:{tmp_path}/binary", f"ark,t:{tmp_path}/text")
    mixed = f"ark:cat {tmp_path}/binary {tmp_path}/text {tmp_path}/binary |"
    assert keys_of(read_blocks(mixed)) == 3 * [key.encode() for key, _ in examples]


@pytest.mark.parametrize("options", ["ark,bg", "ark,s,cs", "ark,p", "scp"])
def test_other_specifiers(tmp_path, options):
    write_examples(tmp_path / "in", various_examples())
    wspecifier = f"ark,scp:{tmp_path}/ark,{tmp_path}/scp"
    assert copy_blocks(f"ark:{tmp_path}/in", wspecifier) == 60
    name = "scp" if options == "scp" else "ark"
    assert copy_blocks(f"{options}:{tmp_path}/{name}", f"ark:{tmp_path}/out") == 60
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_truncated_archive_names_the_key_and_leaves_nothing(golden, tmp_path):
    data = (golden / "egs_1frame.ark").read_bytes()
    keys = [key for key, _ in read_examples(f"ark:{golden}/egs_1frame.ark")]
    (tmp_path / "short").write_bytes(data[: len(data) // 2])
    last = next(k for k in reversed(keys) if k.encode() + b" \0B" in data[: len(data) // 2])
    with pytest.raises(NgtrainError, match=rf"short, key {last}: truncated"):
        copy_blocks(f"ark:{tmp_path}/short", f"ark:{tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_contents_that_contradict_themselves(tmp_path):
    good = example(labels=[[(7, 0.25), (8, 0.75)]])
    write_examples(tmp_path / "good", [("a-0", good), ("a-1", good)])
    data = (tmp_path / "good").read_bytes()
    second = data.index(b"a-1 ")
    number = data.index(b"\4\2\0\0\0", second)  # the number of labels of the frame
    (tmp_path / "bad").write_bytes(data[: number + 1] + b"\1" + data[number + 2 :])
    blocks = list(read_blocks(f"ark:{tmp_path}/bad"))
    with pytest.raises(NgtrainError, match="bad, key a-1: wrong number of labels"):
        for block in blocks:
            for group in block.by_layout():
                group.labels()
    too_short = NnetExample([[(1, 1.0)]] * 9, good.input_frames, 2)
    write_examples(tmp_path / "short", [("a-0", too_short)])
    with pytest.raises(NgtrainError, match="9 labelled frames and left context 2 with 6 rows"):
        list(read_blocks(f"ark:{tmp_path}/short"))


# Parts of examples --------------------------------------------------------------------------------


def test_one_frame_of_several_is_kaldis(golden, tmp_path):
    copy_blocks(
        f"ark:{golden}/egs_8frames.ark",
        f"ark:{tmp_path}/out",
        lambda block: block.select_frame(3).sub_examples(),
    )
    assert (tmp_path / "out").read_bytes() == (golden / "egs_frame3.ark").read_bytes()


def sub_example(whole, start, num_frames, left, right):
    """Some of the labelled frames, with all of the context or less of it."""
    left = whole.left_context if left is None else min(left, whole.left_context)
    right = whole.right_context if right is None else min(right, whole.right_context)
    labels = whole.labels[start:][:num_frames]
    rows = rows_of(
        whole.input_frames, whole.left_context + start - left, left + len(labels) + right
    )
    return NnetExample(labels, rows, left, whole.spk_info)


@settings(max_examples=15, deadline=None)
@given(
    frame=st.integers(-1, 3),
    left=st.integers(0, 4) | st.none(),
    right=st.integers(0, 4) | st.none(),
)
def test_parts_of_a_block_are_those_of_its_examples(tmp_path_factory, frame, left, right):
    path = tmp_path_factory.mktemp("parts")
    examples = various_examples()
    write_examples(path / "in", examples)

    def part(block):
        if frame >= 0:
            block = block.select_frame(frame)
        return block.sub_examples(left, right)

    copy_blocks(f"ark:{path}/in", f"ark:{path}/blocks", part)
    if frame >= 0:
        parts = [
            (key, sub_example(e, frame, 1, left, right))
            for key, e in examples
            if frame < e.num_frames
        ]
    else:
        parts = [(key, sub_example(e, 0, None, left, right)) for key, e in examples]
    write_examples(path / "objects", parts)
    assert (path / "blocks").read_bytes() == (path / "objects").read_bytes()


def test_a_frame_for_each_example(tmp_path):
    examples = [(f"u-{i}", example(num_frames=4, seed=i)) for i in range(50)]
    write_examples(tmp_path / "in", examples)
    frames = np.random.default_rng(0).integers(0, 4, 50)
    place = 0

    def part(block):
        nonlocal place
        place += len(block)
        return block.select_frame(frames[place - len(block) : place]).sub_examples()

    copy_blocks(f"ark:{tmp_path}/in", f"ark:{tmp_path}/out", part)
    for (_, got), (_, whole), frame in zip(
        read_examples(f"ark:{tmp_path}/out"), examples, frames, strict=True
    ):
        assert got.labels == [whole.labels[frame]]
        rows = slice(frame, frame + 6)
        np.testing.assert_allclose(
            got.input_frames.decompress(), whole.input_frames.decompress()[rows], atol=2e-4
        )


# Order --------------------------------------------------------------------------------------------


def numbered_blocks(tmp_path, count, read_size, monkeypatch):
    monkeypatch.setattr(example_tables, "READ_SIZE", read_size)
    write_examples(tmp_path / "in", [(f"u-{i}", example(seed=i)) for i in range(count)])
    return read_blocks(f"ark:{tmp_path}/in")


def numbers(blocks):
    return [int(key[2:]) for key in keys_of(blocks)]


@pytest.mark.parametrize("size", [1, 3, 20, 500])
def test_a_pool_displaces_as_kaldis_buffer_does(tmp_path, monkeypatch, size):
    """Kaldi's loop over examples, nnet-shuffle-egs.cc, in the place of one step per block."""
    rng = np.random.default_rng(size)
    pool, expected, buffer = Pool(size), [], [None] * size
    got, number = [], 0
    for block in numbered_blocks(tmp_path, 200, 3000, monkeypatch):
        places = rng.integers(0, size, len(block))
        for place in places.tolist():
            if buffer[place] is not None:
                expected.append(buffer[place])
            buffer[place] = number
            number += 1
        got.append(pool.put(block, places))
    assert numbers(got) == expected
    assert numbers([pool.contents()]) == [n for n in buffer if n is not None]


@pytest.mark.parametrize("buffer_size", [0, 30])
def test_shuffling_keeps_every_example_and_its_contents(tmp_path, monkeypatch, buffer_size):
    blocks = numbered_blocks(tmp_path, 200, 3000, monkeypatch)
    with ExampleWriter(f"ark:{tmp_path}/out") as writer:
        for block in shuffled(blocks, buffer_size, np.random.default_rng(1)):
            writer.write(block)
    original = dict(read_examples(f"ark:{tmp_path}/in"))
    got = read_examples(f"ark:{tmp_path}/out")
    assert sorted(original) == sorted(key for key, _ in got)
    assert list(original) != [key for key, _ in got]
    for key, e in got:
        assert e.labels == original[key].labels
        assert e.input_frames == original[key].input_frames
    if buffer_size:
        order = [int(key[2:]) for key, _ in got]
        assert all(number <= place + buffer_size for place, number in enumerate(order))


def test_a_full_shuffle_makes_all_orders_equally_likely(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    blocks = list(numbered_blocks(tmp_path, 3, 1 << 20, monkeypatch))
    orders = [tuple(numbers(shuffled(blocks, 0, rng))) for _ in range(600)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert min(counts) > 60


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 10, 50, 80])
def test_a_subset_is_uniform(tmp_path, monkeypatch, size):
    rng = np.random.default_rng(size)
    blocks = list(numbered_blocks(tmp_path, 60, 2000, monkeypatch))
    chosen = np.zeros(60)
    for _ in range(200):
        subset, num_read = random_subset(blocks, size, rng)
        assert num_read == 60
        which = numbers([subset])
        assert len(set(which)) == len(which) == min(size, 60)
        chosen[which] += 1
    expected = 200 * min(size, 60) / 60
    spread = 4.5 * np.sqrt(expected * (1 - min(size, 60) / 60))
    assert np.abs(chosen - expected).max() <= spread


# Minibatches --------------------------------------------------------------------------------------


def test_minibatches_hold_what_the_examples_do(golden):
    minibatches = list(read_minibatches(f"ark:{golden}/egs_1frame.ark", 100, 2, 3))
    assert [len(m) for m in minibatches] == 12 * [100] + [80]
    examples = [e for _, e in read_examples(f"ark:{golden}/egs_1frame.ark")]
    for i, minibatch in enumerate(minibatches):
        part = examples[100 * i : 100 * i + 100]
        frames = np.stack([e.input_frames.decompress()[2:8] for e in part])
        assert minibatch.frames.dtype == np.float32
        np.testing.assert_array_equal(minibatch.frames, frames)
        assert minibatch.rows.tolist() == list(range(len(part)))
        assert minibatch.pdfs.tolist() == [e.labels[0][0][0] for e in part]
        assert minibatch.weights.tolist() == [1.0] * len(part)
        assert [a.dtype for a in (minibatch.rows, minibatch.pdfs, minibatch.weights)] == [
            np.int32,
            np.int32,
            np.float32,
        ]


def test_minibatches_of_mixed_layouts_and_soft_labels(tmp_path):
    examples = [
        (
            f"u-{i}",
            example(
                layout=["CM", "CM2", "CM3"][i % 3],
                left=2 + i % 2,
                labels=soft_labels(1, i),
                spk_dim=2,
                seed=i,
            ),
        )
        for i in range(40)
    ]
    write_examples(tmp_path / "in", examples)
    whole = joined(list(read_minibatches(f"ark:{tmp_path}/in", 7, 1, 3)))
    assert whole.frames.shape == (40, 5, 7)
    columns = whole.rows.tolist(), whole.pdfs.tolist(), whole.weights.tolist()
    labels = list(zip(*columns, strict=True))
    assert labels == [(i, *label) for i, (_, e) in enumerate(examples) for label in e.labels[0]]
    for (_, e), frames in zip(examples, whole.frames, strict=True):
        rows = slice(e.left_context - 1, e.left_context + 4)
        np.testing.assert_array_equal(frames[:, :5], e.input_frames.decompress()[rows])
        np.testing.assert_array_equal(frames[:, 5:], np.tile(e.spk_info, (5, 1)))


def test_splitting_a_minibatch(tmp_path):
    examples = [(f"u-{i}", example(labels=soft_labels(1, i), seed=i)) for i in range(25)]
    write_examples(tmp_path / "in", examples)
    [whole] = read_minibatches(f"ark:{tmp_path}/in", 100, 2, 3)
    parts = whole.split(10)
    assert [len(part) for part in parts] == [10, 10, 5]
    for part, read in zip(parts, read_minibatches(f"ark:{tmp_path}/in", 10, 2, 3), strict=True):
        for name in ("frames", "rows", "pdfs", "weights"):
            np.testing.assert_array_equal(getattr(part, name), getattr(read, name))
    again = joined(parts)
    for name in ("frames", "rows", "pdfs", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


@pytest.mark.parametrize("frame", [2, "random"])
def test_selecting_frames_on_the_way_is_as_selecting_them_before(golden, tmp_path, frame):
    def select(block):
        chosen = rng.integers(0, block.num_frames()) if frame == "random" else frame
        return block.select_frame(chosen).sub_examples()

    rng = np.random.default_rng(5)
    copy_blocks(f"ark:{golden}/egs_8frames.ark", f"ark:{tmp_path}/selected", select)
    before = joined(list(read_minibatches(f"ark:{tmp_path}/selected", 64, 4, 4)))
    on_the_way = joined(
        list(
            read_minibatches(
                f"ark:{golden}/egs_8frames.ark",
                64,
                4,
                4,
                frame=frame,
                rng=np.random.default_rng(5),
            )
        )
    )
    np.testing.assert_array_equal(on_the_way.frames, before.frames)
    np.testing.assert_array_equal(on_the_way.pdfs, before.pdfs)


def test_shuffled_minibatches_hold_the_same_examples(golden):
    def read(**options):
        rspecifier = f"ark:{golden}/egs_1frame.ark"
        return joined(list(read_minibatches(rspecifier, 100, 4, 4, **options)))

    plain = read()
    mixed = read(buffer_size=300, rng=np.random.default_rng(0))
    assert not np.array_equal(plain.frames, mixed.frames)
    for a, b in zip(
        *(m.frames[np.lexsort(m.frames.reshape(1280, -1).T)] for m in (plain, mixed)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("examples", "options", "reason"),
    [
        ([example(num_frames=2)], {}, "2 labelled frames where one is expected"),
        ([example(left=1)], {}, "left and right context 1 and 3, but the network needs 2 and 2"),
        ([example(right=1)], {}, "left and right context 2 and 1"),
        ([example(), example(dim=6)], {}, "dimension 6 instead of 5"),
    ],
)
def test_examples_that_do_not_fit_the_network(tmp_path, examples, options, reason):
    write_examples(tmp_path / "in", [(f"u-{i}", e) for i, e in enumerate(examples)])
    with pytest.raises(NgtrainError, match=rf"in, key u-{len(examples) - 1}: {reason}"):
        list(read_minibatches(f"ark:{tmp_path}/in", 10, 2, 2, **options))


def test_nan_in_an_example(tmp_path):
    bad = example()
    matrix = CompressedMatrix("CM", np.float32(np.nan).tobytes() + bad.input_frames.data[4:])
    write_examples(
        tmp_path / "in", [("u-0", example()), ("u-1", NnetExample([[(1, 1.0)]], matrix, 2))]
    )
    with pytest.raises(NgtrainError, match="in, key u-1: NaN or infinity"):
        list(read_minibatches(f"ark:{tmp_path}/in", 10, 2, 2))


def test_holder_reads_from_any_stream():
    text = io.BytesIO()
    EXAMPLE.write(text, example(), binary=True)
    again = EXAMPLE.read(InputStream(io.BytesIO(text.getvalue()), "memory"))
    assert again.labels == example().labels
    assert again.input_frames == example().input_frames
