"""Building of decision trees: roots, the best splits first, then clusters of leaves.

After Kaldi's tree/build-tree.cc and tree/build-tree-utils.cc.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.tree import Leaf, Node, RootPhones, Split, Table, map_leaves, root_map
from nnet.trees.clustering import bottom_up, refine
from nnet.trees.questions import KeyQuestions, Questions, Values
from nnet.trees.statistics import ABSENT, TreeStatistics, column, objective, sums_by

log = logging.getLogger("ngtrain")

MULTIPLE = 8
"""What the number of leaves is rounded down to a multiple of."""


def leaves_of(node: Node | None, events: np.ndarray) -> np.ndarray:
    """Find the leaf of each event (E,).

    Raises:
        NgtrainError: an event that has none.
    """
    leaves = np.empty(len(events), int)

    def descend(node: Node | None, rows: np.ndarray) -> None:
        if isinstance(node, Leaf):
            leaves[rows] = node.answer
        elif len(rows) == 0:
            return
        elif node is None or (values := events[rows, column(node.key)]).max() == ABSENT:
            event = ["-" if value == ABSENT else str(value) for value in events[rows[0]]]
            raise NgtrainError(
                f"the tree has no answer for pdf-class {event[0]} of the phones "
                f"{' '.join(event[1:])}: do --context-width and --central-position match the "
                "statistics, and do phones without context (--ci-phones) share no roots with "
                "others?"
            )
        elif isinstance(node, Table):
            for value in np.unique(values).tolist():
                branch = node.branches[value] if value < len(node.branches) else None
                descend(branch, rows[values == value])
        else:
            yes = np.isin(values, node.yes_set)
            descend(node.yes, rows[yes])
            descend(node.no, rows[~yes])

    descend(node, np.arange(len(events)))
    return leaves


def likelihood_of(node: Node, statistics: TreeStatistics) -> float:
    """Compute the log-likelihood of all frames with a Gaussian per leaf."""
    return float(objective(_sums_by_leaf(node, statistics), statistics.var_floor).sum(dtype=float))


def _sums_by_leaf(node: Node, statistics: TreeStatistics) -> np.ndarray:
    leaves = leaves_of(node, statistics.events)
    return sums_by(leaves, statistics.sums, leaves.max() + 1)


# --- Splitting ------------------------------------------------------------------------------------


@dataclass
class _Region:
    """Some of the events, with the best question that may divide them; a leaf, or divided."""

    statistics: TreeStatistics
    leaf: int
    gain: float = 0.0
    key: int = 0
    yes_set: Values = ()
    parts: tuple[_Region, _Region] | None = None

    def find_question(self, questions: Questions) -> None:
        for key, of_key in questions.of_key.items():
            gain, yes_set = best_question(self.statistics, key, of_key)
            if gain > self.gain:
                self.gain, self.key, self.yes_set = gain, key, yes_set

    def divide(self, new_leaf: int, questions: Questions) -> tuple[_Region, _Region]:
        yes = np.isin(self.statistics.values(self.key), self.yes_set)
        self.parts = (
            _Region(self.statistics.selected(yes), self.leaf),
            _Region(self.statistics.selected(~yes), new_leaf),
        )
        for part in self.parts:
            part.find_question(questions)
        return self.parts

    def node(self) -> Node:
        if self.parts is None:
            return Leaf(self.leaf)
        yes, no = self.parts
        return Split(self.key, self.yes_set, yes.node(), no.node())


def best_question(
    statistics: TreeStatistics, key: int, questions: KeyQuestions
) -> tuple[float, Values]:
    """Find the question about a key by which the log-likelihood gains most.

    Returns:
        what it gains, and the values whose answer is yes; 0 and () where none gains.
    Source: FindBestSplitForKey.
    """
    values = statistics.values(key)
    if len(values) <= 1 or values.max() == ABSENT or not questions.sets:
        return 0.0, ()
    present, number = np.unique(values, return_inverse=True)
    sums = sums_by(number, statistics.sums, len(present))
    total, floor = sums.sum(axis=0), statistics.var_floor
    yes = questions.asked_of(present) @ sums
    gains = objective(total - yes, floor) + objective(yes, floor) - objective(total, floor)
    best = int(gains.argmax())
    gain, yes_set = (float(gains[best]), questions.sets[best]) if gains[best] > 0 else (0.0, ())
    if questions.num_rounds > 0:
        part = np.isin(present, yes_set).astype(int)
        gain += float(refine(sums, part, 2, floor, questions.num_rounds))
        yes_set = tuple(present[part == 1].tolist())
    return gain, yes_set


def split_leaves(
    stub: Node,
    num_leaves: int,
    statistics: TreeStatistics,
    questions: Questions,
    threshold: float,
    max_leaves: int,
) -> tuple[Node, int, float, float]:
    """Divide leaves, the one that gains most first, while it gains more than the threshold.

    Args:
        stub: the map to begin with, of `num_leaves` leaves.
        max_leaves: the most leaves; no limit if it is not positive.
    Returns:
        the tree, its number of leaves, the gain of all splits, and that of the smallest.
    Source: SplitDecisionTree.
    """
    regions = {}
    leaves = leaves_of(stub, statistics.events)
    queue: list[tuple[float, int, str, _Region]] = []

    def enqueue(region: _Region, root: int, path: str) -> None:
        if region.gain > threshold:
            heapq.heappush(queue, (-region.gain, -root, path, region))

    for leaf in np.unique(leaves).tolist():
        regions[leaf] = _Region(statistics.selected(leaves == leaf), leaf)
        regions[leaf].find_question(questions)
        enqueue(regions[leaf], leaf, "")
    num_splits, total, smallest = 0, 0.0, 1e20
    while queue and (max_leaves <= 0 or num_leaves < max_leaves):
        _, minus_root, path, region = heapq.heappop(queue)
        total += region.gain
        smallest = min(smallest, region.gain)
        for answer, part in zip("01", region.divide(num_leaves, questions), strict=True):
            enqueue(part, -minus_root, path + answer)
        num_leaves += 1
        num_splits += 1
    log.info("DoDecisionTreeSplit: split %d times, #leaves now %d", num_splits, num_leaves)
    tree = map_leaves(stub, {leaf: region.node() for leaf, region in regions.items()})
    return tree, num_leaves, total, smallest


# --- Clustering -----------------------------------------------------------------------------------


def merge_leaves(
    tree: Node, stub: Node, statistics: TreeStatistics, max_cost: float, num_leaves: int = 0
) -> tuple[Node, int]:
    """Merge leaves of the same root, those whose likelihood loses least first.

    Args:
        max_cost: the most that a merger may lose.
        num_leaves: leaves with data at which merging ends.
    Returns:
        the tree, and how many leaves are fewer; the others keep their numbers.
    Source: ClusterEventMapRestrictedByMap, ClusterEventMapToNClustersRestrictedByMap.
    """
    sums = _sums_by_leaf(tree, statistics)
    root_of = np.full(len(sums), -1)
    root_of[leaves_of(tree, statistics.events)] = leaves_of(stub, statistics.events)
    compartments = [np.flatnonzero(root_of == root) for root in np.unique(root_of[root_of >= 0])]
    assignments = bottom_up(
        [sums[leaves] for leaves in compartments], statistics.var_floor, max_cost, num_leaves
    )
    merged: dict[int, Node] = {}
    num_clusters = 0
    for leaves, assignment in zip(compartments, assignments, strict=True):
        kept = [Leaf(leaf) for leaf in leaves[assignment].tolist()]
        merged.update(zip(leaves.tolist(), kept, strict=True))
        num_clusters += 1 + int(assignment.max())
    return map_leaves(tree, merged), sum(map(len, compartments)) - num_clusters


def renumbered(tree: Node) -> tuple[Node, int]:
    """Number the leaves from 0 without gaps; returns the tree and its number of leaves."""
    answers = sorted(set(tree.answers({})))
    numbers: Mapping[int, Node] = {old: Leaf(new) for new, old in enumerate(answers)}
    return map_leaves(tree, numbers), len(answers)


def build_tree(
    statistics: TreeStatistics,
    roots: Sequence[RootPhones],
    questions: Questions,
    num_pdf_classes: Mapping[int, int],
    *,
    central_position: int = 1,
    threshold: float = 300.0,
    cluster_threshold: float = -1.0,
    max_leaves: int = 0,
    round_num_leaves: bool = True,
) -> Node:
    """Build a decision tree.

    Args:
        num_pdf_classes: how many pdf-classes each phone has.
        threshold: least gain in log-likelihood of a split.
        cluster_threshold: the most log-likelihood that may be lost by merging two leaves of a root
            afterwards; negative for the gain of the smallest split, 0 for no merging.
        max_leaves: the most leaves; no limit if it is not positive.
        round_num_leaves: merge more, until the number of leaves is a multiple of 8.
    Raises:
        NgtrainError: statistics that the roots do not cover; nothing that limits the tree.
    Source: BuildTree.
    """
    if threshold <= 0 and max_leaves <= 0:
        raise NgtrainError("--thresh or --max-leaves must be positive")
    try:
        stub, num_leaves = root_map(roots, num_pdf_classes, central_position)
    except ValueError as error:
        raise NgtrainError(f"the roots: {error}") from None
    log.info("BuildTree: before building trees, map has %d leaves.", num_leaves)
    splittable = [phone for root in roots if root.split for phone in root.phones]
    may_split = np.isin(statistics.values(central_position), splittable)
    tree, num_leaves, gain, smallest = split_leaves(
        stub, num_leaves, statistics.selected(may_split), questions, threshold, max_leaves
    )
    if cluster_threshold < 0:
        cluster_threshold = smallest
        log.info("Setting clustering threshold to smallest split %g", smallest)
    log.info(
        "After decision tree split, num-leaves = %d, like-impr = %g per frame over %g frames.",
        *(num_leaves, gain / statistics.count, statistics.count),
    )
    before = likelihood_of(tree, statistics)
    if cluster_threshold != 0:
        tree, num_removed = merge_leaves(tree, stub, statistics, cluster_threshold)
        num_leaves -= num_removed
        log.info("BuildTree: removed %d leaves.", num_removed)
    if round_num_leaves:
        tree, num_leaves = _rounded(tree, stub, statistics, num_leaves)
    if round_num_leaves or cluster_threshold != 0:
        tree, num_leaves = renumbered(tree)
        log.info(
            "Objf change due to clustering %g per frame; num-leaves is now %d",
            *((likelihood_of(tree, statistics) - before) / statistics.count, num_leaves),
        )
    return tree


def _rounded(
    tree: Node, stub: Node, statistics: TreeStatistics, num_leaves: int
) -> tuple[Node, int]:
    """Merge leaves until their number is a multiple of 8, where the roots allow it."""
    wanted = num_leaves - num_leaves % MULTIPLE
    with_data = len(np.unique(leaves_of(tree, statistics.events)))
    roots_with_data = len(np.unique(leaves_of(stub, statistics.events)))
    least = wanted - (num_leaves - with_data)
    if least < roots_with_data:
        log.warning("%d leaves are not rounded: there are %d roots", num_leaves, roots_with_data)
        return tree, num_leaves
    tree, num_removed = merge_leaves(tree, stub, statistics, np.inf, least)
    if num_removed:
        log.info(
            "BuildTree: Rounded num leaves to multiple of 8 by removing %d leaves.", num_removed
        )
    return tree, num_leaves - num_removed


def check_coverage(
    roots: Sequence[RootPhones],
    topology: HmmTopology,
    statistics: TreeStatistics,
    central_position: int,
) -> None:
    """Compare the phones of roots, of a topology and of statistics.

    Raises:
        NgtrainError: there are no statistics, or some of a phone that no root has.
    """
    listed = {phone for root in roots for phone in root.phones}
    seen = set(statistics.values(central_position).tolist())
    if not len(statistics) or ABSENT in seen:
        raise NgtrainError(f"no statistics of phones at --central-position={central_position}")
    if unlisted := sorted(seen - listed):
        raise NgtrainError(f"phone {unlisted[0]} has statistics, but is not in the roots file")
    if different := sorted(listed.symmetric_difference(topology.phones)):
        log.warning(
            "%d phones are either in the roots file or in the topology only, such as %d",
            *(len(different), different[0]),
        )
    if unseen := sorted(listed - seen):
        log.warning(
            "saw no stats for %d phones, which get what their roots have: %s",
            *(len(unseen), " ".join(map(str, unseen))),
        )


def warn_of_few_frames(tree: Node, statistics: TreeStatistics, enough: int = 100) -> None:
    """Say which leaves have too few frames to be trained well."""
    counts = _sums_by_leaf(tree, statistics)[:, 0]
    few = np.flatnonzero(counts < enough)
    if len(few):
        log.warning(
            "%d of %d pdf-ids have less than %d frames, such as pdf-id %d with %g",
            *(len(few), len(counts), enough, few[0], counts[few[0]]),
        )
