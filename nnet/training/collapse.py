"""Merging of affine components that follow one another.

Source: Nnet::Collapse in Kaldi's nnet2/nnet-nnet.cc.
"""

import logging

from nnet.components import Component
from nnet.components.affine import AffineFunction
from nnet.components.fixed import FixedAffineComponent
from nnet.model.network import Network

log = logging.getLogger("ngtrain")


def collapse(network: Network, match_updatableness: bool = True) -> None:
    """Merge neighbouring affine components, W_2 (W_1 x + b_1) + b_2, in place.

    A trained one and a fixed one become one that is fixed, but only if not `match_updatableness`;
    two fixed ones stay as they are.
    """
    components: list[Component] = []
    for component in network.components:
        merged = _merged(components[-1], component, match_updatableness) if components else None
        if merged is None:
            components.append(component)
        else:
            components[-1] = merged
    num_collapsed = len(network.components) - len(components)
    network.set_components(components)
    hint = "" if num_collapsed or not match_updatableness else "  Try --match-updatableness=false."
    log.info("Collapsed %d components.%s", num_collapsed, hint)


def _merged(
    first: Component, second: Component, match_updatableness: bool
) -> AffineFunction | None:
    """Return the affine function that does what both do, in turn; None if they stay apart."""
    if not (isinstance(first, AffineFunction) and isinstance(second, AffineFunction)):
        return None
    fixed = [c for c in (first, second) if isinstance(c, FixedAffineComponent)]
    if len(fixed) == 2 or (fixed and match_updatableness):
        return None
    merged = (fixed[0] if fixed else first).copy()
    merged.linear_params = second.linear_params @ first.linear_params
    merged.bias_params = second.linear_params @ first.bias_params + second.bias_params
    return merged
