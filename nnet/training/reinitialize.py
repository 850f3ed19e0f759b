"""Transfer of a network to other pdf-ids.

Source: Nnet::ResizeOutputLayer in Kaldi's nnet2/nnet-nnet.cc.
"""

import numpy as np

from nnet.components.affine import AffineComponent
from nnet.components.fixed import FixedScaleComponent
from nnet.components.nonlinear import SoftmaxComponent
from nnet.components.sum_group import SumGroupComponent
from nnet.errors import NgtrainError
from nnet.model.network import Network


def resize_output_layer(network: Network, num_pdfs: int) -> None:
    """Replace the last affine layer by one of zeros with `num_pdfs` outputs, and the softmax.

    What was made for the old pdf-ids goes: a SumGroupComponent of mixtures, and a
    FixedScaleComponent before the softmax.

    Raises:
        NgtrainError: there is another kind of end.
    """
    components = list(network.components)
    if isinstance(components[-1], SumGroupComponent):
        components.pop()
    if not isinstance(components.pop(), SoftmaxComponent):
        raise NgtrainError("the network does not end in a SoftmaxComponent")
    if components and isinstance(components[-1], FixedScaleComponent):
        components.pop()
    if not (components and isinstance(components[-1], AffineComponent)):
        raise NgtrainError("the network has no affine layer before the softmax")
    affine = components.pop()
    fields = {field.name: getattr(affine, field.name) for field in affine.fields if field.is_kept}
    fields["linear_params"] = np.zeros((num_pdfs, affine.input_dim), np.float32)
    fields["bias_params"] = np.zeros(num_pdfs, np.float32)
    components += type(affine)(**fields), SoftmaxComponent(dim=num_pdfs)
    network.set_components(components)
