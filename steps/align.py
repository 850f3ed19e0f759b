#!/usr/bin/env python3
"""Align transcripts with a network (Kaldi's steps/nnet2/align.sh).

Writes an alignment directory: `ali.*.gz`, `tree`, `final.mdl`, `num_jobs`, and the files that say
how features are made.
"""

import shutil
from pathlib import Path

from nnet.drivers.data_dir import read_rows, write_lines
from nnet.drivers.driver import (
    argument,
    cmd_option,
    driver,
    gpu_option,
    log,
    nj_option,
    option,
    real,
    require_files,
    run,
)
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally, report
from nnet.drivers.splitting import split_by_speaker
from nnet.drivers.transcripts import check_text, transcript_rspecifier
from nnet.launch.commands import JOB, zipped
from steps.get_lda import check_same_phones
from utils.validate_ali_dir import alignments_in


@driver(
    "Usage:  steps/align.py [options] <data> <lang> <src-dir> <ali-dir>\n"
    " e.g.:  steps/align.py --nj 4 data/train data/lang exp/nnet4 exp/nnet4_ali",
    writes="ali_dir",
)
@argument("data")
@argument("lang")
@argument("src_dir")
@argument("ali_dir")
@nj_option
@cmd_option
@option(
    "--scale-opts",
    default="--transition-scale=1.0 --acoustic-scale=0.1 --self-loop-scale=0.1",
    help="Scales, as options of nnet-align-compiled",
)
@option("--beam", type=real(above=0), default=10, help="Decoding beam")
@option("--retry-beam", type=real(least=0), default=40, help="Decoding beam of a second try")
@option("--careful", type=bool, default=False, help="See nnet-align-compiled")
@option("--iter", default="final", help="Align with <src-dir>/<iter>.mdl")
@gpu_option
@feature_options("feat_type", "transform_dir", "online_ivector_dir")
def main(data, lang, src_dir, ali_dir, nj, cmd, scale_opts, beam, retry_beam, **o):
    data, lang, source, ali = Path(data), Path(lang), Path(src_dir), Path(ali_dir)
    model = source / f"{o['iter']}.mdl"
    require_files(
        *(data / name for name in ("feats.scp", "cmvn.scp", "text", "utt2spk")),
        *(lang / name for name in ("L.fst", "phones.txt", "words.txt", "oov.int")),
        *(lang / "phones/disambig.int", source / "tree", model),
    )
    check_same_phones(lang / "phones.txt", source / "phones.txt")
    check_text(data, lang)
    features = FeaturePipeline.of(source, **given_features(o))
    log.info(f"feature type is {features.feat_type}")
    split, nj = split_by_speaker(data, nj)
    (ali / "log").mkdir(parents=True, exist_ok=True)
    for old in alignments_in(ali):
        old.unlink()
    shutil.copyfile(lang / "phones.txt", ali / "phones.txt")
    shutil.copyfile(source / "tree", ali / "tree")
    shutil.copyfile(model, ali / "final.mdl")
    features = features.save(ali)

    log.info(f"aligning data in {data} using model from {source}, putting alignments in {ali}")
    run(
        cmd,
        f"{ali}/log/align.{JOB}.log",
        *["compile-train-graphs", f"--read-disambig-syms={lang}/phones/disambig.int"],
        *[f"{ali}/tree", f"{ali}/final.mdl", f"{lang}/L.fst"],
        *[transcript_rspecifier(lang, split / JOB), "ark:-", "|"],
        *["nnet-align-compiled", *scale_opts.split(), f"--use-gpu={o['use_gpu']}"],
        *[f"--beam={beam:g}", f"--retry-beam={retry_beam:g}", f"--careful={o['careful']}"],
        *[f"{ali}/final.mdl", "ark:-", features.rspecifier(split / JOB, num_jobs=nj)],
        zipped(ali / f"ali.{JOB}.gz"),
        jobs=nj,
        **({} if o["use_gpu"] == "no" else {"gpu": 1}),
    )
    write_lines(ali / "num_jobs", [str(nj)])
    report_losses(data, ali, nj)


def report_losses(data: Path, ali: Path, nj: int) -> None:
    """Say how many utterances were aligned; NgtrainError if it is fewer than half of them."""
    logs = [ali / f"log/align.{job}.log" for job in range(1, nj + 1)]
    done = Tally.of(logs, r"Done (?P<done>\d+), errors on \d+")
    retried = Tally.of(logs, r"Retried (?P<retried>\d+) out of").counts["retried"]
    report(
        "aligned", done.counts["done"], len(read_rows(data / "utt2spk")),
        f"utterances, {retried} with a wider beam", done.example, f"{ali}/log/align.*.log",
    )  # fmt: skip


if __name__ == "__main__":
    main()
