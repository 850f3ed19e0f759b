"""The drivers that make the feature transform and the examples, on 50 short utterances."""

import gzip
import shutil

import numpy as np
import pytest
from archives import read_table

from nnet.drivers.egs_dir import egs_format, missing_egs, training_archives, training_table
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.egs.programs import copy_examples
from nnet.egs.record import EXAMPLE
from nnet.errors import NgtrainError
from nnet.features.pasting import paste, randomize_later, subsample
from nnet.features.utterances import Skip
from nnet.io.tables import INTEGERS, MATRIX, table_writer
from nnet.io.tokens import Reader, read_object
from nnet.launch.commands import JOB

NUM_JOBS = 2
NUM_UTTS_SUBSET = 8
EGS_OPTIONS = [
    *["--frames-per-eg", 3, "--samples-per-iter", 250, "--num-frames-diagnostic", 100],
    *["--num-train-frames-combine", 120, "--num-valid-frames-combine", 30, "--srand", 1],
]


def lines(path):
    return path.read_text().splitlines()


@pytest.fixture(scope="module")
def features(golden):
    return read_table(f"ark:{golden}/feats.ark", MATRIX)


@pytest.fixture(scope="module")
def labels(golden):
    return read_table(f"ark:{golden}/pdf_ali.txt", INTEGERS)


@pytest.fixture(scope="module")
def experiment(shared, golden, run_program, tmp_path_factory, features):
    """A data directory of 50 utterances by 3 speakers, and Kaldi's alignment of it in 2 jobs."""
    root = tmp_path_factory.mktemp("experiment")
    data, ali = root / "data", root / "ali"
    data.mkdir()
    ali.mkdir()
    speaker = {key: key.rpartition("-")[0] for key in features}
    (data / "utt2spk").write_text("".join(f"{key} {speaker[key]}\n" for key in features))
    run_program("copy-feats", f"ark:{golden}/feats.ark", f"ark,scp:{data}/ark,{data}/feats.scp")
    (data / "spk2utt").write_bytes(run_program("utt2spk_to_spk2utt.py", data / "utt2spk").stdout)
    run_program("compute_cmvn_stats.py", data, root / "log", root / "cmvn")
    run_program("split_data.py", data, NUM_JOBS)

    source = shared / "kaldi/exp/tri2_ali"
    for name in "final.mdl", "tree", "phones.txt":
        shutil.copy(source / name, ali)
    everything = read_table(f"ark:gunzip -c {source}/ali.1.gz {source}/ali.2.gz |", INTEGERS)
    for job in range(1, NUM_JOBS + 1):
        keys = [line.split()[0] for line in lines(data / f"split{NUM_JOBS}/{job}/utt2spk")]
        with gzip.open(ali / f"ali.{job}.gz", "wt") as file:
            for key in keys:
                file.write(f"{key} {' '.join(map(str, everything[key].tolist()))}\n")
    (ali / "num_jobs").write_text(f"{NUM_JOBS}\n")
    return root


@pytest.fixture(scope="module")
def get_egs(run_program, experiment):
    def run(name, *options, check=True):
        return run_program(
            "get_egs2.py",
            *["--num-utts-subset", NUM_UTTS_SUBSET, "--left-context", 2, "--right-context=3"],
            *[*options, experiment / "data", experiment / "ali", experiment / name],
            check=check,
        )

    return run


@pytest.fixture(scope="module")
def egs(get_egs, experiment):
    """With 2093 frames, 250 examples of 3 frames per archive make 3 archives."""
    get_egs("egs", *EGS_OPTIONS)
    return experiment / "egs"


def origin(utterance):
    """The utterances of utt2uniq: every six are versions of one."""
    return f"{utterance.rpartition('-')[0]}-{int(utterance[-2:]) // 6}"


@pytest.fixture(scope="module")
def small(get_egs, experiment, features, egs):
    """The same little data twice, with versions of the same utterance among it."""
    utt2uniq = experiment / "data/utt2uniq"
    utt2uniq.write_text("".join(f"{key} {origin(key)}\n" for key in features))
    options = ["--samples-per-iter", 500, "--num-frames-diagnostic", 50, "--srand", 3]
    said = [get_egs(name, *options).stderr.decode() for name in ("small", "again")]
    utt2uniq.unlink()
    return said[0], [experiment / name for name in ("small", "again")]


