"""Lattices with the costs of other language models, beside Kaldi's."""

import math
from pathlib import Path

import numpy as np
import pytest
from archives import read_table

from nnet.decoding.arpa import LanguageModel
from nnet.decoding.const_arpa import ConstArpa, build, integer_words
from nnet.decoding.fst import ArrayFst
from nnet.decoding.rescoring import FstModel, add_language_model
from nnet.errors import NgtrainError
from nnet.lattices.paths import best_paths
from nnet.lattices.tables import COMPACT_LATTICE
from nnet.lattices.times import depth

ARPA = """
\\data\\
ngram 1=6
ngram 2=5
ngram 3=2

\\1-grams:
-0.7\t2
-1.1\t3\t-0.3
-0.9\t4\t-0.2
-1.3\t5
-99\t20\t-0.4
-0.8\t21

\\2-grams:
-0.2\t20 3\t-0.1
-0.5\t3 4
-0.6\t3 21
-0.4\t4 3\t-0.25
-0.3\t4 4

\\3-grams:
-0.15\t20 3 4
-0.35\t4 3 21

\\end\\
"""
BEGIN, END, UNKNOWN = 20, 21, 5


@pytest.fixture
def arpa(tmp_path):
    (tmp_path / "arpa").write_text(ARPA)
    return tmp_path / "arpa"


@pytest.fixture
def model(arpa) -> LanguageModel:
    return LanguageModel.load(str(arpa), integer_words(BEGIN, END))


@pytest.mark.slow
def test_costs_of_the_grammar_are_taken_away_as_by_kaldi(
    kaldi_lattices, kaldi, run_program, tmp_path
):
    grammar = (
        f"fstproject --project_output=true {kaldi}/data/lang_test/G.fst |"  # as in its scripts
    )
    arguments = ["--lm-scale=-1", f"ark:{kaldi_lattices}/lat.ark", grammar, f"ark:{tmp_path}/out"]
    result = run_program("lattice-lmrescore", *arguments)
    assert b"Done 13 lattices, failed for 0" in result.stderr
    theirs = read_table(f"ark:{kaldi_lattices}/lm_removed.txt", COMPACT_LATTICE)
    for key, ours in read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items():
        expected = theirs.pop(key)
        assert (ours.num_states, ours.num_arcs) == (expected.num_states, expected.num_arcs)
        assert depth(ours) == depth(expected)
        pairs = zip(best_paths(ours, 50), best_paths(expected, 50), strict=True)
        for one, other in pairs:
            assert one.words(ours) == other.words(expected)
            assert one.weight(ours) == pytest.approx(other.weight(expected), abs=2e-3)
            assert one.alignment(ours) == other.alignment(expected)
    assert not theirs


def test_the_best_way_through_a_model_counts(kaldi_lattices):
    """With epsilons and several arcs for a word, whatever the sign of the scale."""
    text = [
        "0 0 2 2 1.5",
        "0 1 2 2 0.5",
        "1 0 0 0 0.25",
        "0 0 11 11 1",
        "0 0 4 4 3",
        "0 0.125",
        "1 5",
    ]
    fst = FstModel(ArrayFst.parse("\n".join(text)))
    state, cost = fst.step(fst.start, 2)
    assert cost == 0.5
    assert fst.final(state) == pytest.approx(0.375)
    state, more = fst.step(state, 11)
    assert cost + more + fst.final(state) == pytest.approx(0.5 + 0.25 + 1 + 0.125)
    assert fst.step(state, 3) is None
    lattice = read_table(f"ark:{kaldi_lattices}/lat.ark", COMPACT_LATTICE)["lucas-0-04"]
    for scale in 1.0, -2.0:
        rescored = add_language_model(lattice, fst, scale)
        costs = {tuple(p.words(lattice)): p.weight(lattice) for p in best_paths(lattice, 1000)}
        for path in best_paths(rescored, 1000):
            words = path.words(rescored)
            assert set(words) <= {2, 4, 11}
            expected = costs[tuple(words)] + [scale * total(fst, words), 0]
            assert path.weight(rescored) == pytest.approx(expected, abs=1e-3)


def total(model, words) -> float:
    state, cost = model.start, 0.0
    for word in words:
        state, more = model.step(state, word)
        cost += more
    return cost + model.final(state)


def test_language_model_in_one_array(model, tmp_path):
    built = build(model, BEGIN, END, unknown=-1)
    built.save(str(tmp_path / "carpa"))
    read = ConstArpa.load(str(tmp_path / "carpa"))
    read.save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "carpa").read_bytes()
    words = [2, 3, 4, 5]
    for history in [(), (20,), (3,), (20, 3), (4, 3), (4, 4), (2, 5), (3, 4), (5, 3)]:
        for word in [*words, END]:
            expected = math.log(model.probability(history, word))
            assert read.log_probability(history, word) == pytest.approx(expected, abs=1e-6)
    assert read.log_probability((), 7) == -math.inf and read.step((), 7) is None
    assert read.step((20,), 3)[0] == (20, 3)
    assert read.step((20, 3), 4)[0] == (4,)  # the model has no word after 3 4
    assert read.step((4,), 2)[0] == ()


