"""Features: against Kaldi's own, against their definitions, and through the programs."""

import io
import struct
import wave

import numpy as np
import pytest
from archives import read_table, write_table

from nnet.errors import NgtrainError
from nnet.features import cmvn
from nnet.features.context import add_deltas, splice
from nnet.features.lda import LdaStatistics, estimate_lda, estimate_lda_by_parts
from nnet.features.transforms import transform
from nnet.features.utterances import Skip
from nnet.features.wave import WAVE, Wave
from nnet.io.random_access import random_access_table
from nnet.io.streams import open_input
from nnet.io.tables import (
    FLOAT_MATRIX,
    INTEGER,
    MATRIX,
    POSTERIOR,
    VECTOR,
    sequential_table,
    table_writer,
)
from nnet.io.tokens import Reader, read_object, write_object

RATE = 8000


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def feats(tmp_path, rng):
    """A table of features of two utterances, and the table's name."""
    entries = {key: rng.standard_normal((t, 4)).astype("f") for key, t in [("a", 7), ("b", 1)]}
    write_table(f"ark:{tmp_path}/feats.ark", MATRIX, entries)
    return entries, f"ark:{tmp_path}/feats.ark"


@pytest.fixture(scope="module")
def kaldi(shared, tmp_path_factory):
    """Kaldi's data, with a directory from which the relative paths in its scripts are right."""
    directory = tmp_path_factory.mktemp("root") / "checkout"
    directory.mkdir()
    (directory.parent / "shared").symlink_to(shared)
    return directory, shared / "kaldi"


def first_lines(source, target, count):
    target.write_text("".join(source.read_text().splitlines(keepends=True)[:count]))
    return target


# Against Kaldi's files ----------------------------------------------------------------------------


def test_mfcc_are_kaldis(kaldi, reference, run_program, tmp_path):
    """Kaldi's MFCC of these recordings have been compressed to a byte per element and may have
    been dithered; ours differ from them by less than 2 % of a coefficient's deviation."""
    reference("fsdd/recordings/0_george_5.wav")
    directory, data = kaldi
    scp = first_lines(data / "data" / "train" / "wav.scp", tmp_path / "wav.scp", 50)
    run_program(
        "compute-mfcc-feats",
        "--sample-frequency=8000",
        "--use-energy=false",
        "--dither=0",
        f"scp:{scp}",
        f"ark:{tmp_path}/mfcc.ark",
        cwd=directory,
    )
    ours = read_table(f"ark:{tmp_path}/mfcc.ark", MATRIX)
    assert len(ours) == 50
    theirs = {}
    for key, matrix in sequential_table(f"ark:{data}/mfcc/raw_mfcc_train.1.ark", MATRIX):
        if key in ours:
            theirs[key] = matrix
    assert {key: m.shape for key, m in ours.items()} == {key: m.shape for key, m in theirs.items()}
    x, y = (np.vstack([matrices[key] for key in ours]) for matrices in (ours, theirs))
    assert (np.abs(x - y).mean(axis=0) < 0.02 * y.std(axis=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "test"])
def test_cmvn_statistics_are_kaldis_byte_for_byte(kaldi, reference, run_program, tmp_path, part):
    reference(f"kaldi/mfcc/raw_mfcc_{part}.2.ark")
    directory, data = kaldi
    run_program(
        "compute-cmvn-stats",
        f"--spk2utt=ark:{data}/data/{part}/spk2utt",
        f"scp:{data}/data/{part}/feats.scp",
        f"ark:{tmp_path}/cmvn.ark",
        cwd=directory,
    )
    expected = (data / "mfcc" / f"cmvn_{part}.ark").read_bytes()
    assert (tmp_path / "cmvn.ark").read_bytes() == expected


@pytest.mark.slow
def test_network_input_is_kaldis(kaldi, golden, run_program, tmp_path):
    """Normalized, spliced and projected by Kaldi's LDA+MLLT, through pipes of programs."""
    directory, data = kaldi
    expected = read_table(f"ark:{golden}/feats.ark", MATRIX)
    train = data / "data" / "train"
    lines = [
        line
        for line in (train / "feats.scp").read_text().splitlines(keepends=True)
        if line.split()[0] in expected
    ]
    (tmp_path / "feats.scp").write_text("".join(lines))
    result = run_program(
        "apply-cmvn",
        f"--utt2spk=ark:{train}/utt2spk",
        f"scp:{train}/cmvn.scp",
        f"scp:{tmp_path}/feats.scp",
        "ark:| splice-feats --left-context=3 --right-context=3 ark:- ark:- "
        f"| transform-feats {data}/exp/tri2_ali/final.mat ark:- ark:{tmp_path}/out.ark",
        cwd=directory,
    )
    assert b"Applied cepstral mean normalization to 50 utterances, errors on 0" in result.stderr
    assert b"Overall average [pseudo-]logdet is -77.9781 over" in result.stderr
    ours = read_table(f"ark:{tmp_path}/out.ark", MATRIX)
    assert list(ours) == list(expected)
    for key, matrix in ours.items():
        np.testing.assert_allclose(matrix, expected[key], rtol=0, atol=2e-5)


