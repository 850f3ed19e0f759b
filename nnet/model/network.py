"""A network is a list of components.

Source: Kaldi's nnet2/nnet-nnet.{h,cc} and nnet2/nnet-functions.cc.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from nnet.components import Component, UpdatableComponent, component_from_config, read_component
from nnet.components.layout import FrameLayout, needed_offsets
from nnet.components.noise import DropoutComponent, NoiseComponent
from nnet.components.nonlinear import NonlinearComponent, SoftmaxComponent
from nnet.device.device import Device
from nnet.errors import NgtrainError
from nnet.io.text import is_utf8, text_lines
from nnet.io.tokens import Reader, Writer

log = logging.getLogger("ngtrain")


def structure(component: Component) -> tuple:
    """Return what components that are added share: type, dimensions, shapes of parameters."""
    parameters = component.parameters if isinstance(component, UpdatableComponent) else ()
    dims = component.input_dim, component.output_dim
    return component.type, *dims, *(parameter.shape for parameter in parameters)


class Network:
    """A list of components, each of which takes the output of the one before.

    Attributes:
        components, updatable_components: all, and those with parameters; tuples.
        input_dim, output_dim: dimensions of a frame.
        left_context, right_context: the input frames that an output frame needs on its sides.
        device: where the components are, and compute.
        dtype: the precision of the parameters, in which everything is computed.
        layout: chunks of the input, and their frames, as set_layout() was told; else None.
        num_rows: at each component's input, and at the last one's output, with that layout.

    Raises:
        NgtrainError: the dimensions of the components do not fit together.
    """

    def __init__(self, components: Iterable[Component]):
        self.dtype = np.dtype(np.float32)
        self.set_components(components)

    def set_components(self, components: Iterable[Component]) -> None:
        """Change which components there are; all move to the device of the first."""
        components = tuple(components)
        if not components:
            raise NgtrainError("a network needs at least one component")
        for i, (before, after) in enumerate(pairwise(components)):
            if before.output_dim != after.input_dim:
                raise NgtrainError(
                    f"component {i} ({before.type}) has output dimension {before.output_dim}, but "
                    f"component {i + 1} ({after.type}) has input dimension {after.input_dim}"
                )
        self.components = components
        self.updatable_components = tuple(
            c for c in components if isinstance(c, UpdatableComponent)
        )
        self.input_dim, self.output_dim = components[0].input_dim, components[-1].output_dim
        self.left_context = -sum(c.context[0] for c in components)
        self.right_context = sum(c.context[-1] for c in components)
        self.device = components[0].device
        self.layout: tuple[int, int] | None = None
        self.num_rows: list[int] = []
        for index, component in enumerate(components):
            component.index = index
            if component.device is not self.device:
                component.move_to(self.device)

    # Files ----------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, lines: Iterable[str], rng: np.random.Generator) -> Network:
        """Return the network of a config: a component per line, ``#`` begins a comment line.

        Random parameters are drawn from `rng`.

        Raises:
            NgtrainError: a line is not as it should be; it is named.
        """
        lines = (line.strip() for line in lines)
        return cls(
            component_from_config(line, rng) for line in lines if line and not line.startswith("#")
        )

    @classmethod
    def load_config(cls, rxfilename: str, rng: np.random.Generator) -> Network:
        """Return the network of a config in a file, which from_config()'s errors then name."""
        lines = list(text_lines(rxfilename))
        if not all(map(is_utf8, lines)):
            raise NgtrainError(f"{rxfilename}: a config must be text")
        try:
            return cls.from_config(lines, rng)
        except NgtrainError as error:
            raise NgtrainError(f"{rxfilename}: {error}") from None

    @classmethod
    def read(cls, reader: Reader) -> Network:
        """Read a network.

        Raises:
            NgtrainError: it is malformed; the file is named.
        """
        reader.expect("<Nnet>", "<NumComponents>")
        num_components = reader.integer()
        reader.expect("<Components>")
        components = [read_component(reader) for _ in range(num_components)]
        reader.expect("</Components>", "</Nnet>")
        try:
            return cls(components)
        except NgtrainError as error:
            raise reader.fail(str(error)) from None

    def write(self, writer: Writer) -> None:
        writer.token("<Nnet>")
        writer.token("<NumComponents>")
        writer.integer(len(self.components))
        writer.token("<Components>")
        for component in self.components:
            component.write(writer)
            writer.newline()
        writer.token("</Components>")
        writer.token("</Nnet>")

    def info(self) -> str:
        """Describe the network as nnet-am-info does: a line per property and per component."""
        lines = [
            f"num-components {len(self.components)}",
            f"num-updatable-components {len(self.updatable_components)}",
            f"left-context {self.left_context}",
            f"right-context {self.right_context}",
            f"input-dim {self.input_dim}",
            f"output-dim {self.output_dim}",
            f"parameter-dim {self.num_parameters}",
            *(f"component {c.index} : {c.info()}" for c in self.components),
        ]
        return "".join(f"{line}\n" for line in lines)

    # Properties -----------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        return sum(component.num_parameters for component in self.updatable_components)

    def set_layout(self, num_chunks: int, num_frames: int) -> None:
        """Tell the components which frames their rows are, by layouts(), and set `layout`."""
        layouts = self.layouts(num_chunks, num_frames)
        for component, (before, after) in zip(self.components, pairwise(layouts), strict=True):
            component.set_layout(before, after)
        self.num_rows = [layout.num_rows for layout in layouts]
        self.layout = num_chunks, num_frames

    def layouts(self, num_chunks: int, num_frames: int) -> list[FrameLayout]:
        """Find the frames at the input of each component, and at the output of the last.

        The input has `num_chunks` chunks of `num_frames` contiguous frames; only the frames that
        the output needs are computed in between.

        Raises:
            NgtrainError: there are too few frames.
        """
        outputs = range(self.left_context, num_frames - self.right_context)
        if not outputs:
            raise NgtrainError(
                f"{num_frames} frames are too few for a network with a context of "
                f"{self.left_context} frames on the left and {self.right_context} on the right"
            )
        offsets = [outputs]
        for component in reversed(self.components):
            offsets.append(needed_offsets(offsets[-1], component.context))
        offsets.reverse()
        # Components that cannot pick frames take them all.
        for i, component in enumerate(self.components):
            offsets[i] = range(offsets[i][0], offsets[i][-1] + 1)
            if component.rearranges_frames:
                break
        return [FrameLayout(num_chunks, o) for o in offsets]

    def is_finite(self) -> bool:
        """Tell whether no parameter is NaN or infinite."""
        return all(component.is_finite() for component in self.components)

    # Arithmetic -----------------------------------------------------------------------------------

    def copy(self) -> Network:
        """Return an independent copy."""
        return copy.deepcopy(self)

    def scale(self, a: float) -> None:
        """Multiply all parameters and statistics by `a`."""
        for component in self.components:
            component.scale(a)

    def add(self, a: float, other: Network) -> None:
        """Add `a` times the parameters and statistics of a network of the same structure."""
        for component, addend in self._pairs(other, Component):
            component.add(a, addend)

    def set_zero(self, as_gradient: bool = False) -> None:
        """Set parameters and statistics to zero; `as_gradient`: to accumulate a gradient."""
        for component in self.updatable_components:
            component.set_zero(as_gradient)
        self.zero_statistics()

    def zero_statistics(self) -> None:
        """Forget the statistics of nonlinearities."""
        for component in self.components:
            if isinstance(component, NonlinearComponent):
                component.scale(0.0)

    def copy_statistics(self, other: Network) -> None:
        """Take over the statistics of the nonlinearities of another network."""
        self.zero_statistics()
        for component, source in self._pairs(other, NonlinearComponent):
            component.add(1.0, source)

    def dot_product(self, other: Network) -> np.ndarray:
        """Multiply the parameters of each updatable component, (components,), in float64."""
        return np.array([a.dot_product(b) for a, b in self._pairs(other, UpdatableComponent)])

    def _pairs(self, other: Network, kind: type[Component]) -> list[tuple]:
        """Pair components of this kind with their counterparts.

        Raises:
            NgtrainError: the networks are not of the same structure.
        """
        mine, theirs = self.components, other.components
        if [*map(structure, mine)] != [*map(structure, theirs)]:
            raise NgtrainError("the networks differ in their components or dimensions")
        return [pair for pair in zip(mine, theirs, strict=True) if isinstance(pair[0], kind)]

    def convert(self, dtype: np.dtype | type) -> None:
        """Compute in another precision from now on."""
        self.dtype = np.dtype(dtype)
        for component in self.components:
            component.convert(dtype)

    def move_to(self, device: Device) -> None:
        """Keep everything on a device, and compute there."""
        self.device = device
        for component in self.components:
            component.move_to(device)

    # Learning rates -------------------------------------------------------------------------------

    @property
    def learning_rates(self) -> list[float]:
        """The learning rates of the updatable components."""
        return [component.learning_rate for component in self.updatable_components]

    @learning_rates.setter
    def learning_rates(self, rates: Sequence[float]) -> None:
        for component, rate in zip(self.updatable_components, rates, strict=True):
            component.learning_rate = float(np.float32(rate))

    def set_learning_rate(self, rate: float) -> None:
        """Give all updatable components the same learning rate."""
        self.learning_rates = [rate] * len(self.updatable_components)

    def scale_learning_rates(self, factors: Mapping[str, float]) -> None:
        """Multiply the learning rates of components of some types, by the name of the type."""
        self.learning_rates = [
            c.learning_rate * factors.get(c.type, 1.0) for c in self.updatable_components
        ]

    # Structure ------------------------------------------------------------------------------------

    def insert(self, index: int, other: Network) -> None:
        """Put copies of the components of another network before component `index`."""
        mine = self.components
        if not 0 <= index <= len(mine):
            raise NgtrainError(f"cannot insert at {index}: the network has {len(mine)} components")
        self.set_components((*mine[:index], *other.copy().components, *mine[index:]))

    def truncate(self, num_components: int) -> None:
        """Keep the first `num_components` only."""
        if not 0 < num_components <= len(self.components):
            raise NgtrainError(
                f"cannot keep {num_components} components: there are {len(self.components)}"
            )
        self.set_components(self.components[:num_components])

    def replace_last(self, num_to_remove: int, other: Network) -> None:
        """Put copies of the components of another network in place of the last ones."""
        num_kept = len(self.components) - num_to_remove
        if num_to_remove < 0 or num_kept < 0:
            raise NgtrainError(
                f"cannot remove {num_to_remove} of {len(self.components)} components"
            )
        self.set_components(self.components[:num_kept] + other.copy().components)

    def softmax_index(self) -> int:
        """Find the one softmax component.

        Raises:
            NgtrainError: there is none, or there are several.
        """
        indexes = [c.index for c in self.components if isinstance(c, SoftmaxComponent)]
        if len(indexes) != 1:
            raise NgtrainError(f"the network has {len(indexes)} softmax components, not one")
        return indexes[0]

    # Noise ----------------------------------------------------------------------------------------

    def remove_noise(self) -> None:
        """Take out dropout and additive noise."""
        kept = [c for c in self.components if not isinstance(c, NoiseComponent)]
        log.info("Removed %d dropout components.", len(self.components) - len(kept))
        self.set_components(kept)

    def set_dropout_scale(self, scale: float) -> None:
        """Set the factor of what is dropped; see DropoutComponent."""
        dropouts = [c for c in self.components if isinstance(c, DropoutComponent)]
        for component in dropouts:
            component.dropout_scale = scale
            component.check()
        log.info("Set dropout scale to %g for %d components.", scale, len(dropouts))

    def set_random_generator(self, rng: np.random.Generator) -> None:
        """Draw noise from `rng` from now on."""
        for component in self.components:
            if isinstance(component, NoiseComponent):
                component.rng = rng