def check_contents(egs, keys_and_examples, features, labels, spread=0.02):
    """That each example is the part of its utterance, normalized, that its key says."""
    mean = {}
    for key in features:
        mean.setdefault(key.rpartition("-")[0], []).append(features[key])
    mean = {speaker: np.concatenate(parts).mean(axis=0) for speaker, parts in mean.items()}
    for key, example in keys_and_examples:
        utterance, _, start = key.rpartition("-")
        frames = features[utterance] - mean[utterance.rpartition("-")[0]]
        start, count = int(start), example.num_frames
        pdfs = labels[utterance][start : start + count].tolist()
        assert example.labels == [[(pdf, 1.0)] for pdf in pdfs]
        rows = np.clip(np.arange(start - 2, start + count + 3), 0, len(frames) - 1)
        difference = example.input_frames.decompress() - frames[rows]
        assert np.abs(difference).max() < spread * np.ptp(frames)


def test_held_out_and_training_utterances(egs, features):
    valid, train_subset = (
        set(lines(egs / f"{kind}_uttlist")) for kind in ("valid", "train_subset")
    )
    assert len(valid) == len(train_subset) == NUM_UTTS_SUBSET
    assert not valid & train_subset
    assert valid | train_subset <= features.keys()


def test_training_archives_hold_all_other_frames_once(egs, features, labels):
    files = [path for path in (egs / "info").iterdir() if path.is_file()]
    info = {path.name: path.read_text().strip() for path in files}
    assert info.pop("egs_format") == "ark"
    assert {name: int(value) for name, value in info.items()} == {
        "num_frames": 2093,
        "num_archives": 3,
        "frames_per_eg": 3,
        "egs_per_archive": 232,
        "left_context": 2,
        "right_context": 3,
        "ivector_dim": 0,
    }
    archives = [list(read_table(f"ark:{egs}/egs.{n}.ark", EXAMPLE).items()) for n in (1, 2, 3)]
    assert all(len(archive) > 150 for archive in archives)
    everything = sorted(key for archive in archives for key, _ in archive)
    valid = set(lines(egs / "valid_uttlist"))
    expected = [
        f"{key}-{t}"
        for key in features
        if key not in valid
        for t in range(0, len(features[key]), 3)
    ]
    assert everything == sorted(expected)
    for archive in archives:
        check_contents(egs, archive, features, labels)
        keys = [key for key, _ in archive]
        assert keys != sorted(keys)
        assert len({key.rpartition("-")[0] for key in keys[:20]}) > 10


def test_subsets_hold_single_frames_of_their_utterances(egs, features, labels):
    keys = {}
    for name, size in ("valid_diagnostic", 100), ("train_diagnostic", 100), ("combine", 150):
        examples = read_table(f"ark:{egs}/{name}.egs", EXAMPLE)
        assert len(examples) == size
        check_contents(egs, examples.items(), features, labels)
        keys[name] = [key.rpartition("-")[0] for key in examples]
    valid, train_subset = (
        set(lines(egs / f"{kind}_uttlist")) for kind in ("valid", "train_subset")
    )
    assert set(keys["valid_diagnostic"]) <= valid
    assert set(keys["train_diagnostic"]) <= train_subset
    assert set(keys["combine"][:30]) <= valid
    assert set(keys["combine"][30:]) <= train_subset


def test_the_directory_is_valid(egs, run_program):
    """Each archive and subset has its counts and checksum in info/archives, and they are right."""
    said = run_program("validate_egs_dir.py", egs).stderr.decode()
    assert said.endswith(f": Successfully validated directory of examples {egs}\n")
    assert "warning" not in said


def test_nothing_else_is_left(egs):
    examples = "egs.1.ark egs.2.ark egs.3.ark combine.egs train_diagnostic.egs valid_diagnostic.egs"
    assert sorted(p.name for p in (egs / "info/archives").iterdir()) == sorted(examples.split())
    others = "cmvn_opts info log tree train_subset_uttlist valid_uttlist"
    assert sorted(p.name for p in egs.iterdir()) == sorted(f"{examples} {others}".split())


def test_little_data_goes_into_one_archive_with_fewer_frames_per_example(small):
    said, (egs, _) = small
    assert "reduced frames_per_eg to 5 because amount of data is small." in said
    info = egs / "info"
    assert [(info / n).read_text() for n in ("num_archives", "frames_per_eg")] == ["1\n", "5\n"]
    archive = read_table(f"ark:{egs}/egs.1.ark", EXAMPLE)
    assert max(example.num_frames for example in archive.values()) == 5


