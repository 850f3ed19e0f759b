"""Gaussian mixtures, i-vector extractors and online i-vectors, against Kaldi's files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from archives import read_table

from nnet.errors import NgtrainError
from nnet.features.context import OnlineSplice, splice
from nnet.features.online_cmvn import OnlineCmvn, OnlineCmvnOptions
from nnet.io.streams import open_input
from nnet.io.tables import INTEGER_LISTS, MATRIX, POSTERIOR, VECTOR, sequential_table, table_writer
from nnet.ivectors.extractor import IvectorExtractor, UtteranceStatistics
from nnet.ivectors.extractor_training import EstimationOptions, ExtractorStatistics, estimate
from nnet.ivectors.mixture_training import (
    GmmStatistics,
    UpdateOptions,
    sample_frames,
    train,
    update,
)
from nnet.ivectors.mixtures import DiagGmm, FullGmm
from nnet.ivectors.online import IvectorSystem, OnlineIvectorOptions, OnlineIvectors, SpeakerState
from nnet.ivectors.online_statistics import conjugate_gradients
from nnet.ivectors.packed import packed, unpacked
from nnet.ivectors.selection import GaussianPosteriors, by_gaussian, select


def difference(ours, theirs) -> float:
    """The largest one, relative to the largest element."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def kaldi_ivector(reference):
    """ivector(name) is one of Kaldi's files; what is compressed is unpacked by a pipe."""

    def path(name: str) -> str:
        file = reference(f"kaldi/golden/ivector/{name}")
        return f"gunzip -c {file} |" if name.endswith(".gz") else str(file)

    return path


@pytest.fixture(scope="module")
def scp(kaldi_ivector, reference, shared, tmp_path_factory):
    """feats.scp of every tenth utterance, with the place where the features are."""
    reference("kaldi/mfcc/raw_mfcc_train.2.ark")  # where that is, the first is whole, too
    text = Path(kaldi_ivector("feats.scp")).read_text().replace("../shared", str(shared))
    path = tmp_path_factory.mktemp("ivectors") / "feats.scp"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def conf(kaldi_ivector, shared, tmp_path_factory):
    """ivector_extractor.conf, likewise."""
    given = Path(kaldi_ivector("ivector_extractor.conf")).read_text()
    text = given.replace("../shared", str(shared))
    path = tmp_path_factory.mktemp("ivectors") / "ivector_extractor.conf"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def features(kaldi_ivector, scp, run_program, tmp_path_factory):
    """Normalized online, spliced and transformed, as what Kaldi trained on; ark:FILE."""
    ark = tmp_path_factory.mktemp("ivectors") / "features.ark"
    spliced = (
        f"ark:apply-cmvn-online --config={kaldi_ivector('online_cmvn.conf')} "
        f"{kaldi_ivector('global_cmvn.stats')} scp:{scp} ark:- | "
        "splice-feats --left-context=3 --right-context=3 ark:- ark:- |"
    )
    run_program("transform-feats", kaldi_ivector("final.mat"), spliced, f"ark:{ark}")
    return f"ark:{ark}"


# Normalization online -----------------------------------------------------------------------------


@pytest.mark.slow
def test_features_agree(features, kaldi_ivector):
    ours = read_table(features, MATRIX)
    with open_input(kaldi_ivector("feats.head.txt.gz")) as stream:
        text = stream.read_until(b"\0").decode()
    blocks = text.split("[")[1:-1]  # the last is cut off
    assert len(blocks) > 2
    for own, block in zip(ours.values(), blocks, strict=False):
        rows = [line.strip(" ]") for line in block.partition("]")[0].splitlines()]
        theirs = np.array([[float(word) for word in row.split()] for row in rows if row])
        assert difference(own, theirs) < 1e-5


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


