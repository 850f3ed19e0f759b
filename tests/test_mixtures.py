"""Gaussian mixtures and normalization online, against Kaldi's files."""

import numpy as np
import pytest
from archives import read_table

from nnet.errors import NgtrainError
from nnet.features.context import OnlineSplice, splice
from nnet.features.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.io.streams import open_input
from nnet.io.tables import INTEGER_LISTS, MATRIX, POSTERIOR, sequential_table, table_writer
from nnet.ivectors.mixture_training import (
    GmmStatistics,
    UpdateOptions,
    sample_frames,
    train,
    update,
)
from nnet.ivectors.mixtures import DiagGmm, FullGmm
from nnet.ivectors.selection import GaussianPosteriors, by_gaussian, select


def difference(ours, theirs) -> float:
    """The largest one, relative to the largest element."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


# Normalization online -----------------------------------------------------------------------------


@pytest.mark.slow
def test_features_agree(ivector_features, kaldi_ivector):
    ours = read_table(ivector_features, MATRIX)
    with open_input(kaldi_ivector("feats.head.txt.gz")) as stream:
        text = stream.read_until(b"\0").decode()
    blocks = text.split("[")[1:-1]  # the last is cut off
    assert len(blocks) > 2
    for own, block in zip(ours.values(), blocks, strict=False):
        rows = [line.strip(" ]") for line in block.partition("]")[0].splitlines()]
        theirs = np.array([[float(word) for word in row.split()] for row in rows if row])
        assert difference(own, theirs) < 1e-5


@pytest.mark.parametrize("dim", [-1, 3])
def test_dimensions_that_features_do_not_have(dim):
    with pytest.raises(NgtrainError, match=f"--skip-dims has {dim}, but features have 3"):
        OnlineCmvn(OnlineCmvnOptions(skip_dims=[0, dim]), np.ones((2, 4)))


def test_normalization_by_windows(rng):
    """Each frame by the definition: its window, then the speaker, then all."""
    frames = rng.normal(3.0, 2.0, (40, 3)).astype(np.float32)
    speaker, everyone = rng.normal(size=(2, 15, 3)) + 1.0

    def stats(data):
        sums = np.vstack([np.append(data.sum(0), len(data)), np.append((data**2).sum(0), 0)])
        return sums.astype(np.float64)

    options = OnlineCmvnOptions(10, 6, 4, norm_vars=True, skip_dims=[1])
    whole = OnlineCmvn(options, stats(everyone), stats(speaker))(frames)
    for t, row in enumerate(whole):
        own = stats(frames[max(0, t - 9) : t + 1].astype(np.float64))
        room = min(10 - own[0, -1], 6)
        own = own + room / 15 * stats(speaker)
        own = own + min(10 - own[0, -1], 4) / 15 * stats(everyone)
        mean = own[0, :-1] / own[0, -1]
        deviation = np.sqrt(own[1, :-1] / own[0, -1] - mean**2)
        expected = (frames[t] - mean) / deviation
        expected[1] = frames[t, 1]
        assert np.allclose(row, expected, atol=1e-5)


def test_parts_of_an_utterance_make_no_difference(rng):
    frames = rng.normal(size=(50, 4)).astype(np.float32)
    options, stats = OnlineCmvnOptions(12, 12, 5), np.array([[1.0] * 4 + [9], [9.0] * 4 + [0]])
    whole = OnlineCmvn(options, stats)
    parts, pieces = OnlineCmvn(options, stats), OnlineSplice(2, 3)
    expected = whole(frames)
    cuts = [frames[:1], frames[1:1], frames[1:20], frames[20:22], frames[22:]]
    assert np.array_equal(np.concatenate([parts(part) for part in cuts]), expected)
    assert np.array_equal(parts.speaker_statistics(), whole.speaker_statistics())
    spliced = [pieces(part) for part in cuts] + [pieces(frames[:0], True)]
    assert np.array_equal(np.concatenate(spliced), splice(frames, 2, 3))
    assert len(spliced[0]) == 0
    assert len(OnlineSplice(2, 3)(frames[:0], True)) == 0


def test_options_that_make_no_sense():
    with pytest.raises(NgtrainError, match="--global-frames must not be more"):
        OnlineCmvnOptions(100, 100, 200)
    with pytest.raises(NgtrainError, match="variance but not the mean"):
        OnlineCmvnOptions(norm_means=False, norm_vars=True)


# Mixtures -----------------------------------------------------------------------------------------


def test_mixture_with_full_covariances(kaldi_ivector):
    ours, theirs = FullGmm.of_diagonal(DiagGmm.load(kaldi_ivector("final.dubm"))), None
    theirs = FullGmm.load(kaldi_ivector("final.ubm"))
    for name in "weights", "constants", "means_inv_covars", "inv_covars":
        assert difference(getattr(ours, name), getattr(theirs, name)) < 1e-6
    assert np.allclose(ours.means, DiagGmm.load(kaldi_ivector("final.dubm")).means, atol=1e-4)


@pytest.mark.slow
def test_statistics_and_update_agree(kaldi_ivector, ivector_features, run_program, tmp_path):
    """gmm-gselect, gmm-global-acc-stats and gmm-global-est on the same mixture."""
    selections = f"ark:{tmp_path}/gselect"
    inputs = kaldi_ivector("0.dubm"), ivector_features
    said = run_program("gmm-gselect", "--n=5", *inputs, selections).stderr
    assert b"average UBM log-likelihood is -63.9108 over 7958 frames" in said
    run_program("gmm-global-acc-stats", f"--gselect={selections}", *inputs, tmp_path / "acc")
    ours = GmmStatistics.load(str(tmp_path / "acc"))
    theirs = GmmStatistics.load(kaldi_ivector("0.acc.gz"))
    for name in "occupancy", "first", "second":
        assert difference(getattr(ours, name), getattr(theirs, name)) < 1e-5
    half = tmp_path / "sum"
    run_program("gmm-global-sum-accs", half, tmp_path / "acc", tmp_path / "acc")
    assert np.allclose(GmmStatistics.load(str(half)).first, 2 * ours.first, rtol=1e-5)


def test_update_agrees(kaldi_ivector):
    statistics = GmmStatistics.load(kaldi_ivector("0.acc.gz"))
    before, theirs = (DiagGmm.load(kaldi_ivector(f"{name}.dubm")) for name in ("0", "final"))
    ours, improvement = update(before, statistics, UpdateOptions(min_gaussian_weight=1e-4))
    for name in "weights", "constants", "means_inv_vars", "inv_vars":
        assert difference(getattr(ours, name), getattr(theirs, name)) < 1e-5
    assert improvement / statistics.occupancy.sum() == pytest.approx(0.211693, abs=1e-5)


def test_update_of_some_parameters(kaldi_ivector):
    statistics = GmmStatistics.load(kaldi_ivector("0.acc.gz"))
    before = DiagGmm.load(kaldi_ivector("0.dubm"))
    only_means, _ = update(before, statistics, UpdateOptions(), flags=1)
    assert np.allclose(only_means.variances, before.variances)
    assert np.allclose(only_means.weights, before.weights)
    assert not np.allclose(only_means.means, before.means)
    only_variances, _ = update(before, statistics, UpdateOptions(), flags=2)
    assert np.allclose(only_variances.means, before.means, rtol=1e-5)
    _, both = update(before, statistics, UpdateOptions())
    _, less = update(before, statistics, UpdateOptions(), flags=2)
    assert 0 < less < both


def test_gaussians_with_few_frames(kaldi_ivector, caplog):
    statistics = GmmStatistics.load(kaldi_ivector("0.acc.gz"))
    before = DiagGmm.load(kaldi_ivector("0.dubm"))
    smallest = statistics.occupancy.min()
    floor = UpdateOptions(min_gaussian_occupancy=smallest + 1)
    assert len(update(before, statistics, floor)[0]) == len(before) - 1
    assert "Too little data - removing Gaussian" in caplog.text
    kept = UpdateOptions(min_gaussian_occupancy=smallest + 1, remove_low_count_gaussians=False)
    after, _ = update(before, statistics, kept)
    index = statistics.occupancy.argmin()
    assert len(after) == len(before)
    assert np.allclose(after.means[index], before.means[index], rtol=1e-5)


def test_training_finds_clusters(rng):
    centres = np.array([[-8.0, 0.0], [8.0, 3.0]])
    frames = (centres[rng.integers(2, size=3000)] + rng.normal(size=(3000, 2))).astype(np.float32)
    gmm = train(frames, 2, 1, 20, UpdateOptions(), np.random.default_rng(1))
    distances = np.linalg.norm(gmm.means[:, None] - centres, axis=2).min(axis=0)
    assert distances.max() < 0.3
    assert np.abs(gmm.variances - 1).max() < 0.2


def test_frames_are_sampled_evenly():
    utterances = [(str(n), np.full((50, 1), n, np.float32)) for n in range(20)]
    kept = [sample_frames(utterances, 100, np.random.default_rng(seed)) for seed in range(40)]
    counts = np.bincount(np.concatenate(kept).astype(int)[:, 0], minlength=20)
    assert counts.sum() == 4000
    assert counts.min() > 120 and counts.max() < 290  # 200 expected
    with pytest.raises(NgtrainError, match="no features"):
        sample_frames([], 10, np.random.default_rng(0))


def test_utterances_without_a_frame(rng, kaldi_ivector, run_program, tmp_path):
    """They are passed over and counted, whatever dimension they have."""
    with table_writer(f"ark:{tmp_path}/feats", MATRIX) as feats:
        for key, frames in ("a", 0), ("b", 50), ("c", 0):
            dim = 40 if frames else 0
            feats.write(key, rng.normal(size=(frames, dim)).astype(np.float32))
    done = run_program("gmm-global-init-from-feats", "--num-gauss=2", "--num-iters=2",
                       f"ark:{tmp_path}/feats", tmp_path / "dubm")  # fmt: skip
    assert b"2 utterances were passed over, such as a: empty feature matrix" in done.stderr
    with table_writer(f"ark:{tmp_path}/post", POSTERIOR) as post:
        for key, frames in ("a", 0), ("b", 50), ("c", 0):
            post.write(key, [[(0, 1.0)]] * frames)
    done = run_program(
        "ivector-extractor-acc-stats", kaldi_ivector("final.ie"), f"ark:{tmp_path}/feats",
        f"ark:{tmp_path}/post", tmp_path / "acc",
    )  # fmt: skip
    assert b"Done 1 files, 2 with errors.  Total frames 50" in done.stderr


# Selection ----------------------------------------------------------------------------------------


def entry_of(log_likelihoods, count, min_post):
    """The posterior of a frame as VectorToPosteriorEntry finds it, step by step."""
    best = log_likelihoods.max()
    order = np.argsort(-log_likelihoods)
    kept = [(g, np.exp(log_likelihoods[g] - best)) for g in order]
    if min_post:
        kept = [(g, p) for g, p in kept if p > min_post]
    kept = kept[:count]
    cutoff = min_post * sum(p for _, p in kept)
    while len(kept) > 1 and kept[-1][1] < cutoff:
        kept.pop()
    total = sum(p for _, p in kept)
    return [(g, p / total) for g, p in kept], best + np.log(total)


@pytest.mark.parametrize("min_post", [0.0, 0.025, 0.3, 0.99])
def test_posteriors(rng, min_post):
    log_likelihoods = rng.normal(scale=2.0, size=(30, 9))
    posteriors = GaussianPosteriors.of(log_likelihoods, 4, min_post)
    table = posteriors.to_table()
    for row, entry, total in zip(log_likelihoods, table, posteriors.log_likelihoods, strict=True):
        expected, expected_total = entry_of(row, 4, min_post)
        assert [g for g, _ in entry] == [g for g, _ in expected]
        assert np.allclose([p for _, p in entry], [p for _, p in expected])
        assert total == pytest.approx(expected_total)
    laid_out = posteriors.by_gaussian(9).toarray()
    assert np.allclose(laid_out, by_gaussian(table, 9).toarray())
    assert np.allclose(laid_out.sum(axis=0), 1.0)


def test_selection_is_from_best_to_worst(rng):
    log_likelihoods = rng.normal(size=(5, 8)).astype(np.float32)
    chosen = np.take_along_axis(log_likelihoods, select(log_likelihoods, 3), axis=1)
    assert np.array_equal(chosen, -np.sort(-log_likelihoods, axis=1)[:, :3])
    assert select(log_likelihoods, 20).shape == (5, 8)


def test_posteriors_of_another_mixture():
    with pytest.raises(NgtrainError, match="was it made with another mixture"):
        by_gaussian([[(0, 1.0)], [(16, 1.0)]], 16)


@pytest.mark.parametrize("form", ["ark", "ark,t"])
def test_lists_of_integers_in_tables(tmp_path, form):
    lists = [np.array([3, 1, 2]), np.array([], int), np.array([7])]
    with table_writer(f"{form}:{tmp_path}/lists", INTEGER_LISTS) as writer:
        writer.write("a", lists)
        writer.write("b", [])
    read = dict(sequential_table(f"ark:{tmp_path}/lists", INTEGER_LISTS))
    assert [list(values) for values in read["a"]] == [[3, 1, 2], [], [7]]
    assert read["b"] == []
    if form == "ark,t":
        assert (tmp_path / "lists").read_text() == "a 3 1 2 ; ; 7 ; \nb \n"


def test_selection_within_a_selection(kaldi_ivector, run_program, tmp_path):
    mixture = DiagGmm.load(kaldi_ivector("0.dubm"))
    frames = mixture.means[:3].astype(np.float32)
    with table_writer(f"ark:{tmp_path}/feats", MATRIX) as writer:
        writer.write("a", frames)
        writer.write("b", frames)
    with table_writer(f"ark:{tmp_path}/first", INTEGER_LISTS) as writer:
        writer.write("a", [np.array([0, 5, 9])] * 3)
    done = run_program(
        "gmm-gselect", f"--gselect=ark:{tmp_path}/first", "--n=2",
        f"--write-likes=ark,t:{tmp_path}/likes", kaldi_ivector("0.dubm"), f"ark:{tmp_path}/feats",
        f"ark:{tmp_path}/second",
    )  # fmt: skip
    selected = dict(sequential_table(f"ark:{tmp_path}/second", INTEGER_LISTS))
    assert list(selected) == ["a"] and b"no gselect information" in done.stderr
    log_likelihoods = mixture.log_likelihoods(frames)[:, [0, 5, 9]]
    expected = np.array([0, 5, 9])[np.argsort(-log_likelihoods, axis=1)[:, :2]]
    assert np.array_equal(selected["a"], expected)
    likes = float((tmp_path / "likes").read_text().split()[1])
    best = np.sort(log_likelihoods, axis=1)[:, 1:]
    assert likes == pytest.approx(np.logaddexp(*best.T).sum(), rel=1e-5)
