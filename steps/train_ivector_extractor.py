#!/usr/bin/env python3
"""Train an extractor of i-vectors for networks and for online decoding.

Posteriors of Gaussians are those of frames that are normalized online; the extractor itself sees
them as they are, so that the i-vector tells the network what normalization would have hidden
(Kaldi's steps/online/nnet2/train_ivector_extractor.sh).
"""

from pathlib import Path

from nnet.drivers.driver import argument, driver, job_options, log, option
from nnet.drivers.ivector_dirs import (
    UBM_FILES,
    copy_files,
    gaussian_features,
    mark_normalized,
    remove,
)
from nnet.drivers.programs import of_jobs, require_files, run
from nnet.drivers.splitting import split_by_speaker
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, pipeline, unzipped, zipped


@driver(
    "Usage:  steps/train_ivector_extractor.py [options] <data> <ubm-dir> <extractor-dir>\n"
    " e.g.:  steps/train_ivector_extractor.py --nj 4 data/train exp/diag_ubm exp/extractor",
    writes="extractor_dir",
)
@argument("data", "ubm_dir", "extractor_dir", type=Path)
@job_options
@option("--ivector-dim", 100, "Dimension of i-vectors", least=2)
@option("--num-iters", 10, "Iterations", least=1)
@option("--num-gselect", 5, "Gaussians for each frame, at most", least=1)
@option("--posterior-scale", 0.1, "Scale of posteriors, for the likeness of frames in a row")
@option("--min-post", 0.025, "Least posterior of a Gaussian")
@option("--subsample", 2, "Train on each such frame; the scale makes up for the others", least=1)
@option("--online-cmvn-iextractor", False, "Have the extractor see normalized frames, too")
@option("--srand", 0, "Seed of what is random")
def main(data, ubm_dir, extractor_dir, nj, cmd, **o):
    directory, every = extractor_dir, o["subsample"]
    require_files(*(data / name for name in ("feats.scp", "spk2utt", "utt2spk")))
    copy_files(UBM_FILES, ubm_dir, directory)
    mark_normalized(directory, o["online_cmvn_iextractor"])
    (directory / "log").mkdir(exist_ok=True)
    full = f"{pipeline(['gmm-global-to-fgmm', directory / 'final.dubm', '-'])} |"
    run(
        cmd, directory / "log/init.log", "ivector-extractor-init", "--use-weights=false",
        f"--ivector-dim={o['ivector_dim']}", f"--srand={o['srand']}", full, directory / "0.ie",
    )  # fmt: skip
    split, nj = split_by_speaker(data, nj)
    write_lines(directory / "num_jobs", [str(nj)])
    posteriors = directory / f"post.{JOB}.gz"
    normalized = gaussian_features(directory, split / JOB, every=every)
    run(
        cmd, directory / f"log/post.{JOB}.log", "gmm-global-get-post", f"--n={o['num_gselect']}",
        f"--min-post={o['min_post']:g}", directory / "final.dubm", normalized, "ark:-", "|",
        "scale-post", "ark:-", f"{o['posterior_scale'] * every:g}", zipped(posteriors), jobs=nj,
    )  # fmt: skip
    features = gaussian_features(directory, split / JOB, o["online_cmvn_iextractor"], every)
    for x in range(o["num_iters"]):
        extractor, acc = directory / f"{x}.ie", directory / f"{x}.{JOB}.acc"
        run(
            cmd, directory / f"log/acc.{x}.{JOB}.log", "ivector-extractor-acc-stats", extractor,
            features, unzipped(posteriors, options="s,cs"), acc, jobs=nj,
        )  # fmt: skip
        total = f"{pipeline(['ivector-extractor-sum-accs', *of_jobs(acc, nj), '-'])} |"
        run(
            cmd, directory / f"log/update.{x}.log", "ivector-extractor-est", extractor, total,
            directory / f"{x + 1}.ie",
        )  # fmt: skip
        remove([*of_jobs(acc, nj), extractor])
    remove(of_jobs(posteriors, nj))
    (directory / f"{o['num_iters']}.ie").replace(directory / "final.ie")
    log.info(f"the extractor is {directory}/final.ie")


if __name__ == "__main__":
    main()
