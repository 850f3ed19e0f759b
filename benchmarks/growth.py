#!/usr/bin/env python3
"""Time a training step as the work grows: parameters, minibatch size, rank of the estimates.

Each is varied by itself, the others staying those of train_step.py.  The table shows, in the best
of some rounds, the frames per second of plain SGD, and how many times longer the simple and the
online natural gradient, the products of matrices alone (ceiling), and plain SGD by PyTorch take."""

from measure import write_json
from train_step import METHODS, network_config, num_threads, time_methods

from nnet.cli import Choice, gpu_option, option, program, tf32_option

USUAL = {
    "num_hidden_layers": 4,
    "pnorm_input_dim": 4000,
    "pnorm_output_dim": 400,
    "num_pdfs": 8000,
    "rank_in": 20,
    "rank_out": 80,
    "minibatch_size": 512,
}
PARAMETERS = {  # in millions
    1: {"pnorm_input_dim": 1000, "pnorm_output_dim": 125, "num_pdfs": 2000},
    2: {"pnorm_input_dim": 1600, "pnorm_output_dim": 200, "num_pdfs": 3000},
    5: {"pnorm_input_dim": 2800, "pnorm_output_dim": 280, "num_pdfs": 5000},
    9: {},
    20: {"pnorm_input_dim": 6000, "pnorm_output_dim": 600, "num_pdfs": 12000},
    40: {"pnorm_input_dim": 9000, "pnorm_output_dim": 900, "num_pdfs": 16000},
}
SWEEPS = {
    "parameters": {f"{millions} M": dims for millions, dims in PARAMETERS.items()},
    "minibatch": {size: {"minibatch_size": size} for size in (64, 128, 256, 512, 1024, 2048, 4096)},
    "rank": {rank: {"rank_in": rank // 4, "rank_out": rank} for rank in (10, 20, 40, 80, 160)},
}


@program(
    """\
Usage:  benchmarks/growth.py [options]
 e.g.: benchmarks/growth.py --num-threads=1 --peers=torch --json=growth.json"""
)
@option("--num-rounds", type=int, default=3, help="Rounds to be timed")
@option(
    "--minibatches-per-round",
    type=int,
    default=4,
    help="A multiple of the update period, 4; on a GPU, where a step takes a millisecond, 400",
)
@option("--peers", type=Choice(["none", "torch"]), default="none", help="Time PyTorch, too")
@option("--json", default="", help="Write all figures to this file, too")
@gpu_option
@tf32_option
def main(num_rounds, minibatches_per_round, peers, json, device):
    figures = {}
    for sweep, points in SWEEPS.items():
        figures[sweep] = {}
        for i, (name, changed) in enumerate(points.items()):
            dims = USUAL | changed
            minibatch_size = dims.pop("minibatch_size")
            configs = {method: network_config(method, **dims) for method in METHODS}
            rounds, num_parameters = time_methods(
                configs, minibatch_size, num_rounds, peers, minibatches_per_round, device
            )
            best = {method: min(times) for method, times in rounds.items()}
            figures[sweep][name] = {"num_parameters": num_parameters, "seconds": best}
            relative = {method: best[method] / best["plain"] for method in best}
            del relative["plain"]
            if i == 0:
                print(f"{sweep:12}{'plain':>10}" + "".join(f"{method:>15}" for method in relative))
            print(
                f"{name!s:12}{minibatch_size / best['plain']:8.0f}/s"
                + "".join(f"{ratio:15.2f}" for ratio in relative.values()),
                flush=True,
            )
    if json:
        write_json(json, num_threads=num_threads(), sweeps=figures)


if __name__ == "__main__":
    main()
