#!/usr/bin/env python3
"""What a training step asks of a GPU, kernel by kernel: bytes, flops, and the time it should take.

No GPU is needed: the steps of train_step.py are made on the tests' stand-in for CuPy, and what they
launch is written down instead of being done.  A row is an operation on arrays of one size.  Bytes
are those of its arrays, each read or written once, and flops those of products of matrices.  The
time is the longest of what the bytes take, what the flops take, and what a launch in a graph takes;
for the eigenvalues, which are a chain of rotations, it is a guess.  Columns on the right say how
often each method launches it in a minibatch, in the mean of an update period.

The last table has the sums, and what of them is in the main stream; the rest is beside it.  Layers
and sides are beside one another, so that the sum of all is more than a step takes."""

from collections import Counter
from typing import NamedTuple

from train_step import METHODS, network_config, random_minibatch

from nnet.cli import option, program

BYTES_PER_S = 3.35e12
FLOPS_PER_S = {"float32": 67e12, "TF32": 400e12, "float64": 60e12}
LAUNCH_S = 2e-6
STEP_OF_ROTATIONS_S = {"jacobi": 0.6e-6, "eigenvectors": 0.07e-6}
NUM_SWEEPS = 6
LEAST_SHOWN_US = 8
NUM_BEFORE, NUM_RECORDED = 13, 4  # minibatches: the first ten updates and what is left of a period


@program(
    """\
Usage:  benchmarks/gpu_step.py [options]
 e.g.: benchmarks/gpu_step.py --minibatch-size=1024"""
)
@option("--minibatch-size", type=int, default=512, help="Examples per minibatch")
@option("--num-hidden-layers", type=int, default=4, help="Hidden layers")
@option("--pnorm-input-dim", type=int, default=4000, help="Outputs of an affine layer")
@option("--pnorm-output-dim", type=int, default=400, help="Outputs of a p-norm layer")
@option("--num-pdfs", type=int, default=8000, help="Outputs of the network")
@option("--rank-in", type=int, default=20, help="Online: rank on the side of the inputs")
@option("--rank-out", type=int, default=80, help="Online: rank on the side of the outputs")
def main(minibatch_size, **dims):
    recorded = {
        method: operations_of(network_config(method, **dims), minibatch_size) for method in METHODS
    }
    print_operations(recorded)
    print_sums(recorded)


class Operation(NamedTuple):
    """Something that is launched.

    flops: of a product of matrices; is_double: whether that is in float64.
    chain_s: seconds that it takes at least, because one thing comes after the other.
    """

    name: str
    size: str
    bytes: int
    flops: int = 0
    is_double: bool = False
    chain_s: float = 0.0

    def seconds(self, precision):
        """How long it should take, with products of float32 matrices in such a precision."""
        flops_per_s = FLOPS_PER_S["float64" if self.is_double else precision]
        return max(LAUNCH_S, self.chain_s, self.bytes / BYTES_PER_S, self.flops / flops_per_s)


def operations_of(config, minibatch_size):
    """How often each is launched in a step: a Counter of (Operation, is beside the main stream)."""
    import sys
    from contextlib import closing
    from pathlib import Path

    import numpy as np

    from nnet.device.cuda.gpu import Gpu
    from nnet.model.network import Network
    from nnet.training.objective import labels_of
    from nnet.training.train import Trainer

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))
    import fake_cupy

    rng = np.random.default_rng(0)
    counts = Counter()
    with fake_cupy.installed() as cupy, closing(Gpu(cupy)) as device:
        main_stream = cupy.cuda.get_current_stream()

        def write_down(operation):
            counts[operation, cupy.cuda.get_current_stream() is not main_stream] += 1

        with recording(fake_cupy, write_down):
            network = Network.from_config(config, rng)
            network.move_to(device)
            trainer = Trainer(network)
            minibatch = random_minibatch(minibatch_size, network.output_dim, rng)
            frames = device.asarray(minibatch.frames)
            labels = labels_of(minibatch, network).on(device)
            for number in range(NUM_BEFORE + NUM_RECORDED):
                if number == NUM_BEFORE:
                    counts.clear()
                trainer.step(frames, labels)
    return Counter({key: count / NUM_RECORDED for key, count in counts.items()})