def test_utterances_of_one_origin_are_held_out_together(small, features):
    _, (egs, _) = small
    valid = lines(egs / "valid_uttlist")
    origins = {origin(key) for key in valid}
    assert len(valid) > NUM_UTTS_SUBSET
    assert sorted(valid) == sorted(key for key in features if origin(key) in origins)


def test_utterances_without_an_origin(get_egs, experiment):
    utt2uniq = experiment / "data/utt2uniq"
    utt2uniq.write_text("somebody else\n")
    result = get_egs("none", check=False)
    utt2uniq.unlink()
    assert result.returncode == 1
    assert "/utt2uniq lacks 50 of 50 utterances, such as " in result.stderr.decode()


def test_the_same_seed_makes_the_same_examples(small):
    _, (egs, again) = small
    for name in "egs.1.ark", "combine.egs", "valid_diagnostic.egs", "train_diagnostic.egs":
        assert (again / name).read_bytes() == (egs / name).read_bytes()


def test_hdf5_holds_the_same_examples_in_the_same_order(egs, get_egs, experiment, tmp_path):
    get_egs("stored", *EGS_OPTIONS, "--egs-format", "h5")
    stored = experiment / "stored"
    assert egs_format(stored) == "h5" and egs_format(egs) == "ark"
    assert sorted(path.name for path in training_archives(stored)) == [
        "egs.1.h5",
        "egs.2.h5",
        "egs.3.h5",
    ]
    for n in 1, 2, 3:
        copy_examples(training_table(stored, n), [f"ark:{tmp_path}/egs"])
        assert (tmp_path / "egs").read_bytes() == (egs / f"egs.{n}.ark").read_bytes()
    for name in "combine.egs", "valid_diagnostic.egs":
        assert (stored / name).read_bytes() == (egs / name).read_bytes()
    (stored / "info/egs_format").write_text("zip")
    with pytest.raises(NgtrainError, match="expected one of ark, h5, found 'zip'"):
        egs_format(stored)


def test_old_archives_do_not_stay_beside_new_ones(small, get_egs):
    """A stage that cannot be done, for its input is gone, leaves no archives of another run."""
    _, (_, again) = small
    result = get_egs("again", "--samples-per-iter", 500, "--stage", 4, check=False)
    assert result.returncode == 1
    assert not list(again.glob("egs.*.ark"))
    assert (again / "combine.egs").exists()


def test_too_little_data_is_refused(get_egs, experiment):
    result = get_egs("none", "--num-utts-subset", 13, check=False)
    assert result.returncode == 1
    message = result.stderr.decode().splitlines()[-1]
    assert "number of utterances 50 in your training data is too small" in message
    assert not list((experiment / "none").glob("*.ark"))