@pytest.mark.slow
def test_feature_transform_is_nearly_kaldis(kaldi, reference, golden, run_program, tmp_path):
    """Statistics as for the network exp/nnet_ms, but of other frames (those of the golden
    features) and pdf-ids; our transform of the features correlates with Kaldi's."""
    kaldis = reference("kaldi/exp/nnet_ms/lda.mat")
    _, data = kaldi
    alignments = data / "exp" / "tri2_ali" / "ali.*.gz"
    model = data / "exp" / "tri2_ali" / "final.mdl"
    stats = tmp_path / "lda.acc"
    run_program(
        "acc-lda",
        model,
        f"ark:splice-feats --left-context=2 --right-context=2 ark:{golden}/feats.ark ark:- |",
        f"ark:gunzip -c {alignments} | ali-to-post ark:- ark:- |",
        stats,
    )
    result = run_program(
        "nnet-get-feature-transform",
        "--within-class-factor=0.0001",
        "--dim=20",
        tmp_path / "lda.mat",
        stats,
    )
    assert b"LDA singular values are  [ " in result.stderr
    (tmp_path / "indexes").write_text("0 5 10\n1 2\n")
    multi = "nnet-get-feature-transform-multi", tmp_path / "indexes", stats, tmp_path / "multi.mat"
    assert b"Wrote transform to" in run_program(*multi).stderr
    assert read_object(f"{tmp_path}/multi.mat", Reader.matrix).shape == (5, 201)
    ours = read_object(f"{tmp_path}/lda.mat", Reader.matrix)
    theirs = read_object(str(kaldis), Reader.matrix)
    assert ours.shape == (20, 201)
    features = read_table(f"ark:{golden}/feats.ark", MATRIX)
    spliced = np.vstack([splice(matrix, 2, 2) for matrix in features.values()])
    assert np.abs(transform(spliced, ours).mean(axis=0)).max() < 1e-3
    # The spaces of the first directions: how much of theirs is explained by ours.
    x, y = (transform(spliced, matrix)[:, :20] for matrix in (ours, theirs))
    x, y = x - x.mean(axis=0), (y - y.mean(axis=0))[:, :5]
    residual = y - x @ np.linalg.lstsq(x, y)[0]
    assert (residual.var(axis=0) < 0.35 * y.var(axis=0)).all()


# Against definitions ------------------------------------------------------------------------------


def test_splice_repeats_the_edges():
    features = np.arange(6.0).reshape(3, 2)
    expected = [
        [0, 1, 0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5, 4, 5],
        [2, 3, 4, 5, 4, 5, 4, 5],
    ]
    np.testing.assert_array_equal(splice(features, 1, 2), expected)
    assert splice(np.zeros((0, 2)), 1, 2).shape == (0, 8)


def test_deltas(rng):
    features = rng.standard_normal((9, 3)).astype("f")

    def regression(x, frame):
        ends = [np.clip([frame + j, frame - j], 0, 8) for j in (1, 2)]
        return sum(j * (x[ahead] - x[behind]) for j, (ahead, behind) in enumerate(ends, 1)) / 10

    result = add_deltas(features, order=2, window=2)
    first = np.array([regression(features, t) for t in range(9)])
    np.testing.assert_array_equal(result[:, :3], features)
    np.testing.assert_allclose(result[:, 3:6], first, atol=1e-6)
    # Away from the edges the second derivative is the derivative of the first.
    inside = np.array([regression(first, t) for t in range(9)])[4:5]
    np.testing.assert_allclose(result[4:5, 6:], inside, atol=1e-6)
    ramp = add_deltas(np.arange(20, dtype=np.float32)[:, None] * 3)
    np.testing.assert_allclose(ramp[4:-4], [[3 * t, 3, 0] for t in range(4, 16)], atol=1e-5)


