"""Decoding, alignment, priors and scoring, with Kaldi's network on the real recordings."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnet.decoding.alignment import AlignmentOptions
from nnet.decoding.decoder import Decoder, SearchOptions, parse_values
from nnet.decoding.fst import ArrayFst
from nnet.decoding.graph import add_word_insertion_penalty
from nnet.decoding.scoring import WordErrors, score
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.errors import NgtrainError
from nnet.io.tables import INTEGERS, MATRIX, REAL, VECTOR, sequential_table, table_writer
from nnet.io.tokens import write_object
from nnet.model.acoustic_model import AcousticModel, load_network

SEARCH = SearchOptions(beam=15.0, max_active=7000, min_active=20)


@pytest.fixture(scope="module")
def kaldi(reference):
    return reference("kaldi/exp/nnet_ms/final.mdl").parents[2]


@pytest.fixture(scope="module")
def model(kaldi):
    return AcousticModel.load(str(kaldi / "exp/nnet_ms/final.mdl"))


def data_dir(kaldi: Path, name: str, target: Path) -> Path:
    """A copy of a data directory whose paths hold everywhere."""
    shutil.copytree(kaldi / "data" / name, target)
    target.chmod(0o755)
    for file in target.iterdir():
        file.chmod(0o644)
        if file.suffix == ".scp":
            file.write_text(file.read_text().replace("../shared/kaldi", str(kaldi)))
    return target


def keep_every(data: Path, step: int) -> None:
    """Keep only every so-many-th utterance."""
    kept = {line.split()[0] for line in (data / "utt2spk").read_text().splitlines()[::step]}
    for name in "feats.scp", "text", "utt2spk", "wav.scp":
        lines = (data / name).read_text().splitlines(keepends=True)
        (data / name).write_text("".join(line for line in lines if line.split()[0] in kept))


@pytest.fixture(scope="module")
def experiment(kaldi, tmp_path_factory):
    """The experiment directory of Kaldi's network, and small data directories beside it."""
    directory = tmp_path_factory.mktemp("exp")
    nnet = directory / "nnet"
    nnet.mkdir()
    for name in "final.mdl", "tree", "cmvn_opts", "splice_opts":
        shutil.copyfile(kaldi / "exp/nnet_ms" / name, nnet / name)
    for name in "final.mat", "phones.txt":
        shutil.copyfile(kaldi / "exp/tri2_ali" / name, nnet / name)
    for name, step in ("test", 20), ("train", 40):
        keep_every(data_dir(kaldi, name, directory / name), step)
    return directory


@pytest.fixture(scope="module")
def test_features(kaldi, environment, tmp_path_factory):
    """The features of the whole test set, as the network wants them."""
    data = data_dir(kaldi, "test", tmp_path_factory.mktemp("data") / "test")
    return dict(
        sequential_table(FeaturePipeline.of(kaldi / "exp/tri2_ali").rspecifier(data), MATRIX)
    )


@pytest.fixture(scope="module")
def test_likelihoods(model, test_features):
    return {key: model.log_likelihoods(features) for key, features in test_features.items()}


# --- Models ---------------------------------------------------------------------------------------


def test_models_are_rewritten_byte_for_byte(kaldi, model, tmp_path):
    model.save(str(tmp_path / "final.mdl"))
    assert (tmp_path / "final.mdl").read_bytes() == (kaldi / "exp/nnet_ms/final.mdl").read_bytes()


def test_network_alone_or_in_a_model(kaldi, model, tmp_path):
    write_object(str(tmp_path / "raw"), model.network.write)
    raw, inside = (
        load_network(str(tmp_path / "raw")),
        load_network(str(kaldi / "exp/nnet_ms/final.mdl")),
    )
    assert raw.info() == inside.info() == model.network.info()