@pytest.mark.parametrize(
    "kind, name",
    [
        (DiagGmm, "0.dubm"), (DiagGmm, "final.dubm"), (FullGmm, "final.ubm"),
        (GmmStatistics, "0.acc.gz"), (IvectorExtractor, "final.ie"),
        (ExtractorStatistics, "1.ieacc.gz"),
    ],
)  # fmt: skip
def test_copies_are_byte_for_byte(kaldi_ivector, tmp_path, kind, name):
    source = kaldi_ivector(name)
    thing, copy = kind.load(source), tmp_path / "copy"
    thing.save(str(copy))
    original = Path(source.removeprefix("gunzip -c ").removesuffix(" |")).read_bytes()
    original = gzip.decompress(original) if ".gz" in source else original
    assert copy.read_bytes() == original
    thing.save(str(copy), binary=False)
    kind.load(str(copy)).save(str(tmp_path / "again"), binary=False)
    assert copy.read_text() == (tmp_path / "again").read_text()


def test_mixture_with_full_covariances(kaldi_ivector):
    ours, theirs = FullGmm.of_diagonal(DiagGmm.load(kaldi_ivector("final.dubm"))), None
    theirs = FullGmm.load(kaldi_ivector("final.ubm"))
    for name in "weights", "constants", "means_inv_covars", "inv_covars":
        assert difference(getattr(ours, name), getattr(theirs, name)) < 1e-6
    assert np.allclose(ours.means, DiagGmm.load(kaldi_ivector("final.dubm")).means, atol=1e-4)


