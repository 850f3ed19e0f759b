#!/usr/bin/env python3
"""Estimate the feature transform that a network has at its input.

It is LDA with the pdf-ids of an alignment as classes, but the dimensions that tell classes apart
less are scaled down instead of left out (Kaldi's steps/nnet2/get_lda.sh). Writes lda.mat into
<exp-dir>, with the dimensions of its input and output, feat_dim (before splicing), lda_dim and
ivector_dim; and what a system needs to make the same features: splice_opts, cmvn_opts, final.mat,
tree, phones.txt.
"""

import shutil
from pathlib import Path

from nnet.drivers.ali_dir import check_same_phones
from nnet.drivers.data_dir import write_lines
from nnet.drivers.driver import (
    argument,
    cmd_option,
    driver,
    integer,
    log,
    option,
    output_of,
    read_integer,
    real,
    require_files,
    run,
)
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally, report
from nnet.launch.commands import JOB, read_from, read_numbers, unzipped


@driver(
    "Usage:  steps/get_lda.py [options] <data> <lang> <ali-dir> <exp-dir>\n"
    " e.g.:  steps/get_lda.py data/train data/lang exp/tri3_ali exp/tri4_nnet",
    writes="exp_dir",
)
@argument("data")
@argument("lang")
@argument("ali_dir")
@argument("exp_dir")
@cmd_option
@feature_options("feat_type", "cmvn_opts", "transform_dir", "online_ivector_dir")
@option(
    "--splice-width",
    type=integer(least=0),
    default=4,
    help="Frames spliced on each side of the middle one",
)
@option(
    "--left-context",
    type=integer(least=0),
    help="Frames spliced on the left, instead of --splice-width",
)
@option(
    "--right-context",
    type=integer(least=0),
    help="Frames spliced on the right, instead of --splice-width",
)
@option("--rand-prune", type=real(least=0), default=4.0, help="Prunes small posteriors, for speed")
@option(
    "--within-class-factor",
    type=real(above=0),
    default=0.0001,
    help="Of nnet-get-feature-transform",
)
@option(
    "--lda-dim", type=integer(least=1), help="Dimension of the output (default: that of the input)"
)
@option(
    "--num-feats", type=integer(least=1), default=10000, help="Use about so many utterances at most"
)
@option(
    "--ivector-randomize-prob",
    type=real(0, 1),
    default=0.0,
    help="How probably an i-vector is replaced by another one of the utterance",
)
@option("--srand", type=integer(least=0), default=0, help="Seed of the pruning")
@option("--stage", type=int, default=0, help="1: the statistics are there; 2: their sum, too")
def main(data, lang, ali_dir, exp_dir, cmd, stage, **o):
    ali, exp = Path(ali_dir), Path(exp_dir)
    require_files(
        *(f"{data}/{name}" for name in ("feats.scp", "utt2spk", "cmvn.scp")),
        *(ali / name for name in ("ali.1.gz", "final.mdl", "tree", "num_jobs")),
        f"{lang}/phones.txt",
        f"{lang}/phones/silence.csl",
    )
    check_same_phones(Path(lang, "phones.txt"), ali / "phones.txt")
    features = FeaturePipeline.of(ali, **{"transform_dir": ali, **given_features(o)})
    log.info("feature type is %s", features.feat_type)
    (exp / "log").mkdir(parents=True, exist_ok=True)
    features = features.save(exp)
    num_jobs = read_integer(ali / "num_jobs")
    write_lines(exp / "num_jobs", [str(num_jobs)])
    shutil.copyfile(ali / "tree", exp / "tree")
    shutil.copyfile(Path(lang, "phones.txt"), exp / "phones.txt")

    output_of("split_data.py", data, num_jobs)
    part = f"{data}/split{num_jobs}/{JOB}"
    left, right = (
        o["splice_width"] if o[side] is None else o[side]
        for side in ("left_context", "right_context")
    )
    # More utterances would hardly change the transform; fewer save a pass over much data.
    some = max(o["num_feats"] // num_jobs, 1)
    select = ["subset_scp.py", "--quiet", some, f"{part}/feats.scp"]
    base = features.commands(part, select=select, num_jobs=num_jobs)
    feat_dim = int(output_of("feat-to-dim", read_from(*base).replace(JOB, "1"), "-"))
    ivector_dim = features.ivector_dim()
    lda_dim = o["lda_dim"] or feat_dim * (left + 1 + right) + ivector_dim

    if stage <= 0:
        log.info("Accumulating LDA statistics.")
        context = [f"--left-context={left}", f"--right-context={right}"]
        spliced = read_from(
            *base,
            ["splice-feats", *context, "ark:-", "ark:-"],
            *features.ivector_commands(part, o["ivector_randomize_prob"]),
            options="s,cs",
        )
        silence = ":".join(map(str, read_numbers(Path(lang, "phones/silence.csl"))))
        run(
            cmd,
            exp / f"log/lda_acc.{JOB}.log",
            *["ali-to-post", unzipped(ali / f"ali.{JOB}.gz"), "ark:-", "|"],
            *["weight-silence-post", "0.0", silence, ali / "final.mdl", "ark:-", "ark:-", "|"],
            *["acc-lda", f"--rand-prune={o['rand_prune']:g}", f"--srand={o['srand']}"],
            *[ali / "final.mdl", spliced, "ark,s,cs:-", exp / f"lda.{JOB}.acc"],
            jobs=num_jobs,
        )
        report_losses(exp / "log", num_jobs)
    for name, dim in ("feat_dim", feat_dim), ("lda_dim", lda_dim), ("ivector_dim", ivector_dim):
        write_lines(exp / name, [str(dim)])

    parts = [exp / f"lda.{job}.acc" for job in range(1, num_jobs + 1)]
    if stage <= 1:
        run("run.py", exp / "log/lda_sum.log", "sum-lda-accs", exp / "lda.acc", *parts)
        for part in parts:
            part.unlink()

    if stage <= 2:
        run(
            "run.py",
            exp / "log/lda_est.log",
            "nnet-get-feature-transform",
            f"--write-cholesky={exp}/cholesky.tpmat",
            f"--write-within-covar={exp}/within_covar.spmat",
            f"--within-class-factor={o['within_class_factor']:g}",
            f"--dim={lda_dim}",
            *[exp / "lda.mat", exp / "lda.acc"],
        )
    log.info("Finished estimating LDA")


def report_losses(logs: Path, num_jobs: int) -> None:
    """Say of how many utterances there are statistics; NgtrainError if of less than half."""
    jobs = [logs / f"lda_acc.{job}.log" for job in range(1, num_jobs + 1)]
    tally = Tally.of(jobs, r"Done (?P<done>\d+) files, failed for (?P<failed>\d+)")
    done, failed = tally.counts["done"], tally.counts["failed"]
    report(
        "took statistics of", done, done + failed, "utterances", tally.example,
        f"{logs}/lda_acc.*.log",
    )  # fmt: skip


if __name__ == "__main__":
    main()