def test_normalization(rng):
    x = (rng.standard_normal((50, 3)) * [1, 5, 0.1] + [3, -2, 7]).astype("f")
    stats = np.zeros((2, 4))
    cmvn.accumulate(stats, x[:20])
    cmvn.accumulate(stats, x[20:])
    np.testing.assert_allclose(stats[0], [*x.sum(axis=0, dtype="d"), 50], rtol=1e-6)
    np.testing.assert_allclose(stats[1, :3], (x.astype("d") ** 2).sum(axis=0), rtol=1e-6)
    mean_only = cmvn.normalize(x, stats)
    np.testing.assert_allclose(mean_only, x - x.mean(axis=0), atol=1e-5)
    both = cmvn.normalize(x, stats, norm_vars=True)
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(both.std(axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(cmvn.normalize(both, stats, True, reverse=True), x, atol=1e-4)
    kept = cmvn.normalize(x, cmvn.pretend_normalized(stats, [1]), norm_vars=True)
    np.testing.assert_allclose(kept[:, 1], x[:, 1], rtol=1e-6)
    np.testing.assert_allclose(kept[:, 0], both[:, 0])


def test_weights_of_frames(rng):
    x = rng.standard_normal((6, 2)).astype("f")
    weights = np.array([1, 0, 2, 0, 0, 1], np.float32)
    stats, repeated = np.zeros((2, 3)), np.zeros((2, 3))
    cmvn.accumulate(stats, x, weights)
    cmvn.accumulate(repeated, np.repeat(x, weights.astype(int), axis=0))
    np.testing.assert_allclose(stats, repeated, atol=1e-6)


@pytest.mark.parametrize(
    "stats, reason",
    [
        (np.zeros((2, 4)), "too little data"),
        (np.full((2, 4), np.nan), "too little data"),
        (np.ones((3, 4)), "3 rows"),
        (np.ones((2, 5)), "dimension 4"),
    ],
)
def test_bad_statistics(stats, reason):
    with pytest.raises(NgtrainError, match=reason):
        cmvn.normalize(np.zeros((2, 3), np.float32), stats)


def test_lda_statistics_add_up(rng, tmp_path):
    """In parts, in any order, through files, binary and text: the same statistics."""
    x = rng.standard_normal((60, 5)).astype("f")
    classes = rng.integers(0, 4, 60) * 2  # the odd ones of 8 classes are never seen
    weights = rng.uniform(0.1, 2, 60)
    whole = LdaStatistics(8, 5)
    whole.accumulate(x, classes, weights)
    for c in range(8):
        w = weights * (classes == c)
        np.testing.assert_allclose(whole.zero[c], w.sum())
        np.testing.assert_allclose(whole.first[c], w @ x)
    np.testing.assert_allclose(whole.second, (x.T * weights) @ x, atol=1e-6)
    for binary in (True, False):
        parts = []
        for rows in (slice(0, 13), slice(13, 60), slice(0, 0)):
            part = LdaStatistics(8, 5)
            part.accumulate(x[rows], classes[rows], weights[rows])
            write_object(f"{tmp_path}/acc", part.write, binary)
            parts.append(read_object(f"{tmp_path}/acc", LdaStatistics.read))
        total = parts[2]
        for part in parts[:2]:
            total.add(part)
        np.testing.assert_allclose(total.second, whole.second, atol=1e-4)
        np.testing.assert_allclose(total.first, whole.first, atol=1e-4)


def labelled(rng):
    """Classes that differ along two directions of five, in a skewed space."""
    means = np.zeros((6, 5))
    means[:, :2] = rng.standard_normal((6, 2)) * [4, 2]
    classes = rng.integers(0, 6, 4000)
    skew = rng.standard_normal((5, 5)) + 2 * np.eye(5)
    x = (means[classes] + rng.standard_normal((4000, 5))) @ skew.T + 10
    stats = LdaStatistics(6, 5)
    stats.accumulate(x, classes, np.ones(4000))
    return x, classes, stats


def test_lda_whitens_classes(rng):
    x, classes, stats = labelled(rng)
    lda = estimate_lda(stats, 5)
    y = x @ lda.matrix.T
    within = np.mean([np.cov(y[classes == c].T, bias=True) for c in range(6)], axis=0)
    np.testing.assert_allclose(within, np.eye(5), atol=0.1)
    means = np.array([y[classes == c].mean(axis=0) for c in range(6)])
    between = np.cov(means.T, aweights=np.bincount(classes), bias=True)
    np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=1e-3)
    assert between[0, 0] > between[1, 1] > 50 * between[2, 2]
    np.testing.assert_array_equal(estimate_lda(stats, 2).matrix, lda.full[:2])


def test_within_class_factor_offset_and_ceiling(rng):
    x, _, stats = labelled(rng)
    plain = estimate_lda(stats, 5)
    scaled = estimate_lda(stats, 5, within_class_factor=0.01, remove_offset=True)
    y = x @ scaled.matrix[:, :5].T + scaled.matrix[:, 5]
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-3)
    between = (x @ plain.matrix.T).var(axis=0) - 1
    np.testing.assert_allclose(y.var(axis=0), 0.01 + between, rtol=0.05, atol=0.01)
    limit = np.median(np.linalg.svd(plain.matrix)[1])
    limited = np.linalg.svd(estimate_lda(stats, 5, max_singular_value=limit).matrix)[1]
    np.testing.assert_allclose(limited[:3], limit, rtol=1e-5)
    np.testing.assert_allclose(limited[3:], np.linalg.svd(plain.matrix)[1][3:], rtol=1e-5)


