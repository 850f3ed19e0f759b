"""When each word of a decoded path is said, from its phones and the lexicon.

As Kaldi's lattice-align-words-lexicon does for lattices: the phones are divided among the words, of
which each is said in one of its ways, and silence may be between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nnet.io.integer_lists import read_integer_lists

Pronunciations = Mapping[int, Sequence[tuple[int, ...]]]


class WordSegment(NamedTuple):
    """A word-id, the first frame of the word, and the number of its frames."""

    word: int
    begin: int
    num_frames: int


def read_align_lexicon(path: str) -> dict[int, list[tuple[int, ...]]]:
    """Read the ways to say each word from phones/align_lexicon.int.  Raises NgtrainError."""
    ways = defaultdict(list)
    for word, _, *phones in read_integer_lists(path):
        ways[word].append(tuple(phones))
    return dict(ways)


def word_segments(
    words: Sequence[int],
    phones: Sequence[int],
    lengths: Sequence[int],
    pronunciations: Pronunciations,
    silence: Collection[int],
) -> list[WordSegment] | None:
    """Divide the phones of a path among its words; None if they cannot be those of the words.

    The last word may be cut short, as where no final state was reached.

    phones, lengths: phone-ids and frames of the path, as `phone_segments` gives them.
    silence: phones that may be between words.
    """
    phones = tuple(map(int, phones))
    # From (words, phones) that are done to where that came from; those with fewer phones first.
    came_from: dict[tuple[int, int], tuple[int, int] | None] = {(0, 0): None}
    waiting = defaultdict(list, {0: [0]})
    for place in range(len(phones)):
        for count in waiting.pop(place, ()):
            steps = [(count, place + 1)] if phones[place] in silence else []
            for way in pronunciations.get(words[count], ()) if count < len(words) else ():
                said = phones[place : place + len(way)]
                is_cut_short = count + 1 == len(words) and place + len(said) == len(phones)
                if said == way or (is_cut_short and said == way[: len(said)]):
                    steps.append((count + 1, place + len(said)))
            for step in steps:
                if step not in came_from:
                    came_from[step] = count, place
                    waiting[step[1]].append(step[0])
    here = len(words), len(phones)
    if here not in came_from:
        return None
    starts = np.append(0, np.cumsum(lengths))
    segments = []
    while (before := came_from[here]) is not None:
        if before[0] < here[0]:
            begin, end = starts[before[1]], starts[here[1]]
            segments.append(WordSegment(words[before[0]], int(begin), int(end - begin)))
        here = before
    return segments[::-1]
