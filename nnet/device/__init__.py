"""Devices: the CPU and GPUs, one object each, of which select_device() returns one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nnet.errors import NgtrainError

if TYPE_CHECKING:
    from nnet.device.device import Device

log = logging.getLogger("ngtrain")


def reason_against_gpu() -> str:
    """Say why select_device() would return no GPU; empty where there is one to compute on."""
    from nnet.device.cuda.gpu import acquire

    try:
        acquire(wait=False, tf32=False).close()
    except NgtrainError as error:
        return str(error)
    return ""


def select_device(use_gpu: str, tf32: bool = False) -> Device:
    """Choose the device on which a program computes.

    Args:
        use_gpu: "no" (the CPU), "yes" (a GPU, or an error), "optional" (a GPU if one can be had,
            else the CPU with a warning) or "wait" (a GPU, when one becomes free; an error where
            there is none).  Of several it is that with the most free memory.
        tf32: products of float32 matrices on a GPU may round what they multiply to 10 bits (TF32).

    Raises:
        NgtrainError: a GPU was asked for and cannot be used.

    Source: Kaldi's cudamatrix/cu-device.cc.
    """
    if use_gpu not in ("yes", "no", "optional", "wait"):
        raise NgtrainError(f"--use-gpu={use_gpu}: expected yes, no, optional or wait")
    from nnet.device.device import CPU

    if use_gpu == "no":
        return CPU
    from nnet.device.cuda.gpu import acquire

    try:
        return acquire(use_gpu == "wait", tf32)
    except NgtrainError as error:
        if use_gpu != "optional":
            raise NgtrainError(f"--use-gpu={use_gpu}: {error}") from None
        log.warning("Computing on the CPU: %s", error)
        return CPU
