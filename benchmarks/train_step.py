#!/usr/bin/env python3
"""Time a training step (one minibatch: forward, backward, natural gradient, update) on random data.

The network is that of a large-vocabulary system, 9.5 million parameters: 40-dimensional features
spliced over 4 + 1 + 4 frames, four p-norm layers 4000/400 with normalization, 8000 outputs.  Plain
SGD, the simple and the online natural gradient are timed in turns, so that whatever else happens on
the machine happens to all of them; and with them the ceiling, which is the products of matrices
that plain SGD cannot do without and nothing else.  The table shows the best and the median round,
in milliseconds per minibatch, and the best also in frames per second and relative to plain SGD.

A step is as training makes it, with the minibatch's way to the device.  On a GPU, where a step is a
graph that is replayed, rounds should be longer: --minibatches-per-round=200."""

from measure import write_json

from nnet.cli import Choice, gpu_option, log, option, program, tf32_option

METHODS = {
    "plain": "AffineComponent",
    "simple": "AffineComponentPreconditioned alpha=4.0 max-change=10.0",
    "online": "AffineComponentPreconditionedOnline rank-in={rank_in} rank-out={rank_out} "
    "update-period=4 num-samples-history=2000 alpha=4.0 max-change-per-sample=0.075",
}
FEATURE_DIM, CONTEXT = 40, 4
WARM_UP = {"online": 12}  # minibatches: there are updates of the estimates with each of ten
USUAL_WARM_UP = 2


@program(
    """\
Usage:  benchmarks/train_step.py [options]
 e.g.: benchmarks/train_step.py --num-threads=1 --peers=torch --json=train_step.json"""
)
@option("--minibatch-size", type=int, default=512, help="Examples per minibatch")
@option("--num-rounds", type=int, default=5, help="Rounds to be timed")
@option(
    "--minibatches-per-round",
    type=int,
    default=4,
    help="A multiple of the update period, 4, so that every round has its share of updates",
)
@option("--num-hidden-layers", type=int, default=4, help="Hidden layers")
@option("--pnorm-input-dim", type=int, default=4000, help="Outputs of an affine layer")
@option("--pnorm-output-dim", type=int, default=400, help="Outputs of a p-norm layer")
@option("--num-pdfs", type=int, default=8000, help="Outputs of the network")
@option("--rank-in", type=int, default=20, help="Online: rank on the side of the inputs")
@option("--rank-out", type=int, default=80, help="Online: rank on the side of the outputs")
@option(
    "--peers",
    type=Choice(["none", "torch", "kaldi", "all"]),
    default="none",
    help="Other programs to time: plain SGD by PyTorch on the same device (on a GPU as a graph), "
    "Kaldi's nnet-train-simple (below $KALDI_ROOT) with all three methods, on the CPU",
)
@option("--json", default="", help="Write all figures to this file, too")
@gpu_option
@tf32_option
def main(minibatch_size, num_rounds, minibatches_per_round, peers, json, device, **dims):
    configs = {method: network_config(method, **dims) for method in METHODS}
    rounds, num_parameters = time_methods(
        configs, minibatch_size, num_rounds, peers, minibatches_per_round, device
    )
    log.info("The network has %d parameters", num_parameters)
    print_table(rounds, minibatch_size)
    if json:
        write_json(
            json,
            options=dims | {"minibatch_size": minibatch_size},
            num_parameters=num_parameters,
            num_threads=num_threads(),
            seconds_per_minibatch=rounds,
        )


def time_methods(configs, minibatch_size, num_rounds, peers, minibatches_per_round, device):
    """Seconds per minibatch, in each round, of methods and peers; and the size of the network."""
    steps = {
        method: StepTimer(config, minibatch_size, device) for method, config in configs.items()
    }
    minibatch, network = steps["plain"].minibatch, steps["plain"].network
    steps["ceiling"] = Products(network, minibatch_size)
    if peers in ("torch", "all"):
        from peers import TorchStep

        steps["PyTorch plain"] = TorchStep(configs["plain"], minibatch, device)
    rounds = time_in_turns(steps, num_rounds, minibatches_per_round)
    if peers in ("kaldi", "all"):
        from peers import kaldi_rounds

        for method, config in configs.items():
            rounds[f"Kaldi {method}"] = kaldi_rounds(config, minibatch_size, num_rounds)
    return rounds, network.num_parameters


