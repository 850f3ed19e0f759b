"""Pushing and minimization of lattices, against all paths of small ones."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from archives import read_table
from test_determinization import OPTIONS, is_deterministic, random_lattice

from nnet.decoding.fst import ArrayFst
from nnet.decoding.lattice_decoder import LatticeDecoder, LatticeOptions
from nnet.lattices.conversion import to_compact_lattice
from nnet.lattices.determinization import determinize
from nnet.lattices.lattice import COMPACT_ARC, CompactLattice
from nnet.lattices.minimization import minimized, pushed, pushed_strings, pushed_weights
from nnet.lattices.paths import best_paths
from nnet.lattices.strings import LabelStrings
from nnet.lattices.sweep import Sweep
from nnet.lattices.tables import COMPACT_LATTICE


def all_paths(lattice: CompactLattice) -> dict[tuple, np.ndarray]:
    """Graph and acoustic cost of each path, by its words and transition-ids."""
    paths = best_paths(lattice, 100_000)
    found = {
        (tuple(p.words(lattice)), tuple(p.alignment(lattice))): p.weight(lattice) for p in paths
    }
    assert len(found) == len(paths)
    return found


def assert_same_paths(one: CompactLattice, other: CompactLattice) -> None:
    expected, found = all_paths(one), all_paths(other)
    assert found.keys() == expected.keys()
    for path, weight in found.items():
        assert weight == pytest.approx(expected[path], abs=2e-3)


def least_states(lattice: CompactLattice) -> int:
    """Count the different sets of ways on from all states, each set relative to its best."""
    first, into, weights = lattice.first_arc, lattice.arcs["nextstate"], lattice.arcs["weight"]
    ways: dict[int, dict[tuple, np.ndarray]] = {}
    for state in reversed(range(lattice.num_states)):
        ways[state] = {}
        if lattice.is_final[state]:
            string = tuple(lattice.final_strings[state].tolist())
            ways[state][(), string] = lattice.finals[state].astype(float)
        for arc in range(first[state], first[state + 1]):
            for (words, ids), weight in ways[int(into[arc])].items():
                label, string = lattice.words[arc].item(), lattice.arc_strings[arc].tolist()
                ways[state][(label, *words), (*string, *ids)] = weight + weights[arc]
    different = set()
    for each in ways.values():
        keys = sorted(each)
        best = min(each.values(), key=lambda weight: (weight.sum(), weight[0]))
        left = [tuple(np.round(each[key] - best, 2)) for key in keys]
        common = 0
        while len({ids[common : common + 1] for _, ids in keys}) == 1 and keys[0][1][common:]:
            common += 1
        different.add((tuple((words, ids[common:]) for words, ids in keys), tuple(left)))
    return len(different)


def determinized(seed: int) -> CompactLattice:
    lattice = to_compact_lattice(random_lattice(np.random.default_rng(seed)))
    return determinize(lattice, 1000.0, OPTIONS)[0]


@pytest.mark.parametrize("seed", range(20))
def test_same_paths_by_the_fewest_states(seed):
    lattice = determinized(seed)
    assert_same_paths(lattice, pushed_strings(lattice))
    assert_same_paths(lattice, pushed_weights(lattice))
    small = minimized(pushed(lattice))
    assert_same_paths(lattice, small)
    assert is_deterministic(small) and small.is_topsorted
    assert small.num_states == least_states(lattice) <= lattice.num_states


def test_some_lattices_become_smaller():
    sizes = [(x.num_states, minimized(pushed(x)).num_states) for x in map(determinized, range(20))]
    assert sum(after < before for before, after in sizes) >= 5


@pytest.mark.parametrize("seed", range(5))
def test_the_best_way_on_costs_nothing_and_strings_differ(seed):
    lattice = pushed(determinized(seed))
    beta = -Sweep(lattice).backward(-lattice.costs, -lattice.final_costs, np.maximum)
    assert beta[1:] == pytest.approx(np.zeros(lattice.num_states - 1), abs=1e-5)
    begins = defaultdict(set)
    for source, ids in zip(lattice.source.tolist(), lattice.arc_strings.lists(), strict=True):
        begins[source].add(tuple(ids[:1]))
    for state in np.flatnonzero(lattice.is_final).tolist():
        begins[state].add(tuple(lattice.final_strings[state][:1].tolist()))
    del begins[0]
    assert all(len(each) > 1 or each == {()} for each in begins.values())


def test_costs_that_differ_in_their_parts_are_not_the_same():
    """Kaldi, which compares sums, would change the costs of a path at another acoustic scale."""
    finals = np.array([[np.inf] * 2, [1, 2], [2, 1], [1, 2]])
    arcs = [(1, (0, 0), 1), (2, (0, 0), 2), (3, (0, 0), 3)]
    lattice = CompactLattice.from_arcs(
        *(0, finals, [0, 0, 0], np.array(arcs, COMPACT_ARC)),
        *(LabelStrings.of([[1], [1], [1]]), LabelStrings.empty(4)),
    )
    small = minimized(lattice)
    assert small.num_states == 3
    assert_same_paths(lattice, small)
    assert minimized(pushed(lattice)).num_states == 2


@pytest.mark.parametrize("program", ["lattice-push", "lattice-minimize"])
def test_programs(program, kaldi_lattices, lattices, run_program, tmp_path):
    arguments = f"ark:{kaldi_lattices}/lat.ark", f"ark:{tmp_path}/out"
    result = run_program(program, *arguments)
    assert b"13 lattices, errors on 0" in result.stderr
    for key, small in read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE).items():
        lattice = lattices[key]
        assert small.num_states <= lattice.num_states
        for one, other in zip(best_paths(lattice, 30), best_paths(small, 30), strict=True):
            assert one.weight(lattice).sum() == pytest.approx(other.weight(small).sum(), abs=0.02)
    made = (tmp_path / "out").read_bytes()
    run_program(program, "--push-strings=false", "--push-weights=false", *arguments)
    assert (tmp_path / "out").read_bytes() != made


def test_determinization_minimizes(kaldi_lattices, lattices, run_program, tmp_path):
    sizes = []
    for minimize in "false", "true":
        arguments = f"ark:{kaldi_lattices}/lat.ark", f"ark:{tmp_path}/out"
        run_program("lattice-determinize-pruned", f"--minimize={minimize}", *arguments)
        made = read_table(f"ark:{tmp_path}/out", COMPACT_LATTICE)
        sizes.append(sum(lattice.num_states for lattice in made.values()))
    assert 0 < sizes[1] <= sizes[0]


def test_searches_minimize(kaldi, model):
    """With and without, a search finds the same paths."""
    graph = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    log_likelihoods = np.random.default_rng(0).normal(size=(40, model.num_pdfs)) * 2
    made = [
        LatticeDecoder(graph, model, LatticeOptions(lattice_beam=6, minimize=minimize))
        .decode(log_likelihoods.astype(np.float32), 0.2)
        .lattice
        for minimize in (False, True)
    ]
    assert made[1].num_states < made[0].num_states
    assert_same_paths(*made)
