"""The end of a network: affine component, softmax, and what may stand around the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from nnet.components import Component
from nnet.components.affine import AffineComponent
from nnet.components.fixed import FixedScaleComponent
from nnet.components.nonlinear import SoftmaxComponent
from nnet.components.sum_group import SumGroupComponent
from nnet.errors import NgtrainError
from nnet.model.network import Network

Kind = TypeVar("Kind", bound=Component)


@dataclass
class OutputLayer:
    """The last components of a network.

    Attributes:
        hidden: the components before them.
        affine, softmax: always there.
        scale: before the softmax, made of the priors of classes; or None.
        groups: the sums over the mixtures of a pdf-id; or None.
    """

    hidden: tuple[Component, ...]
    affine: AffineComponent
    scale: FixedScaleComponent | None
    softmax: SoftmaxComponent
    groups: SumGroupComponent | None

    @classmethod
    def of(cls, network: Network) -> OutputLayer:
        """Find the last components.

        Raises:
            NgtrainError: the network has another kind of end.
        """
        left = list(network.components)

        def last(kind: type[Kind]) -> Kind | None:
            if left and isinstance(component := left[-1], kind):
                left.pop()
                return component
            return None

        groups, softmax = last(SumGroupComponent), last(SoftmaxComponent)
        scale, affine = last(FixedScaleComponent), last(AffineComponent)
        if softmax is None:
            raise NgtrainError("the network does not end in a SoftmaxComponent")
        if affine is None:
            raise NgtrainError("the network has no affine layer before the softmax")
        return cls(tuple(left), affine, scale, softmax, groups)

    @property
    def components(self) -> list[Component]:
        """All components of the network."""
        last = self.affine, self.scale, self.softmax, self.groups
        return [*self.hidden, *filter(None, last)]
