"""Noise that is added in training, and taken out of a model (nnet-am-copy --remove-dropout) after.

Random numbers follow from a key, drawn from `rng` so that a training run can be repeated, and the
number of the minibatch: they are the same on the CPU and on a GPU, where no host draws them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nnet.components.base import (
    INTEGER,
    REAL,
    SameDimComponent,
    component_type,
    format_number,
    option,
)
from nnet.device.device import Array, Device


class NoiseComponent(SameDimComponent):
    """A function of as many outputs as inputs, with a random part."""

    needs_input = False
    needs_output = False
    in_place = True
    _state: Array | None = None
    """The key, two words, and how many minibatches there were; uint64, on the device."""

    def __init__(self, **values: Any):
        super().__init__(**values)
        self.rng = np.random.default_rng(0)

    @property
    def rng(self) -> np.random.Generator:
        return self._rng

    @rng.setter
    def rng(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._state = None

    def move_to(self, device: Device) -> None:
        super().move_to(device)
        if self._state is not None:
            self._state = device.asarray(self._state)

    def draw(self, name: str, like: Array) -> Array:
        """Draw random numbers from [0, 1), as many as `like` has, float32, in scratch memory."""
        x = self.workspace.array(name, like.shape, like, np.float32)
        if self._state is None:
            key = self.rng.integers(0, 2**64, 2, np.uint64)
            self._state = self.device.asarray(np.append(key, np.uint64(0)))
        self.device.draw_uniform(self._state, x)
        self._state[2:] += 1
        return x


@component_type
class DropoutComponent(NoiseComponent):
    """y_i = m_i x_i, with random m_i of mean one.

    A proportion `dropout_proportion` of the m_i equal `dropout_scale`, the others what makes up
    for it.
    """

    fields = (
        option("dim", INTEGER),
        option("dropout_scale", REAL, 0.0),
        option("dropout_proportion", REAL, 0.5),
    )

    def check(self) -> None:
        super().check()
        self.require(0 <= self.dropout_proportion < 1, "the dropout-proportion is not in [0, 1)")
        self.require(0 <= self.dropout_scale <= 1, "the dropout-scale is not in [0, 1]")

    def info_items(self) -> Iterator[tuple[str, str]]:
        yield from super().info_items()
        yield "dropout_proportion ", f" {format_number(self.dropout_proportion)}"
        yield "dropout_scale ", f" {format_number(self.dropout_scale)}"

    def propagate(self, x: Array, out: Array) -> None:
        xp = self.device.xp
        dropped = self.dropout_proportion * self.dropout_scale
        other_scale = (1 - dropped) / (1 - self.dropout_proportion)
        mask = self.draw("mask", x)
        xp.less(mask, self.dropout_proportion, out=mask)
        mask *= self.dropout_scale - other_scale
        mask += other_scale
        xp.multiply(x, mask, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        mask = self.workspace.array("mask", derivative.shape, derivative, np.float32)
        self.device.xp.multiply(derivative, mask, out=out)


@component_type
class AdditiveNoiseComponent(NoiseComponent):
    """y_i = x_i + n_i, with Gaussian noise n_i of standard deviation `stddev`."""

    fields = (
        option("dim", INTEGER),
        option("stddev", REAL, 1.0),
    )

    def propagate(self, x: Array, out: Array) -> None:
        xp = self.device.xp
        noise, angle = self.draw("noise", x), self.draw("angle", x)  # by Box and Muller's method
        xp.subtract(1, noise, out=noise)
        xp.log(noise, out=noise)
        noise *= -2 * self.stddev**2
        xp.sqrt(noise, out=noise)
        angle *= 2 * np.pi
        noise *= xp.cos(angle, out=angle)
        xp.add(x, noise, out=out)

    def backpropagate(self, x: Array, y: Array, derivative: Array, out: Array) -> None:
        out[...] = derivative
