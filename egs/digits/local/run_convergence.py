#!/usr/bin/env python3
"""Train with plain SGD and with natural gradient, by one job and by several, and compare.

Every combination of --methods and --jobs is a training in <dir>/METHOD_N: N jobs have N times the
learning rate, and all trainings see the same amount of the same data.  Written to <dir>:
convergence.csv, convergence.png (held-out objective against epochs), and, as on standard output,
convergence.txt, a table of the objective at the end.  Run again, it goes on where it stopped.

The paper's figure (arXiv 1410.7455, section 6): with natural gradient the curves for all numbers of
jobs are nearly the same; without it, averaging does not work.
"""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

from nnet.io.streams import open_output
from nnet.training_logs import objectives
from utils.driver import argument, cmd_option, driver, log, option, run

METHODS = {"none": "plain SGD", "simple": "simple NG-SGD", "online": "online NG-SGD"}
COLORS = {"none": "tab:red", "simple": "tab:green", "online": "tab:blue"}
DASHES = ["-", "--", "-.", ":", (0, (1, 4))]

Curves = dict[tuple[str, int], list[tuple[float, float]]]
"""By method and number of jobs: epochs and held-out log-probability per frame of every model."""


@driver(
    "Usage:  local/run_convergence.py [options] <data> <lang> <ali-dir> <dir>\n"
    " e.g.:  local/run_convergence.py data/train data/lang exp/tri2_ali exp/convergence"
)
@argument("data")
@argument("lang")
@argument("alidir")
@argument("dir")
@cmd_option
@option("--methods", default="none simple online", help="Values of the driver's --preconditioning")
@option("--jobs", default="1 4", help="Numbers of jobs")
@option("--num-epochs", type=float, default=6.0, help="Passes over the data")
@option("--samples-per-iter", type=int, default=8000, help="Frames per job and iteration")
@option(
    "--train-opts",
    default="--pnorm-input-dim 1000 --pnorm-output-dim 200 --num-hidden-layers 2 "
    "--splice-indexes layer0/-4:-3:-2:-1:0:1:2:3:4 --minibatch-size 128 "
    "--frames-per-eg 1 --initial-effective-lrate 0.01 --final-effective-lrate 0.001 "
    "--egs-opts '--num-train-frames-combine 1000'",
    help="Other options of steps/train_multisplice.py",
)
def main(data, lang, alidir, dir, methods, jobs, **options):
    dir, jobs = Path(dir), [int(n) for n in jobs.split()]

    def train(name: str, *words) -> None:
        run(
            options["cmd"], f"{dir}/log/{name}.log",
            "train_multisplice.py", "--cmd", options["cmd"], "--num-epochs", options["num_epochs"],
            "--samples-per-iter", options["samples_per_iter"],
            *shlex.split(options["train_opts"]), *words, data, lang, alidir, dir / name,
        )  # fmt: skip

    train("examples", "--num-jobs-final", 1, "--exit-stage", 0)
    curves: Curves = {}
    for method in methods.split():
        for n in jobs:
            name = f"{method}_{n}"
            log.info("%s with %d jobs", METHODS[method], n)
            train(
                name, "--preconditioning", method, "--num-jobs-initial", n, "--num-jobs-final", n,
                "--egs-dir", dir / "examples" / "egs",
            )  # fmt: skip
            found = objectives(dir / name, "valid")
            curves[method, n] = [
                (options["num_epochs"] * x / max(found), y) for x, y in found.items()
            ]
    write_csv(curves, dir / "convergence.csv")
    plot(curves, dir / "convergence.png")
    table = table_of(curves)
    with open_output(str(dir / "convergence.txt")) as file:
        file.write(table.encode())
    print(table, end="")


def write_csv(curves: Curves, path: Path) -> None:
    """A row per model of every training."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["method", "num_jobs", "epochs", "held_out_log_prob"])
        for (method, n), curve in curves.items():
            rows.writerows([method, n, f"{epochs:.4f}", y] for epochs, y in curve)


def plot(curves: Curves, path: Path) -> None:
    """The picture: a color per method, a dash pattern per number of jobs."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    jobs = sorted({n for _, n in curves})
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for (method, n), curve in curves.items():
        label = f"{METHODS[method]}, N = {n}"
        axes.plot(
            *np.transpose(curve), color=COLORS[method], linestyle=DASHES[jobs.index(n)], label=label
        )
    best = max(y for curve in curves.values() for _, y in curve)
    axes.set(xlabel="epochs", ylabel="held-out log-probability per frame")
    axes.set_ylim(best - 2.2, best + 0.1)  # the start, at log(1/pdfs), would flatten the rest
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def table_of(curves: Curves) -> str:
    """The objective of the last model of every training, in Markdown."""
    jobs = sorted({n for _, n in curves})
    lines = ["| | " + " | ".join(f"N = {n}" for n in jobs) + " |", "|---|" + "---|" * len(jobs)]
    for method in dict.fromkeys(method for method, _ in curves):
        cells = [f"{curves[method, n][-1][1]:.3f}" for n in jobs]
        lines.append(f"| {METHODS[method]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
