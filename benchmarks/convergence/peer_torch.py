#!/usr/bin/env python3
"""Train what run.py trains, the same network on the same minibatches, by PyTorch's optimizers.

<dir> is that of run.py, which has made the frames; <model> is what its trainings branch from.  SGD,
SGD with momentum and AdamW are tried with several learning rates each, which decay by the factor
of run.py's.  Each training is one process, and has lines in <dir>/peers.csv: where it stood at some
points, after how many samples and seconds.  It is not done again then.  Rates of SGD are those of
run.py, for the sum over a minibatch; with momentum they are multiplied by 1 - 0.9.  AdamW has what
is usual, for the mean.

With --num-jobs=N, N networks take turns at the minibatches, each with an optimizer of its own, and
their parameters are averaged as run.py averages them; the rate is that of each of them.

Needs the package torch, and those of ngtrain."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from frames import Frames, spread
from table import PEER_HEADER, append, locked, rows_of

from nnet.cli import argument, log, option, program
from nnet.errors import NgtrainError

MOMENTUM = 0.9
RATES = {
    "sgd": (0.5, 1, 2, 4, 8, 16),
    "momentum": (0.5, 1, 2, 4, 8, 16),
    "adamw": (1e-4, 3e-4, 1e-3, 3e-3),
}
"""Of SGD in terms of run.py's common rate; of AdamW as they are."""

DECAY = 0.1
NUM_POINTS = 12


@program("""\
Usage:  benchmarks/convergence/peer_torch.py [options] <model> <dir>
 e.g.: benchmarks/convergence/peer_torch.py exp/convergence/base/final.mdl exp/convergence""")
@argument("model")
@argument("dir", type=Path)
@option("--optimizers", " ".join(RATES), "Which")
@option("--rates", "", "Learning rates, if not several of each")
@option("--seeds", "0", "Seeds of the order of the frames")
@option("--num-jobs", 1, "Networks that are trained beside each other and averaged", least=1)
@option("--interval", 12800, "Samples of each of them between averages", least=1)
@option("--samples", 1228800, "Samples that each training sees", least=1)
@option("--held-out-frames", 30720, "Frames that models are judged on", least=1)
@option("--minibatch-size", 128, "Frames per minibatch", least=1)
@option("--initial-effective-lrate", 0.01 / 6, "The common rate, at the start", above=0)
@option("--device", "cpu", "PyTorch's name of where to compute")
def main(
    model, dir, optimizers, rates, seeds, num_jobs, interval, samples, held_out_frames,
    minibatch_size, initial_effective_lrate, device,
):  # fmt: skip
    try:
        import torch
    except ImportError as error:
        raise NgtrainError(f"there is no PyTorch here ({error})") from None
    if interval < minibatch_size:
        raise NgtrainError(f"--interval={interval} is less than a minibatch of {minibatch_size}")
    torch.set_num_threads(1)
    train, held_out = (Frames.load(dir / "frames" / name) for name in ("train", "held_out"))
    for optimizer in optimizers.split():
        for rate in map(float, rates.split() or RATES[optimizer]):
            for seed in map(int, seeds.split()):
                key = [optimizer, str(num_jobs), f"{rate:g}", str(seed)]
                with locked(dir / f".{'_'.join(key)}.lock", wait=False) as is_ours:
                    if not is_ours or key in done(dir / "peers.csv"):
                        continue
                    log.info("%s, N = %s, rate %s, seed %s", *key)
                    jobs = [
                        Peer(model, optimizer, rate, initial_effective_lrate, device)
                        for _ in range(num_jobs)
                    ]
                    order = np.random.default_rng(seed).permutation(len(train))[:samples]
                    judged = spread(len(held_out), held_out_frames)
                    points = run(jobs, interval, train, order, held_out, judged, minibatch_size)
                    with locked(dir / ".tables"):
                        append(dir / "peers.csv", PEER_HEADER, [[*key, *point] for point in points])
                    log.info("held-out log-probability %s after %s s", points[-1][2], points[-1][1])


def done(file: Path) -> list[list[str]]:
    """List the trainings that are in the table."""
    return [[row[name] for name in PEER_HEADER[:4]] for row in rows_of(file, PEER_HEADER)]