def recording(fake_cupy, write_down):
    """A context in which kernels, products and elementwise operations are not done, but told."""
    from contextlib import ExitStack
    from unittest import mock

    from nnet.device.cuda import cublas, kernels

    def kernel(name, dtype_char):
        def launch(grid, block, args, shared_mem=0):
            arrays = [a for a in args if hasattr(a, "nbytes") and a.shape]
            sizes = [a.shape for a in arrays if a.ndim == 2] or [a.shape for a in arrays]
            largest = max(sizes, key=lambda shape: shape[0] * shape[-1], default=())
            chain_s = 0
            if name in STEP_OF_ROTATIONS_S:
                n = sizes[0][-1]
                largest = n, n
                chain_s = STEP_OF_ROTATIONS_S[name] * NUM_SWEEPS * (n - 1)
            num_bytes = sum(a.nbytes for a in arrays)
            write_down(Operation(name, by(largest), num_bytes, chain_s=chain_s))

        return mock.Mock(side_effect=launch)

    def product(name, a, b, out, num_reads):
        (m, k), n = a.shape, b.shape[1]
        num_bytes = (m * k + k * n + (1 + num_reads) * m * n) * out.itemsize
        is_double = out.dtype.char == "d"
        write_down(Operation(name, by((m, k, n)), num_bytes, 2 * m * n * k, is_double))

    def gemm(a, b, out, beta, alpha=1.0):
        product("product", a, b, out, int(beta != 0))

    def gram(a, out):
        product("gram", a, a.T, out, 0)

    def operate(function, args, kwargs, out=None):
        target = kwargs.get("out", out)
        target = target[0] if isinstance(target, tuple) else target
        if target is None:
            return undisturbed(function, args, kwargs)
        arrays = [a for a in (*args, target) if hasattr(a, "nbytes")]
        name = getattr(function, "__name__", "").strip("_")
        write_down(Operation(name, by(target.shape), sum(a.nbytes for a in arrays)))
        return target

    undisturbed = fake_cupy._operate
    context = ExitStack()
    for module, name, value in (
        (kernels, "_kernel", kernel),
        (cublas, "gemm", gemm),
        (cublas, "gram", gram),
        (fake_cupy, "_operate", operate),
    ):
        context.enter_context(mock.patch.object(module, name, value))
    return context


def by(shape):
    return " x ".join(map(str, shape))


def print_operations(recorded):
    print(f"{'':20} {'':18}{'MB':>7}{'Mflop':>7}{'us f32':>8}{'us TF32':>8}", *METHODS, sep="   ")
    operations = {operation for counts in recorded.values() for operation, _ in counts}
    rest = []
    for operation in sorted(operations, key=lambda o: (-o.seconds("TF32"), o)):
        often = [counts[operation, False] + counts[operation, True] for counts in recorded.values()]
        if 1e6 * max(often) * operation.seconds("TF32") < LEAST_SHOWN_US:
            rest.append(often)
            continue
        times = "".join(f"{1e6 * operation.seconds(p):8.1f}" for p in ("float32", "TF32"))
        print(
            f"{operation.name:20} {operation.size:18}{operation.bytes / 1e6:7.2f}"
            f"{operation.flops / 1e6:7.0f}{times}" + columns(often)
        )
    others = f"others, each of less than {LEAST_SHOWN_US} us in a step"
    print(f"{others:69}" + columns(map(sum, zip(*rest, strict=True))))


def columns(often):
    return "".join(f"{count:8.4g}" for count in often)


def print_sums(recorded):
    print(f"\n{'':13}{'launches':>9}{'MB':>7}{'Gflop':>8}{'us f32':>8}{'us TF32':>8}")
    for method, counts in recorded.items():
        on_main_stream = {key: count for key, count in counts.items() if not key[1]}
        for name, chosen in (method, counts), ("  main stream", on_main_stream):

            def total(value, chosen=chosen):
                return sum(count * value(operation) for (operation, _), count in chosen.items())

            print(
                f"{name:13}{total(lambda o: 1):9.0f}{total(lambda o: o.bytes / 1e6):7.0f}"
                f"{total(lambda o: o.flops / 1e9):8.1f}"
                f"{total(lambda o: 1e6 * o.seconds('float32')):8.0f}"
                f"{total(lambda o: 1e6 * o.seconds('TF32')):8.0f}"
            )


if __name__ == "__main__":
    main()