def test_lda_of_parts_is_that_of_each_alone(rng):
    vectors, classes = rng.normal(size=(400, 5)), rng.integers(0, 4, 400)
    vectors[:, :3] += classes[:, None]
    stats, parts = LdaStatistics(4, 5), [[3, 0], [1, 2, 4]]
    stats.accumulate(vectors, classes, np.ones(400))
    options = {"within_class_factor": 0.01, "max_singular_value": 5.0, "remove_offset": True}
    matrix = estimate_lda_by_parts(stats, parts, **options)
    assert matrix.shape == (5, 6) and not matrix[:2, [1, 2, 4]].any()
    for part, rows in zip(parts, (matrix[:2], matrix[2:]), strict=True):
        alone = LdaStatistics(4, len(part))
        alone.accumulate(vectors[:, part], classes, np.ones(400))
        expected = estimate_lda(alone, len(part), **options).matrix
        np.testing.assert_allclose(rows[:, [*part, 5]], expected, rtol=1e-4, atol=1e-5)
    for bad in [], [0, 0], [5], [-1]:
        with pytest.raises(NgtrainError, match="list 2 of indexes"):
            estimate_lda_by_parts(stats, [[0], bad])


def test_lda_of_degenerate_data(rng, caplog):
    stats = LdaStatistics(3, 4)
    with pytest.raises(NgtrainError, match="no data"):
        estimate_lda(stats, 2)
    x = rng.standard_normal((50, 4))
    x[:, 3] = x[:, 2]
    stats.accumulate(x, rng.integers(0, 3, 50), np.ones(50))
    caplog.set_level("INFO")
    assert np.isfinite(estimate_lda(stats, 2).matrix).all()
    with pytest.raises(NgtrainError, match="dimension 5"):
        estimate_lda(stats, 5)


def test_transform_of_wrong_dimension():
    with pytest.raises(Skip, match="3 by 4"):
        transform(np.zeros((2, 5)), np.zeros((3, 4)))


# Audio --------------------------------------------------------------------------------------------


def wav_bytes(samples, channels=1, rate=RATE):
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return contents.getvalue()


@pytest.fixture
def tone():
    return np.rint(8000 * np.sin(np.arange(RATE) * 0.3))


def test_wave_archive_round_trip(tmp_path, rng):
    """Each recording ends where the next key begins; what wav-copy writes is what was read."""
    samples = rng.integers(-32768, 32768, 501)
    contents = wav_bytes(samples)
    archive = b"one " + contents + b"two " + wav_bytes(samples[:0]) + b"three " + contents
    (tmp_path / "wav.ark").write_bytes(archive)
    recordings = read_table(f"ark:{tmp_path}/wav.ark", WAVE)
    assert [r.samples.shape for r in recordings.values()] == [(1, 501), (1, 0), (1, 501)]
    np.testing.assert_array_equal(recordings["three"].samples[0], samples)
    assert recordings["one"].duration == 501 / RATE
    write_table(f"ark:{tmp_path}/copy.ark", WAVE, recordings)
    assert (tmp_path / "copy.ark").read_bytes() == archive


