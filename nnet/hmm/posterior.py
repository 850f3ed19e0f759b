"""Posteriors: for every frame a list of (index, weight), the index a transition-id or a pdf-id.

After Kaldi's hmm/posterior.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat

import numpy as np

from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel

Posterior = list[list[tuple[int, float]]]


def alignment_to_posterior(alignment: Iterable[int]) -> Posterior:
    """Convert an alignment to posteriors: one index per frame, with weight 1."""
    return [[(int(index), 1.0)] for index in alignment]


def weight_silence(
    posterior: Posterior,
    transition_model: TransitionModel,
    silence_phones: frozenset[int],
    weight: float,
    distribute: bool = False,
) -> Posterior:
    """Multiply the weights of transition-ids of silence phones by `weight`; 0 drops them.

    With `distribute`, those of a whole frame instead, by p(silence) * weight + p(others).
    """
    weighted = []
    for frame in posterior:
        scales = [
            weight if transition_model.phone_of[index] in silence_phones else 1.0
            for index, _ in frame
        ]
        if distribute:
            total = sum(p for _, p in frame)
            mean = sum(s * p for s, (_, p) in zip(scales, frame, strict=True)) / (total or 1.0)
            scales = [mean] * len(frame)
        weighted.append(
            [(index, p * s) for (index, p), s in zip(frame, scales, strict=True) if s != 0]
        )
    return weighted


def scaled(posterior: Posterior, scale: float) -> Posterior:
    """Multiply all weights by `scale`; 0 drops them."""
    if scale == 0.0:
        return [[] for _ in posterior]
    return [[(index, weight * scale) for index, weight in frame] for frame in posterior]


def weighted(posterior: Posterior, weights: Sequence[float]) -> Posterior:
    """Multiply the entries of each frame by its weight; 0, as beyond the last weight, drops them.

    After Kaldi's bin/weight-post.cc.
    """
    return [
        [(index, value * weight) for index, value in frame if weight]
        for frame, weight in zip(posterior, chain(weights, repeat(0.0)), strict=False)
    ]


def check_posterior(posterior: Posterior, transition_model: TransitionModel, key: str) -> None:
    """Raise NgtrainError when some index of utterance `key` is not a transition-id."""
    indexes = [index for frame in posterior for index, _ in frame]
    transition_model.check_alignment(np.array(indexes, dtype=np.int64), key)


def add_counts(counts: np.ndarray, posterior: Posterior) -> None:
    """Add the weights of a posterior to `counts`, float64 (indexes,)."""
    flat = [pair for frame in posterior for pair in frame]
    if flat:
        indexes, weights = zip(*flat, strict=True)
        np.add.at(counts, np.array(indexes), weights)


def pdf_counts(transition_counts: np.ndarray, transition_model: TransitionModel) -> np.ndarray:
    """Sum counts by transition-id, (transition-ids + 1,), to float64 counts by pdf-id."""
    return np.bincount(
        transition_model.pdf_of[1:],
        weights=transition_counts[1:],
        minlength=transition_model.num_pdfs,
    )


def parse_phone_list(text: str) -> frozenset[int]:
    """Parse phones in the form that the *.csl files have, `1:2:3`."""
    try:
        return frozenset(int(phone) for phone in text.split(":") if phone)
    except ValueError:
        raise NgtrainError(f"expected a colon-separated list of phones, got {text!r}") from None
