"""Clustering of Gaussian statistics: k-means, top-down and bottom-up.

After Kaldi's tree/cluster-utils.cc.  Statistics are rows (count, sums of x, sums of x^2).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.trees.statistics import objective, sums_by

KMEANS_ROUNDS = 20
REFINEMENT_ROUNDS = 100


def c_random(seed: int = 1) -> Iterator[int]:
    """Draw the numbers that rand() of the GNU C library draws.

    Kaldi's k-means begins with them, and which of two equally good clusters comes first, so the
    order of questions, depends on it.  Source: the library's manual, and the additive feedback
    generator x^31 + x^3 + 1 that it documents.
    """
    state = [seed]
    for _ in range(30):
        state.append(16807 * state[-1] % 2147483647)
    state += state[:3]
    for number in range(31 + 3, 1 << 62):
        state.append((state[-3] + state[-31]) % (1 << 32))
        del state[:-31]
        if number >= 31 + 3 + 310:
            yield state[-1] >> 1


def refine(
    points: np.ndarray,
    assignment: np.ndarray,
    num_clusters: int,
    var_floor: float,
    num_rounds: int = REFINEMENT_ROUNDS,
) -> np.float32:
    """Move points, one at a time, to clusters where they fit better, until none moves.

    A gain, added up in single precision as Kaldi does, is off by as much as a point of few frames
    or none could gain: it may be above 0 there and back, and the point moves in every round.  Here
    a move must also raise the sum of the (rounded) objectives, so there is an end to it.

    Args:
        points: statistics (points, 1 + 2 D).
        assignment: int (points,): cluster of each; it changes in place.
    Returns:
        what the objective gained.
    Source: RefineClusterer, which looks at the five closest clusters only; it is the same for two.
    """
    clusters = sums_by(assignment, points, num_clusters)
    values = objective(clusters, var_floor)
    total = np.float32(0)
    for _ in range(num_rounds):
        moved = False
        for point, sums in enumerate(points):
            own = assignment[point]
            without = objective(clusters[own] - sums, var_floor)
            together = objective(clusters + sums, var_floor)
            gains = together + without - values - values[own]
            gains[together - values <= values[own] - without] = -np.inf
            gains[own] = -np.inf
            best = int(gains.argmax())
            if gains[best] > 0:
                clusters[own] -= sums
                clusters[best] += sums
                values[[own, best]] = objective(clusters[[own, best]], var_floor)
                assignment[point] = best
                total += gains[best]
                moved = True
        if not moved:
            break
    return total


def k_means(
    points: np.ndarray,
    num_clusters: int,
    var_floor: float,
    random: Iterator[int],
    num_tries: int,
) -> tuple[np.ndarray, np.float32]:
    """Divide points into clusters, as well as the best of several tries does it.

    Args:
        points: statistics (points, 1 + 2 D), at least as many as clusters.
        random: numbers for the start of each try.
    Returns:
        the cluster of each point, and the gain in log-likelihood over a single cluster.
    Source: ClusterKMeans.
    """
    num_points = len(points)
    best, most = np.zeros(num_points, int), np.float32(-np.inf)
    together = objective(points.sum(axis=0), var_floor)
    for _ in range(num_tries):
        skip = 1 if num_points == 1 else 1 + next(random) % (num_points - 1)
        while math.gcd(skip, num_points) != 1:
            skip = skip % (num_points - 1) + 1
        assignment = np.empty(num_points, int)
        assignment[np.arange(num_points) * skip % num_points] = np.arange(num_points) % num_clusters
        clusters = sums_by(assignment, points, num_clusters)
        gain = objective(clusters, var_floor).sum(dtype=np.float32) - together
        for _ in range(KMEANS_ROUNDS):
            improvement = refine(points, assignment, num_clusters, var_floor)
            gain += improvement
            if improvement == 0:
                break
        if gain > most:
            best, most = assignment, gain
    return best, most


def top_down(
    points: np.ndarray, var_floor: float, random: Iterator[int], num_tries: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Divide points in two, the parts in two, and so on, the greatest gain first.

    Args:
        points: statistics (points, 1 + 2 D).
    Returns:
        the leaf of each point, and the parent of each node: leaves come first, and the root, its
        own parent, last.
    Source: TreeClusterer.
    """

    @dataclass
    class Node:
        members: np.ndarray
        parent: Node | None
        number: int
        part: np.ndarray | None = None

    leaves = [Node(np.arange(len(points)), None, 0)]
    inner: list[Node] = []
    numbers = itertools.count()
    queue: list[tuple[float, int, Node]] = []  # Kaldi's order of equal gains is that of addresses

    def find_split(node: Node) -> None:
        if len(node.members) > 1:
            node.part, gain = k_means(points[node.members], 2, var_floor, random, num_tries)
            if gain > 0:
                heapq.heappush(queue, (-float(gain), next(numbers), node))

    find_split(leaves[0])
    while queue:
        node = heapq.heappop(queue)[-1]
        children = [Node(node.members[node.part == part], node, 0) for part in range(2)]
        children[0].number, children[1].number = node.number, len(leaves)
        leaves[node.number] = children[0]
        leaves.append(children[1])
        node.number = len(inner)
        inner.append(node)
        for child in children:
            find_split(child)

    def index(node: Node) -> int:
        return len(leaves) + len(inner) - 1 - node.number

    leaf_of = np.empty(len(points), int)
    for leaf in leaves:
        leaf_of[leaf.members] = leaf.number
    parents = [index(leaf.parent) if leaf.parent else 0 for leaf in leaves]
    parents += [index(node.parent) if node.parent else index(node) for node in reversed(inner)]
    return leaf_of, np.array(parents)


