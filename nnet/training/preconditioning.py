"""Change of the method by which a network's affine components are trained.

Kaldi's nnet2bin/nnet-am-switch-preconditioning.cc knows one direction, to the online method.
"""

import logging

from nnet.components.affine import (
    AffineComponent,
    AffineComponentPreconditioned,
    AffineComponentPreconditionedOnline,
)
from nnet.model.network import Network

log = logging.getLogger("ngtrain")

METHODS = {
    "none": AffineComponent,
    "simple": AffineComponentPreconditioned,
    "online": AffineComponentPreconditionedOnline,
}


def switch_preconditioning(network: Network, method: str, **options) -> None:
    """Let every affine component be trained by one of METHODS from now on.

    Parameters and learning rates stay; `options` are fields of the new components' class.
    """
    cls, components, num_switched = METHODS[method], list(network.components), 0
    for c, component in enumerate(components):
        if isinstance(component, AffineComponent):
            kept = {f.name: getattr(component, f.name) for f in component.trained_fields}
            components[c] = cls(**kept, **options)
            num_switched += 1
    network.set_components(components)
    log.info("Switched %d components to %s", num_switched, cls.__name__)
