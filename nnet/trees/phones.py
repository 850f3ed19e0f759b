"""Files of numbers of phones that trees are built with: roots, and maps between phones."""

from __future__ import annotations

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.topology import LARGEST_PHONE
from nnet.hmm.tree import RootPhones
from nnet.io.numbers import natural
from nnet.io.text import split_words, text_lines


def read_roots(rxfilename: str) -> list[RootPhones]:
    """Read phones/roots.int; NgtrainError when it is malformed."""
    roots = []
    for number, line in enumerate(text_lines(rxfilename), 1):
        try:
            shared, split, *words = split_words(line)
            phones = tuple(sorted(natural(word) for word in words))
            if not phones or phones[0] == 0 or len(set(phones)) != len(phones):
                raise ValueError
            is_shared = {"shared": True, "not-shared": False}[shared]
            is_split = {"split": True, "not-split": False}[split]
        except (ValueError, KeyError):
            raise NgtrainError(
                f"{rxfilename}: line {number} must be 'shared' or 'not-shared', 'split' or "
                "'not-split', and the numbers of different phones"
            ) from None
        roots.append(RootPhones(phones, is_shared, is_split))
    if not roots:
        raise NgtrainError(f"{rxfilename}: there are no roots")
    return roots


def read_phone_map(rxfilename: str) -> np.ndarray:
    """Read lines "old new"; int32 (phones + 1,), -1 for a phone that has none.

    Raises:
        NgtrainError: a line is not of this form, or a phone stands twice.
    """
    new_of: dict[int, int] = {}
    for number, line in enumerate(text_lines(rxfilename), 1):
        try:
            old, new = (natural(word) for word in split_words(line))
            if not old or not new or old in new_of or old > LARGEST_PHONE:
                raise ValueError
        except ValueError:
            raise NgtrainError(
                f"{rxfilename}: line {number} must be a phone that did not come before, and another"
            ) from None
        new_of[old] = new
    phone_map = np.full(1 + max(new_of, default=0), -1, np.int32)
    phone_map[list(new_of)] = list(new_of.values())
    return phone_map


def mapped(phones: np.ndarray, phone_map: np.ndarray | None) -> np.ndarray:
    """Put other phones in the place of phones (n,); NgtrainError where the map has none."""
    if phone_map is None:
        return phones
    known = phones < len(phone_map)
    result = np.where(known, phone_map[np.where(known, phones, 0)], -1)
    if (result < 0).any():
        raise NgtrainError(f"--phone-map has no phone in the place of {phones[result < 0][0]}")
    return result
