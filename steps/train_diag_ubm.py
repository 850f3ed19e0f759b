#!/usr/bin/env python3
"""Train a mixture of Gaussians with diagonal covariances, of which online i-vectors are estimated.

Its frames are normalized online, spliced and transformed by the LDA (+MLLT) matrix of <source-dir>.
It is initialized on frames in memory, then trained on all data, by jobs (Kaldi's
steps/online/nnet2/train_diag_ubm.sh).
"""

from pathlib import Path

from nnet.drivers.driver import argument, driver, job_options, log, option
from nnet.drivers.ivector_dirs import copy_files, gaussian_features, remove
from nnet.drivers.programs import of_jobs, output_of, require_files, run
from nnet.drivers.splitting import split_by_speaker
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, read_from, unzipped, zipped


@driver(
    "Usage:  steps/train_diag_ubm.py [options] <data> <num-gauss> <source-dir> <ubm-dir>\n"
    " e.g.:  steps/train_diag_ubm.py --nj 4 data/train 512 exp/tri3b exp/diag_ubm",
    writes="ubm_dir",
)
@argument("data", type=Path)
@argument("num_gauss", type=int)
@argument("source_dir", "ubm_dir", type=Path)
@job_options
@option("--num-iters", 4, "Iterations on all data", least=1)
@option("--num-gselect", 30, "Gaussians for each frame, at most", least=1)
@option("--num-frames", 500000, "Frames to initialize with, at most", least=1)
@option("--num-iters-init", 20, "Iterations on these", least=2)
@option("--initial-gauss-proportion", 0.5, "Share of the Gaussians to begin with", above=0, most=1)
@option("--subsample", 2, "Train on each such frame", least=1)
@option("--min-gaussian-weight", 0.0001, "Least weight of a Gaussian")
@option("--remove-low-count-gaussians", True, "Remove Gaussians with less, in the end")
@option("--online-cmvn-config", "", "Options of apply-cmvn-online, if not the usual ones")
@option("--srand", 0, "Seed of what is random")
def main(data, num_gauss, source_dir, ubm_dir, nj, cmd, **o):
    require_files(*(data / name for name in ("feats.scp", "spk2utt", "utt2spk")))
    copy_files(["final.mat", "splice_opts"], source_dir, ubm_dir)
    if o["online_cmvn_config"]:
        require_files(o["online_cmvn_config"])
        text = Path(o["online_cmvn_config"]).read_text()
        (ubm_dir / "online_cmvn.conf").write_text(text)
    else:
        write_lines(ubm_dir / "online_cmvn.conf", [])
    (ubm_dir / "log").mkdir(exist_ok=True)
    stats = ubm_dir / "global_cmvn.stats"
    output_of("compute-cmvn-stats", "--binary=false", f"scp:{data}/feats.scp", stats)
    weight = f"--min-gaussian-weight={o['min_gaussian_weight']:g}"
    first = max(1, int(o["initial_gauss_proportion"] * num_gauss))
    run(
        cmd, ubm_dir / "log/gmm_init.log", "gmm-global-init-from-feats", weight,
        f"--num-frames={o['num_frames']}", f"--num-gauss={num_gauss}", f"--num-gauss-init={first}",
        f"--num-iters={o['num_iters_init']}", f"--srand={o['srand']}",
        gaussian_features(ubm_dir, data), ubm_dir / "0.dubm",
    )  # fmt: skip
    split, nj = split_by_speaker(data, nj)
    features = gaussian_features(ubm_dir, split / JOB, every=o["subsample"])
    selection = ubm_dir / f"gselect.{JOB}.gz"
    run(
        cmd, ubm_dir / f"log/gselect.{JOB}.log", "gmm-gselect", f"--n={o['num_gselect']}",
        ubm_dir / "0.dubm", features, zipped(selection), jobs=nj,
    )  # fmt: skip
    for x in range(o["num_iters"]):
        # Selections are of these Gaussians: none may go before the last iteration.
        may_remove = o["remove_low_count_gaussians"] and x == o["num_iters"] - 1
        mixture, acc = ubm_dir / f"{x}.dubm", ubm_dir / f"{x}.{JOB}.acc"
        run(
            cmd, ubm_dir / f"log/acc.{x}.{JOB}.log", "gmm-global-acc-stats",
            f"--gselect={unzipped(selection, options='s,cs')}", mixture, features, acc, jobs=nj,
        )  # fmt: skip
        total = read_from(["gmm-global-sum-accs", "-", *of_jobs(acc, nj)]).removeprefix("ark:")
        run(
            cmd, ubm_dir / f"log/update.{x}.log", "gmm-global-est", weight,
            f"--remove-low-count-gaussians={str(may_remove).lower()}", mixture, total,
            ubm_dir / f"{x + 1}.dubm",
        )  # fmt: skip
        remove([*of_jobs(acc, nj), mixture])
    remove(of_jobs(selection, nj))
    (ubm_dir / f"{o['num_iters']}.dubm").replace(ubm_dir / "final.dubm")
    log.info(f"the mixture is {ubm_dir}/final.dubm")


if __name__ == "__main__":
    main()
