"""Other programs that do what train_step.py times."""

import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from nnet.components.affine import AffineComponent
from nnet.components.nonlinear import NormalizeComponent, PnormComponent
from nnet.device.device import CPU, to_host
from nnet.egs.record import EXAMPLE, NnetExample
from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmState, HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import monophone_tree
from nnet.io.matrices import CompressedMatrix
from nnet.io.tables import table_writer
from nnet.model.acoustic_model import AcousticModel
from nnet.model.network import Network


class TorchStep:
    """The same network trained by PyTorch with plain SGD, on the device that is selected.

    On a GPU the step is captured as a graph and replayed, and the minibatch is copied for each.
    """

    def __init__(self, config, minibatch, device):
        try:
            import torch
        except ImportError:
            raise NgtrainError("--peers: PyTorch is not installed") from None
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.backends.cuda.matmul.allow_tf32 = device.tf32
        network = Network.from_config(config, np.random.default_rng(0))
        on_gpu = device is not CPU
        layers = [layer for c in network.components if (layer := _torch_layer(torch, c))]
        self.network = torch.nn.Sequential(*layers).to("cuda" if on_gpu else "cpu")
        self.loss = torch.nn.CrossEntropyLoss(reduction="sum")
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.001)
        self.minibatch = (
            torch.from_numpy(minibatch.frames.reshape(len(minibatch), -1)),
            torch.from_numpy(minibatch.pdfs.astype(np.int64)),
        )
        self.x, self.pdfs = self.minibatch
        self.graph = None
        if on_gpu:
            self.minibatch = [tensor.pin_memory() for tensor in self.minibatch]
            self.x, self.pdfs = (tensor.cuda() for tensor in self.minibatch)
            self.capture(torch)

    def capture(self, torch):
        """As PyTorch's documentation of CUDAGraph says: warm up on a stream of its own first."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()

    def step(self):
        self.optimizer.zero_grad()
        self.loss(self.network(self.x), self.pdfs).backward()
        self.optimizer.step()

    def __call__(self):
        if self.graph is None:
            self.step()
            return 1
        for target, tensor in zip((self.x, self.pdfs), self.minibatch, strict=True):
            target.copy_(tensor, non_blocking=True)
        self.graph.replay()
        return 1


def _torch_layer(torch, component):
    """The layer for a component; None for what is done elsewhere (splicing, softmax)."""
    match component:
        case AffineComponent():
            layer = torch.nn.Linear(component.input_dim, component.output_dim)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(to_host(component.linear_params)))
                layer.bias.copy_(torch.from_numpy(to_host(component.bias_params)))
            return layer
        case PnormComponent():

            class Pnorm(torch.nn.Module):
                def forward(self, x, groups=component.output_dim):
                    return torch.linalg.vector_norm(x.unflatten(1, (groups, -1)), dim=2)

            return Pnorm()
        case NormalizeComponent():

            class Normalize(torch.nn.Module):
                def forward(self, x, dim=component.input_dim):
                    return torch.nn.functional.normalize(x, dim=1) * math.sqrt(dim)

            return Normalize()


def kaldi_rounds(config, minibatch_size, num_rounds, minibatches=8):
    """Seconds per minibatch of Kaldi's nnet-train-simple, `num_rounds` times.

    It is run on some minibatches and on three times as many, and the difference counts, so that
    starting, loading and warming up do not.
    """
    root = os.environ.get("KALDI_ROOT", "")
    program = Path(root, "src", "nnet2bin", "nnet-train-simple")
    if not root or not program.exists():
        raise NgtrainError(f"--peers: there is no {program}; set KALDI_ROOT")
    with tempfile.TemporaryDirectory() as directory:
        network = Network.from_config(config, np.random.default_rng(0))
        model = Path(directory, "0.mdl")
        AcousticModel(one_state_phones(network.output_dim), network).save(str(model))
        archives = []
        for count in minibatches, 3 * minibatches:
            archives.append(f"ark:{directory}/{count}.egs")
            write_examples(archives[-1], count * minibatch_size, network)

        def run(archive):
            start = time.perf_counter()
            subprocess.run(
                [program, f"--minibatch-size={minibatch_size}", model, archive, "/dev/null"],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            return time.perf_counter() - start

        few, many = archives
        return [(run(many) - run(few)) / (2 * minibatches) for _ in range(num_rounds)]


def one_state_phones(num_pdfs):
    """A transition model of as many phones as pdfs, each an HMM of one state."""
    phones = range(1, num_pdfs + 1)
    states = HmmState(0, 0, ((0, 0.5), (1, 0.5))), HmmState(-1, -1, ())
    topology = HmmTopology([states], dict.fromkeys(phones, 0))
    tree = monophone_tree([[phone] for phone in phones], dict.fromkeys(phones, 1))
    return TransitionModel.from_tree(tree, topology)


def write_examples(wspecifier, count, network):
    rng = np.random.default_rng(0)
    num_rows = network.left_context + 1 + network.right_context
    with table_writer(wspecifier, EXAMPLE) as table:
        for number in range(count):
            frames = rng.standard_normal((num_rows, network.input_dim), dtype=np.float32)
            labels = [[(int(rng.integers(network.output_dim)), 1.0)]]
            example = NnetExample(labels, CompressedMatrix.compress(frames), network.left_context)
            table.write(f"eg{number}", example)
