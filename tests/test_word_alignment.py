"""Lattices aligned with words, beside Kaldi's."""

import io

import pytest
from archives import read_table, write_table

from nnet.errors import NgtrainError
from nnet.io.streams import InputStream
from nnet.lattices.lattice import CompactLattice
from nnet.lattices.operations import scaled
from nnet.lattices.paths import best_paths
from nnet.lattices.phone_ends import PhoneEnds
from nnet.lattices.tables import COMPACT_LATTICE
from nnet.lattices.times import depth
from nnet.lattices.word_alignment import (
    OnErrors,
    align_by_boundaries,
    align_by_lexicon,
    align_table,
)
from nnet.lattices.word_boundaries import WordBoundaryAligner, read_word_boundaries
from nnet.lattices.word_lexicon import WordLexicon


def parse(*lines: str) -> CompactLattice:
    return COMPACT_LATTICE.read(
        InputStream(io.BytesIO("\n".join(["", *lines, "", ""]).encode()), "x")
    )


def test_lattices_aligned_by_a_lexicon_are_kaldis(kaldi_lattices, kaldi, run_program, tmp_path):
    lexicon, model = kaldi / "data/lang/phones/align_lexicon.int", kaldi / "exp/tri2_ali/final.mdl"
    arguments = [lexicon, model, f"ark:{kaldi_lattices}/lat.ark", f"ark:{tmp_path}/aligned"]
    result = run_program("lattice-align-words-lexicon", "--test=true", *arguments)
    assert b"Successfully aligned 13 lattices; 0 had errors." in result.stderr
    theirs = read_table(f"ark:{kaldi_lattices}/aligned.txt", COMPACT_LATTICE)
    for key, ours in read_table(f"ark:{tmp_path}/aligned", COMPACT_LATTICE).items():
        expected = theirs.pop(key)
        assert (ours.num_states, ours.num_arcs) == (expected.num_states, expected.num_arcs)
        assert depth(ours) == depth(expected)
        found = [
            (p.words(x), p.weight(x).sum(), p.alignment(x))
            for x in (ours,)
            for p in best_paths(x, 20)
        ]
        for (words, cost, ids), path in zip(found, best_paths(expected, 20), strict=True):
            assert words == path.words(expected) and ids == path.alignment(expected)
            assert cost == pytest.approx(path.weight(expected).sum(), abs=2e-3)
    assert not theirs


@pytest.fixture(scope="module")
def ids(model) -> dict[int, str]:
    """For each phone a string of transition-ids through it, all states twice."""
    strings = {}
    for phone in model.phones:
        string = []
        for state in range(len(model.topology.states(phone)) - 1):
            transition = next(
                i
                for i in range(1, model.num_transition_ids + 1)
                if model.phone_of[i] == phone
                and model.hmm_state_of[i] == state
                and not model.is_self_loop[i]
                and (model.is_final[i] or state < len(model.topology.states(phone)) - 2)
            )
            string += [transition, int(model.self_loop_of[model.state_of[transition]])]
        strings[phone] = "_".join(map(str, string))
    return strings


@pytest.fixture
def ends(model):
    return PhoneEnds(model)


PLACES = {1: "nonword", 2: "begin", 3: "internal", 4: "end", 5: "singleton"}


@pytest.fixture
def lattice(ids) -> CompactLattice:
    return cut_elsewhere(ids)


def cut_elsewhere(ids: dict[int, str]) -> CompactLattice:
    """Silence, word 7 of the phones 2 3 4, silence, word 8 of phone 5; cut elsewhere than these."""
    first, rest = ids[3].split("_", 1)
    return parse(
        f"0 1 7 1,2,{ids[1]}_{ids[2]}_{first}", f"1 2 8 3,4,{rest}_{ids[4]}_{ids[1]}",
        f"2 0,5,{ids[5]}",
    )  # fmt: skip


def test_alignment_by_the_places_of_phones_in_words(
    lattice, ids, ends, run_program, kaldi, tmp_path
):
    (tmp_path / "places").write_text("".join(f"{p} {place}\n" for p, place in PLACES.items()))
    write_table(f"ark:{tmp_path}/in", COMPACT_LATTICE, {"a": lattice})
    model = kaldi / "exp/tri2_ali/final.mdl"
    arguments = [tmp_path / "places", model, f"ark:{tmp_path}/in", f"ark,t:{tmp_path}/out"]
    run_program("lattice-align-words", "--silence-label=9", "--test=true", *arguments)
    [(_, aligned)] = read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items()
    assert aligned.words.tolist() == [9, 7, 9, 8]
    whole = ["_".join(map(str, string)) for string in aligned.arc_strings.lists()]
    assert whole == [ids[1], "_".join([ids[2], ids[3], ids[4]]), ids[1], ids[5]]
    assert best_paths(aligned, 1)[0].weight(aligned).tolist() == [4, 11]


def test_both_ways_of_alignment_agree(lattice, ends):
    lexicon = WordLexicon()
    for word, written, phones in (0, 9, (1,)), (7, 7, (2, 3, 4)), (8, 8, (5,)), (8, 8, (5, 5)):
        lexicon.add(word, written, phones)
    by_lexicon = align_by_lexicon(lattice, ends, lexicon, 0, 0).without_epsilons()
    aligner = WordBoundaryAligner(ends, PLACES, silence_label=9)
    by_places = align_by_boundaries(lattice, aligner, 0).without_epsilons()
    assert not ends.faults
    for one, other in zip(best_paths(by_lexicon, 9), best_paths(by_places, 9), strict=True):
        assert by_lexicon.words[one.arcs].tolist() == by_places.words[other.arcs].tolist()
        assert one.weight(by_lexicon).tolist() == other.weight(by_places).tolist()


