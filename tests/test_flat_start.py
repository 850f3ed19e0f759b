"""The first alignment: where silence is put in it."""

import numpy as np
import pytest

from nnet.decoding.alignment import alignment_by_loudness, flat_alignment
from nnet.decoding.graph import TrainingGraphCompiler
from nnet.decoding.lexicon import Pronunciation, lexicon_fst, usual_topology
from nnet.decoding.symbols import SymbolTable
from nnet.drivers.ali_dir import changed_phones
from nnet.drivers.multisplice_configs import last_max_change
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import monophone_tree
from nnet.io.tables import INTEGERS, table_writer

SILENCE, PHONES = 1, [2, 3, 4]
LEXICON = [
    Pronunciation("yes", 1.0, ("a", "b")),
    Pronunciation("no", 1.0, ("c",)),
    Pronunciation("no", 0.25, ("a",)),
]


def compiler(silence_probability):
    """Training graphs of three words, the phones having no context."""
    topology = usual_topology(PHONES, [SILENCE])
    lengths = {phone: topology.num_pdf_classes(phone) for phone in (SILENCE, *PHONES)}
    tree = monophone_tree([[phone] for phone in lengths], lengths)
    phones = SymbolTable(zip(["<eps>", "SIL", "a", "b", "c"], range(5), strict=True), "phones")
    words = SymbolTable(zip(["<eps>", "yes", "no"], range(3), strict=True), "words")
    lexicon = lexicon_fst(LEXICON, phones, words, "SIL", silence_probability)
    return TrainingGraphCompiler(tree, TransitionModel.from_tree(tree, topology), lexicon, [])


def phones_of(graphs, transcript, silence_duration, num_frames=120, num_draws=200):
    """The phones, each once, of flat alignments of one transcript."""
    model, graph = graphs.transition_model, graphs.compile(transcript)
    for draw in range(num_draws):
        alignment = flat_alignment(
            graph, model, frozenset([SILENCE]), silence_duration, num_frames, f"utt{draw}"
        )
        yield model.phone_of[alignment[model.phone_starts(alignment)]].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_silence_is_at_both_ends_and_between_words_as_the_lexicon_says(probability):
    found = list(phones_of(compiler(probability), [1, 1], silence_duration=1.0))
    assert all(phones[0] == phones[-1] == SILENCE for phones in found)
    between = np.mean([phones[3] == SILENCE for phones in found])
    assert between == pytest.approx(probability, abs=0.08)


def test_silence_of_no_duration_is_at_the_ends_as_the_lexicon_says():
    found = list(phones_of(compiler(0.2), [1], silence_duration=0.0))
    for end in 0, -1:
        assert np.mean([phones[end] == SILENCE for phones in found]) == pytest.approx(0.2, abs=0.08)


def test_lexicon_without_silence_has_none():
    assert all(phones == [2, 3, 2, 3] for phones in phones_of(compiler(0.0), [1, 1], 1.0))


def test_pronunciations_are_as_frequent_as_the_lexicon_says():
    found = list(phones_of(compiler(0.5), [2], silence_duration=1.0))
    rare = np.mean([phones == [SILENCE, 2, SILENCE] for phones in found])
    assert rare == pytest.approx(0.25 / 1.25, abs=0.08)


def test_short_utterances_have_no_silence():
    for phones in phones_of(compiler(0.9), [1, 1], 1.0, num_frames=12, num_draws=3):
        assert phones == [2, 3, 2, 3]


def test_silence_is_found_where_it_is_quiet():
    graphs, rng = compiler(0.5), np.random.default_rng(0)
    model, graph = graphs.transition_model, graphs.compile([1, 2, 1])
    is_loud = np.repeat([0, 1, 0, 1, 1, 0], [20, 12, 15, 6, 18, 9]).astype(bool)
    loudness = 10.0 * is_loud + rng.normal(size=len(is_loud))
    alignment = alignment_by_loudness(graph, model, frozenset([SILENCE]), loudness, "utt")
    assert ((model.phone_of[alignment] != SILENCE) == is_loud).all()
    for run in np.flatnonzero(is_loud)[:12], np.flatnonzero(is_loud)[12:]:
        lengths = np.diff(np.flatnonzero(~model.is_self_loop[alignment[run]]), append=len(run))
        assert lengths.max() - lengths.min() <= 1
    silent = np.full(40, 3.0)
    assert alignment_by_loudness(graph, model, frozenset([SILENCE]), silent, "utt") is None


@pytest.mark.parametrize(("num_classes", "limit"), [(2, 0.0015), (11, 0.00825), (137, 0.075)])
def test_last_layer_of_few_classes_changes_less(num_classes, limit):
    assert last_max_change(0.075, num_classes, 128, 100) == pytest.approx(limit)


def test_last_layer_of_few_classes_changes_outputs_alike_in_all_networks():
    """Whatever the minibatch, and the length of inputs, which is the root of their dimension."""
    for size, dim in (64, 100), (128, 400), (512, 400):
        change = last_max_change(0.075, 11, size, dim) * size * dim**0.5
        assert change == pytest.approx(0.00825 * 128 * 10)
    assert last_max_change(0.075, 9000, 512, 400) == 0.075
    assert last_max_change(0.0, 2, 512, 400) == 0.0  # no limit remains none


def test_phones_that_changed_are_counted(tmp_path):
    graphs = compiler(0.0)
    model, graph = graphs.transition_model, graphs.compile([2])
    silence = frozenset([SILENCE])
    draws = (flat_alignment(graph, model, silence, 0.0, 12, f"{draw}") for draw in range(99))
    first = next(draws)
    other = next(ids for ids in draws if (model.phone_of[ids] != model.phone_of[first]).any())
    for name, tables in ("before", {"a": first, "b": first}), ("after", {"a": other, "b": first}):
        (tmp_path / name).mkdir()
        model.save(str(tmp_path / name / "final.mdl"))
        with table_writer(f"ark:| gzip -c > {tmp_path / name}/ali.1.gz", INTEGERS) as table:
            for key, ids in tables.items():
                table.write(key, ids)
    assert changed_phones(tmp_path / "before", tmp_path / "after") == (12, 24)
    assert changed_phones(tmp_path / "before", tmp_path / "before") == (0, 24)