def test_the_array_of_kaldi(arpa, run_program, tmp_path):
    """The bytes that Kaldi's arpa-to-const-arpa makes of the same model (tests/reference)."""
    symbols = f"--bos-symbol={BEGIN}", f"--eos-symbol={END}", f"--unk-symbol={UNKNOWN}"
    run_program("arpa-to-const-arpa", *symbols, arpa, tmp_path / "carpa")
    expected = Path(__file__).parent / "reference/small.carpa"
    assert (tmp_path / "carpa").read_bytes() == expected.read_bytes()


def test_unknown_words_are_those_of_the_model(model):
    known, with_unknown = (build(model, BEGIN, END, unknown) for unknown in (-1, UNKNOWN))
    assert known.step((20,), 1000) is None
    history, cost = with_unknown.step((20,), 1000)
    assert (history, cost) == ((), with_unknown.step((20,), UNKNOWN)[1])


def test_children_far_from_their_parents(model, monkeypatch):
    near = build(model, BEGIN, END, -1)
    monkeypatch.setattr("nnet.decoding.const_arpa._LARGEST_STEP", 3)
    far = build(model, BEGIN, END, -1)
    assert len(far.far) == 2 and not len(near.far)
    for history in (20,), (20, 3), (4, 3):
        for word in 2, 3, 4, END:
            assert far.log_probability(history, word) == near.log_probability(history, word)


@pytest.mark.slow
def test_rescoring_with_a_model_in_one_array(kaldi_lattices, arpa, model, run_program, tmp_path):
    symbols = [f"--bos-symbol={BEGIN}", f"--eos-symbol={END}", f"--unk-symbol={UNKNOWN}"]
    run_program("arpa-to-const-arpa", *symbols, arpa, tmp_path / "carpa")
    arguments = [f"ark:{kaldi_lattices}/lat.ark", tmp_path / "carpa", f"ark:{tmp_path}/out"]
    run_program("lattice-lmrescore-const-arpa", "--lm-scale=0.5", *arguments)
    carpa = ConstArpa.load(str(tmp_path / "carpa"))
    given = read_table(f"ark:{kaldi_lattices}/lat.ark", COMPACT_LATTICE)
    for key, rescored in read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items():
        lattice = given[key]
        costs = {tuple(p.words(lattice)): p.weight(lattice) for p in best_paths(lattice, 1000)}
        found = best_paths(rescored, 1000)
        assert len(found) == len(costs)
        for path in found:
            words = path.words(rescored)
            expected = costs[tuple(words)] + [0.5 * total(carpa, words), 0]
            assert path.weight(rescored) == pytest.approx(expected, abs=2e-3)


def test_damaged_models_are_clear_errors(model, tmp_path):
    build(model, BEGIN, END, -1).save(str(tmp_path / "carpa"))
    whole = (tmp_path / "carpa").read_bytes()
    (tmp_path / "carpa").write_bytes(whole[:-20])
    with pytest.raises(NgtrainError, match="carpa"):
        ConstArpa.load(str(tmp_path / "carpa"))
    built = build(model, BEGIN, END, -1)
    built.unigrams[3] = 10_000
    built.save(str(tmp_path / "carpa"))
    with pytest.raises(NgtrainError, match="a state lies outside"):
        ConstArpa.load(str(tmp_path / "carpa"))
    built = build(model, BEGIN, END, -1)
    states = built.states.copy()
    states[built.unigrams[4] + 3] = 2**30 + 1  # where the state of the first bigram after 4 is
    broken = ConstArpa(BEGIN, END, -1, 3, states, built.unigrams, built.far)
    with pytest.raises(NgtrainError, match="a state lies outside"):
        broken.log_probability((4, 3), 4)


def test_symbols_must_be_given(run_program, arpa, tmp_path):
    result = run_program("arpa-to-const-arpa", arpa, tmp_path / "carpa", check=False)
    assert result.returncode == 1 and b"--bos-symbol" in result.stderr
    assert np.array_equal(sorted(p.name for p in tmp_path.iterdir()), ["arpa"])


def test_an_ngram_without_its_history_is_an_error(run_program, arpa, tmp_path):
    """The grammar has a state for 3 4, where a trigram ends; the array has nowhere to put it."""
    arpa.write_text(
        ARPA.replace("-0.35\t4 3 21", "-0.35\t3 4 21").replace("-0.5\t3 4", "-0.5\t3 3")
    )
    result = run_program("arpa-to-const-arpa", f"--bos-symbol={BEGIN}", f"--eos-symbol={END}", arpa,
                         tmp_path / "carpa", check=False)  # fmt: skip
    assert result.returncode == 1
    assert f"{arpa}: there are n-grams that go on from '3 4'".encode() in result.stderr
    assert not (tmp_path / "carpa").exists()
