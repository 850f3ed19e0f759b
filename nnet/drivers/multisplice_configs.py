"""The network that a multisplice recipe trains, as lines for nnet-init.

The role of Kaldi's egs/wsj/s5/steps/nnet2/make_multisplice_configs.py: nnet.config is a network of
one hidden layer; hidden_N.config is what nnet-insert adds to it as layer N, where --splice-indexes
says so with a splicing of its input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnet.launch.commands import quote


def parse_splice_indexes(splice_indexes: str) -> dict[int, list[int]]:
    """Read frame offsets by hidden layer, of "layer0/-4:-3:-2:-1:0:1:2:3:4 layer2/-5:-1:3".

    Raises ValueError unless layer 0 is there and splices consecutive frames including 0, as the
    estimation of its feature transform needs.
    """
    splices: dict[int, list[int]] = {}
    for word in splice_indexes.split():
        match = re.fullmatch(r"layer(\d+)/(-?\d+(?::-?\d+)*)", word)
        if not match:
            raise ValueError(f"{word!r} is not of the form layer0/-2:-1:0:1:2")
        layer, offsets = int(match[1]), [int(offset) for offset in match[2].split(":")]
        if layer in splices:
            raise ValueError(f"layer{layer} is given twice")
        if offsets != sorted(set(offsets)):
            raise ValueError(f"the offsets in {word!r} are not increasing")
        splices[layer] = offsets
    if 0 not in splices:
        raise ValueError("layer0 is missing")
    first = splices[0]
    if first != list(range(first[0], first[-1] + 1)) or 0 not in first:
        raise ValueError("layer0 must splice consecutive frames that include 0")
    return splices


def context(splices: Mapping[int, list[int]]) -> tuple[int, int]:
    """Count the frames to the left and to the right that the whole network needs."""
    first = sum(offsets[0] for offsets in splices.values())
    last = sum(offsets[-1] for offsets in splices.values())
    return max(0, -first), max(0, last)


def presoftmax_scales(counts: Sequence[float], power: float) -> list[float]:
    """Compute scales of the softmax's inputs: powers of the priors of classes, 1 on average.

    counts: how often each class occurs; a hundredth of the average is added, for those that do not.
    """
    extra = 0.01 * sum(counts) / len(counts)
    scales = [(count + extra) ** power for count in counts]
    average = sum(scales) / len(scales)
    return [scale / average for scale in scales]


LARGEST_OUTPUT_CHANGE = 0.96  # by a minibatch, of the last layer, about, in the beginning


def last_max_change(
    max_change: float, num_classes: int, minibatch_size: int, hidden_dim: int
) -> float:
    """Limit the change of the last layer by a minibatch, in the unit of `max_change`, per sample.

    Samples of one class push its weights in one direction, and those of others pull back.  Of few
    classes each has a large part of a minibatch: the step is long, its limit what it reaches, and
    one that suits hundreds of classes throws the outputs to and fro.  The output of a class is
    changed by its own samples, of which there are minibatch_size / num_classes; by each of them at
    most by the limit times the length of the inputs, which are normalized and have much in common:
    the square root of their dimension.
    """
    own_samples = minibatch_size / num_classes
    return min(max_change, LARGEST_OUTPUT_CHANGE / (own_samples * math.sqrt(hidden_dim)))


@dataclass(frozen=True)
class MultispliceNetwork:
    """The network of a multisplice recipe.

    input_dim, ivector_dim: of a frame before splicing, the i-vector being part of the input.
    lda_mat, lda_dim: file of the transform of the first spliced features, and its output dimension.
    nonlin: "pnorm", "relu" or "tanh".
    affine_dim, hidden_dim: dimensions before and after the nonlinearity; equal but for p-norm.
    affine, last_affine: type and options of affine components, the last one's apart, but for
        dimensions and initial values.
    presoftmax_scales: file of the vector that scales the inputs of the softmax, or None.
    """

    splices: Mapping[int, list[int]]
    input_dim: int
    ivector_dim: int
    lda_mat: str
    lda_dim: int
    nonlin: str
    affine_dim: int
    hidden_dim: int
    affine: str
    last_affine: str
    bias_stddev: float
    num_targets: int
    presoftmax_scales: str | None

    def nnet_config(self) -> list[str]:
        """Describe the network of one hidden layer; the last starts at zero: all classes equal."""
        scales = self.presoftmax_scales
        return [
            f"{self._splice(0, self.input_dim)} const-component-dim={self.ivector_dim}",
            f"FixedAffineComponent {quote(f'matrix={self.lda_mat}')}",
            *self._hidden_layer(self.lda_dim),
            f"{self.last_affine} input-dim={self.hidden_dim} output-dim={self.num_targets} "
            "param-stddev=0 bias-stddev=0",
            *([f"FixedScaleComponent {quote(f'scales={scales}')}"] if scales else []),
            f"SoftmaxComponent dim={self.num_targets}",
        ]

    def hidden_config(self, layer: int) -> list[str]:
        """Describe what is inserted as hidden layer 1, 2, ..."""
        if layer not in self.splices:
            return self._hidden_layer(self.hidden_dim)
        spliced_dim = self.hidden_dim * len(self.splices[layer])
        return [self._splice(layer, self.hidden_dim), *self._hidden_layer(spliced_dim)]

    def insertion_point(self, layer: int) -> int:
        """Find the component, the last affine one, before which a hidden layer goes: its index."""
        num_last = 3 if self.presoftmax_scales else 2
        num_inserted = sum(len(self.hidden_config(before)) for before in range(1, layer))
        return len(self.nnet_config()) - num_last + num_inserted

    def _splice(self, layer: int, dim: int) -> str:
        return f"SpliceComponent input-dim={dim} context={':'.join(map(str, self.splices[layer]))}"

    def _hidden_layer(self, input_dim: int) -> list[str]:
        stddev = 1.0 / math.sqrt(self.affine_dim)
        affine = (
            f"{self.affine} input-dim={input_dim} output-dim={self.affine_dim} "
            f"param-stddev={stddev:g} bias-stddev={self.bias_stddev:g}"
        )
        normalize = f"NormalizeComponent dim={self.hidden_dim}"
        if self.nonlin == "tanh":  # is bounded already
            return [affine, f"TanhComponent dim={self.hidden_dim}"]
        if self.nonlin == "relu":
            return [affine, f"RectifiedLinearComponent dim={self.hidden_dim}", normalize]
        pnorm = f"PnormComponent input-dim={self.affine_dim} output-dim={self.hidden_dim} p=2"
        return [affine, pnorm, normalize]
