#!/usr/bin/env python3
"""Compare the trainings of local/run_convergence.sh, those that have ended: figures and results.md.

Written to <results-dir>, with the numbers behind every picture as CSV beside it:
 - figure1: held-out log-probability per frame against epochs;
 - figure2: against the time that the iterations would take with a machine for each job (times.csv);
 - sweeps: of the final models, against learning rate, alpha and rank;
 - final.csv: of the final models, log-probabilities and word error rate;
 - results.md: tables, and of the paper's findings (arXiv 1410.7455, section 6) which hold here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from figures import Sweep, draw_curves, draw_sweeps, write_csv
from findings import findings
from outcomes import Grid, Outcome, failure, read_outcomes
from trials import ALPHA, GRID_JOBS, METHODS, NONLINEARITIES, PARTS, SWEPT, numbers, trials

from nnet.cli import argument, log, option, program
from nnet.errors import NgtrainError
from nnet.io.streams import open_output

LIMITS = (
    "Each number is of one training, with one seed: differences of a few hundredths may be chance. "
    "A curve ends in the combination of models, which the driver compares with their plain average "
    "on these held-out data; the speakers of held-out utterances are also trained on."
)
"""What a reader of the numbers has to know."""


@program(
    "Usage:  local/compare_trials.py [options] <dir> <results-dir>\n"
    " e.g.:  local/compare_trials.py exp/convergence/fsdd exp/convergence/fsdd/results"
)
@argument("dir")
@argument("results_dir")
@option("--parts", default=PARTS, help="Parts of the experiment, as they were trained")
@option("--grid-jobs", default=GRID_JOBS, help="Numbers of jobs in its grids")
@option("--quick", type=bool, default=False, help="The trainings are those of --quick")
@option("--setting", default="", help="A sentence for results.md on what was trained, and how")
def main(dir, results_dir, parts, grid_jobs, quick, setting):
    dir, results_dir = Path(dir), Path(results_dir)
    planned = trials(parts.split(), numbers(grid_jobs), quick)
    outcomes = read_outcomes(dir, planned)
    if not outcomes:
        raise NgtrainError(f"{dir}: none of the trainings has ended")
    results_dir.mkdir(parents=True, exist_ok=True)
    grid = {
        (o.trial.nonlin, o.trial.method, o.trial.num_jobs): o
        for o in outcomes.values()
        if not o.trial.swept
    }
    sweeps = {swept: sweep for swept in SWEPT if (sweep := sweep_of(swept, outcomes, grid))}

    draw_curves(grid.values(), "curve", "epochs", results_dir / "figure1")
    page = [
        f"# Convergence\n\n{setting}",
        "![Held-out log-probability per frame against epochs](figure1.png)\n\n"
        "The dashed line, the same in all panels of a row, is online NG-SGD with one job. "
        "The numbers are in [figure1.csv](figure1.csv).",
        LIMITS,
    ]
    if any(len(o.clock) for o in grid.values()):
        draw_curves(grid.values(), "clock", "minutes", results_dir / "figure2")
        page.append(
            "![Held-out log-probability per frame against time](figure2.png)\n\n"
            "The time is simulated: that of an outer iteration with a machine for each job, times "
            "their number. The numbers are in [figure2.csv](figure2.csv)."
        )
    page.append(f"## Final models\n\n{final_tables(grid)}")
    write_csv(
        results_dir / "final",
        ["nonlin", "method", "num_jobs", "held_out_log_prob", "training_log_prob", "wer"],
        (
            (*key, f"{o.held_out:.5f}", f"{o.trained:.5f}", o.word_error_rate)
            for key, o in sorted(grid.items())
        ),
    )
    page.append(f"## What the paper found, and what holds here\n\n{findings(grid, sweeps)}")
    if sweeps:
        draw_sweeps(sweeps, results_dir / "sweeps")
        page.append(
            "## Sweeps\n\n![Final models against learning rate, alpha and rank](sweeps.png)\n\n"
            f"{sweep_table(sweeps)}\n\nThe numbers are in [sweeps.csv](sweeps.csv)."
        )
    if lacking := [
        f"- `{trial.name}`: {failure(dir, number)}"
        for number, trial in enumerate(planned, start=1)
        if trial.name not in outcomes
    ]:
        page.append("## Without a result\n\n" + "\n".join(lacking))
    page.append(cost(grid))
    with open_output(str(results_dir / "results.md")) as file:
        file.write(("\n\n".join(page) + "\n").encode())
    log.info("wrote %s", results_dir / "results.md")


def sweep_of(swept: str, outcomes: dict[str, Outcome], grid: Grid) -> Sweep:
    """What a sweep gave, with what the grid has for its own value."""
    of_grid = {"lrate": 1.0, "alpha": ALPHA}.get(swept)  # its two ranks differ
    sweep: Sweep = {}
    for outcome in outcomes.values():
        trial = outcome.trial
        if trial.swept == swept:
            points = sweep.setdefault((trial.method, trial.num_jobs), [])
            points.append((trial.value, outcome))
    for (method, n), points in sweep.items():
        if of_grid and ("pnorm", method, n) in grid:
            points.append((of_grid, grid["pnorm", method, n]))
        points.sort(key=lambda point: point[0])
    return sweep


# Tables -----------------------------------------------------------------------------------------


def final_tables(grid: Grid) -> str:
    """Log-probability and word error rate, by method and number of jobs."""
    held_out = {key: f"{o.held_out:.3f}" for key, o in grid.items()}
    trained = {key: f"{o.trained:.3f}" for key, o in grid.items()}
    error_rates = {key: f"{o.word_error_rate:.2f}" for key, o in grid.items()}
    return (
        f"Held-out log-probability per frame:\n\n{by_jobs(held_out)}\n\n"
        f"The same on data that they were trained on:\n\n{by_jobs(trained)}\n\n"
        "Word error rate in %, on test speakers that were not trained on:\n\n"
        f"{by_jobs(error_rates)}"
    )


def by_jobs(cells: dict[tuple[str, str, int], str]) -> str:
    """A row for each method, a column for each number of jobs."""
    jobs = sorted({n for *_, n in cells})
    methods = dict.fromkeys((nonlin, method) for nonlin, method, _ in cells)
    rows = [
        [
            f"{METHODS[method]}, {NONLINEARITIES[nonlin]}",
            *(cells.get((nonlin, method, n), "–") for n in jobs),
        ]
        for nonlin, method in methods
    ]
    return markdown(["", *(f"N = {n}" for n in jobs)], rows)


def sweep_table(sweeps: dict[str, Sweep]) -> str:
    rows = [
        [f"{SWEPT[swept]}: {value:g}", f"{METHODS[method]}, N = {n}",
         f"{o.held_out:.3f}", f"{o.word_error_rate:.2f}"]
        for swept, sweep in sweeps.items()
        for (method, n), points in sweep.items()
        for value, o in points
    ]  # fmt: skip
    return markdown(["p-norm", "", "held-out log-prob.", "WER, %"], rows)


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cost(grid: Grid) -> str:
    """What an outer iteration takes, by method."""
    rows = [
        [f"{METHODS[method]}, {NONLINEARITIES[nonlin]}", str(n), f"{o.iteration_s:.2f}"]
        for (nonlin, method, n), o in sorted(grid.items())
        if o.iteration_s and n in (1, 16)
    ]
    if not rows:
        return ""
    return "## Time of an outer iteration\n\n" + markdown(["", "N", "seconds"], rows)


if __name__ == "__main__":
    main()