@pytest.mark.parametrize("claimed", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_wave_of_unknown_length_through_a_pipe(tmp_path, tone, claimed):
    """What sox and ffmpeg write to pipes."""
    contents = bytearray(wav_bytes(tone))
    contents[4:8] = contents[40:44] = struct.pack("<I", claimed)
    (tmp_path / "tone.wav").write_bytes(contents)
    with open_input(f"cat {tmp_path}/tone.wav |") as stream:
        np.testing.assert_array_equal(WAVE.read(stream).samples[0], tone)


def test_other_formats_of_audio(tmp_path, tone):
    import soundfile

    soundfile.write(tmp_path / "tone.flac", tone.astype(np.int16), RATE)
    soundfile.write(tmp_path / "tone24.wav", tone / 32768, RATE, subtype="PCM_24")
    soundfile.write(tmp_path / "float.wav", tone / 32768, RATE, subtype="FLOAT")
    for name in ("tone.flac", "tone24.wav", "float.wav"):
        with open_input(str(tmp_path / name)) as stream:
            recording = WAVE.read(stream)
        np.testing.assert_allclose(recording.samples[0], tone, atol=0.01)
        assert recording.sample_rate == RATE


@pytest.mark.parametrize(
    "damage",
    [
        lambda wav: wav[: len(wav) // 2],
        lambda wav: wav[:6],
        lambda wav: wav[:20],
        lambda wav: b"",
        lambda wav: b"no audio at all",
        lambda wav: b"RIFF\x10\0\0\0" + bytes(16),
    ],
)
def test_bad_audio(tmp_path, tone, damage):
    (tmp_path / "wav.scp").write_text(f"utt {tmp_path}/bad.wav\n")
    (tmp_path / "bad.wav").write_bytes(damage(wav_bytes(tone)))
    with pytest.raises(NgtrainError, match=r"bad.wav, key utt"):
        read_table(f"scp:{tmp_path}/wav.scp", WAVE)


def test_features_through_pipes(tmp_path, tone, run_program):
    """A script with pipes, two channels, a recording that is too short; durations beside."""
    stereo = np.stack([tone, np.zeros_like(tone)], axis=1)
    (tmp_path / "stereo.wav").write_bytes(wav_bytes(stereo, channels=2))
    (tmp_path / "short.wav").write_bytes(wav_bytes(tone[:100]))
    (tmp_path / "wav.scp").write_text(
        f"piped cat {tmp_path}/stereo.wav |\nshort {tmp_path}/short.wav\n"
    )
    result = run_program(
        "compute-fbank-feats",
        "--sample-frequency=8000",
        "--num-mel-bins=10",
        "--channel=0",
        f"--write-utt2dur=ark,t:{tmp_path}/utt2dur",
        f"scp:{tmp_path}/wav.scp",
        "ark,t:-",
    )
    assert b"short: too short for one frame" in result.stderr
    assert b"Done 1 out of 2 utterances." in result.stderr
    assert (tmp_path / "utt2dur").read_text() == "piped 1 \n"
    (tmp_path / "fbank.txt").write_bytes(result.stdout)
    matrix = read_table(f"ark:{tmp_path}/fbank.txt", MATRIX)["piped"]
    assert matrix.shape == (98, 10)
    # The tone of 382 Hz, well above what dither of one step gives elsewhere.
    assert (matrix.argmax(axis=1) == matrix[0].argmax()).all()
    assert matrix[:, matrix[0].argmax()].mean() > 12 + np.median(matrix)


@pytest.mark.slow
def test_dither_depends_on_seed_and_utterance_only(tmp_path, tone, run_program):
    write_table(
        f"ark:{tmp_path}/a", WAVE, {"x": Wave(tone[None], RATE), "y": Wave(tone[None], RATE)}
    )
    write_table(f"ark:{tmp_path}/b", WAVE, {"y": Wave(tone[None], RATE)})

    def mfcc(name, *options):
        run_program(
            "compute-mfcc-feats",
            "--sample-frequency=8000",
            *options,
            f"ark:{tmp_path}/{name}",
            f"ark:{tmp_path}/out",
        )
        return read_table(f"ark:{tmp_path}/out", MATRIX)

    first = mfcc("a")
    assert not np.array_equal(first["x"], first["y"])
    np.testing.assert_array_equal(mfcc("b")["y"], first["y"])
    assert not np.array_equal(mfcc("b", "--srand=1")["y"], first["y"])
    none = mfcc("a", "--dither=0")
    np.testing.assert_array_equal(none["x"], none["y"])
    assert 0 < np.abs(none["x"] - first["x"])[:, 0].max() < 0.01  # the energy of the tone


def test_wrong_sample_rate(tmp_path, tone, run_program):
    write_table(f"ark:{tmp_path}/wav", WAVE, {"utt1": Wave(tone[None], RATE)})
    result = run_program(
        "compute-mfcc-feats", f"ark:{tmp_path}/wav", f"ark:{tmp_path}/out", check=False
    )
    assert result.returncode != 0
    assert b"utt1 is sampled at 8000 Hz, not at the 16000 Hz" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_resampling(tmp_path, tone, run_program):
    """The tone at twice the rate, brought back, gives nearly the features of the tone."""
    twice = np.rint(8000 * np.sin(np.arange(2 * RATE) * 0.15))
    write_table(f"ark:{tmp_path}/wav", WAVE, {"x": Wave(tone[None], RATE)})
    write_table(f"ark:{tmp_path}/twice", WAVE, {"x": Wave(twice[None], 2 * RATE)})
    features = []
    for name in ("wav", "twice"):
        run_program(
            "compute-fbank-feats",
            "--sample-frequency=8000",
            "--allow-downsample=true",
            "--dither=20",
            f"ark:{tmp_path}/{name}",
            f"ark:{tmp_path}/out",
        )
        features.append(read_table(f"ark:{tmp_path}/out", MATRIX)["x"][2:-2])
    assert np.abs(features[0] - features[1]).max() < 0.5


@pytest.mark.slow
def test_segments(tmp_path, tone, run_program):
    write_table(f"ark:{tmp_path}/wav", WAVE, {"rec": Wave(tone[None], RATE)})
    (tmp_path / "segments").write_text(
        "s1 rec 0.25 0.5\ns2 rec 0.8 -1\ns3 rec 0.5 1.3\n"
        "late rec 1.5 2\nlong rec 0.5 1.6\nshort rec 0.1 0.15\nother none 0 1\nbad rec x 1\n"
        "channel rec 0 1 1\nreversed rec 0.5 0.2\nfew rec 1\n"
    )
    result = run_program(
        "extract-segments", f"ark:{tmp_path}/wav", tmp_path / "segments", f"ark:{tmp_path}/out"
    )
    assert b"Successfully processed 3 lines out of 11" in result.stderr
    cut = {key: r.samples[0] for key, r in read_table(f"ark:{tmp_path}/out", WAVE).items()}
    np.testing.assert_array_equal(cut["s1"], tone[2000:4000])
    np.testing.assert_array_equal(cut["s2"], tone[6400:])
    np.testing.assert_array_equal(cut["s3"], tone[4000:])
    assert len(cut) == 3
    run_program("wav-copy", f"ark:{tmp_path}/out", f"ark,scp:{tmp_path}/c.ark,{tmp_path}/c.scp")
    assert (tmp_path / "c.ark").read_bytes() == (tmp_path / "out").read_bytes()
    offset = (tmp_path / "c.scp").read_text().splitlines()[1].split()[1]
    run_program("wav-copy", offset, tmp_path / "s2.wav")
    assert (tmp_path / "s2.wav").read_bytes() == wav_bytes(tone[6400:])


# The programs -------------------------------------------------------------------------------------


def test_copy_feats(feats, tmp_path, run_program):
    entries, rspecifier = feats
    run_program(
        "copy-feats",
        "--compress=true",
        "--compression-method=3",
        f"--write-num-frames=ark,t:{tmp_path}/lengths",
        rspecifier,
        f"ark,scp:{tmp_path}/c.ark,{tmp_path}/c.scp",
    )
    assert (tmp_path / "lengths").read_text() == "a 7 \nb 1 \n"
    assert (tmp_path / "c.ark").read_bytes().count(b"BCM2 ") == 2
    copied = read_table(f"scp:{tmp_path}/c.scp", MATRIX)
    for key, matrix in entries.items():
        np.testing.assert_allclose(copied[key], matrix, atol=1e-4)
    result = run_program("copy-feats", rspecifier, "ark,t:-")
    (tmp_path / "text").write_bytes(result.stdout)
    np.testing.assert_allclose(read_table(f"ark:{tmp_path}/text", MATRIX)["a"], entries["a"], 1e-6)


@pytest.mark.slow
def test_dimensions_and_lengths(feats, run_program):
    _, rspecifier = feats
    assert run_program("feat-to-dim", rspecifier, "-").stdout == b"4\n"
    assert run_program("feat-to-dim", rspecifier, "ark,t:-").stdout == b"a 4 \nb 4 \n"
    assert run_program("feat-to-len", rspecifier).stdout == b"8\n"
    assert run_program("feat-to-len", rspecifier, "ark,t:-").stdout == b"a 7 \nb 1 \n"


def test_add_deltas_and_splice_programs(feats, tmp_path, run_program):
    entries, rspecifier = feats
    run_program("add-deltas", "--truncate=3", rspecifier, f"ark:{tmp_path}/d")
    run_program("splice-feats", rspecifier, f"ark:{tmp_path}/s")
    deltas, spliced = (
        read_table(f"ark:{tmp_path}/d", MATRIX),
        read_table(f"ark:{tmp_path}/s", MATRIX),
    )
    for key, matrix in entries.items():
        np.testing.assert_array_equal(deltas[key], add_deltas(matrix[:, :3]))
        np.testing.assert_array_equal(spliced[key], splice(matrix, 4, 4))


def test_transform_programs(feats, tmp_path, rng, run_program):
    """One affine transform for all, and one for each speaker; a missing one is a warning."""
    entries, rspecifier = feats
    matrix = rng.standard_normal((4, 5)).astype("f")
    write_object(f"{tmp_path}/t.mat", lambda writer: writer.matrix(matrix))
    result = run_program("transform-feats", tmp_path / "t.mat", rspecifier, f"ark:{tmp_path}/t")
    out = read_table(f"ark:{tmp_path}/t", MATRIX)
    for key, x in entries.items():
        np.testing.assert_allclose(out[key], x @ matrix[:, :4].T + matrix[:, 4], atol=1e-5)
    log_determinant = np.log(abs(np.linalg.det(matrix[:, :4].astype("d"))))
    assert f"Overall average logdet is {log_determinant:g} over 8 frames" in result.stderr.decode()
    write_table(f"ark:{tmp_path}/spk.mats", MATRIX, {"spk": matrix[:2, :4]})
    (tmp_path / "utt2spk").write_text("a spk\nb other\n")
    result = run_program(
        "transform-feats",
        f"--utt2spk=ark:{tmp_path}/utt2spk",
        f"ark:{tmp_path}/spk.mats",
        rspecifier,
        f"ark:{tmp_path}/t",
    )
    assert b"Applied transform to 1 utterances; 1 had errors." in result.stderr
    np.testing.assert_allclose(
        read_table(f"ark:{tmp_path}/t", MATRIX)["a"], entries["a"] @ matrix[:2, :4].T, atol=1e-5
    )


@pytest.mark.slow
def test_cmvn_programs(feats, tmp_path, run_program):
    entries, rspecifier = feats
    run_program("compute-cmvn-stats", rspecifier, f"ark:{tmp_path}/per-utt")
    run_program("apply-cmvn", f"ark:{tmp_path}/per-utt", rspecifier, f"ark:{tmp_path}/out")
    for matrix in read_table(f"ark:{tmp_path}/out", MATRIX).values():
        np.testing.assert_allclose(matrix.mean(axis=0), 0, atol=1e-6)
    run_program("compute-cmvn-stats", "--binary=false", rspecifier, tmp_path / "global")
    assert (tmp_path / "global").read_text().startswith(" [\n  ")
    run_program("apply-cmvn", "--norm-vars", tmp_path / "global", rspecifier, f"ark:{tmp_path}/out")
    whole = np.vstack(list(read_table(f"ark:{tmp_path}/out", MATRIX).values()))
    np.testing.assert_allclose(whole.std(axis=0), 1, atol=1e-4)
    run_program("apply-cmvn", "--norm-means=false", "ark:none", rspecifier, f"ark:{tmp_path}/out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "feats.ark").read_bytes()
    write_table(f"ark:{tmp_path}/w", VECTOR, {"a": np.eye(1, 7, 2, dtype="f")[0]})
    result = run_program(
        "compute-cmvn-stats", f"--weights=ark:{tmp_path}/w", rspecifier, f"ark:{tmp_path}/weighted"
    )
    assert b"for 1 utterances; 1 had errors." in result.stderr
    weighted = read_table(f"ark:{tmp_path}/weighted", MATRIX)["a"]
    np.testing.assert_allclose(weighted[0], [*entries["a"][2], 1])


@pytest.mark.slow
def test_random_pruning_keeps_the_expectation(golden, kaldi, run_program, tmp_path):
    _, data = kaldi
    model = data / "exp" / "tri2_ali" / "final.mdl"
    posteriors = {
        key: [[(1 + t % 5, 0.25), (2, 0.5)] for t in range(len(matrix))]
        for key, matrix in read_table(f"ark:{golden}/feats.ark", FLOAT_MATRIX).items()
    }
    write_table(f"ark:{tmp_path}/post", POSTERIOR, posteriors)

    def stats(*options):
        arguments = [model, f"ark:{golden}/feats.ark", f"ark:{tmp_path}/post", tmp_path / "acc"]
        run_program("acc-lda", *options, *arguments)
        return read_object(f"{tmp_path}/acc", LdaStatistics.read)

    exact, pruned = stats(), stats("--rand-prune=4.0")
    num_frames = sum(map(len, posteriors.values()))
    assert exact.zero.sum() == pytest.approx(0.75 * num_frames)
    assert pruned.zero.sum() == pytest.approx(0.75 * num_frames, rel=0.1)
    assert (pruned.zero % 4 == 0).all()
    again, other = stats("--rand-prune=4.0"), stats("--rand-prune=4.0", "--srand=1")
    np.testing.assert_array_equal(again.second, pruned.second)
    assert not np.array_equal(other.second, pruned.second)


@pytest.mark.slow
def test_lda_programs(tmp_path, rng, run_program):
    x, classes, _ = labelled(rng)
    for job, rows in enumerate([slice(0, 1000), slice(1000, 4000)], 1):
        part = LdaStatistics(6, 5)
        part.accumulate(x[rows], classes[rows], np.ones(4000)[rows])
        write_object(f"{tmp_path}/{job}.acc", part.write)
    parts = [tmp_path / "1.acc", tmp_path / "2.acc"]
    run_program("sum-lda-accs", tmp_path / "acc", *parts)
    run_program("est-lda", "--dim=2", tmp_path / "parts.mat", *parts)
    result = run_program(
        "est-lda",
        "--dim=2",
        f"--write-full-matrix={tmp_path}/full.mat",
        tmp_path / "lda.mat",
        tmp_path / "acc",
    )
    assert b"Data count is 4000" in result.stderr
    lda = read_object(f"{tmp_path}/lda.mat", Reader.matrix)
    np.testing.assert_allclose(read_object(f"{tmp_path}/parts.mat", Reader.matrix), lda, rtol=1e-3)
    np.testing.assert_array_equal(read_object(f"{tmp_path}/full.mat", Reader.matrix)[:2], lda)
    assert run_program("est-lda", "--dim=6", tmp_path / "x", *parts, check=False).returncode != 0
    run_program(
        "nnet-get-feature-transform",
        f"--write-cholesky={tmp_path}/cholesky",
        f"--write-within-covar={tmp_path}/covar",
        tmp_path / "t.mat",
        *parts,
    )
    assert read_object(f"{tmp_path}/t.mat", Reader.matrix).shape == (5, 6)
    cholesky = read_object(f"{tmp_path}/cholesky", Reader.triangular_matrix)
    covariance = read_object(f"{tmp_path}/covar", Reader.symmetric_matrix)
    np.testing.assert_allclose(cholesky @ cholesky.T, covariance, rtol=1e-4)
    np.testing.assert_allclose(lda @ covariance @ lda.T, np.eye(2), atol=1e-3)


@pytest.mark.slow
def test_copying_and_summing_programs(feats, tmp_path, run_program):
    entries, rspecifier = feats
    run_program("matrix-sum-rows", rspecifier, f"ark:{tmp_path}/sums")
    sums = {key: matrix.sum(axis=0) for key, matrix in entries.items()}
    for key, vector in read_table(f"ark:{tmp_path}/sums", VECTOR).items():
        np.testing.assert_allclose(vector, sums[key], atol=1e-5)
    run_program("vector-sum", f"ark:{tmp_path}/sums", tmp_path / "total")
    total = read_object(f"{tmp_path}/total", Reader.vector)
    np.testing.assert_allclose(total, sums["a"] + sums["b"], atol=1e-5)
    run_program("vector-sum", "--average=true", f"ark:{tmp_path}/sums", tmp_path / "mean")
    np.testing.assert_allclose(read_object(f"{tmp_path}/mean", Reader.vector), total / 2, 1e-5)
    run_program("vector-sum", "--binary=false", *[tmp_path / "total"] * 3, tmp_path / "triple")
    assert (tmp_path / "triple").read_text().startswith(" [ ")
    np.testing.assert_allclose(read_object(f"{tmp_path}/triple", Reader.vector), 3 * total, 1e-5)
    table = f"ark:{tmp_path}/sums"
    run_program("vector-sum", table, table, f"ark:{tmp_path}/twice")
    twice = random_access_table(f"ark:{tmp_path}/twice", VECTOR)
    np.testing.assert_allclose(twice["b"], 2 * sums["b"], atol=1e-5)
    both = f"ark:{tmp_path}/both"
    run_program("matrix-sum", "--scale1=2", "--scale2=-0.5", *[rspecifier] * 3, both)
    np.testing.assert_allclose(read_table(both, MATRIX)["b"], 2.5 * entries["b"], atol=1e-5)
    average = f"ark:{tmp_path}/average"
    run_program("matrix-sum", "--average=true", rspecifier, both, average)
    np.testing.assert_allclose(read_table(average, MATRIX)["a"], 1.75 * entries["a"], atol=1e-5)
    for name, rows in ("m", [[1.0, 2.0]]), ("n", [[1.0], [5.0]]):
        with table_writer(f"ark,scp:{tmp_path}/{name}.ark,{tmp_path}/{name}.scp", MATRIX) as output:
            output.write("key", np.array(rows, np.float32))
            output.write("other", np.array(rows, np.float32))
        run_program("matrix-sum", f"scp:{tmp_path}/{name}.scp", tmp_path / name)
    run_program("matrix-sum", "--average=true", tmp_path / "m", tmp_path / "n", tmp_path / "half")
    half = read_object(f"{tmp_path}/half", lambda reader: reader.matrix(np.float32))
    assert half.tolist() == [[2.0, 2.0], [5.0, 0.0]]
    done = run_program("matrix-sum", tmp_path / "m", both, check=False)
    assert done.returncode == 1 and b"tables and files are mixed" in done.stderr
    run_program("copy-vector", "--change-dim=6", "--scale=2", tmp_path / "total", tmp_path / "v")
    np.testing.assert_allclose(read_object(f"{tmp_path}/v", Reader.vector), [*(2 * total), 0, 0])
    run_program("copy-matrix", "--apply-exp", rspecifier, f"ark:{tmp_path}/exp")
    run_program("copy-matrix", "--apply-log", f"ark:{tmp_path}/exp", f"ark:{tmp_path}/log")
    np.testing.assert_allclose(
        read_table(f"ark:{tmp_path}/log", MATRIX)["a"], entries["a"], atol=1e-5
    )
    (tmp_path / "ali").write_text("a 1 2 \nb \n")
    run_program("copy-int-vector", f"ark:{tmp_path}/ali", f"ark:{tmp_path}/ali.ark")
    result = run_program("copy-int-vector", f"ark:{tmp_path}/ali.ark", "ark,t:-")
    assert result.stdout == b"a 1 2 \nb \n"
    (tmp_path / "one").write_text("[ 3 4 ]\n")
    run_program("copy-int-vector", tmp_path / "one", tmp_path / "one.bin")
    result = run_program("copy-int-vector", "--binary=false", tmp_path / "one.bin", "-")
    assert result.stdout == b"[ 3 4 ]\n"
    mixed = run_program("copy-vector", tmp_path / "total", f"ark:{tmp_path}/x", check=False)
    assert mixed.returncode != 0 and b"one of these is a table" in mixed.stderr


def test_lengths_agree_with_kaldi(golden, tmp_path, run_program):
    run_program("feat-to-len", f"ark:{golden}/feats.ark", f"ark,t:{tmp_path}/lengths")
    lengths = read_table(f"ark:{tmp_path}/lengths", INTEGER)
    with open(golden / "pdf_ali.txt") as alignments:
        assert lengths == {line.split()[0]: len(line.split()) - 1 for line in alignments}
