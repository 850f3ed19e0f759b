"""The programs that make, copy, shuffle, choose and relabel examples."""

import re
import subprocess

import numpy as np
import pytest
from archives import read_examples, write_table
from minibatches_joined import joined

from nnet.egs.minibatches import read_minibatches
from nnet.io.tables import INTEGERS, MATRIX, POSTERIOR, sequential_table


def records(path):
    """The examples of an archive as bytes, by key."""
    whole = path.read_bytes().split(b"</NnetExample> ")
    assert whole.pop() == b""
    return dict(record.split(b" \0B<NnetExample> ", 1) for record in whole)


def said(result):
    return result.stderr.decode()


@pytest.fixture(scope="module")
def posteriors(golden, run_program, tmp_path_factory):
    path = tmp_path_factory.mktemp("posteriors") / "post"
    run_program("ali-to-post", f"ark:{golden}/pdf_ali.txt", f"ark:{path}")
    return path


@pytest.fixture(scope="module")
def single_frames(golden, posteriors, run_program, tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "egs"
    run_program(
        "nnet-get-egs",
        "--left-context=4",
        "--right-context=4",
        *[f"ark:{golden}/feats.ark", f"ark,s,cs:{posteriors}", f"ark:{path}"],
    )
    return path


# Making -------------------------------------------------------------------------------------------


def test_examples_of_several_frames_are_kaldis(golden, posteriors, run_program, tmp_path):
    result = run_program(
        "nnet-get-egs",
        *["--left-context=4", "--right-context=4", "--num-frames=8"],
        *[f"ark:{golden}/feats.ark", f"ark:{posteriors}", f"ark:{tmp_path}/egs"],
    )
    assert (tmp_path / "egs").read_bytes() == (golden / "egs_8frames.ark").read_bytes()
    assert (
        "successfully processed 50 feature files, wrote 283 examples,  with 2093 egs in total; "
        "0 files had errors."
    ) in said(result)


def test_examples_of_single_frames_are_kaldis(golden, single_frames):
    ours, kaldis = records(single_frames), records(golden / "egs_1frame.ark")
    assert len(ours) == 2093 and len(kaldis) == 1280
    assert {key: ours[key] for key in kaldis} == kaldis


def test_edges_repeat_and_constant_dimensions_are_averaged(run_program, tmp_path):
    features = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_table(f"ark:{tmp_path}/feats", MATRIX, {"utt": features})
    posterior = [[(5, 1.0)], [(6, 0.25), (7, 0.75)], [], [(8, 1.0)]]
    write_table(f"ark:{tmp_path}/post", POSTERIOR, {"utt": posterior})
    run_program(
        "nnet-get-egs",
        *["--left-context=2", "--right-context=1", "--num-frames=3", "--const-feat-dim=2"],
        *[f"ark:{tmp_path}/feats", f"ark:{tmp_path}/post", f"ark:{tmp_path}/egs"],
    )
    (first_key, first), (last_key, last) = read_examples(f"ark:{tmp_path}/egs")
    assert (first_key, last_key) == ("utt-0", "utt-3")
    assert first.labels == posterior[:3] and last.labels == posterior[3:]
    for example, rows in (first, [0, 0, 0, 1, 2, 3]), (last, [1, 2, 3, 3]):
        assert example.left_context == 2
        np.testing.assert_allclose(
            example.input_frames.decompress(), features[rows, :4], atol=24 / 65535
        )
        np.testing.assert_allclose(example.spk_info, features[rows, 4:].mean(axis=0), rtol=1e-6)


def test_utterances_without_fitting_posteriors(golden, run_program, tmp_path):
    with sequential_table(f"ark:{golden}/feats.ark", MATRIX) as table:
        features = dict([next(table), next(table), next(table)])
    posterior = {key: [[(0, 1.0)]] * len(matrix) for key, matrix in features.items()}
    first, second, third = posterior
    write_table(f"ark:{tmp_path}/feats", MATRIX, features)
    del posterior[second]
    write_table(f"ark:{tmp_path}/post", POSTERIOR, posterior)
    arguments = [f"ark:{tmp_path}/feats", f"ark:{tmp_path}/post", f"ark:{tmp_path}/egs"]
    result = run_program("nnet-get-egs", *arguments)
    assert f"No pdf-level posterior for key {second}" in said(result)
    assert "1 files had errors" in said(result)
    assert len(read_examples(f"ark:{tmp_path}/egs")) == len(posterior[first]) + len(
        posterior[third]
    )

    posterior[third].pop()
    write_table(f"ark:{tmp_path}/post", POSTERIOR, posterior)
    (tmp_path / "egs").unlink()
    result = run_program("nnet-get-egs", *arguments, check=False)
    size = len(features[third])
    assert f"Posterior has wrong size {size - 1} versus {size} for key {third}" in said(result)
    assert result.returncode == 1
    assert "2 of 3 utterances" in said(result).splitlines()[-1]
    assert not (tmp_path / "egs").exists()


# Copying ------------------------------------------------------------------------------------------


def test_copying_in_turn_and_at_random(golden, run_program, tmp_path):
    source = records(golden / "egs_1frame.ark")
    outputs = [tmp_path / name for name in "abc"]
    result = run_program(
        "nnet-copy-egs", f"ark:{golden}/egs_1frame.ark", *(f"ark:{path}" for path in outputs)
    )
    assert "Read 1280 neural-network training examples, wrote 1280" in said(result)
    for i, path in enumerate(outputs):
        assert list(records(path)) == list(source)[i::3]
    run_program(
        "nnet-copy-egs",
        *["--random=true", "--srand=3", f"ark:{golden}/egs_1frame.ark"],
        *(f"ark:{path}" for path in outputs),
    )
    at_random = [records(path) for path in outputs]
    assert at_random[0] | at_random[1] | at_random[2] == source
    assert all(350 < len(part) < 500 for part in at_random)


def test_more_archives_than_files_may_be_open(golden, tmp_path, environment):
    """Up to the limit that the system sets, and not the user."""
    outputs = [tmp_path / f"{n}.ark" for n in range(50)]
    command = ["nnet-copy-egs", f"ark:{golden}/egs_1frame.ark", *(f"ark:{o}" for o in outputs)]
    subprocess.run(["bash", "-c", 'ulimit -S -n 40 && exec "$@"', "-", *command], check=True)
    assert all(output.stat().st_size > 0 for output in outputs)


@pytest.mark.slow
def test_keeping_a_proportion(golden, run_program, tmp_path):
    def copy(proportion, srand):
        run_program(
            "nnet-copy-egs",
            *[f"--keep-proportion={proportion}", f"--srand={srand}"],
            *[f"ark:{golden}/egs_1frame.ark", f"ark:{tmp_path}/out"],
        )
        return [key for key, _ in read_examples(f"ark:{tmp_path}/out")]

    keys = [key for key, _ in read_examples(f"ark:{golden}/egs_1frame.ark")]
    some = copy(0.25, 1)
    assert 250 < len(some) < 390
    assert some == copy(0.25, 1) != copy(0.25, 2)
    assert some == [key for key in keys if key in set(some)]
    more = copy(2.5, 1)
    assert {more.count(key) for key in keys} == {2, 3}
    assert 3050 < len(more) < 3350


@pytest.mark.slow
def test_selecting_a_frame(golden, run_program, tmp_path):
    source, target = f"ark:{golden}/egs_8frames.ark", tmp_path / "out"
    result = run_program("nnet-copy-egs", "--frame=3", source, f"ark:{target}")
    assert target.read_bytes() == (golden / "egs_frame3.ark").read_bytes()
    assert "Read 283 neural-network training examples, wrote 267" in said(result)

    run_program("nnet-copy-egs", "--frame=random", "--srand=1", source, f"ark:{target}")
    whole = dict(read_examples(f"ark:{golden}/egs_8frames.ark"))
    chosen = []
    for key, example in read_examples(f"ark:{target}"):
        frames = whole[key].input_frames.decompress()
        rows = example.input_frames.decompress()
        [place] = [
            t for t in range(whole[key].num_frames) if np.array_equal(frames[t : t + 9], rows)
        ]
        assert example.labels == [whole[key].labels[place]]
        chosen.append(place)
    assert len(chosen) == 283 and set(chosen) == set(range(8))


def test_reducing_the_context(golden, run_program, tmp_path):
    run_program(
        "nnet-copy-egs",
        *["--left-context=1", "--right-context=2"],
        *[f"ark:{golden}/egs_8frames.ark", f"ark:{tmp_path}/out"],
    )
    whole = read_examples(f"ark:{golden}/egs_8frames.ark")
    for (_, got), (_, old) in zip(read_examples(f"ark:{tmp_path}/out"), whole, strict=True):
        assert (got.left_context, got.right_context) == (1, 2)
        assert got.labels == old.labels
        frames = old.input_frames.decompress()[3:-2]
        assert got.input_frames.layout == ("CM" if len(frames) >= 8 else "CM2")
        np.testing.assert_allclose(got.input_frames.decompress(), frames, atol=2e-3)


def test_asking_for_more_context_than_there_is(golden, run_program, tmp_path):
    arguments = [f"ark:{golden}/egs_frame3.ark", f"ark:{tmp_path}/out"]
    result = run_program("nnet-copy-egs", "--left-context=9", *arguments)
    assert said(result).count("Requested left-context 9 exceeds input left-context 4") == 1
    assert (tmp_path / "out").read_bytes() == (golden / "egs_frame3.ark").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--frame=3x"], "invalid --frame option: '3x'"),
        (["--frame=-1"], "invalid --frame option: '-1'"),
        (["--frame=8"], "no examples to write, 1280 were read"),
        (["--keep-proportion=-1"], "--keep-proportion=-1: must not be negative"),
    ],
)
def test_nothing_can_be_copied(golden, run_program, tmp_path, options, reason):
    result = run_program(
        "nnet-copy-egs",
        *[*options, f"ark:{golden}/egs_1frame.ark", f"ark:{tmp_path}/out"],
        check=False,
    )
    assert result.returncode == 1
    assert reason in said(result).splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


