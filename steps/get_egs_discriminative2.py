#!/usr/bin/env python3
"""Make the examples that networks are trained on with MMI, MPFE or sMBR.

Those made with --criterion smbr are good for mmi and mpfe, too, those with mpfe for mmi.  Writes
degs.1.ark, degs.2.ark, ... in random order, info/num_archives and info/silence.csl, and what a
system needs to make the same features (Kaldi's steps/nnet2/get_egs_discriminative2.sh).
"""

import shutil
from pathlib import Path

from nnet.drivers.ali_dir import alignments_in, check_same_phones
from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import argument, cmd_option, driver, log, option
from nnet.drivers.egs_dir import remove_with_target
from nnet.drivers.egs_options import count_frames
from nnet.drivers.feature_pipeline import FeaturePipeline, feature_options, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import of_jobs, output_of, read_integer, require_files, run
from nnet.io.log_lines import DISCRIMINATIVE_EXAMPLES
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, read_from, unzipped


@driver(
    "Usage:  steps/get_egs_discriminative2.py [options] <data> <lang> <ali-dir> <denlat-dir> "
    "<src-model> <degs-dir>\n"
    " e.g.:  steps/get_egs_discriminative2.py data/train data/lang exp/nnet_ali exp/nnet_denlats "
    "exp/nnet/final.mdl exp/nnet_degs",
    writes="degs_dir",
)
@argument("data", "lang", "ali_dir", "denlat_dir", "src_model", "degs_dir", type=Path)
@cmd_option
@option("--criterion", "smbr", "Criterion, smbr, mpfe or mmi")
@option(
    "--drop-frames", False, "For MMI: frames are left out in training where the numerator is not"
)
@option("--samples-per-iter", 400000, "Frames of an archive, before any are left out", least=1)
@option("--cleanup", True, "Remove what was made on the way")
@feature_options("feat_type", "transform_dir", "online_ivector_dir")
def main(data, lang, ali_dir, denlat_dir, src_model, degs_dir, cmd, **o):
    ali, denlats, degs = ali_dir, denlat_dir, degs_dir
    require_files(
        *(data / name for name in ("feats.scp", "cmvn.scp", "utt2spk")), lang / "phones.txt",
        *(lang / "phones/silence.csl", ali / "ali.1.gz", ali / "tree", src_model),
        *(denlats / name for name in ("lat.1.gz", "num_jobs")),
    )  # fmt: skip
    check_same_phones(lang / "phones.txt", ali / "phones.txt")
    features = FeaturePipeline.of(ali, **given_features(o))
    nj = read_integer(denlats / "num_jobs")
    output_of("split_data.py", data, nj)
    for folder in "log", "info":
        (degs / folder).mkdir(parents=True, exist_ok=True)
    for old in degs.glob("degs*.ark"):
        remove_with_target(old)
    features = features.save(degs)
    for source, name in (ali / "tree", "tree"), (src_model, "final.mdl"):
        shutil.copyfile(source, degs / name)
    shutil.copyfile(lang / "phones.txt", degs / "phones.txt")
    shutil.copyfile(lang / "phones/silence.csl", degs / "info/silence.csl")

    num_frames = count_frames(data)
    num_archives = num_frames // o["samples_per_iter"] + 1
    info = {"num_archives": num_archives, "num_frames": num_frames}
    for name, value in (info | {"frames_per_archive": num_frames // num_archives}).items():
        write_lines(degs / "info" / name, [str(value)])
    log.info("making %d archives of about %d frames", num_archives, num_frames // num_archives)

    same_split = read_integer(ali / "num_jobs") == nj
    alignments = [ali / f"ali.{JOB}.gz"] if same_split else alignments_in(ali)
    const_dim = [f"--const-feat-dim={features.ivector_dim()}"] if features.ivector_dir else []
    log_file = degs / f"log/get_egs.{JOB}.log"
    run(
        cmd, log_file,
        "nnet-get-egs-discriminative", f"--criterion={o['criterion']}",
        f"--drop-frames={o['drop_frames']}".lower(), src_model,
        features.rspecifier(data / f"split{nj}" / JOB, num_jobs=nj),
        unzipped(*alignments, options="s,cs" if same_split else ""),
        unzipped(denlats / f"lat.{JOB}.gz", options="s,cs"), "ark:-", "|",
        "nnet-copy-egs-discriminative", *const_dim, "ark:-",
        *(f"ark:{degs}/degs_orig.{JOB}.{n + 1}.ark" for n in range(num_archives)), jobs=nj,
    )  # fmt: skip
    tally = Tally.of_jobs(log_file, nj, DISCRIMINATIVE_EXAMPLES.pattern)
    total = len(read_table(data / "utt2spk"))
    tally.report("made examples of", tally.counts["utterances"], total, "utterances")
    parts = of_jobs(degs / f"degs_orig.{JOB}.%s.ark", nj)
    run(
        cmd, degs / f"log/shuffle.{JOB}.log",
        "nnet-shuffle-egs-discriminative", f"--srand={JOB}",
        read_from(["cat", *(str(part) % JOB for part in parts)]), f"ark:{degs}/degs.{JOB}.ark",
        jobs=num_archives,
    )  # fmt: skip
    if o["cleanup"]:
        for part in degs.glob("degs_orig.*.ark"):
            part.unlink()


if __name__ == "__main__":
    main()
