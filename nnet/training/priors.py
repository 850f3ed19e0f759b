"""Priors of the pdf-ids, by which posteriors are divided to get likelihoods.

Source: Kaldi's nnet2bin/nnet-train-transitions.cc and nnet2bin/nnet-adjust-priors.cc.
"""

from __future__ import annotations

import logging

import numpy as np

from nnet.errors import NgtrainError
from nnet.model.acoustic_model import AcousticModel

log = logging.getLogger("ngtrain")


def set_priors_from_counts(model: AcousticModel, pdf_counts: np.ndarray, floor: float) -> None:
    """Set the priors to the relative frequencies of pdf-ids, at least `floor` each.

    Raises:
        NgtrainError: there are no counts.
    """
    if not pdf_counts.sum() > 0:
        raise NgtrainError("cannot set priors: the alignments have no frames")
    priors = np.maximum(pdf_counts / pdf_counts.sum(), floor)
    model.set_priors(priors / priors.sum())


def adjust_priors(model: AcousticModel, posterior_sum: np.ndarray, floor: float) -> None:
    """Set the priors to the average posterior that the network itself gives on typical data.

    That is right also where the network's idea of the classes is not that of the alignments.  Says
    in the log how the priors change.

    Args:
        posterior_sum: (num_pdfs,) sum of posteriors.
        floor: the least value, so that no likelihood is divided by zero.

    Raises:
        NgtrainError: the vector has the wrong dimension, or no positive sum.
    """
    if posterior_sum.shape != (model.num_pdfs,):
        raise NgtrainError(f"expected {model.num_pdfs} summed posteriors, got {len(posterior_sum)}")
    total = posterior_sum.sum(dtype=np.float64)
    if not (np.isfinite(total) and total > 0 and (posterior_sum >= 0).all()):
        raise NgtrainError("the summed posteriors are not all >= 0 with a positive sum")
    priors = np.maximum(posterior_sum / total, floor).astype(np.float32)
    _log_change(model.priors, priors)
    model.set_priors(priors)


def _log_change(old: np.ndarray, new: np.ndarray) -> None:
    if len(old) == 0:
        log.info("Model did not previously have priors attached.")
        return
    most = int(np.abs(new - old).argmax())
    log.info(
        "Adjusting priors: largest absolute difference was for pdf %d, %g -> %g",
        *(most, old[most], new[most]),
    )
    p, q = (priors[old > 0] / priors.sum(dtype=np.float64) for priors in (old, new))
    divergence = float(np.sum(p * np.log(p / q)))
    log.info("Adjusting priors: K-L divergence from old to new is %g", divergence)