# Order --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_shuffling(golden, run_program, tmp_path):
    def shuffle(*options):
        result = run_program(
            "nnet-shuffle-egs", *options, f"ark:{golden}/egs_1frame.ark", f"ark:{tmp_path}/out"
        )
        assert "Shuffled order of 1280 neural-network training examples" in said(result)
        assert ("using a buffer (partial randomization)" in said(result)) == bool(options[1:])
        assert records(tmp_path / "out") == source
        return [key for key, _ in read_examples(f"ark:{tmp_path}/out")]

    source = records(golden / "egs_1frame.ark")
    one, other = shuffle("--srand=1"), shuffle("--srand=2")
    assert one != other and one != list(source)
    assert one == shuffle("--srand=1")
    place = {key: i for i, key in enumerate(map(bytes.decode, source))}
    near = shuffle("--srand=1", "--buffer-size=100")
    displacement = np.array([place[key] - i for i, key in enumerate(near)])
    assert displacement.max() <= 100
    assert 50 < np.abs(displacement).mean() < 150
    far = np.array([place[key] - i for i, key in enumerate(one)])
    assert np.abs(far).mean() > 300


@pytest.mark.parametrize(("n", "size"), [(100, 100), (5000, 1280)])
def test_subsets(golden, run_program, tmp_path, n, size):
    result = run_program(
        "nnet-subset-egs",
        *["--srand=4", f"--n={n}", f"ark:{golden}/egs_1frame.ark", f"ark:{tmp_path}/out"],
    )
    message = f"Selected a subset of {size} out of 1280 neural-network training examples"
    assert message in said(result)
    source, subset = records(golden / "egs_1frame.ark"), records(tmp_path / "out")
    assert len(subset) == size
    assert subset == {key: source[key] for key in subset}
    assert list(subset) != [key for key in source if key in subset]


