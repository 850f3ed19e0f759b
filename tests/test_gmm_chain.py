"""benchmarks/gmm_chain.py: what it computes without Kaldi's code."""

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")


def mixture(means, variances, weights):
    """A mixture with the parameters of Kaldi's DiagGmm (gmm/diag-gmm.h)."""
    constants = np.log(weights) - 0.5 * (np.log(2 * np.pi * variances) + means**2 / variances).sum(
        axis=1
    )
    return SimpleNamespace(
        num_gauss=len(weights), means=means, inv_vars=1 / variances,
        means_invvars=means / variances, gconsts=constants,
    )  # fmt: skip


def sample_of(frames, pdfs):
    from mixture_sums import Sample

    model = SimpleNamespace(pdf_of=np.arange(-1, 9))
    return Sample(model, frames.astype(np.float32), pdfs + 1)


def test_frames_are_given_by_their_states_and_those_without_are_left_out():
    frames = np.arange(10.0).reshape(5, 2)
    states = dict(sample_of(frames, np.array([3, 0, -1, 3, 0])).states())
    assert {pdf: z.tolist() for pdf, z in states.items()} == {
        0: [[2, 3, 4, 9], [8, 9, 64, 81]],
        3: [[0, 1, 0, 1], [6, 7, 36, 49]],
    }


def test_posteriors_are_those_of_bayes():
    from mixture_sums import posteriors_of

    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(3, 4)), rng.uniform(0.5, 2, (3, 4))
    weights = np.array([0.2, 0.3, 0.5])
    x = rng.normal(size=(6, 4))
    joint = weights * np.array(
        [
            [np.prod(np.exp(-((f - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)) for m, v in
             zip(means, variances, strict=True)]
            for f in x
        ]
    )  # fmt: skip
    shares, total = posteriors_of(mixture(means, variances, weights), np.hstack([x, x * x]))
    assert shares == pytest.approx(joint / joint.sum(axis=1, keepdims=True))
    assert total == pytest.approx(np.log(joint.sum(axis=1)).sum())


@pytest.mark.slow
def test_mllt_makes_the_covariance_of_every_state_diagonal():
    from mixture_sums import estimate_mllt

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) + 2 * np.eye(4)
    pdfs = rng.integers(0, 2, 4000)
    spread = np.array([[1.0, 3, 0.5, 2], [2, 0.3, 1, 4]])
    frames = (rng.normal(size=(4000, 4)) * np.sqrt(spread[pdfs])) @ mixing.T
    m = np.eye(4)
    for _ in range(8):  # as in training: diagonal variances, then the transform that fits them
        transformed = [(frames @ m.T)[pdfs == pdf] for pdf in (0, 1)]
        states = [mixture(x.mean(0)[None], x.var(0)[None], np.ones(1)) for x in transformed]
        m = estimate_mllt(states.__getitem__, sample_of(frames @ m.T, pdfs)) @ m
    for pdf in 0, 1:
        correlations = np.corrcoef((frames @ m.T)[pdfs == pdf].T)
        assert np.abs(correlations - np.eye(4)).max() < 0.05
