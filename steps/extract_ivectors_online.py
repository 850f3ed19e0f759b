#!/usr/bin/env python3
"""Extract i-vectors every few frames, each from the speaker's frames until then, to train networks
with (--online-ivector-dir) or to decode (Kaldi's steps/online/nnet2/extract_ivectors_online.sh).
"""

from pathlib import Path

from nnet.drivers.driver import argument, driver, job_options, log, option
from nnet.drivers.ivector_dirs import estimation_options, write_extraction_config
from nnet.drivers.programs import of_jobs, require_files, run
from nnet.drivers.splitting import split_by_speaker
from nnet.io.text import write_lines
from nnet.launch.commands import JOB


@driver(
    "Usage:  steps/extract_ivectors_online.py [options] <data> <extractor-dir> <ivector-dir>\n"
    " e.g.:  steps/extract_ivectors_online.py data/train exp/extractor exp/ivectors_train",
    writes="ivector_dir",
)
@argument("data", "extractor_dir", "ivector_dir", type=Path)
@job_options
@option("--ivector-period", 10, "Frames from one i-vector to the next", least=1)
@option("--compress", True, "Compress i-vectors as features are")
@estimation_options()
def main(data, extractor_dir, ivector_dir, nj, cmd, ivector_period, compress, **how):
    require_files(*(data / name for name in ("feats.scp", "spk2utt", "utt2spk")))
    directory = ivector_dir.resolve()
    config = write_extraction_config(directory / "conf", extractor_dir, how, ivector_period)
    write_lines(directory / "ivector_period", [str(ivector_period)])
    (directory / "log").mkdir(exist_ok=True)
    split, nj = split_by_speaker(data, nj)
    part = split / JOB
    ark, scp = (directory / f"ivector_online.{JOB}.{kind}" for kind in ("ark", "scp"))
    run(
        cmd, directory / f"log/extract_ivectors.{JOB}.log", "ivector-extract-online2",
        f"--config={config}", f"ark:{part}/spk2utt", f"scp:{part}/feats.scp", "ark:-", "|",
        "copy-feats", f"--compress={str(compress).lower()}", "ark:-", f"ark,scp:{ark},{scp}",
        jobs=nj,
    )  # fmt: skip
    lines = [file.read_text() for file in of_jobs(scp, nj)]
    (directory / "ivector_online.scp").write_text("".join(lines))
    log.info(f"i-vectors of {sum(text.count(chr(10)) for text in lines)} utterances are there")


if __name__ == "__main__":
    main()