@pytest.mark.slow
def test_likelihoods_are_posteriors_over_priors(model, test_features):
    features = next(iter(test_features.values()))
    posteriors = np.exp(model.log_likelihoods(features)) * model.priors
    assert posteriors.sum(axis=1) == pytest.approx(np.ones(len(features)), rel=1e-4)


def test_likelihoods_need_priors_and_finite_features(kaldi, test_features):
    model = AcousticModel.load(str(kaldi / "exp/nnet_ms/final.mdl"))
    features = next(iter(test_features.values())).copy()
    features[3, 5] = np.nan
    with pytest.raises(NgtrainError, match=r"utterance u1: .* NaN"):
        model.log_likelihoods(features, "u1")
    model.set_priors(np.zeros(0))
    with pytest.raises(NgtrainError, match="priors"):
        model.log_likelihoods(np.zeros((10, 40), np.float32))


def test_priors_beyond_the_outputs_are_refused(model):
    with pytest.raises(NgtrainError, match="129 priors"):
        model.set_priors(np.ones(129))


# --- Decoding -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("lmwt", "errors"), [(20, 82), (40, 64)])
def test_word_errors_are_those_of_kaldis_likelihoods(kaldi, model, test_likelihoods, lmwt, errors):
    """Kaldi's likelihoods give 8.2 % at a scale of 1/20 and 6.4 % at 1/40 (shared/README.md)."""
    words = SymbolTable.load(str(kaldi / "data/lang/words.txt"))
    lines = (kaldi / "data/test/text").read_text().splitlines()
    references = {key: text for key, *text in map(str.split, lines)}
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    decoder = Decoder(graph, model.transition_model, SEARCH)
    hypotheses = {
        key: [words[word] for word in decoder.decode(matrix, 1 / lmwt).words]
        for key, matrix in test_likelihoods.items()
    }
    result = score(references.items(), hypotheses, "strict")
    assert result.num_sentences == 1000
    # The last digits of likelihoods decide between equals.
    assert abs(result.total - errors) <= 1


def test_path_is_what_the_costs_say(kaldi, model, test_likelihoods):
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    decoder = Decoder(graph, model.transition_model, SEARCH)
    matrix = next(iter(test_likelihoods.values()))
    path = decoder.decode(matrix, 0.1)
    assert len(path.alignment) == len(matrix)
    pdfs = model.transition_model.pdf_of[path.alignment]
    acoustic = 0.1 * matrix[np.arange(len(matrix)), pdfs].sum()
    assert -path.acoustic_cost == pytest.approx(acoustic, rel=1e-4)
    # A penalty is paid once a word.
    dearer = Decoder(add_word_insertion_penalty(graph, 0.25), model.transition_model, SEARCH)
    penalized = dearer.decode(matrix, 0.1)
    assert penalized.words == path.words
    extra = penalized.graph_cost - path.graph_cost
    assert extra == pytest.approx(0.25 * len(path.words), abs=1e-3)


def test_penalties_lessen_insertions(kaldi, model, test_likelihoods):
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    counts = []
    for penalty in -10.0, 0.0, 10.0:
        decoder = Decoder(
            add_word_insertion_penalty(graph, penalty), model.transition_model, SEARCH
        )
        some = list(test_likelihoods.values())[::10]
        counts.append(sum(len(decoder.decode(matrix, 0.1).words) for matrix in some))
    assert counts[0] > counts[1] > counts[2] == 100


def test_utterance_too_short_for_any_word(kaldi, model, test_likelihoods):
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    decoder = Decoder(graph, model.transition_model, SEARCH)
    matrix = next(iter(test_likelihoods.values()))[:3]
    assert decoder.decode(matrix, 0.1) is None
    assert len(decoder.decode(matrix, 0.1, allow_partial=True).alignment) == 3


def test_values_of_options():
    assert parse_values("7:9,20:60:20,0.5") == ["7", "8", "9", "20", "40", "60", "0.5"]
    for text in "", "a", "1:", "5:4", "1:2:3:4", "1:9:0":
        with pytest.raises(NgtrainError):
            parse_values(text)