def bottom_up(
    compartments: Sequence[np.ndarray], var_floor: float, max_cost: float, min_clusters: int = 0
) -> list[np.ndarray]:
    """Merge clusters of the same compartment, the pair whose likelihood loses least first.

    Args:
        compartments: of each, the statistics (points, 1 + 2 D) that begin as clusters.
        max_cost: the most that a merger may lose.
        min_clusters: clusters, in all compartments together, at which merging ends.
    Returns:
        of each compartment, the cluster of each point; clusters are numbered from 0.
    Source: BottomUpClusterer and CompartmentalizedBottomUpClusterer.
    """
    clusters = [points.copy() for points in compartments]
    values = [objective(points, var_floor) for points in compartments]
    into = [np.arange(len(points)) for points in compartments]  # itself, or what swallowed it
    changes = [np.zeros(len(points), int) for points in compartments]
    queue: list[tuple[float, int, int, int, int, int]] = []

    def offer(compartment: int, one: int, others: np.ndarray) -> None:
        sums, value = clusters[compartment], values[compartment]
        merged = objective(sums[one] + sums[others], var_floor)
        costs = np.maximum(value[one] + value[others] - merged, 0)
        for other, cost in zip(others.tolist(), costs.tolist(), strict=True):
            if cost <= max_cost:
                pair = max(one, other), min(one, other)
                entry = (cost, compartment, *pair, *changes[compartment][list(pair)].tolist())
                heapq.heappush(queue, entry)

    for compartment, points in enumerate(compartments):
        for one in range(len(points)):
            offer(compartment, one, np.arange(one))
    num_clusters = sum(map(len, compartments))
    while num_clusters > min_clusters and queue:
        _, compartment, kept, gone, *then = heapq.heappop(queue)
        now = changes[compartment]
        if [now[kept], now[gone]] != then:
            continue  # one of the two is another cluster by now, or none
        clusters[compartment][kept] += clusters[compartment][gone]
        values[compartment][kept] = objective(clusters[compartment][kept], var_floor)
        into[compartment][gone] = kept
        now[[kept, gone]] += 1
        num_clusters -= 1
        alive = np.flatnonzero(into[compartment] == np.arange(len(now)))
        offer(compartment, kept, alive[alive != kept])
    assignments = []
    for parent in into:
        while (parent[parent] != parent).any():
            parent = parent[parent]
        assignments.append(np.unique(parent, return_inverse=True)[1])
    return assignments
