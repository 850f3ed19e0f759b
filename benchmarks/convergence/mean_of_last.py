#!/usr/bin/env python3
"""Judge the mean of the last models of each training in <dir>/trials.csv: <dir>/means.csv.

The models are those that run.py keeps for the combination: of the last third of a training, eight
or fewer, at equal distances.  Of one job this is an average over time, with no other job: what it
gains, jobs need not be averaged for.  Means that are in the table are not made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from frames import Frames, spread
from table import MEANS_HEADER, append, cell_of, locked, read_results, rows_of, shown
from trial import TRAINING_FRAMES, evaluated, logging_to

from nnet.cli import argument, gpu_option, log, option, program
from nnet.model.acoustic_model import AcousticModel
from nnet.training.averaging import average_networks

PARTS = "train", "held_out"


@program("""\
Usage:  benchmarks/convergence/mean_of_last.py [options] <dir>
 e.g.: benchmarks/convergence/mean_of_last.py exp/convergence/pnorm""")
@argument("dir", type=Path)
@option("--held-out-frames", 30720, "Frames that models are judged on", least=1)
@gpu_option
def main(dir, held_out_frames, device):
    train, held_out = (Frames.load(dir / "frames" / name).on(device) for name in PARTS)
    judged = spread(len(held_out), held_out_frames)
    for result in read_results(dir / "trials.csv"):
        cell = result.cell
        files = sorted((dir / cell.name).glob("[0-9]*.mdl"), key=lambda file: int(file.stem))
        if cell in {cell_of(row) for row in rows_of(dir / "means.csv", MEANS_HEADER)}:
            continue
        if result.error or len(files) < 2:
            log.info("%s: there are %d models, which have no mean", cell.name, len(files))
            continue
        networks = (AcousticModel.load(str(file)).network for file in files)
        mean = average_networks(networks, np.full(len(files), 1 / len(files)))
        mean.move_to(device)
        order = np.random.default_rng(cell.seed).permutation(len(train))[: result.samples]
        seen = order[spread(len(order), min(TRAINING_FRAMES, len(order)))]
        with logging_to(dir / "means.log"):
            on = (held_out, judged), (train, seen)
            scores = [evaluated(mean, *frames).log_prob_per_frame for frames in on]
        row = [*map(shown, cell.asdict().values()), len(files), *map(shown, scores)]
        with locked(dir / ".tables"):
            append(dir / "means.csv", MEANS_HEADER, [row])
        log.info("%s: the mean of %d models: %g", cell.name, len(files), scores[0])


if __name__ == "__main__":
    main()