def test_decoding_program(run_program, kaldi, test_features, tmp_path):
    keys = list(test_features)[::100]
    with table_writer(f"ark:{tmp_path}/feats", MATRIX) as table:
        for key in keys:
            table.write(key, test_features[key])
    arguments = [
        *(kaldi / "exp/nnet_ms/final.mdl", kaldi / "exp/tri2/graph/HCLG.fst"),
        f"ark:{tmp_path}/feats",
    ]
    result = run_program(
        "nnet-decode-faster",
        "--inv-acoustic-scales=10,40",
        "--word-ins-penalties=0.0,1.0",
        *arguments,
        f"ark,t:{tmp_path}/words_LMWT_PENALTY",
        f"ark:{tmp_path}/ali_LMWT_PENALTY",
    )
    assert b"Done 10 utterances, failed for 0" in result.stderr
    run_program(
        "nnet-decode-faster", "--acoustic-scale=0.025", *arguments, f"ark,t:{tmp_path}/words"
    )
    assert (tmp_path / "words").read_text() == (tmp_path / "words_40_0.0").read_text()
    for lmwt in 10, 40:
        for penalty in "0.0", "1.0":
            words = (tmp_path / f"words_{lmwt}_{penalty}").read_text().splitlines()
            assert [line.split()[0] for line in words] == keys
            for key, alignment in sequential_table(
                f"ark:{tmp_path}/ali_{lmwt}_{penalty}", INTEGERS
            ):
                assert len(alignment) == len(test_features[key])
    clash = run_program(
        "nnet-decode-faster",
        "--inv-acoustic-scales=10,40",
        *(*arguments, f"ark,t:{tmp_path}/all"),
        check=False,
    )
    assert clash.returncode != 0 and b"LMWT" in clash.stderr
    assert not (tmp_path / "all").exists()


# --- Alignment ------------------------------------------------------------------------------------