def test_a_job_that_fails_is_named(get_egs, experiment):
    """Alignments that cannot be read: one line says so, and no archive is left."""
    ali = experiment / "ali"
    good = (ali / "ali.2.gz").read_bytes()
    (ali / "ali.2.gz").write_bytes(good[: len(good) // 2])
    try:
        result = get_egs("broken", check=False)
    finally:
        (ali / "ali.2.gz").write_bytes(good)
    assert result.returncode == 1
    assert "error" in result.stderr.decode().splitlines()[-1]
    assert not list((experiment / "broken").glob("egs.*.ark"))
    assert not (experiment / "broken/combine.egs").exists()


def test_relabelling_a_directory(egs, experiment, run_program):
    run_program("relabel_egs2.py", experiment / "ali", egs, experiment / "relabelled")
    archives = ["egs.1.ark", "egs.2.ark", "egs.3.ark", "combine.egs"]
    info = [f"info/{name}" for name in ("num_archives", "archives/egs.1.ark")]
    for name in [*archives, *info]:
        assert (experiment / "relabelled" / name).read_bytes() == (egs / name).read_bytes()
    assert not missing_egs(experiment / "relabelled")
    result = run_program("relabel_egs2.py", experiment / "ali", egs, egs, check=False)
    assert result.returncode == 1 and b"are the same directory" in result.stderr


def test_relabelling_that_fails(egs, experiment, run_program):
    """Old labels and new ones do not look like a directory that is whole."""
    ali, relabelled = experiment / "bad_ali", experiment / "half_relabelled"
    shutil.copytree(experiment / "ali", ali)
    run_program("relabel_egs2.py", ali, egs, relabelled)
    (ali / "ali.2.gz").write_bytes((ali / "ali.2.gz").read_bytes()[:-10])
    result = run_program("relabel_egs2.py", ali, egs, relabelled, check=False)
    assert result.returncode == 1
    assert missing_egs(relabelled) == [relabelled / "info/num_archives"]


def test_the_feature_transform(experiment, run_program, shared):
    exp = experiment / "nnet"
    run_program(
        "get_lda.py",
        *["--left-context", 1, "--right-context", 2, "--rand-prune", 0, "--lda-dim", 30],
        *[experiment / "data", shared / "kaldi/data/lang", experiment / "ali", exp],
    )
    dims = [int((exp / name).read_text()) for name in ("feat_dim", "lda_dim", "ivector_dim")]
    assert dims == [40, 30, 0]
    assert (exp / "num_jobs").read_text() == f"{NUM_JOBS}\n"
    assert read_object(str(exp / "lda.mat"), Reader.matrix).shape == (30, 161)
    for name in "tree", "phones.txt", "cmvn_opts", "cholesky.tpmat", "within_covar.spmat":
        assert (exp / name).is_file()
    assert not list(exp.glob("lda.*.acc"))


def test_ivectors_are_appended(experiment, features, shared, run_program, get_egs):
    """One i-vector per 10 frames: seen by the transform, stored once in an example."""
    directory = experiment / "ivectors"
    directory.mkdir()
    rng = np.random.default_rng(0)
    ivectors = {key: rng.standard_normal((-(-len(f) // 10), 3)) for key, f in features.items()}
    with table_writer(f"ark,scp:{directory}/ark,{directory}/ivector_online.scp", MATRIX) as writer:
        for key, matrix in ivectors.items():
            writer.write(key, matrix.astype(np.float32))
    (directory / "ivector_period").write_text("10\n")
    options = ["--online-ivector-dir", directory]
    run_program(
        *["get_lda.py", *options, "--left-context", 1, "--right-context", 0],
        *["--ivector-randomize-prob", 0.3, experiment / "data", shared / "kaldi/data/lang"],
        *[experiment / "ali", experiment / "nnet_ivectors"],
    )
    exp = experiment / "nnet_ivectors"
    dims = [int((exp / name).read_text()) for name in ("feat_dim", "lda_dim", "ivector_dim")]
    assert dims == [40, 83, 3]
    run_program(
        "nnet-get-egs",
        *["--const-feat-dim=3", "--num-frames=5"],
        FeaturePipeline.of(experiment / "ali", online_ivector_dir=directory).rspecifier(
            experiment / "data"
        ),
        *[f"ark:ali-to-post ark:{shared}/kaldi/golden/pdf_ali.txt ark:- |", f"ark:{exp}/egs"],
    )
    examples = read_table(f"ark:{exp}/egs", EXAMPLE)
    assert len(examples) == sum(-(-len(f) // 5) for f in features.values())
    for key, example in examples.items():
        utterance, _, start = key.rpartition("-")
        np.testing.assert_allclose(
            example.spk_info, ivectors[utterance][int(start) // 10], rtol=1e-5, atol=1e-6
        )


def test_pasting_and_subsampling():
    frames = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(paste([frames, frames[:5]], 1), np.hstack([frames, frames])[:5])
    with pytest.raises(Skip, match=r"Length mismatch 6 vs\. 4 exceeds tolerance 1"):
        paste([frames, frames[:4]], 1)
    np.testing.assert_array_equal(subsample(frames, 4, 1), frames[[1, 5]])
    np.testing.assert_array_equal(subsample(frames[:2], -2), frames[[0, 0, 1, 1]])
    with pytest.raises(Skip):
        subsample(frames, 2, 6)
    with pytest.raises(NgtrainError, match="n cannot be 0"):
        subsample(frames, 0)
    vectors = np.arange(1000.0)[:, None]
    mixed = randomize_later(vectors, 0.3, np.random.default_rng(0))
    assert (mixed >= vectors).all()
    assert 230 < (mixed > vectors).sum() < 370


# What is done to features -------------------------------------------------------------------------


def test_raw_features(tmp_path):
    (tmp_path / "cmvn_opts").write_text("--norm-vars=true\n")
    assert FeaturePipeline.of(tmp_path).rspecifier("data") == (
        "ark,s,cs:apply-cmvn --norm-vars=true --utt2spk=ark:data/utt2spk scp:data/cmvn.scp "
        "scp:data/feats.scp ark:- |"
    )
    pipeline = FeaturePipeline.of(tmp_path, cmvn_opts="--norm-means=false", delta_order="2")
    (tmp_path / "exp").mkdir()
    assert pipeline.save(tmp_path / "exp") == pipeline == FeaturePipeline.of(tmp_path / "exp")
    assert pipeline.rspecifier("data/JOB", select=["head", "-3", "feats.scp"]) == (
        "ark,s,cs:head -3 feats.scp | apply-cmvn --norm-means=false --utt2spk=ark:data/JOB/utt2spk "
        "scp:data/JOB/cmvn.scp scp:- ark:- | add-deltas --delta-order=2 ark:- ark:- |"
    )


def test_lda_features_with_transforms(tmp_path, caplog):
    for name in "final.mat", "trans.1", "trans.2":
        (tmp_path / name).write_text(name)
    (tmp_path / "num_jobs").write_text("2\n")
    (tmp_path / "splice_opts").write_text("--left-context=3\n")
    (tmp_path / "exp").mkdir()
    pipeline = FeaturePipeline.of(tmp_path, transform_dir=tmp_path).save(tmp_path / "exp")
    base = (
        "ark,s,cs:apply-cmvn --utt2spk=ark:d/utt2spk scp:d/cmvn.scp scp:d/feats.scp ark:- | "
        "splice-feats --left-context=3 ark:- ark:- | "
        f"transform-feats {tmp_path}/exp/final.mat ark:- ark:- | "
    )
    assert pipeline.rspecifier("d", num_jobs=2) == (
        f"{base}transform-feats --utt2spk=ark:d/utt2spk ark:{tmp_path}/trans.{JOB} ark:- ark:- |"
    )
    every = f"'ark:cat {tmp_path}/trans.1 {tmp_path}/trans.2 |'"
    assert (
        pipeline.rspecifier("d", num_jobs=3)
        == pipeline.rspecifier("d")
        == (f"{base}transform-feats --utt2spk=ark:d/utt2spk {every} ark:- ark:- |")
    )
    caplog.clear()
    assert FeaturePipeline.of(tmp_path / "exp").transform_dir is None
    assert f"were, by the transforms in {tmp_path}: --transform-dir says where" in caplog.text
    assert pipeline.unsaved_words() == ["--feat-type", "lda", "--transform-dir", tmp_path]
    given = {"feat_type": "lda", "transform_dir": str(tmp_path)}
    caplog.clear()
    assert FeaturePipeline.of(tmp_path / "exp", **given) == pipeline
    assert not caplog.text
    assert FeaturePipeline.of(tmp_path, feat_type="raw").lda_matrix is None


def test_features_of_an_earlier_run_are_forgotten(tmp_path):
    for name in "final.mat", "trans.1", "num_jobs":
        (tmp_path / name).write_text("1\n")
    (tmp_path / "exp").mkdir()
    FeaturePipeline.of(tmp_path, transform_dir=tmp_path).save(tmp_path / "exp")
    (tmp_path / "final.mat").unlink()
    for delta_order in "2", "":
        raw = FeaturePipeline.of(tmp_path, delta_order=delta_order)
        raw.save(tmp_path / "exp")
        assert FeaturePipeline.of(tmp_path / "exp") == raw


def test_transforms_that_do_not_fit(tmp_path):
    """A name that is wrong, and transforms of features by another LDA matrix."""
    exp, decoded = tmp_path / "exp", tmp_path / "other/decode"
    for directory in exp, decoded:
        directory.mkdir(parents=True)
        (directory / "final.mat").write_text(directory.name)
    with pytest.raises(NgtrainError, match=r"no such file: .*/other/decode/trans\.1"):
        FeaturePipeline.of(exp, transform_dir=decoded)
    for name in "trans.1", "num_jobs":
        (decoded / name).write_text("1\n")
    with pytest.raises(NgtrainError, match=r"the transforms in .*/decode are of other features"):
        FeaturePipeline.of(exp, transform_dir=decoded)
    shutil.copyfile(exp / "final.mat", decoded / "../final.mat")
    assert FeaturePipeline.of(exp, transform_dir=decoded).transform_dir == decoded


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"feat_type": "plp"}, "--feat-type is raw or lda, not plp"),
        ({"feat_type": "lda"}, "no such file: .*/final.mat"),
        ({"feat_type": "lda", "cmvn_opts": "--norm-vars=true"}, "are for raw features"),
        ({"online_ivector_dir": "nowhere"}, "no such file: nowhere/ivector_online.scp"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, reason):
    with pytest.raises(NgtrainError, match=reason):
        FeaturePipeline.of(tmp_path, **options)
