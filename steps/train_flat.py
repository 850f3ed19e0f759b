#!/usr/bin/env python3
"""Train and align in turns from a flat start until alignments stay, without Gaussians.

Round 0 divides utterances equally among the states of their words (steps/flat_start.py).  Each
later round trains a small network on the alignment before it and aligns again, until less than
--tolerance of the frames change their phone, or --rounds are done.  <exp-dir>/round<N> have the
alignments, with the networks in nnet/; <exp-dir> becomes an alignment directory itself, that of the
last round, on which steps/train_multisplice.py trains what the data deserves.

How long the small networks are trained follows from the amount of data, unless --train-opts says
it: three passes or more, so that they look at a few hundred thousand frames.  Run again, it goes on
where it stopped.
"""

import shlex
from pathlib import Path

from nnet.drivers.ali_dir import changed_phones, copy_ali_dir
from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import argument, driver, gpu_option, job_options, log, option
from nnet.drivers.egs_options import count_frames
from nnet.drivers.feature_pipeline import feature_options, feature_words, given_features
from nnet.drivers.programs import run_step
from nnet.drivers.training_options import as_text
from nnet.errors import NgtrainError
from nnet.io.text import write_lines

LEAST_FRAMES, LEAST_EPOCHS = 90_000, 3  # that a small network sees, counted with repetitions
ITERATIONS = 6  # of a small network, where the data is not so much that they become too long
LONGEST_ITERATION = 400_000  # frames for each job, as for large networks


@driver(
    "Usage:  steps/train_flat.py [options] <data> <lang> <exp-dir>\n"
    " e.g.:  steps/train_flat.py --silence-duration 1 data/train data/lang exp/flat",
    writes="exp_dir",
)
@argument("data", "lang", "exp_dir")
@job_options
@option("--rounds", 4, "Trainings at most", least=1)
@option(
    "--tolerance", 0.03,
    "End when a smaller part of the frames than this has another phone than before", least=0,
)  # fmt: skip
@option(
    "--silence-duration", 1.0, least=0,
    help="How long states of silence last at first, relative to others; 0 for recordings that are "
    "cut to the words",
)  # fmt: skip
@option("--find-silence", True, "Put silence where it is quiet at first (see steps/flat_start.py)")
@option("--num-jobs", 2, "Training jobs", least=1)
@option("--train-opts", "", "More options of steps/train_multisplice.py")
@option("--srand", 0, "Seed of everything random", least=0)
@gpu_option
@feature_options("cmvn_opts", "delta_order")
def main(data, lang, exp_dir, nj, cmd, **options):
    exp = Path(exp_dir)
    common = ["--nj", nj, "--cmd", cmd]
    remember({"data": data, "lang": lang} | options, exp)
    if not (exp / "round0/num_jobs").exists():
        start = ["--silence-duration", options["silence_duration"]]
        start += ["--find-silence", options["find_silence"]]
        start += feature_words(given_features(options))
        run_step("flat_start.py", *common, *start, data, lang, exp / "round0")
    for number in range(1, options["rounds"] + 1):
        before, round_dir = exp / f"round{number - 1}", exp / f"round{number}"
        if not (round_dir / "num_jobs").exists():
            words, nnet = training_words(Path(data), options), round_dir / "nnet"
            run_step("train_multisplice.py", "--cmd", cmd, *words, data, lang, before, nnet)
            words = ["--use-gpu", options["use_gpu"], data, lang, nnet, round_dir]
            run_step("align.py", *common, *words)
        changed, total = changed_phones(before, round_dir)
        part = f"{100 * changed / total:.1f} % of {total} frames"
        log.info(f"round {number}: {part} have another phone than before")
        if changed < options["tolerance"] * total:
            break
    else:
        limit = f"{options['tolerance']:g}"
        log.warning(f"alignments have not settled within {limit}: more --rounds may help")
    copy_ali_dir(round_dir, exp)
    log.info(f"the alignments of round {number} are in {exp}")


def remember(options: dict, exp: Path) -> None:
    """Write down with what a directory is made; NgtrainError where it was begun with other."""
    affecting = [name for name in options if name not in ("rounds", "tolerance", "use_gpu")]
    now, file = {name: as_text(options[name]) for name in affecting}, exp / "flat_options"
    before = read_table(file) if file.exists() else now
    for name, value in now.items():
        if (earlier := before.get(name, "")) != value:
            begun = f"{exp} was begun with {name.replace('_', '-')} '{earlier}', not '{value}'"
            raise NgtrainError(f"{begun}: use another directory")
    exp.mkdir(parents=True, exist_ok=True)
    write_lines(file, (f"{name} {value}" for name, value in now.items()))


def training_words(data: Path, options: dict) -> list:
    """The options of a small network's training: those that are given last, which count."""
    num_frames, num_jobs = count_frames(data), options["num_jobs"]
    num_utterances = len(read_table(data / "utt2spk"))
    epochs = max(LEAST_EPOCHS, LEAST_FRAMES / max(num_frames, 1))
    samples = round(epochs * num_frames / ITERATIONS / num_jobs)
    egs_opts = f"--num-utts-subset {max(1, min(300, num_utterances // 20))}"
    return [
        *["--config", "conf/small.conf", "--num-hidden-layers", 2, "--add-layers-period", 1],
        *["--splice-indexes", "layer0/-4:-3:-2:-1:0:1:2:3:4 layer1/-3:3"],
        *["--num-epochs", f"{epochs:.3g}", "--samples-per-iter", min(LONGEST_ITERATION, samples)],
        *["--egs-opts", f"{egs_opts} --num-train-frames-combine 4000"],
        *["--num-jobs-initial", num_jobs, "--num-jobs-final", num_jobs, "--max-models-combine", 4],
        *["--num-jobs-compute-prior", num_jobs],
        *["--srand", options["srand"], "--use-gpu", options["use_gpu"]],
        *shlex.split(options["train_opts"]),
    ]


if __name__ == "__main__":
    main()
