"""Features beside each other, and at another rate, as i-vectors need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nnet.errors import NgtrainError
from nnet.features.utterances import Skip
from nnet.io.tokens import read_object, write_object


def paste(parts: Sequence[np.ndarray], length_tolerance: int = 0) -> np.ndarray:
    """Join features (T_i, D_i) of an utterance, frame by frame (featbin/paste-feats.cc).

    The shortest counts; Skip if their lengths differ by more than so many frames, or one is empty.
    """
    lengths = [len(part) for part in parts]
    shortest, longest = min(lengths), max(lengths)
    if longest - shortest > length_tolerance or shortest == 0:
        raise Skip(f"Length mismatch {longest} vs. {shortest} exceeds tolerance {length_tolerance}")
    return np.hstack([part[:shortest] for part in parts])


def paster(
    others: Sequence[Mapping[str, np.ndarray]], length_tolerance: int
) -> Callable[[str, np.ndarray], np.ndarray]:
    """Make the function for `map_features` that appends the features that other tables have."""

    def append(key: str, features: np.ndarray) -> np.ndarray:
        for place, table in enumerate(others, 2):
            if key not in table:
                raise Skip(f"it is missing from input {place}")
        return paste([features, *(table[key] for table in others)], length_tolerance)

    return append


def paste_files(
    rxfilenames: Sequence[str], wxfilename: str, length_tolerance: int, binary: bool = True
) -> None:
    """Write a file of the features that some files hold, joined by paste().

    Raises:
        NgtrainError: one cannot be read, or their lengths differ by too much.
    """
    parts = [read_object(file, lambda reader: reader.matrix(np.float32)) for file in rxfilenames]
    try:
        pasted = paste(parts, length_tolerance)
    except Skip as reason:
        raise NgtrainError(f"{', '.join(rxfilenames)}: {reason}") from None
    write_object(wxfilename, lambda writer: writer.matrix(pasted), binary)


def subsample(features: np.ndarray, n: int, offset: int = 0) -> np.ndarray:
    """Take every n-th frame from `offset` on, or each frame -n times if n is negative.

    Kaldi featbin/subsample-feats.cc; features is (T, D).

    Raises:
        Skip: no frame is left.
        NgtrainError: n is 0, or there is an offset with negative n.
    """
    if n == 0 or offset < 0 or (n < 0 and offset):
        raise NgtrainError(f"--n={n} --offset={offset}: n cannot be 0, or negative with an offset")
    if n < 0:
        return np.repeat(features, -n, axis=0)
    if offset >= len(features):
        raise Skip("output would have no rows")
    return features[offset::n]


def randomize_later(
    vectors: np.ndarray, probability: float, rng: np.random.Generator
) -> np.ndarray:
    """Replace each row t of vectors (T, D), with some probability, by a random one of t, t + 1, ...

    Networks that see i-vectors estimated on all earlier frames would rely on them too much;
    vectors of other moments of the utterance keep them from that (Kaldi's ivector-randomize).
    """
    rows = np.arange(len(vectors))
    replaced = rng.random(len(rows)) < probability
    return vectors[np.where(replaced, rng.integers(rows, len(rows)), rows)]
