#!/usr/bin/env python3
"""Align transcripts with a network (Kaldi's steps/nnet2/align.sh).

Writes an alignment directory: `ali.*.gz`, `tree`, `final.mdl`, `num_jobs`, and the files that say
how features are made.
"""

from pathlib import Path

from nnet.drivers.ali_dir import check_same_phones, make_ali_dir
from nnet.drivers.data_dir import read_rows
from nnet.drivers.driver import argument, driver, gpu_option, job_options, log, option
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import require_files
from nnet.drivers.transcripts import check_text, training_graphs
from nnet.io.log_lines import ALIGNED, RETRIED
from nnet.launch.commands import JOB


@driver(
    "Usage:  steps/align.py [options] <data> <lang> <src-dir> <ali-dir>\n"
    " e.g.:  steps/align.py --nj 4 data/train data/lang exp/nnet4 exp/nnet4_ali",
    writes="ali_dir",
)
@argument("data", "lang", "src_dir", "ali_dir", type=Path)
@job_options
@option(
    "--scale-opts", "--transition-scale=1.0 --acoustic-scale=0.1 --self-loop-scale=0.1",
    "Scales, as options of nnet-align-compiled",
)  # fmt: skip
@option("--beam", 10.0, "Decoding beam", above=0)
@option("--retry-beam", 40.0, "Decoding beam of a second try", least=0)
@option("--careful", False, "See nnet-align-compiled")
@option("--iter", "final", "Align with <src-dir>/<iter>.mdl")
@gpu_option
@feature_options("feat_type", "transform_dir", "online_ivector_dir")
def main(data, lang, src_dir, ali_dir, nj, cmd, scale_opts, beam, retry_beam, **o):
    source, ali, model = src_dir, ali_dir, src_dir / f"{o['iter']}.mdl"
    require_files(
        *(data / name for name in ("feats.scp", "cmvn.scp", "text", "utt2spk")),
        *(lang / name for name in ("L.fst", "phones.txt", "words.txt", "oov.int")),
        *(lang / "phones/disambig.int", source / "tree", model),
    )
    check_same_phones(lang / "phones.txt", source / "phones.txt")
    check_text(data, lang)
    features = FeaturePipeline.of(source, **given_features(o))
    log.info(f"feature type is {features.feat_type}")

    def command(split: Path, nj: int, features: FeaturePipeline) -> list:
        log.info(f"aligning data in {data} using model from {source}, putting alignments in {ali}")
        return [
            *training_graphs(ali, lang, split / JOB),
            *["|", "nnet-align-compiled", *scale_opts.split(), f"--use-gpu={o['use_gpu']}"],
            *[f"--beam={beam:g}", f"--retry-beam={retry_beam:g}", f"--careful={o['careful']}"],
            *[f"{ali}/final.mdl", "ark:-", features.rspecifier(split / JOB, num_jobs=nj)],
        ]

    files = {"phones.txt": lang / "phones.txt", "tree": source / "tree", "final.mdl": model}
    nj = make_ali_dir(
        ali, data, nj, cmd, copies=files, features=features, log_name="align", command=command,
        gpu=o["use_gpu"] != "no",
    )  # fmt: skip
    done, retried = (
        Tally.of_jobs(ali / f"log/align.{JOB}.log", nj, line.pattern) for line in (ALIGNED, RETRIED)
    )
    unit = f"utterances, {retried.counts['retried']} with a wider beam"
    done.report("aligned", done.counts["done"], len(read_rows(data / "utt2spk")), unit)


if __name__ == "__main__":
    main()
