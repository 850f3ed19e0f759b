"""I-vector extractors and online i-vectors, against Kaldi's files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from archives import read_table

from nnet.io.tables import MATRIX, POSTERIOR, VECTOR, sequential_table, table_writer
from nnet.ivectors.extractor import IvectorExtractor, UtteranceStatistics
from nnet.ivectors.extractor_training import EstimationOptions, ExtractorStatistics, estimate
from nnet.ivectors.mixture_training import (
    GmmStatistics,
)
from nnet.ivectors.mixtures import DiagGmm, FullGmm
from nnet.ivectors.online import IvectorSystem, OnlineIvectorOptions, OnlineIvectors, SpeakerState
from nnet.ivectors.online_statistics import conjugate_gradients
from nnet.ivectors.packed import packed, unpacked
from nnet.ivectors.selection import by_gaussian


def difference(ours, theirs) -> float:
    """The largest one, relative to the largest element."""
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def conf(kaldi_ivector, shared, tmp_path_factory):
    """ivector_extractor.conf, likewise."""
    given = Path(kaldi_ivector("ivector_extractor.conf")).read_text()
    text = given.replace("../shared", str(shared))
    path = tmp_path_factory.mktemp("ivectors") / "ivector_extractor.conf"
    path.write_text(text)
    return path


# Extractors ---------------------------------------------------------------------------------------


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
def test_statistics_of_extractor_agree(kaldi_ivector, ivector_features, run_program, tmp_path):
    posteriors = (
        f"ark:gmm-global-get-post --n=5 --min-post=0.025 {kaldi_ivector('final.dubm')} "
        f"{ivector_features} ark:- | scale-post ark:- 0.5 ark:- |"
    )
    run_program(
        "ivector-extractor-acc-stats",
        kaldi_ivector("0.ie"),
        ivector_features,
        posteriors,
        tmp_path / "acc",
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


def test_utterances_without_weight_or_posteriors(kaldi_ivector, run_program, tmp_path):
    """The i-vector of an utterance of no weight is 0, as in Kaldi; what is lost counts once."""
    dim = IvectorExtractor.load(kaldi_ivector("final.ie")).feature_dim
    with (
        table_writer(f"ark:{tmp_path}/feats", MATRIX) as feats,
        table_writer(f"ark:{tmp_path}/post", POSTERIOR) as post,
    ):
        for key, posterior in ("a", [[(0, 1.0)]] * 3), ("b", [[], [(0, 0.0)], []]), ("c", None):
            feats.write(key, np.ones((3, dim), np.float32))
            if posterior is not None:
                post.write(key, posterior)
    tables = kaldi_ivector("final.ie"), f"ark:{tmp_path}/feats", f"ark:{tmp_path}/post"
    done = run_program("ivector-extract", *tables, f"ark:{tmp_path}/out")
    vectors = read_table(f"ark:{tmp_path}/out", VECTOR)
    assert list(vectors) == ["a", "b"] and not vectors["b"].any() and vectors["a"].any()
    assert b"Done 2 files, 1 with errors.  Total (weighted) frames 3\n" in done.stderr
    (tmp_path / "spk2utt").write_text("one a b\nother b\n")
    run_program("ivector-extract", f"--spk2utt=ark:{tmp_path}/spk2utt", *tables,
                f"ark:{tmp_path}/out")  # fmt: skip
    assert list(read_table(f"ark:{tmp_path}/out", VECTOR)) == ["one"]


# Online -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_online_ivectors_agree(kaldi_ivector, ivector_scp, conf, run_program, tmp_path):
    speakers = f"ark:{kaldi_ivector('spk2utt')}"
    data = speakers, f"scp:{ivector_scp}"
    output = f"ark:{tmp_path}/ivectors"
    done = run_program("ivector-extract-online2", f"--config={conf}", *data, output)
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
        "--max-count=30", f"ark:{first}", f"scp:{ivector_scp}", f"ark:{tmp_path}/ivectors",
    )  # fmt: skip
    ours = read_table(f"ark:{tmp_path}/ivectors", MATRIX)
    theirs = read_table(f"ark:{kaldi_ivector('ivectors_period100.txt')}", MATRIX)
    for key, ivectors in theirs.items():
        assert difference(ours[key], ivectors) < 1e-5


def test_greedy_rows_are_all_the_last(kaldi_ivector, conf, run_program, tmp_path):
    """As Kaldi's program has it, though it takes --use-most-recent-ivector for false otherwise."""
    with table_writer(f"ark:{tmp_path}/feats", MATRIX) as feats:
        feats.write("a", np.random.default_rng(5).normal(size=(25, 13)).astype(np.float32))
    (tmp_path / "spk2utt").write_text("one a\n")
    done = run_program(
        "ivector-extract-online2", f"--config={conf}", "--greedy-ivector-extractor=true",
        f"ark:{tmp_path}/spk2utt", f"ark:{tmp_path}/feats", f"ark:{tmp_path}/out",
    )  # fmt: skip
    rows = read_table(f"ark:{tmp_path}/out", MATRIX)["a"]
    assert len(rows) == 3 and np.array_equal(rows, np.tile(rows[:1], (3, 1)))
    assert b"implies --use-most-recent-ivector=true" in done.stderr


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
    ivectors.accept(np.random.default_rng(5).normal(size=(10, 2)).astype(np.float32), True)
    ivectors.reweight(0, np.full(5, -1.0))
    rows = ivectors.rows(range(10))
    assert np.abs(rows[:5]).max() == 0.0
    assert np.abs(rows[5:]).min() > 0.0


def test_weights_that_change_later(make_system):
    """What frames weighed before they were found to be silence is taken back."""
    system = make_system(min_post=0.0)
    cepstra = np.random.default_rng(5).normal(size=(12, 2)).astype(np.float32)
    rows = []
    for when in 0, 5:
        ivectors = OnlineIvectors(system, SpeakerState.of_nothing(system))
        ivectors.accept(cepstra, True)
        ivectors.rows(range(when))
        ivectors.reweight(2, np.array([-1.0, -0.9]))
        rows.append(ivectors[11])
    assert np.allclose(*rows, atol=1e-5)


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