def network_config(
    method, num_hidden_layers, pnorm_input_dim, pnorm_output_dim, num_pdfs, rank_in, rank_out
):
    """The lines of an nnet-init config."""
    affine = METHODS[method].format(rank_in=rank_in, rank_out=rank_out) + " learning-rate=0.001"
    input_dim = FEATURE_DIM * (2 * CONTEXT + 1)
    lines = [
        f"SpliceComponent input-dim={FEATURE_DIM} left-context={CONTEXT} right-context={CONTEXT}"
    ]
    for _ in range(num_hidden_layers):
        lines += [
            f"{affine} input-dim={input_dim} output-dim={pnorm_input_dim} "
            f"param-stddev={input_dim**-0.5} bias-stddev=0.5",
            f"PnormComponent input-dim={pnorm_input_dim} output-dim={pnorm_output_dim} p=2",
            f"NormalizeComponent dim={pnorm_output_dim}",
        ]
        input_dim = pnorm_output_dim
    return [
        *lines,
        f"{affine} input-dim={input_dim} output-dim={num_pdfs} param-stddev=0 bias-stddev=0",
        f"SoftmaxComponent dim={num_pdfs}",
    ]


def random_minibatch(size, num_pdfs, rng):
    import numpy as np

    from nnet.egs.minibatches import Minibatch

    return Minibatch(
        rng.standard_normal((size, 2 * CONTEXT + 1, FEATURE_DIM), dtype=np.float32),
        np.arange(size, dtype=np.int32),
        rng.integers(0, num_pdfs, size, dtype=np.int32),
        np.ones(size, np.float32),
    )


class StepTimer:
    """A training of a network on the same minibatch again and again."""

    def __init__(self, config, minibatch_size, device):
        import itertools

        import numpy as np

        from nnet.model.network import Network
        from nnet.training.train import Trainer

        rng = np.random.default_rng(0)
        self.network = Network.from_config(config, rng)
        self.network.move_to(device)
        self.minibatch = random_minibatch(minibatch_size, self.network.output_dim, rng)
        self.steps = Trainer(self.network).run(itertools.repeat(self.minibatch))

    def __call__(self):
        """Train on one minibatch, or on a few; returns how many."""
        return len(next(self.steps))


class Products:
    """The three products of matrices of every affine layer, two for the first, and nothing else."""

    def __init__(self, network, minibatch_size):
        import numpy as np

        self.device = network.device

        def zeros(*shape):
            return self.device.xp.zeros(shape, np.float32)

        self.layers = [
            (zeros(minibatch_size, i), zeros(o, i), zeros(minibatch_size, o))
            for i, o in ((c.input_dim, c.output_dim) for c in network.updatable_components)
        ]

    def __call__(self):
        for x, w, y in self.layers:
            self.device.matmul(x, w.T, out=y)
        for x, w, y in reversed(self.layers):
            if x is not self.layers[0][0]:
                self.device.matmul(y, w, out=x)
            self.device.add_matmul(y.T, x, out=w)
        return 1


def time_in_turns(steps, num_rounds, minibatches_per_round):
    """Seconds per minibatch, in each round, of each kind of step."""
    for name, step in steps.items():
        seconds(step, WARM_UP.get(name, USUAL_WARM_UP))
    rounds = {name: [] for name in steps}
    for _ in range(num_rounds):
        for name, step in steps.items():
            rounds[name].append(seconds(step, minibatches_per_round))
    return rounds


def seconds(step, num_minibatches):
    """Per minibatch, over at least so many."""
    import time

    start, done = time.perf_counter(), 0
    while done < num_minibatches:
        done += step()
    synchronize()
    return (time.perf_counter() - start) / done


def synchronize():
    """Wait for the GPU, if there is one in use."""
    import sys

    if "cupy" in sys.modules:
        sys.modules["cupy"].cuda.Device().synchronize()


def print_table(rounds, minibatch_size):
    import statistics

    print(f"{'':16}{'best ms':>10}{'median ms':>11}{'frames/s':>10}{'/ plain':>9}")
    plain = min(rounds["plain"])
    for name, times in rounds.items():
        best = min(times)
        print(
            f"{name:16}{1000 * best:10.3f}{1000 * statistics.median(times):11.3f}"
            f"{minibatch_size / best:10.0f}{best / plain:9.2f}"
        )


def num_threads():
    import os

    return int(os.environ["OMP_NUM_THREADS"])


if __name__ == "__main__":
    main()
