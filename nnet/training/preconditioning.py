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
    cls = METHODS[method]

    def switched(affine: AffineComponent) -> AffineComponent:
        kept = {field.name: getattr(affine, field.name) for field in affine.trained_fields}
        return cls(**kept, **options)

    network.set_components(
        switched(c) if isinstance(c, AffineComponent) else c for c in network.components
    )
    num_switched = sum(isinstance(c, AffineComponent) for c in network.components)
    log.info("Switched %d components to %s", num_switched, cls.__name__)
