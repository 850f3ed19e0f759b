"""Transfer of a network to other pdf-ids.

Source: Nnet::ResizeOutputLayer in Kaldi's nnet2/nnet-nnet.cc.
"""

import numpy as np

from nnet.components.nonlinear import SoftmaxComponent
from nnet.model.network import Network
from nnet.training.output_layer import OutputLayer


def resize_output_layer(network: Network, num_pdfs: int) -> None:
    """Replace the last affine layer by one of zeros with `num_pdfs` outputs, and the softmax.

    What was made for the old pdf-ids goes: a SumGroupComponent of mixtures, and a
    FixedScaleComponent before the softmax.

    Raises:
        NgtrainError: there is another kind of end.
    """
    layer = OutputLayer.of(network)
    affine = layer.affine.with_fields(
        linear_params=np.zeros((num_pdfs, layer.affine.input_dim), np.float32),
        bias_params=np.zeros(num_pdfs, np.float32),
    )
    network.set_components([*layer.hidden, affine, SoftmaxComponent(dim=num_pdfs)])