def test_a_pipeline_reads_as_minibatches(golden, environment):
    """What a training job reads, with another process for each step."""
    rspecifier = (
        f"ark,bg:nnet-copy-egs --frame=2 ark:{golden}/egs_8frames.ark ark:- | "
        "nnet-shuffle-egs --buffer-size=50 --srand=5 ark:- ark:- |"
    )
    piped = joined(list(read_minibatches(rspecifier, 64, 4, 4)))
    direct = joined(list(read_minibatches(f"ark:{golden}/egs_8frames.ark", 64, 4, 4, frame=2)))
    assert sorted(piped.pdfs.tolist()) == sorted(direct.pdfs.tolist())
    assert not np.array_equal(piped.frames, direct.frames)
    np.testing.assert_array_equal(np.sort(piped.frames[:, 4, 0]), np.sort(direct.frames[:, 4, 0]))


# Relabelling --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_relabelling(golden, run_program, tmp_path):
    with sequential_table(f"ark:{golden}/pdf_ali.txt", INTEGERS) as table:
        old = dict(table)
    new = {key: (pdfs + 1) % 128 for key, pdfs in old.items()}
    missing = sorted(new)[-1]
    new[missing] = old[missing]
    write_table(f"ark:{tmp_path}/new", INTEGERS, new)
    write_table(f"ark:{tmp_path}/some", INTEGERS, {k: v for k, v in new.items() if k != missing})
    outputs = [f"ark:{tmp_path}/{name}" for name in ("8", "1")]
    result = run_program(
        "nnet-relabel-egs",
        *[f"ark:{tmp_path}/some", f"ark:{golden}/egs_8frames.ark", f"ark:{golden}/egs_1frame.ark"],
        *outputs,
    )
    assert f"Unable to find utterance id {missing}" in said(result)
    assert re.search(r"Read 49 alignments .*; labels changed for \d+ of", said(result))
    for name, source in ("8", "egs_8frames.ark"), ("1", "egs_1frame.ark"):
        for (key, got), (_, was) in zip(
            read_examples(f"ark:{tmp_path}/{name}"),
            read_examples(f"ark:{golden}/{source}"),
            strict=True,
        ):
            utterance, _, start = key.rpartition("-")
            pdfs = new[utterance][int(start) :][: got.num_frames]
            assert got.labels == [[(pdf, 1.0)] for pdf in pdfs.tolist()]
            assert got.input_frames == was.input_frames
    # Back to where they were.
    run_program(
        "nnet-relabel-egs",
        *[f"ark:{golden}/pdf_ali.txt", f"ark:{tmp_path}/8", f"ark:{tmp_path}/back"],
    )
    assert (tmp_path / "back").read_bytes() == (golden / "egs_8frames.ark").read_bytes()


def test_relabelling_with_alignments_that_do_not_fit(golden, run_program, tmp_path):
    with sequential_table(f"ark:{golden}/pdf_ali.txt", INTEGERS) as table:
        short = {key: pdfs[:10] for key, pdfs in table}
    write_table(f"ark:{tmp_path}/short", INTEGERS, short)
    arguments = [f"ark:{golden}/egs_8frames.ark", f"ark:{tmp_path}/out"]
    result = run_program("nnet-relabel-egs", f"ark:{tmp_path}/short", *arguments, check=False)
    assert result.returncode == 1
    assert re.search("alignment of george-0-02 has 10 frames", said(result).splitlines()[-1])
    assert not (tmp_path / "out").exists()