def test_alignment_driver(run_program, kaldi, experiment, model):
    run_program(
        *("align.py", "--nj", "2", experiment / "train", kaldi / "data/lang"),
        *(experiment / "nnet", experiment / "ali"),
    )
    assert (experiment / "ali/num_jobs").read_text() == "2\n"
    names = {path.name for path in (experiment / "ali").iterdir()}
    assert {"tree", "final.mdl", "final.mat", "cmvn_opts", "splice_opts", "phones.txt"} <= names
    theirs = dict(sequential_table(f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.*.gz |", INTEGERS))
    ours = dict(sequential_table(f"ark:gunzip -c {experiment}/ali/ali.*.gz |", INTEGERS))
    assert len(ours) == 50
    pdf_of = model.transition_model.pdf_of
    agree = [pdf_of[ours[key]] == pdf_of[theirs[key]] for key in ours]
    # The network was trained on these alignments, and finds them again but for their borders.
    assert np.concatenate(agree).mean() > 0.97


def test_alignment_program_writes_scores(run_program, kaldi, experiment, model, tmp_path):
    (tmp_path / "tra").write_text("george-0-00 11\nnobody 11\n")
    source = experiment / "nnet"
    features = FeaturePipeline.of(source).rspecifier(experiment / "train")
    feats = dict(sequential_table(features, MATRIX))
    run_program(
        "compile-train-graphs",
        *(source / "tree", source / "final.mdl", kaldi / "data/lang/L.fst"),
        *(f"ark:{tmp_path}/tra", f"ark:{tmp_path}/fsts"),
    )
    result = run_program(
        "nnet-align-compiled",
        *("--acoustic-scale=0.1", "--self-loop-scale=0.1", "--beam=10", "--retry-beam=40"),
        f"--write-per-frame-acoustic-loglikes=ark:{tmp_path}/frames",
        *(source / "final.mdl", f"ark:{tmp_path}/fsts", features),
        *(f"ark:{tmp_path}/ali", f"ark:{tmp_path}/scores"),
    )
    assert b"Retried 0 out of 2 utterances." in result.stderr
    assert b"Done 1, errors on 1" in result.stderr
    [(key, alignment)] = sequential_table(f"ark:{tmp_path}/ali", INTEGERS)
    [(_, total)] = sequential_table(f"ark:{tmp_path}/scores", REAL)
    [(_, frames)] = sequential_table(f"ark:{tmp_path}/frames", VECTOR)
    pdfs = model.transition_model.pdf_of[alignment]
    likelihoods = model.log_likelihoods(feats[key])
    assert frames == pytest.approx(likelihoods[np.arange(len(pdfs)), pdfs], abs=1e-4)
    scaled = model.transition_model.scaled_log_probs(1.0, 0.1)[alignment].sum()
    lexicon_cost = 0.1 * frames.sum() + scaled - total
    assert lexicon_cost == pytest.approx(2 * np.log(2), abs=0.01)  # silence or none, twice


@pytest.mark.parametrize("beams", [(0, 0), (10, 5), (-1, 0)])
def test_beams_that_make_no_sense(beams):
    with pytest.raises(NgtrainError, match="beams"):
        AlignmentOptions(*beams)


def test_flat_start_driver(run_program, kaldi, experiment):
    ali = experiment / "mono_ali"
    run_program(*("flat_start.py", "--nj", "9", experiment / "train", kaldi / "data/lang", ali))
    assert (ali / "num_jobs").read_text() == "4\n"  # one for each speaker
    phones = run_program(
        "ali-to-phones", ali / "final.mdl", f"ark:gunzip -c {ali}/ali.*.gz |", "ark,t:-"
    ).stdout.decode()
    rows = dict(line.split(" ", 1) for line in phones.splitlines())
    assert len(rows) == 50
    spoken = [phone for phone in rows["george-0-00"].split() if phone != "1"]
    assert spoken == ["20", "8", "13", "12"]  # Z IH R OW
    silences = [row.split()[0] == "1" for row in rows.values()]
    assert 10 < sum(silences) < 40


# --- Priors and transitions -----------------------------------------------------------------------


def test_training_of_transitions_gives_kaldis_model(run_program, kaldi, tmp_path):
    """0.mdl is what Kaldi's nnet-train-transitions wrote, from these alignments."""
    expected = AcousticModel.load(str(kaldi / "exp/nnet_ms/0.mdl"))
    changed = AcousticModel.load(str(kaldi / "exp/nnet_ms/0.mdl"))
    changed.transition_model.log_probs[1:] = np.log(0.25)
    changed.set_priors(np.full(128, 1 / 128))
    changed.save(str(tmp_path / "in.mdl"))
    result = run_program(
        "nnet-train-transitions",
        *(tmp_path / "in.mdl", f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.*.gz |"),
        tmp_path / "out.mdl",
    )
    trained = AcousticModel.load(str(tmp_path / "out.mdl"))
    assert trained.transition_model.log_probs == pytest.approx(
        expected.transition_model.log_probs, abs=2e-7
    )
    assert trained.priors == pytest.approx(expected.priors, abs=1e-8)
    assert b"18 probabilities floored, 0 out of 140 transition-states skipped" in result.stderr


def test_adjusting_priors(run_program, kaldi, tmp_path):
    sums = np.arange(128, dtype=np.float32)  # the first pdf was never likely
    write_object(str(tmp_path / "sums"), lambda writer: writer.vector(sums))
    source = kaldi / "exp/nnet_ms/final.mdl"
    result = run_program("nnet-adjust-priors", source, tmp_path / "sums", tmp_path / "out.mdl")
    adjusted = AcousticModel.load(str(tmp_path / "out.mdl"))
    assert adjusted.priors[1:] == pytest.approx(sums[1:] / sums.sum(), rel=1e-6)
    assert adjusted.priors[0] == pytest.approx(1e-15)
    old = AcousticModel.load(str(source)).priors
    most = int(np.abs(adjusted.priors - old).argmax())
    assert f"largest absolute difference was for pdf {most}, ".encode() in result.stderr
    divergence = np.sum(old * np.log(old / adjusted.priors)) / old.sum()
    reported = float(result.stderr.split(b"from old to new is ")[1].split()[0])
    assert reported == pytest.approx(divergence, rel=0.05)


@pytest.mark.parametrize("sums", [np.zeros(128), np.ones(5), np.full(128, np.nan)])
def test_sums_of_posteriors_that_cannot_be(run_program, kaldi, tmp_path, sums):
    sums = sums.astype(np.float32)
    write_object(str(tmp_path / "sums"), lambda writer: writer.vector(sums))
    result = run_program(
        "nnet-adjust-priors",
        *(kaldi / "exp/nnet_ms/final.mdl", tmp_path / "sums", tmp_path / "out.mdl"),
        check=False,
    )
    assert result.returncode != 0 and b"posteriors" in result.stderr
    assert not (tmp_path / "out.mdl").exists()


# --- Scoring --------------------------------------------------------------------------------------

REFERENCE = "u1 one two three\nu2 four\nu3 five six\n"
HYPOTHESIS = "u1 one three three four\nu2\n"


def test_errors_of_an_utterance():
    errors = WordErrors()
    errors.add(list("abcd"), list("axccd"))
    assert (errors.insertions, errors.deletions, errors.substitutions) == (1, 0, 1)
    errors.add(list("ab"), [])
    assert (errors.deletions, errors.num_words, errors.wrong_sentences) == (2, 6, 2)
    assert str(errors).startswith(
        "%WER 66.67 [ 4 / 6, 1 ins, 2 del, 1 sub ]\n%SER 100.00 [ 2 / 2 ]"
    )


def kaldi_edit_distance(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    """Errors, insertions, deletions and substitutions by the recursion of compute-wer.

    Kaldi's util/edit-distance-inl.h: of paths with the same number of errors it prefers one that
    ends with an insertion, then one with a deletion.
    """
    column = [(n, 0, n, 0) for n in range(len(reference) + 1)]
    for heard in hypothesis:
        new = [(column[0][0] + 1, column[0][1] + 1, 0, 0)]
        for n, said in enumerate(reference, 1):
            wrong = int(said != heard)
            ways = [
                tuple(map(sum, zip(column[n], (1, 1, 0, 0), strict=True))),
                tuple(map(sum, zip(new[n - 1], (1, 0, 1, 0), strict=True))),
                tuple(map(sum, zip(column[n - 1], (wrong, 0, 0, wrong), strict=True))),
            ]
            new.append(min(ways, key=lambda way: way[0]))
        column = new
    return column[-1]


def test_errors_are_counted_as_by_kaldi_where_alignments_are_as_good():
    rng = random.Random(0)
    for _ in range(3000):
        letters = "ABCDEFGH"[: rng.choice([2, 4, 8])]
        pair = ["".join(rng.choice(letters) for _ in range(rng.randint(0, 12))) for _ in range(2)]
        errors = WordErrors()
        errors.add(*pair)
        counts = errors.total, errors.insertions, errors.deletions, errors.substitutions
        assert counts == kaldi_edit_distance(*pair), pair


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (
            "present",
            "%WER 75.00 [ 3 / 4, 1 ins, 1 del, 1 sub ] [PARTIAL]\n%SER 100.00 [ 2 / 2 ]\n"
            "Scored 2 sentences, 1 not present in hyp.\n",
        ),
        (
            "all",
            "%WER 83.33 [ 5 / 6, 1 ins, 3 del, 1 sub ] [PARTIAL]\n%SER 100.00 [ 3 / 3 ]\n"
            "Scored 3 sentences, 1 not present in hyp.\n",
        ),
    ],
)
def test_compute_wer(run_program, tmp_path, mode, expected):
    (tmp_path / "ref").write_text(REFERENCE)
    (tmp_path / "hyp").write_text(HYPOTHESIS)
    result = run_program(
        "compute-wer", "--text", f"--mode={mode}", f"ark:{tmp_path}/ref", f"ark:{tmp_path}/hyp"
    )
    assert result.stdout.decode() == expected
    strict = run_program("compute-wer", f"ark:{tmp_path}/ref", f"ark:{tmp_path}/hyp", check=False)
    assert strict.returncode != 0 and b"no hypothesis for u3" in strict.stderr


def test_decoding_and_scoring_drivers(run_program, kaldi, experiment):
    graph, data = kaldi / "exp/tri2/graph", experiment / "test"
    decode = experiment / "nnet/decode_test"
    run_program(
        *("decode.py", "--nj", "3", "--lmwt", "10,40", "--word-ins-penalty", "0.0,2.0"),
        *(graph, data, decode),
    )
    assert (decode / "num_jobs").read_text() == "3\n"  # more than there are speakers
    results = {p.name: p.read_text() for p in decode.glob("wer_[0-9]*")}
    assert set(results) == {"wer_10_0.0", "wer_10_2.0", "wer_40_0.0", "wer_40_2.0"}
    assert all("Scored 50 sentences, 0 not present in hyp." in text for text in results.values())

    def errors(text):
        return int(text.split("[ ")[1].split(" /")[0])

    best = (decode / "best_wer").read_text()
    assert errors(best) == min(map(errors, results.values())) < errors(results["wer_10_0.0"])
    assert best.split("] ")[1].strip() == str(decode / results_name(results, errors))

    # Another directory, where it had been best to insert words freely.
    held_out = experiment / "nnet/decode_dev"
    held_out.mkdir()
    for name in results:
        number = 1 if name == "wer_10_0.0" else 2
        (held_out / name).write_text(f"%WER 1.00 [ {number} / 100, 0 ins, 0 del, 0 sub ]\n")
    run_program("score.py", "--tune-on", held_out, data, graph, decode)
    tuned = (decode / "tuned_wer").read_text()
    assert tuned.startswith(results["wer_10_0.0"].splitlines()[0])
    assert tuned.strip().endswith("wer_10_0.0")
    run_program("score.py", "--max-lmwt", "20", "--compare", decode, data, graph, decode)
    assert "/wer_10_" in (decode / "best_wer").read_text()
    line = f"+0.00 %WER against {decode}, 95 % interval +0.00 to +0.00\n"
    assert (decode / "wer_details/difference").read_text() == line


def test_decoding_through_lattices(run_program, kaldi, experiment):
    """All settings come from one search, and others without one."""
    graph, data = kaldi / "exp/tri2/graph", experiment / "test"
    decode = experiment / "nnet/decode_lattices"
    settings = "--lmwt", "10,40", "--word-ins-penalty", "0.0,2.0"
    run_program("decode.py", "--nj", "2", "--lattices", "true", *settings, graph, data, decode)
    assert sorted(p.name for p in decode.glob("lat.*.gz")) == ["lat.1.gz", "lat.2.gz"]
    lattices = f"ark:gunzip -c {decode}/lat.1.gz {decode}/lat.2.gz |"
    found = run_program("lattice-best-path", "--acoustic-scale=0.025", lattices, "ark,t:-")
    words = "".join((decode / f"scoring/40_0.0.{job}.tra").read_text() for job in (1, 2))
    assert found.stdout.decode() == words and words.count("\n") == 50
    again = "--lattices", "true", "--stage", "2", "--lmwt", "20"
    run_program("decode.py", *again, graph, data, decode)
    assert "Scored 50 sentences, 0 not" in (decode / "wer_20_0.5").read_text()


def results_name(results, errors):
    order = ["wer_10_0.0", "wer_40_0.0", "wer_10_2.0", "wer_40_2.0"]
    return min(order, key=lambda name: errors(results[name]))