@pytest.mark.slow
def test_statistics_and_update_agree(kaldi_ivector, features, run_program, tmp_path):
    """gmm-gselect, gmm-global-acc-stats and gmm-global-est on the same mixture."""
    selections = f"ark:{tmp_path}/gselect"
    said = run_program("gmm-gselect", "--n=5", kaldi_ivector("0.dubm"), features, selections).stderr
    assert b"average UBM log-likelihood is -63.9108 over 7958 frames" in said
    run_program(
        "gmm-global-acc-stats", f"--gselect={selections}", kaldi_ivector("0.dubm"), features,
        tmp_path / "acc",
    )  # fmt: skip
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
    centres = np.array([[-8.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    frames = (centres[rng.integers(3, size=3000)] + rng.normal(size=(3000, 2))).astype(np.float32)
    gmm = train(frames, 3, 1, 12, UpdateOptions(), np.random.default_rng(1))
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


# Extractors ---------------------------------------------------------------------------------------


def same_but_for_signs(ours: IvectorExtractor, theirs: IvectorExtractor) -> float:
    """How far projections differ, where each dimension after the first may have another sign."""
    products = (ours.projections * theirs.projections).sum(axis=(0, 1))
    signs = np.where(products < 0, -1.0, 1.0)
    signs[0] = 1.0
    return difference(ours.projections * signs, theirs.projections)


@pytest.mark.parametrize("before, statistics, after", [("0", "0", "1"), ("1", "1", "final")])
def test_estimation_agrees(kaldi_ivector, caplog, before, statistics, after):
    """Eigenvectors have no sign of their own, nor have dimensions of i-vectors after the first."""
    caplog.set_level("INFO")
    theirs = IvectorExtractor.load(kaldi_ivector(f"{after}.ie"))
    ours = estimate(
        IvectorExtractor.load(kaldi_ivector(f"{before}.ie")),
        ExtractorStatistics.load(kaldi_ivector(f"{statistics}.ieacc.gz")),
        EstimationOptions(),
    )
    assert same_but_for_signs(ours, theirs) < 1e-6
    assert difference(ours.inv_covars, theirs.inv_covars) < 1e-9
    assert ours.prior_offset == pytest.approx(theirs.prior_offset)
    with open(kaldi_ivector(f"ieest.{statistics}.log")) as file:
        said = {line.partition(") ")[2].strip() for line in file if line.startswith("LOG")}
    told = [r.message for r in caplog.records if r.levelname == "INFO"]
    assert len(told) > 8 and set(told) <= said


@pytest.mark.slow
def test_statistics_of_extractor_agree(kaldi_ivector, features, run_program, tmp_path):
    posteriors = (
        f"ark:gmm-global-get-post --n=5 --min-post=0.025 {kaldi_ivector('final.dubm')} {features} "
        "ark:- | scale-post ark:- 0.5 ark:- |"
    )
    run_program(
        "ivector-extractor-acc-stats", kaldi_ivector("0.ie"), features, posteriors, tmp_path / "acc"
    )
    ours = ExtractorStatistics.load(str(tmp_path / "acc"))
    theirs = ExtractorStatistics.load(kaldi_ivector("0.ieacc.gz"))
    for name in "gamma", "linear", "quadratic", "scatter", "ivector_sum", "ivector_scatter":
        assert difference(getattr(ours, name), getattr(theirs, name)) < 1e-5
    assert ours.auxiliary == pytest.approx(theirs.auxiliary, rel=1e-6)
    assert ours.num_ivectors == 200
    for parallel in "true", "false":
        run_program(
            "ivector-extractor-sum-accs", f"--parallel={parallel}", tmp_path / "acc",
            tmp_path / "acc", tmp_path / parallel,
        )  # fmt: skip
        total = ExtractorStatistics.load(str(tmp_path / parallel))
        assert np.allclose(total.linear, 2 * ours.linear)


@pytest.fixture(scope="module")
def small():
    """An extractor of two Gaussians, and data that it makes with known i-vectors."""
    rng = np.random.default_rng(3)
    gmm = DiagGmm.of(np.array([0.4, 0.6]), rng.normal(size=(2, 3)), np.full((2, 3), 0.5))
    return IvectorExtractor.from_mixture(FullGmm.of_diagonal(gmm), 2, rng), rng


def test_distribution_is_where_the_auxiliary_function_is_highest(small):
    extractor, rng = small
    posterior = by_gaussian([[(g, 1.0)] for g in rng.integers(2, size=20)], 2)
    statistics = UtteranceStatistics.of(rng.normal(size=(20, 3)), posterior, second_order=True)
    mean, covariance = extractor.distribution(statistics)
    best = extractor.auxiliary(statistics, mean, covariance)
    for _ in range(20):
        other = mean + 0.01 * rng.normal(size=2)
        assert extractor.auxiliary(statistics, other, covariance) < best
        scale = np.exp(0.1 * rng.normal())
        assert extractor.auxiliary(statistics, mean, covariance * scale) <= best


def test_training_raises_the_auxiliary_function(small):
    extractor, rng = small
    vectors = rng.normal(size=(300, 2)) + extractor.default_ivector()
    improved = []
    data = []
    for vector in vectors:
        gaussians = rng.integers(2, size=30)
        means = (extractor.projections @ vector)[gaussians]
        data.append((means + rng.normal(size=(30, 3)), [[(int(g), 1.0)] for g in gaussians]))
    for _ in range(4):
        statistics = ExtractorStatistics(*extractor.projections.shape)
        for features, posterior in data:
            statistics.accumulate(extractor, features, by_gaussian(posterior, 2))
        improved.append(statistics.auxiliary)
        extractor = estimate(extractor, statistics, EstimationOptions())
    assert np.all(np.diff(improved) > 0)


def test_packed_matrices(rng):
    matrices = rng.normal(size=(4, 5, 5))
    matrices = matrices + matrices.transpose(0, 2, 1)
    assert packed(matrices).shape == (4, 15)
    assert np.array_equal(unpacked(packed(matrices)), matrices)


def test_weights_that_depend_on_the_ivector(kaldi_ivector, run_program, tmp_path):
    mixture = tmp_path / "ubm"
    run_program("gmm-global-to-fgmm", kaldi_ivector("final.dubm"), mixture)
    done = run_program("ivector-extractor-init", mixture, tmp_path / "ie", check=False)
    assert done.returncode == 1 and b"give --use-weights=false" in done.stderr
    run_program("ivector-extractor-init", "--use-weights=false", "--ivector-dim=5", mixture,
                tmp_path / "ie")  # fmt: skip
    assert IvectorExtractor.load(str(tmp_path / "ie")).ivector_dim == 5


def test_ivectors_of_speakers(kaldi_ivector, run_program, tmp_path):
    """The i-vector of a speaker is that of the utterances in one."""
    extractor = IvectorExtractor.load(kaldi_ivector("final.ie"))
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(30, extractor.feature_dim)).astype(np.float32)
    posterior = [[(int(g), 0.7)] for g in rng.integers(len(extractor), size=30)]
    with (
        table_writer(f"ark:{tmp_path}/feats", MATRIX) as feats,
        table_writer(f"ark:{tmp_path}/post", POSTERIOR) as post,
    ):
        for key, part in ("a", slice(10)), ("b", slice(10, None)), ("c", slice(None)):
            feats.write(key, frames[part])
            post.write(key, posterior[part])
    (tmp_path / "spk2utt").write_text("one a b\nother c\n")
    results = {}
    for options in [], [f"--spk2utt=ark:{tmp_path}/spk2utt"], ["--max-count=5"]:
        run_program(
            "ivector-extract", *options, kaldi_ivector("final.ie"), f"ark:{tmp_path}/feats",
            f"ark:{tmp_path}/post", f"ark:{tmp_path}/out",
        )  # fmt: skip
        results[" ".join(options)] = dict(sequential_table(f"ark:{tmp_path}/out", VECTOR))
    whole, speakers, limited = results.values()
    assert np.allclose(speakers["one"], whole["c"], atol=1e-4)
    assert np.array_equal(speakers["other"], whole["c"])
    assert np.linalg.norm(limited["c"]) < np.linalg.norm(whole["c"])


# Online -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_online_ivectors_agree(kaldi_ivector, scp, conf, run_program, tmp_path):
    speakers = f"ark:{kaldi_ivector('spk2utt')}"
    done = run_program("ivector-extract-online2", f"--config={conf}", speakers, f"scp:{scp}",
                       f"ark:{tmp_path}/ivectors")  # fmt: skip
    ours = read_table(f"ark:{tmp_path}/ivectors", MATRIX)
    theirs = read_table(f"ark:{kaldi_ivector('ivectors_online.txt')}", MATRIX)
    assert len(theirs) == 12
    for key, ivectors in theirs.items():
        assert difference(ours[key], ivectors) < 1e-5
    for line in Path(kaldi_ivector("extract.log")).read_text().splitlines()[-3:]:
        assert line.partition(") ")[2].strip().encode() in done.stderr
    first = tmp_path / "spk2utt"
    first.write_text(Path(kaldi_ivector("spk2utt")).read_text().partition("\n")[0] + "\n")
    run_program(
        "ivector-extract-online2", f"--config={conf}", "--repeat=false", "--ivector-period=100",
        "--max-count=30", f"ark:{first}", f"scp:{scp}", f"ark:{tmp_path}/ivectors",
    )  # fmt: skip
    ours = read_table(f"ark:{tmp_path}/ivectors", MATRIX)
    theirs = read_table(f"ark:{kaldi_ivector('ivectors_period100.txt')}", MATRIX)
    for key, ivectors in theirs.items():
        assert difference(ours[key], ivectors) < 1e-5


@pytest.fixture(scope="module")
def make_system(small):
    """make_system(**options) is a small system for cepstra of dimension 2."""
    extractor, rng = small
    gmm = DiagGmm.of(np.array([0.4, 0.6]), rng.normal(size=(2, 3)), np.full((2, 3), 0.5))
    lda = rng.normal(size=(3, 2 * 4)).astype(np.float32)
    stats = np.array([[1.0, 2.0, 100.0], [300.0, 200.0, 0.0]])

    def make(**options) -> IvectorSystem:
        return IvectorSystem(
            extractor, gmm, lda, stats, left_context=1, right_context=2,
            options=OnlineIvectorOptions(**options),
        )  # fmt: skip

    return make


@pytest.mark.parametrize("newest", [False, True])
def test_parts_make_no_difference_to_ivectors(make_system, newest):
    system = make_system(use_most_recent_ivector=newest, ivector_period=4, max_count=2.0)
    cepstra = np.random.default_rng(5).normal(size=(25, 2)).astype(np.float32)
    whole = OnlineIvectors(system, SpeakerState.of_nothing(system))
    whole.accept(cepstra, is_last=True)
    expected = whole.rows(range(25))
    parts = OnlineIvectors(system, SpeakerState.of_nothing(system))
    rows, asked = [], 0
    for begin in range(0, 25, 7):
        parts.accept(cepstra[begin : begin + 7], is_last=begin == 21)
        rows.append(parts.rows(range(asked, parts.num_frames_ready)))
        asked = parts.num_frames_ready
    assert np.allclose(np.concatenate(rows), expected, atol=1e-5)
    ours, theirs = parts.speaker_state(), whole.speaker_state()
    assert np.allclose(ours.statistics.quadratic, theirs.statistics.quadratic)
    assert np.array_equal(ours.cmvn_stats, theirs.cmvn_stats)


def test_greedy_ivectors_are_of_all_frames(make_system):
    system = make_system(greedy_ivector_extractor=True)
    ivectors = OnlineIvectors(system, SpeakerState.of_nothing(system))
    ivectors.accept(np.random.default_rng(5).normal(size=(25, 2)).astype(np.float32), True)
    rows = ivectors.rows(range(25))
    assert np.array_equal(rows, np.tile(rows[:1], (25, 1)))


def test_frames_of_no_weight(make_system):
    """What has no weight does not change an i-vector."""
    system = make_system(use_most_recent_ivector=False, ivector_period=1)
    ivectors = OnlineIvectors(system, SpeakerState.of_nothing(system))
    ivectors.set_weights(np.array([0.0] * 5 + [1.0] * 5))
    ivectors.accept(np.random.default_rng(5).normal(size=(10, 2)).astype(np.float32), True)
    rows = ivectors.rows(range(10))
    assert np.abs(rows[:5]).max() == 0.0
    assert np.abs(rows[5:]).min() > 0.0


def test_a_speaker_is_remembered_for_a_while(make_system):
    system = make_system(max_remembered_frames=20.0)
    state = SpeakerState.of_nothing(system)
    for _ in range(3):
        ivectors = OnlineIvectors(system, state)
        ivectors.accept(np.random.default_rng(5).normal(size=(15, 2)).astype(np.float32), True)
        ivectors.rows(range(15))
        state = ivectors.speaker_state()
    assert state.statistics.num_frames == pytest.approx(20 * 0.1)
    assert state.cmvn_stats[0, -1] == pytest.approx(20)


def test_conjugate_gradients(rng):
    root = rng.normal(size=(8, 8))
    matrix, vector = root @ root.T + np.eye(8), rng.normal(size=8)
    found = conjugate_gradients(matrix, vector, np.zeros(8))
    assert np.allclose(found, np.linalg.solve(matrix, vector))


@pytest.mark.parametrize(
    "change, message",
    [
        ("--num-gselect=0", "num-gselect"),
        ("--diag-ubm=", "--diag-ubm option must be set"),
        ("--lda-matrix={golden}/global_cmvn.stats", "columns, but spliced features"),
        ("--min-post=0.7", "must be less than 0.5"),
    ],
)
def test_systems_that_do_not_fit(kaldi_ivector, conf, run_program, change, message):
    folder = kaldi_ivector("final.ie").rpartition("/")[0]
    done = run_program(
        "ivector-extract-online2", f"--config={conf}", change.format(golden=folder),
        *["ark:/dev/null"] * 3, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr.decode().splitlines()[-1]