@pytest.mark.parametrize("by_lexicon", [True, False])
def test_alignment_where_self_loops_come_first(by_lexicon, ids, model):
    order = {phone: [int(i) for i in string.split("_")] for phone, string in ids.items()}
    ids = {
        phone: "_".join(map(str, model.with_other_order(string))) for phone, string in order.items()
    }
    lattice, ends = cut_elsewhere(ids), PhoneEnds(model, reorder=False)
    lexicon = WordLexicon()
    for word, written, phones in (0, 9, (1,)), (7, 7, (2, 3, 4)), (8, 8, (5,)):
        lexicon.add(word, written, phones)
    if by_lexicon:
        unfolding = align_by_lexicon(lattice, ends, lexicon, 0, 0)
    else:
        unfolding = align_by_boundaries(
            lattice, WordBoundaryAligner(ends, PLACES, silence_label=9), 0
        )
    aligned = unfolding.without_epsilons()
    assert not ends.faults
    assert aligned.words.tolist() == [9, 7, 9, 8]
    whole = ["_".join(map(str, string)) for string in aligned.arc_strings.lists()]
    assert whole == [ids[1], "_".join([ids[2], ids[3], ids[4]]), ids[1], ids[5]]


@pytest.mark.parametrize("by_lexicon", [True, False])
def test_lattices_that_were_forced_out(by_lexicon, ids, ends):
    """Where the search was stopped inside a word, what is there of it is written, and said."""
    cut = parse(f"0 1 7 1,2,{ids[1]}_{ids[2]}", f"1 0,0,{ids[3].split('_')[0]}")
    lexicon = WordLexicon()
    for word, phones in (0, (1,)), (7, (2, 3, 4)):
        lexicon.add(word, word, phones)
    if by_lexicon:
        unfolding = align_by_lexicon(cut, ends, lexicon, 0, 0)
    else:
        unfolding = align_by_boundaries(cut, WordBoundaryAligner(ends, PLACES), 0)
    aligned = unfolding.without_epsilons()
    assert any("forced out" in fault for fault in ends.faults)
    assert aligned.words.tolist() == [0, 7]
    assert sum(aligned.arc_strings.lengths) == len(cut.arc_strings.values) + 1


def test_a_lattice_that_becomes_too_large_is_left_out(kaldi_lattices, kaldi, run_program, tmp_path):
    (tmp_path / "lexicon").write_text((kaldi / "data/lang/phones/align_lexicon.int").read_text())
    model = kaldi / "exp/tri2_ali/final.mdl"
    source = f"ark:{kaldi_lattices}/lat.ark"
    arguments = [tmp_path / "lexicon", model, source, f"ark:{tmp_path}/out"]
    result = run_program("lattice-align-words-lexicon", "--max-expand=0.1", *arguments)
    assert b"4 lattices did not align correctly" in result.stderr
    assert len(read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)) == 9
    options = ["--max-expand=0.1", "--output-if-empty"]
    run_program("lattice-align-words-lexicon", *options, *arguments)
    assert len(read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)) == 13


def test_what_becomes_dearer_fails_the_test(lattice, ends, tmp_path):
    write_table(f"ark:{tmp_path}/in", COMPACT_LATTICE, {"a": lattice})
    aligner = WordBoundaryAligner(ends, PLACES)
    tables = f"ark:{tmp_path}/in", f"ark:{tmp_path}/out"

    def status(graph_scale: float, test: bool) -> int:
        def align(lattice):
            return align_by_boundaries(scaled(lattice, graph_scale, 1), aligner, 0)

        return align_table(*tables, ends, align, OnErrors(), test)

    assert (status(1, True), status(1.1, False), status(1.1, True)) == (0, 0, 1)
    assert ends.faults == ["the best path is another than before"]


def test_lists_and_lattices_that_do_not_fit(lattice, ends, tmp_path):
    with pytest.raises(NgtrainError, match="does not have word 7"):
        lexicon = WordLexicon("lexicon")
        lexicon.add(0, 0, (1,))
        align_by_lexicon(lattice, ends, lexicon, 0, 0)
    with pytest.raises(NgtrainError, match="phone 2 of a lattice is not in"):
        align_by_boundaries(lattice, WordBoundaryAligner(ends, {1: "nonword"}), 0)
    with pytest.raises(NgtrainError, match="made with another"):
        ends.begin(parse("0 1 7 1,2,99999", "1 0,0,"))
    for text in "1 start\n", "1\n", "":
        (tmp_path / "places").write_text(text)
        with pytest.raises(NgtrainError, match="places: "):
            read_word_boundaries(str(tmp_path / "places"))
    for text in "5\n", "0 0\n", "5 5 1\n5 6 1\n", "":
        (tmp_path / "lexicon").write_text(text)
        with pytest.raises(NgtrainError, match="lexicon: "):
            WordLexicon.load(str(tmp_path / "lexicon"))
