#!/usr/bin/env python3
"""Compute cepstral mean and variance statistics of each speaker of a data directory.

<log-dir> defaults to <data-dir>/log, and <cmvn-dir> to <data-dir>/data.  Writes cmvn_NAME.ark
there, and <data-dir>/cmvn.scp that points into it (Kaldi's steps/compute_cmvn_stats.sh).
"""

import shutil
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.text import text_lines
from utils.driver import argument, driver, log, require_files, run


@driver(
    "Usage:  steps/compute_cmvn_stats.py <data-dir> [<log-dir> [<cmvn-dir>]]\n"
    " e.g.: steps/compute_cmvn_stats.py data/train exp/make_mfcc/train mfcc",
    writes="data_dir",
)
@argument("data_dir")
@argument("log_dir", required=False)
@argument("cmvn_dir", required=False)
def main(data_dir, log_dir, cmvn_dir):
    data = Path(data_dir)
    name = data.resolve().name
    log_dir = Path(log_dir or data / "log")
    cmvn_dir = Path(cmvn_dir or data / "data")
    require_files(data / "feats.scp", data / "spk2utt")
    log_dir.mkdir(parents=True, exist_ok=True)
    cmvn_dir.mkdir(parents=True, exist_ok=True)

    stats = cmvn_dir.resolve() / f"cmvn_{name}"
    # One job on this machine: it is fast.
    run(
        "run.py",
        f"{log_dir}/cmvn_{name}.log",
        *["compute-cmvn-stats", f"--spk2utt=ark:{data}/spk2utt", f"scp:{data}/feats.scp"],
        f"ark,scp:{stats}.ark,{stats}.scp",
    )
    shutil.copyfile(f"{stats}.scp", data / "cmvn.scp")

    num_stats = len(list(text_lines(data / "cmvn.scp")))
    num_speakers = len(list(text_lines(data / "spk2utt")))
    if num_stats == 0:
        raise NgtrainError(f"{data}: no speaker got CMVN statistics; see {log_dir}/cmvn_{name}.log")
    if num_stats != num_speakers:
        log.warning(f"{num_speakers - num_stats} of {num_speakers} speakers got no CMVN statistics")
    log.info(f"Succeeded creating CMVN stats for {name}")


if __name__ == "__main__":
    main()
