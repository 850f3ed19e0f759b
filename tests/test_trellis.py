"""Sums over the paths of a graph, against sums over its paths one by one."""

from __future__ import annotations

import numpy as np
import pytest

from nnet.lattices.lattice import LATTICE_ARC, Lattice
from nnet.lattices.trellis import Trellis


def trellis_of(source, destination, num_states, start, finals):
    arcs = np.zeros(len(source), LATTICE_ARC)
    arcs["nextstate"] = destination
    weights = np.full((num_states, 2), np.inf)
    weights[finals] = 0
    lattice = Lattice.from_arcs(start, weights, source, arcs)
    return Trellis(lattice)


def random_graph(rng, num_states, num_arcs):
    """Arcs from lower states to higher, by numbers that are then mixed up."""
    ends = np.sort(rng.integers(0, num_states, (num_arcs, 2)), axis=1)
    ends = ends[ends[:, 0] < ends[:, 1]]
    number = rng.permutation(num_states)
    return number[ends[:, 0]], number[ends[:, 1]], num_states, number[0], number[-2:]


def paths(source, destination, start, end):
    """List the paths, as lists of arcs."""
    if start == end:
        return [[]]
    arcs = np.flatnonzero(source == start)
    return [[a, *rest] for a in arcs for rest in paths(source, destination, destination[a], end)]


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_those_over_all_paths(seed):
    rng = np.random.default_rng(seed)
    trellis = trellis_of(*random_graph(rng, 8, 24))
    source, destination = trellis.source, trellis.into
    score, value = rng.normal(size=(2, len(source)))
    every_path = paths(source, destination, trellis.start, trellis.end)
    if not every_path:
        assert trellis.posteriors(score)[0] == -np.inf
        assert not trellis.posteriors(score)[1].any()
        assert trellis.expectation(score, value)[0] == 0
        return
    weight = np.array([np.exp(score[path].sum()) for path in every_path])
    total = np.array([value[path].sum() for path in every_path])
    through = np.array([[a in path for path in every_path] for a in range(len(source))])
    share = through @ weight / weight.sum()
    mean = weight @ total / weight.sum()

    log_z, gamma = trellis.posteriors(score)
    np.testing.assert_allclose(log_z, np.log(weight.sum()))
    np.testing.assert_allclose(gamma, share, atol=1e-12)
    expected, same_gamma, deviation = trellis.expectation(score, value)
    np.testing.assert_allclose(expected, mean)
    np.testing.assert_allclose(same_gamma, gamma)
    np.testing.assert_allclose(
        gamma * deviation, through @ (weight * (total - mean)) / weight.sum(), atol=1e-12
    )


def test_arcs_that_lead_nowhere_count_for_nothing():
    trellis = trellis_of([0, 0, 3], [1, 2, 1], 4, 0, [1])
    score, value = np.array([1.0, 50.0, 50.0, 0.5]), np.array([2.0, 9.0, 9.0, 0.0])
    log_z, gamma = trellis.posteriors(score)
    assert log_z == 1.5 and gamma.tolist() == [1, 0, 0, 1]
    mean, gamma, deviation = trellis.expectation(score, value)
    assert mean == 2 and gamma.tolist() == [1, 0, 0, 1] and deviation.tolist() == [0, 0, 0, 0]


def test_a_cycle_is_an_error():
    with pytest.raises(ValueError, match="cycle"):
        trellis_of([0, 1, 2], [1, 2, 1], 3, 0, [2])


def test_times_of_states():
    trellis = trellis_of([0, 0, 1, 3], [1, 2, 2, 2], 4, 0, [2])
    assert trellis.times(np.array([2, 3, 1, 9, 4])).tolist() == [0, 2, 3, -1, 7]
    with pytest.raises(ValueError, match="different numbers of frames"):
        trellis.times(np.array([2, 4, 1, 9, 4]))
    with pytest.raises(ValueError, match="no path"):
        trellis_of([0], [1], 2, 0, []).times(np.ones(1, int))
