#!/usr/bin/env python3
"""Train those cells of the experiment on the paper's claim that have not been trained yet.

<model> is what all of them branch from: made by steps/train_multisplice.py or base_network.py on
other utterances.  <dir>/frames/train is what they are trained on, in random order, and
<dir>/frames/held_out what they are judged on, of other speakers: make_frames.py or synthesise.py
makes them.  All frames are held in memory, that of the GPU if there is one.

Each training is one process, whose jobs run one after the other.  When it has ended it has a line
in <dir>/trials.csv, and some in <dir>/curves.csv; then it is not done again.  Interrupted and run
again, this goes on where it stopped; started several times, these processes share the work.
report.py makes tables and pictures of it."""

from fnmatch import fnmatch
from pathlib import Path

from cells import MAIN_PARTS, plan
from frames import Frames
from report import write_report
from table import add_result, locked, read_results
from trial import Setting, Trial

from nnet.cli import argument, gpu_option, log, option, program, tf32_option
from nnet.errors import NgtrainError


@program(
    "Usage:  benchmarks/convergence/run.py [options] <model> <dir>\n"
    " e.g.: benchmarks/convergence/run.py --parts=control exp/base/final.mdl exp/convergence"
)
@argument("model")
@argument("dir", type=Path)
@option("--parts", " ".join(MAIN_PARTS), "Parts of the experiment, in this order")
@option("--cells", "*", "Those of them whose names are like this, such as online_limit_n4_*_r16_*")
@option("--seeds", "0 1 2", "Seeds of the order of the frames")
@option("--rate", 1.0, "What the rates of these parts are multiplied by", above=0)
@option("--interval", 12800, "Samples of a job between averages", least=1)
@option("--samples", 1228800, "Samples that each training sees, no frame twice", least=1)
@option("--held-out-frames", 30720, "Frames that models are judged on", least=1)
@option("--minibatch-size", 128, "Frames per minibatch", least=1)
@option("--initial-effective-lrate", 0.01 / 6, "Learning rate at the start, over N", above=0)
@option("--final-effective-lrate", 0.001 / 6, "The same at the end", above=0)
@option("--max-change-per-sample", 0.075, "The limit on the change, where there is one", above=0)
@gpu_option
@tf32_option
def main(
    model, dir, parts, cells, seeds, rate, interval, samples, held_out_frames, minibatch_size,
    initial_effective_lrate, final_effective_lrate, max_change_per_sample, device,
):  # fmt: skip
    planned = plan(parts.split(), numbers(seeds), interval, rate)
    chosen = [cell for cell in planned if fnmatch(cell.name, cells)]
    if not chosen:
        raise NgtrainError(f"--cells={cells}: there is none like this, but {planned[0].name}, say")
    setting = Setting(
        model=model,
        train=Frames.load(dir / "frames/train").on(device),
        held_out=Frames.load(dir / "frames/held_out").on(device),
        num_held_out=held_out_frames,
        samples=samples,
        rates=(initial_effective_lrate, final_effective_lrate),
        minibatch_size=minibatch_size,
        max_change=max_change_per_sample,
    )
    for cell in chosen:
        setting.check(cell)
    for number, cell in enumerate(chosen, start=1):
        trial_dir = dir / cell.name
        trial_dir.mkdir(parents=True, exist_ok=True)
        with locked(trial_dir / ".lock", wait=False) as is_ours:
            if not is_ours or cell in {result.cell for result in read_results(dir / "trials.csv")}:
                continue
            log.info("%d of %d: %s", number, len(chosen), cell.name)
            result, curve = Trial(cell, setting, trial_dir, device).run()
            add_result(dir, result, curve)
            log.info("held-out log-probability %s %s", result.held_out, result.error)
    write_report(dir)


def numbers(text: str) -> list[int]:
    words = text.split()
    if not words or not all(word.isdecimal() for word in words):
        raise NgtrainError(f"--seeds={text}: expected numbers")
    return [int(word) for word in words]


if __name__ == "__main__":
    main()