class Peer:
    """A network of ngtrain in PyTorch, and its optimizer."""

    def __init__(self, model: str, optimizer: str, rate: float, common: float, device: str):
        import torch

        self.torch, self.device = torch, device
        self.layers = Layers(model, torch, device)
        parameters = self.layers.parameters
        self.takes_mean = optimizer == "adamw"
        if optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(parameters, lr=rate)
        else:
            momentum = MOMENTUM if optimizer == "momentum" else 0.0
            rate *= common * (1 - momentum)
            self.optimizer = torch.optim.SGD(parameters, lr=rate, momentum=momentum)
        self.rate = rate

    def log_probs(self, minibatch):
        """Compute the log-probability of each frame's label."""
        x = self.torch.as_tensor(np.ascontiguousarray(minibatch.frames), device=self.device)
        labels = self.torch.as_tensor(minibatch.pdfs.astype(np.int64), device=self.device)
        return -self.torch.nn.functional.cross_entropy(self.layers(x), labels, reduction="none")

    def step(self, minibatch, decay: float) -> None:
        """Change the parameters by a minibatch, at so much of the initial rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * decay
        self.optimizer.zero_grad()
        log_probs = self.log_probs(minibatch)
        (-(log_probs.mean() if self.takes_mean else log_probs.sum())).backward()
        self.optimizer.step()

    def score(self, frames: Frames, which: np.ndarray) -> float:
        """Compute the log-probability per frame."""
        with self.torch.no_grad():
            minibatches = frames.minibatches(which, 1024, self.layers.context)
            return sum(float(self.log_probs(m).double().sum()) for m in minibatches) / len(which)


def run(
    jobs: list[Peer], interval: int, train: Frames, order: np.ndarray,
    held_out: Frames, judged: np.ndarray, size: int,
) -> list[tuple]:  # fmt: skip
    """Train; return samples, seconds, and log-probabilities of held-out and training data."""
    points, seconds, begin = [], 0.0, time.process_time()
    total, between = -(-len(order) // size), len(jobs) * (interval // size)
    minibatches = train.minibatches(order, size, jobs[0].layers.context)
    for number, minibatch in enumerate(minibatches, start=1):
        job = jobs[number % len(jobs)]
        job.step(minibatch, DECAY ** ((number - 0.5) / total))
        if len(jobs) > 1 and (number % between == 0 or number == total):
            average(jobs)
        if number * NUM_POINTS // total != (number - 1) * NUM_POINTS // total:
            seconds += time.process_time() - begin
            scores = job.score(held_out, judged), job.score(train, order[: len(judged)])
            points.append((number * size, f"{seconds:.1f}", *(f"{x:.6g}" for x in scores)))
            begin = time.process_time()
    return points


def average(jobs: list[Peer]) -> None:
    """Give all jobs the mean of their parameters; what their optimizers remember stays theirs."""
    with jobs[0].torch.no_grad():
        for parameters in zip(*(job.layers.parameters for job in jobs), strict=True):
            mean = sum(parameters) / len(jobs)
            for parameter in parameters:
                parameter.copy_(mean)


class Layers:
    """The components of a network as functions of tensors, (examples, frames, dim).

    Attributes:
        parameters: weights and biases of affine layers.
        context: frames of input on the left and on the right.

    Raises:
        NgtrainError: there is a component that is not known here.
    """

    def __init__(self, model: str, torch, device: str):
        from nnet.model.acoustic_model import load_network

        network = load_network(model)
        self.context = network.left_context, network.right_context
        self.parameters = []
        needed = [[0]]  # offsets of frames, at the output of each component
        for component in reversed(network.components):
            needed.append(sorted({t + o for t in needed[-1] for o in component.context}))
        needed.reverse()
        self.functions = [
            self.function(component, torch, device, *offsets)
            for component, *offsets in zip(network.components, needed[:-1], needed[1:], strict=True)
        ]

    def function(self, component, torch, device, before: list[int], after: list[int]):
        """Make the function of a component, from frames at some offsets to frames at others."""
        kind = component.type

        def tensor(array):
            return torch.tensor(np.asarray(array, np.float32), device=device)

        if kind == "SpliceComponent":
            places = [before.index(t + o) for t in after for o in component.context]
            index = torch.tensor(places, device=device)
            return lambda x: x[:, index].reshape(len(x), len(after), -1)
        if kind.startswith("AffineComponent"):
            weights = [tensor(p).requires_grad_() for p in component.parameters]
            self.parameters += weights
            return lambda x: torch.nn.functional.linear(x, *weights)
        if kind == "FixedAffineComponent":
            fixed = tensor(component.linear_params), tensor(component.bias_params)
            return lambda x: torch.nn.functional.linear(x, *fixed)
        if kind == "FixedScaleComponent":
            scales = tensor(component.scales)
            return lambda x: x * scales
        if kind == "PnormComponent":
            dim = component.output_dim
            return lambda x: (
                x.reshape(*x.shape[:2], dim, -1).square().sum(-1).clamp_min(1e-20).sqrt()
            )
        if kind == "NormalizeComponent":
            return lambda x: x * x.square().mean(-1, keepdim=True).clamp_min(2.0**-66).rsqrt()
        if kind == "RectifiedLinearComponent":
            return torch.relu
        if kind == "SoftmaxComponent":
            return lambda x: x[:, 0]  # the loss has it
        raise NgtrainError(f"component {component.index}: there is no {kind} for PyTorch here")

    def __call__(self, x):
        for function in self.functions:
            x = function(x)
        return x


if __name__ == "__main__":
    main()
