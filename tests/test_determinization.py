"""Determinization in the lattice semiring, against all paths of small lattices."""

from __future__ import annotations

import numpy as np
import pytest
from archives import read_table

from nnet.lattices.conversion import to_compact_lattice
from nnet.lattices.determinization import DeterminizationOptions, determinize
from nnet.lattices.label_trie import ROOT, LabelTrie
from nnet.lattices.lattice import LATTICE_ARC, CompactLattice, Lattice
from nnet.lattices.operations import pruned, scaled
from nnet.lattices.order import connected
from nnet.lattices.paths import best_paths
from nnet.lattices.phone_determinization import determinize_phones_and_words
from nnet.lattices.tables import LATTICE

OPTIONS = DeterminizationOptions()


def random_lattice(rng: np.random.Generator) -> Lattice:
    """A few states, words on some arcs, and as many frames on every path to a state."""
    num_frames, width = 4, 3
    source, arcs = [], []
    for frame in range(num_frames):
        for state in range(width):
            here = frame * width + state
            for _ in range(3):
                word = int(rng.integers(0, 3))
                cost = rng.integers(0, 40, 2) / 4
                if rng.random() < 0.2 and state < width - 1:
                    arcs.append((0, word, cost, here + 1))
                else:
                    to = (frame + 1) * width + int(rng.integers(width))
                    arcs.append((rng.integers(1, 4), word, cost, to))
                source.append(here)
    finals = np.full(((num_frames + 1) * width, 2), np.inf)
    finals[-width:] = rng.integers(0, 4, (width, 2))
    return connected(Lattice.from_arcs(0, finals, source, np.array(arcs, LATTICE_ARC)))


def best_by_words(lattice) -> dict[tuple, tuple]:
    """Cost and transition-ids of the best path with each sequence of words."""
    found: dict[tuple, tuple] = {}
    for path in best_paths(lattice, 100_000):
        words = tuple(path.words(lattice))
        found.setdefault(words, (path.weight(lattice).sum(), path.alignment(lattice)))
    return found


def is_deterministic(lattice: CompactLattice) -> bool:
    pairs = list(zip(lattice.source.tolist(), lattice.words.tolist(), strict=True))
    return len(set(pairs)) == len(pairs) and (lattice.words != 0).all()


@pytest.mark.parametrize("seed", range(30))
def test_the_best_of_all_paths_with_the_same_words(seed):
    lattice = random_lattice(np.random.default_rng(seed))
    expected = best_by_words(lattice)
    result, is_complete = determinize(to_compact_lattice(lattice), 1000.0, OPTIONS)
    assert is_complete and is_deterministic(result)
    found = best_by_words(result)
    assert found.keys() == expected.keys()
    for words, (cost, alignment) in found.items():
        assert cost == pytest.approx(expected[words][0])
        # Which of paths with the same cost it is may differ.
        assert len(alignment) == len(expected[words][1])


@pytest.mark.parametrize("seed", range(10))
def test_what_is_within_the_beam_is_there(seed):
    lattice = random_lattice(np.random.default_rng(seed))
    beam = 6.0
    expected = best_by_words(lattice)
    least = min(cost for cost, _ in expected.values())
    result, _ = determinize(to_compact_lattice(lattice), beam, OPTIONS)
    found = best_by_words(result)
    for words, (cost, _) in expected.items():
        if cost <= least + beam:
            assert found[words][0] == pytest.approx(cost)
    assert found.keys() <= expected.keys()
    # No state or arc is there for nothing.
    assert pruned(result, beam + 0.01).num_arcs == result.num_arcs


@pytest.fixture(scope="module")
def raw(reference) -> dict[str, Lattice]:
    name = reference("kaldi/golden/lattices/raw.ark.gz")
    return read_table(f"ark:gunzip -c {name} |", LATTICE)


def test_phones_first_gives_the_same(raw, model):
    for lattice in list(raw.values())[:4]:
        weighted = scaled(lattice, 1, 0.1)
        once, _ = determinize(to_compact_lattice(weighted), 8.0, OPTIONS)
        twice, _ = determinize_phones_and_words(weighted, model, 8.0, OPTIONS)
        assert is_deterministic(twice)
        expected, found = best_by_words(once), best_by_words(twice)
        assert found.keys() == expected.keys()
        for words, (cost, _) in found.items():
            assert cost == pytest.approx(expected[words][0], abs=1e-4)


@pytest.mark.parametrize(
    "limit",
    [{"max_states": 3}, {"max_arcs": 3}, {"max_mem": 30_000}],
    ids=lambda limit: next(iter(limit)),
)
def test_limits_give_a_narrower_beam(raw, limit):
    lattice = to_compact_lattice(scaled(max(raw.values(), key=lambda r: r.num_arcs), 1, 0.1))
    whole, _ = determinize(lattice, 8.0, OPTIONS)
    part, is_complete = determinize(lattice, 8.0, DeterminizationOptions(**limit, retry_cutoff=0))
    assert not is_complete
    assert 0 < part.num_arcs < whole.num_arcs
    best = [best_paths(each, 1)[0].weight(each).sum() for each in (part, whole)]
    assert best[0] == pytest.approx(best[1])


def test_trie():
    trie = LabelTrie([[1, 2], [1], [2], [3, 4], []])
    one = trie.extended(ROOT, 0)
    assert trie.extended(trie.extended(ROOT, 1), 2) == one == trie.extended(one, 4)
    base = trie.extended(ROOT, 3)
    other = trie.extended(base, 0)
    assert trie.labels(base, other) == trie.labels(ROOT, one) == [1, 2]
    assert trie.fingerprint(base, other) == trie.fingerprint(ROOT, one)
    assert trie.fingerprint(ROOT, other) != trie.fingerprint(ROOT, one)
    assert trie.common([other, trie.extended(base, 1)], ROOT) == trie.extended(base, 1)
    assert trie.common([other, one], ROOT) == ROOT
