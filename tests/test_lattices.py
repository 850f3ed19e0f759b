"""Lattices as data, and their tables, beside what Kaldi wrote."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from archives import read_table, write_table

from nnet.errors import NgtrainError
from nnet.io.streams import InputStream
from nnet.io.tables import sequential_table
from nnet.lattices.conversion import to_compact_lattice, to_lattice
from nnet.lattices.lattice import LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.order import (
    accessible,
    coaccessible,
    connected,
    costs_to_end,
    levels_of,
    topsorted,
)
from nnet.lattices.paths import lattice_of_path, only_path
from nnet.lattices.strings import LabelStrings
from nnet.lattices.sweep import Sweep
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE

FORMS = "ark:", "ark,t:"


@pytest.fixture(scope="module")
def lattices(reference) -> dict[str, CompactLattice]:
    return read_table(f"ark:{reference('kaldi/golden/lattices/lat.ark')}", COMPACT_LATTICE)


@pytest.fixture(scope="module")
def raw(reference) -> dict[str, Lattice]:
    name = reference("kaldi/golden/lattices/raw.ark.gz")
    return read_table(f"ark:gunzip -c {name} |", LATTICE)


def paths(lattice) -> list[tuple]:
    """Every path, as its words, transition-ids, graph and acoustic cost; for small lattices."""
    lattice = lattice if isinstance(lattice, Lattice) else to_lattice(lattice)

    def follow(state, words, ids, costs):
        if lattice.is_final[state]:
            yield words, ids, *(np.array(costs, np.float64) + lattice.finals[state]).tolist()
        for arc in lattice.arcs[lattice.first_arc[state] : lattice.first_arc[state + 1]]:
            more_words = words + (arc["olabel"],) * bool(arc["olabel"])
            more_ids = ids + (arc["ilabel"],) * bool(arc["ilabel"])
            yield from follow(arc["nextstate"], more_words, more_ids, costs + arc["weight"])

    return sorted(follow(lattice.start, (), (), np.zeros(2)))


def small() -> CompactLattice:
    """Two words in a row, or one; a string on an arc without a word, one on a final state."""
    text = "\n0 1 5 1.5,2,7_8\n0 2 6 1,1,\n1 2 0 0.5,0,9\n1 3,-1,4_4\n2 0,1,\n\n"
    return parse(text)


def parse(text: str, holder=COMPACT_LATTICE):
    return holder.read(InputStream(io.BytesIO(text.encode()), "text"))


def test_a_copy_has_the_bytes_of_kaldi(reference, run_program, tmp_path):
    folder = reference("kaldi/golden/lattices/lat.ark").parent
    for source, target, expected in (
        (f"ark:{folder}/lat.ark", "ark:", "lat.ark"),
        (f"ark:{folder}/lat.ark", "ark,t:", "lat.txt"),
        (f"ark:{folder}/lat.txt", "ark,t:", "lat.txt"),
    ):
        run_program("lattice-copy", source, f"{target}{tmp_path}/out")
        assert (tmp_path / "out").read_bytes() == (folder / expected).read_bytes()


def test_a_copy_of_raw_lattices_has_the_bytes_of_kaldi(reference, run_program, tmp_path):
    raw = reference("kaldi/golden/lattices/raw.ark.gz")
    run_program("lattice-copy", "--write-compact=false", f"ark:gunzip -c {raw} |",
                f"ark:{tmp_path}/out")  # fmt: skip
    expected = gzip.decompress(raw.read_bytes())
    assert (tmp_path / "out").read_bytes() == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("holder", [LATTICE, COMPACT_LATTICE])
def test_read_as_the_other_type(tmp_path, form, holder):
    """Whichever type a table is of, either can be read from it, with the same paths."""
    lattice = small()
    value = lattice if holder is COMPACT_LATTICE else to_lattice(lattice)
    write_table(f"{form}{tmp_path}/lat", holder, {"u": value})
    for read in LATTICE, COMPACT_LATTICE:
        (found,) = read_table(f"ark:{tmp_path}/lat", read).values()
        assert paths(found) == paths(lattice)
        assert isinstance(found, CompactLattice if read is COMPACT_LATTICE else Lattice)


def test_paths_of_the_small_lattice():
    assert paths(small()) == [
        ((5,), (7, 8, 4, 4), 4.5, 1.0),
        ((5,), (7, 8, 9), 2.0, 3.0),
        ((6,), (), 1.0, 2.0),
    ]


def test_conversion_makes_a_chain_of_arcs(lattices):
    for lattice in lattices.values():
        expanded = to_lattice(lattice)
        num_ids = len(lattice.arc_strings.values) + len(lattice.final_strings.values)
        assert np.count_nonzero(expanded.arcs["ilabel"]) == num_ids
        again = to_compact_lattice(expanded)
        # Only where the transition-ids and costs are has changed: chains have become arcs.
        values = lattice.arc_strings.values, lattice.final_strings.values
        assert sorted(again.arc_strings.values) == sorted(np.concatenate(values))
        is_final = lattice.is_final
        total = lattice.costs.sum() + lattice.final_costs[is_final].sum()
        again_total = again.costs.sum() + again.final_costs[again.is_final].sum()
        assert again_total == pytest.approx(total, rel=1e-6)


def test_lattices_that_are_alone(lattices, raw, tmp_path):
    """An empty lattice, and one state."""
    empty = small().renumbered(np.zeros(0, int))
    assert empty.start == -1
    single = parse("\n0 1,2,\n\n")
    for form in FORMS:
        write_table(f"{form}{tmp_path}/lat", COMPACT_LATTICE, {"a": empty, "b": single})
        found = read_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE)
        assert found["a"].num_states == 0 and found["a"].start == -1
        assert paths(found["b"]) == [((), (), 1.0, 2.0)]
    assert to_lattice(empty).start == to_compact_lattice(to_lattice(empty)).start == -1


def test_a_path_is_made_of_what_is_there():
    """More words than transition-ids, neither, and costs at the end."""
    for ids, words in ([7, 8, 8], [5]), ([7], [5, 6]), ([], []):
        lattice = lattice_of_path(ids, words, 1.5, -2)
        path = only_path(lattice)
        assert path.alignment(lattice) == ids and path.words(lattice) == words
        assert path.weight(lattice).tolist() == [1.5, -2]


@pytest.mark.parametrize(
    "rows",
    ["0 1 5 0,0,7\n0 1 6 0,0,7\n1 0,0,", "0 1 5 0,0,7\n0 0,0,\n1 0,0,", "0 1 5\n1 0 6", "0 1 5"],
    ids=["two ways", "an end before the end", "a circle", "no end"],
)
def test_lattices_of_more_than_one_path(rows):
    with pytest.raises(ValueError, match="not one path"):
        only_path(parse(f"\n{rows}\n\n"))


def test_topological_order(raw):
    for lattice in raw.values():
        levels = levels_of(lattice)
        assert (levels[lattice.arcs["nextstate"]] > levels[lattice.source]).all()
        order = np.random.default_rng(0).permutation(lattice.num_states)
        shuffled = lattice.renumbered(order)
        assert not shuffled.is_topsorted
        again = topsorted(shuffled)
        assert again.is_topsorted and again.num_arcs == lattice.num_arcs
        assert again.costs.sum() == pytest.approx(lattice.costs.sum())


def test_a_cycle_is_an_error():
    arcs = np.array([(1, 0, (0, 0), 1), (1, 0, (0, 0), 0)], LATTICE_ARC)
    lattice = Lattice.from_arcs(0, [[np.inf, np.inf], [0, 0]], [0, 1], arcs)
    with pytest.raises(ValueError, match="cycle"):
        topsorted(lattice)
    with pytest.raises(ValueError, match="cycle"):
        to_compact_lattice(lattice)


def test_what_leads_nowhere_goes():
    lattice = parse("\n0 1 5 1,1,\n0 2 6 1,1,\n3 1 7 1,1,\n1\n\n")
    left = connected(lattice)
    assert left.num_states == 2 and left.words.tolist() == [5]
    assert connected(parse("\n0 1 5 1,1,\n\n")).start == -1


def test_ways_to_the_end_in_any_order():
    """What is found without a walk, where arcs go up, a walk finds in a shuffled lattice, too."""
    rng = np.random.default_rng(0)
    num_shortcuts = 0
    for _ in range(200):
        num_states, num_arcs = rng.integers(2, 9, size=2)
        source = rng.integers(num_states - 1, size=num_arcs)
        arcs = np.zeros(num_arcs, LATTICE_ARC)
        arcs["nextstate"] = rng.integers(source + 1, num_states)
        arcs["weight"] = rng.integers(9, size=(num_arcs, 2))
        finals = np.where(rng.random((num_states, 1)) < 0.5, [[1, 2]], np.inf)
        lattice = Lattice.from_arcs(0, finals, source, arcs)
        order = rng.permutation(num_states - 1)[::-1] + 1
        order = np.append(order, 0)  # the start is the last, and the walk is needed
        shuffled = lattice.renumbered(order)
        reached, useful = accessible(lattice), coaccessible(lattice)
        num_shortcuts += reached.all() + useful.all()
        assert np.array_equal(reached[order], accessible(shuffled))
        assert np.array_equal(useful[order], coaccessible(shuffled))
        costs = np.array(costs_to_end(lattice))
        assert np.array_equal(costs[order], costs_to_end(shuffled))
        assert np.array_equal(costs < np.inf, useful)
        by_level = Sweep(lattice).backward(-lattice.costs, -lattice.final_costs, np.maximum)
        assert np.array_equal(costs, -by_level)
    assert 20 < num_shortcuts < 380


def test_strings():
    strings = LabelStrings.of([[1, 2], [], [3]])
    assert strings.take(np.array([2, 0, 1, 2])).lists() == [[3], [1, 2], [], [3]]
    assert LabelStrings.concatenate([strings, LabelStrings.empty(1)]).lengths.tolist() == [
        2,
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("\n0 1 5 1,1,\n0 1 5 6 1,1\n\n", "some lines are of a lattice, some of a compact"),
        ("\n0 1 5 nan,1,\n\n", "not a weight: nan,1,"),
        ("\n0 1 5 Infinity,1,\n\n", "not finite"),
        ("\n0 1 5 1,1,1_x\n\n", "not a weight"),
        ("\n0 1000000 5 1,1,\n\n", "1000001 states in 1 lines"),
        ("\n0 1 5 1,1,1 7 8\n\n", "neither an arc nor a final state"),
        ("0 1 5\n", "expected a lattice"),
        (" 0 1 5\n", "on a line of its own"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(NgtrainError, match=message):
        parse(text)


def test_bad_binary(reference, tmp_path):
    data = reference("kaldi/golden/lattices/lat.ark").read_bytes()[:20000]
    at = data.index(b"compactlattice44") + 16 + 40
    for position, word, message in (
        (at, b"\x00\x00\xc0\x7f", "not finite"),
        (at + 8, b"\xff\xff\xff\xff", "negative size"),
        (at + 8, b"\xff\xff\xff\x7f", "truncated"),
        (at + 19, b"\x7f\x00\x00\x00", "truncated"),
        (at + 20, b"\x01\x00\x00\x00", "two labels"),
    ):
        damaged = data[:position] + word + data[position + 4 :]
        (tmp_path / "lat").write_bytes(damaged)
        with (
            pytest.raises(NgtrainError, match=message),
            sequential_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE) as table,
        ):
            next(table)


def test_some_lattices_are_copied(run_program, tmp_path):
    write_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE, {key: small() for key in "abc"})
    (tmp_path / "list").write_text("b\nd other words\n")
    for option, keys in ("--include", {"b"}), ("--exclude", {"a", "c"}):
        run_program("lattice-copy", f"{option}={tmp_path}/list", f"ark:{tmp_path}/lat",
                    f"ark:{tmp_path}/out")  # fmt: skip
        assert set(read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)) == keys
