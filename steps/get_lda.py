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
from nnet.drivers.driver import argument, driver, log
from nnet.drivers.feature_pipeline import FeaturePipeline, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import of_jobs, output_of, read_integer, require_files, run
from nnet.drivers.settings import options_from
from nnet.drivers.training_options import LdaOptions
from nnet.io.log_lines import LDA_STATISTICS
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, read_from, read_numbers, unzipped


@driver(
    "Usage:  steps/get_lda.py [options] <data> <lang> <ali-dir> <exp-dir>\n"
    " e.g.:  steps/get_lda.py data/train data/lang exp/tri3_ali exp/tri4_nnet",
    writes="exp_dir",
)
@argument("data", "lang", "ali_dir", "exp_dir", type=Path)
@options_from(LdaOptions)
def main(data, lang, ali_dir, exp_dir, **options):
    o, ali, exp = LdaOptions(**options), ali_dir, exp_dir
    require_files(
        *(data / name for name in ("feats.scp", "utt2spk", "cmvn.scp")),
        *(ali / name for name in ("ali.1.gz", "final.mdl", "tree", "num_jobs")),
        *(lang / "phones.txt", lang / "phones/silence.csl"),
    )
    check_same_phones(lang / "phones.txt", ali / "phones.txt")
    features = FeaturePipeline.of(ali, **{"transform_dir": ali, **given_features(options)})
    log.info("feature type is %s", features.feat_type)
    (exp / "log").mkdir(parents=True, exist_ok=True)
    features = features.save(exp)
    num_jobs = read_integer(ali / "num_jobs")
    write_lines(exp / "num_jobs", [str(num_jobs)])
    shutil.copyfile(ali / "tree", exp / "tree")
    shutil.copyfile(lang / "phones.txt", exp / "phones.txt")

    output_of("split_data.py", data, num_jobs)
    part = f"{data}/split{num_jobs}/{JOB}"
    # More utterances would hardly change the transform; fewer save a pass over much data.
    some = max(o.num_feats // num_jobs, 1)
    select = ["subset_scp.py", "--quiet", some, f"{part}/feats.scp"]
    base = features.commands(part, select=select, num_jobs=num_jobs)
    left, right = o.context
    feat_dim = int(output_of("feat-to-dim", read_from(*base).replace(JOB, "1"), "-"))
    ivector_dim = features.ivector_dim()
    lda_dim = o.lda_dim or feat_dim * (left + 1 + right) + ivector_dim
    if o.stage <= 0:
        context = [f"--left-context={left}", f"--right-context={right}"]
        ivectors = features.ivector_commands(part, o.ivector_randomize_prob)
        spliced = [*base, ["splice-feats", *context, "ark:-", "ark:-"], *ivectors]
        accumulate(lang, ali, exp, num_jobs, read_from(*spliced, options="s,cs"), o)
    dims = {"feat_dim": feat_dim, "lda_dim": lda_dim, "ivector_dim": ivector_dim}
    for name, dim in dims.items():
        write_lines(exp / name, [str(dim)])
    estimate(exp, num_jobs, lda_dim, o)
    log.info("Finished estimating LDA")


def accumulate(
    lang: Path, ali: Path, exp: Path, num_jobs: int, features: str, o: LdaOptions
) -> None:
    """Write the statistics of the spliced features of each job, lda.JOB.acc."""
    log.info("Accumulating LDA statistics.")
    silence = ":".join(map(str, read_numbers(lang / "phones/silence.csl")))
    model, log_file = ali / "final.mdl", exp / f"log/lda_acc.{JOB}.log"
    run(
        o.cmd, log_file,
        "ali-to-post", unzipped(ali / f"ali.{JOB}.gz"), "ark:-", "|",
        "weight-silence-post", "0.0", silence, model, "ark:-", "ark:-", "|",
        "acc-lda", f"--rand-prune={o.rand_prune:g}", f"--srand={o.srand}", model,
        features, "ark,s,cs:-", exp / f"lda.{JOB}.acc",
        jobs=num_jobs,
    )  # fmt: skip
    tally = Tally.of_jobs(log_file, num_jobs, LDA_STATISTICS.pattern)
    done, failed = tally.counts["done"], tally.counts["failed"]
    tally.report("took statistics of", done, done + failed, "utterances")


def estimate(exp: Path, num_jobs: int, lda_dim: int, o: LdaOptions) -> None:
    """Write lda.mat, of the sum of the jobs' statistics."""
    parts = of_jobs(exp / f"lda.{JOB}.acc", num_jobs)
    if o.stage <= 1:
        run("run.py", exp / "log/lda_sum.log", "sum-lda-accs", exp / "lda.acc", *parts)
        for part in parts:
            part.unlink()
    if o.stage <= 2:
        run(
            "run.py", exp / "log/lda_est.log", "nnet-get-feature-transform",
            f"--write-cholesky={exp}/cholesky.tpmat",
            f"--write-within-covar={exp}/within_covar.spmat",
            f"--within-class-factor={o.within_class_factor:g}", f"--dim={lda_dim}",
            exp / "lda.mat", exp / "lda.acc",
        )  # fmt: skip


if __name__ == "__main__":
    main()
