"""Questions that a tree may ask, and how sets of phones for them are found.

Formats and methods are those of Kaldi's tree/build-tree-questions.cc and tree/build-tree.cc
(AutomaticallyObtainQuestions, KMeansClusterPhones).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.tree import PDF_CLASS
from nnet.io.tokens import Reader, Stored, Writer
from nnet.trees.clustering import k_means, top_down
from nnet.trees.statistics import ABSENT, TreeStatistics

log = logging.getLogger("ngtrain")

Values = tuple[int, ...]


@dataclass(frozen=True)
class KeyQuestions:
    """What may be asked about one key: whether its value is in one of these sets.

    Attributes:
        sets: sorted values each.
        num_rounds: rounds by which a set is refined for the statistics at hand; as a rule 0.
        num_closest: clusters that the refinement looks at; two are all there are.
    """

    sets: list[Values]
    num_rounds: int = 0
    num_closest: int = 2

    @cached_property
    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """List the values of all sets, one after the other, and the number of the set of each."""
        sizes = [len(values) for values in self.sets]
        values = np.fromiter(chain.from_iterable(self.sets), int, sum(sizes))
        return values, np.repeat(np.arange(len(sizes)), sizes)

    def asked_of(self, present: np.ndarray) -> np.ndarray:
        """Ask every question of some values, sorted: (sets, values), 1 where the answer is yes."""
        values, set_of = self.members
        place = np.minimum(np.searchsorted(present, values), len(present) - 1)
        yes = present[place] == values
        asked = np.zeros((len(self.sets), len(present)))
        asked[set_of[yes], place[yes]] = 1
        return asked


class Questions(Stored):
    """The questions about each key of events: the pdf-class, and each position of the window."""

    def __init__(self, of_key: dict[int, KeyQuestions]):
        self.of_key = dict(sorted(of_key.items()))

    @classmethod
    def compiled(
        cls,
        topology: HmmTopology,
        phone_sets: Sequence[Sequence[int]],
        context_width: int,
        num_rounds: int = 0,
    ) -> Questions:
        """Ask about sets of phones at each position, and about the first pdf-classes.

        Raises:
            NgtrainError: a set names a phone twice, or a phone that the topology lacks.
        """
        sets = [tuple(sorted(phones)) for phones in phone_sets]
        if any(len(set(phones)) != len(phones) for phones in sets):
            raise NgtrainError("a question contains a phone twice")
        unique = sorted(set(sets))
        if len(unique) < len(sets):
            log.warning("%d duplicate questions present", len(sets) - len(unique))
        asked = {phone for phones in unique for phone in phones}
        if unknown := sorted(asked - set(topology.phones)):
            raise NgtrainError(f"there are questions about phone {unknown[0]}, not in the topology")
        if missing := sorted(set(topology.phones) - asked):
            log.warning(
                "%d phones of the topology are in no question, such as %d",
                *(len(missing), missing[0]),
            )
        num_classes = max(topology.num_pdf_classes(phone) for phone in topology.phones)
        log.info("Max # pdf classes is %d", num_classes)
        classes = [tuple(range(size)) for size in range(1, num_classes)]
        of_key = {PDF_CLASS: KeyQuestions(classes, num_rounds)}
        for position in range(context_width):
            of_key[position] = KeyQuestions(unique, num_rounds)
        return cls(of_key)

    @classmethod
    def read(cls, reader: Reader) -> Questions:
        """Parse the output of compile-questions; NgtrainError when it is malformed."""
        of_key = {}
        reader.expect("<Questions>")
        while reader.one_of("<Key>", "</Questions>") == "<Key>":
            key = reader.integer()
            size = reader.expect("<QuestionsForKey>").integer()
            sets = [tuple(reader.integers().tolist()) for _ in range(size)]
            num_rounds = reader.expect("<RefineClustersOptions>").integer()
            num_closest = reader.integer()
            reader.expect("</RefineClustersOptions>", "</QuestionsForKey>")
            if any(min(values, default=0) < 0 or list(values) != sorted(values) for values in sets):
                raise reader.fail("a question that is not sorted, or negative")
            of_key[key] = KeyQuestions(sets, num_rounds, num_closest)
        return cls(of_key)

    def write(self, writer: Writer) -> None:
        writer.token("<Questions>")
        for key, questions in self.of_key.items():
            writer.token("<Key>").integer(key)
            writer.token("<QuestionsForKey>").integer(len(questions.sets))
            for values in questions.sets:
                writer.integers(values)
            writer.token("<RefineClustersOptions>")
            writer.integer(questions.num_rounds).integer(questions.num_closest)
            writer.token("</RefineClustersOptions>").token("</QuestionsForKey>")
        writer.token("</Questions>")


def sums_by_set(
    statistics: TreeStatistics,
    phone_sets: Sequence[Sequence[int]],
    pdf_classes: Sequence[int],
    central_position: int,
) -> np.ndarray:
    """Add up the statistics of some pdf-classes over sets of phones; (sets, 1 + 2 D).

    Raises:
        NgtrainError: sets that are empty or overlap, or no phone at the central position.
    """
    phones = [phone for phone_set in phone_sets for phone in phone_set]
    if not all(phone_sets) or len(set(phones)) != len(phones) or not phones:
        raise NgtrainError("phone sets must not be empty, and no phone may be in two of them")
    retained = statistics.selected(np.isin(statistics.values(PDF_CLASS), pdf_classes))
    if 10 * len(retained) < len(statistics):
        log.warning(
            "only %d of %d statistics have a pdf-class of --pdf-class-list (%s): does it fit the "
            "topology?",
            *(len(retained), len(statistics), ":".join(map(str, pdf_classes))),
        )
    central = retained.values(central_position)
    if (central == ABSENT).any():
        raise NgtrainError(
            f"the statistics have no phone at position {central_position}: other options in "
            "acc-tree-stats?"
        )
    if unlisted := sorted(set(central.tolist()) - set(phones)):
        log.warning("phone %d has statistics, but is in no set of phones", unlisted[0])
    sums = np.array([retained.sums[np.isin(central, list(s))].sum(axis=0) for s in phone_sets])
    without = [phones for phones, row in zip(phone_sets, sums, strict=True) if row[0] == 0]
    if without:
        log.warning(
            "no stats available for %d sets of phones, such as: %s",
            *(len(without), " ".join(map(str, without[0]))),
        )
    return sums


def cluster_for_questions(
    sums: np.ndarray,
    phone_sets: Sequence[Sequence[int]],
    var_floor: float,
    random: Iterator[int],
) -> list[list[int]]:
    """List sets of phones that are alike, from all phones down to the sets that came in."""
    leaf_of, parents = top_down(sums, var_floor, random)
    members: list[list[int]] = [[] for _ in parents]
    for leaf, phones in zip(leaf_of, phone_sets, strict=True):
        members[leaf] += phones
    for node, parent in enumerate(parents[:-1].tolist()):
        members[node].sort()
        if parent < len(parents) - 1:
            members[parent] += members[node]
    members[-1].sort()
    sets = [*reversed(members), *map(sorted, phone_sets)]
    return [list(phones) for phones in dict.fromkeys(map(tuple, sets)) if phones]


def cluster_by_k_means(
    sums: np.ndarray,
    phone_sets: Sequence[Sequence[int]],
    num_classes: int,
    var_floor: float,
    random: Iterator[int],
) -> list[list[int]]:
    """Divide sets of phones into classes; sorted phones of each class."""
    assignment, gain = k_means(sums, num_classes, var_floor, random, num_tries=2)
    count = sums[:, 0].sum()
    log.info(
        "ClusterKMeans: objf change from clustering [versus single set] is %g over %g frames.",
        *(gain / count, count),
    )
    classes: list[list[int]] = [[] for _ in range(num_classes)]
    for number, phones in zip(assignment, phone_sets, strict=True):
        classes[number] += phones
    return [sorted(phones) for phones in classes]
