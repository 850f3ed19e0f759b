#!/usr/bin/env python3
"""Compute cepstral mean and variance statistics of each speaker of a data directory.

<log-dir> defaults to <data-dir>/log, and <cmvn-dir> to <data-dir>/data.  Writes cmvn_NAME.ark
there, and <data-dir>/cmvn.scp that points into it (Kaldi's steps/compute_cmvn_stats.sh).
"""

import shutil
from pathlib import Path

from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import argument, driver, log
from nnet.drivers.losses import judge, losses_in
from nnet.drivers.programs import require_files, run


@driver(
    "Usage:  steps/compute_cmvn_stats.py <data-dir> [<log-dir> [<cmvn-dir>]]\n"
    " e.g.: steps/compute_cmvn_stats.py data/train exp/make_mfcc/train mfcc",
    writes="data_dir",
)
@argument("data_dir", type=Path)
@argument("log_dir", required=False)
@argument("cmvn_dir", required=False)
def main(data_dir, log_dir, cmvn_dir):
    data, name = data_dir, data_dir.resolve().name
    log_dir, cmvn_dir = Path(log_dir or data / "log"), Path(cmvn_dir or data / "data")
    require_files(data / "feats.scp", data / "spk2utt")
    log_dir.mkdir(parents=True, exist_ok=True)
    cmvn_dir.mkdir(parents=True, exist_ok=True)

    log_file, stats = log_dir / f"cmvn_{name}.log", cmvn_dir.resolve() / f"cmvn_{name}"
    # One job on this machine: it is fast.
    run(
        "run.py", log_file,
        "compute-cmvn-stats", f"--spk2utt=ark:{data}/spk2utt", f"scp:{data}/feats.scp",
        f"ark,scp:{stats}.ark,{stats}.scp",
    )  # fmt: skip
    shutil.copyfile(f"{stats}.scp", data / "cmvn.scp")
    for loss in losses_in([log_file]):
        judge(loss.count, loss.total, str(loss))
    stats, speakers = read_table(data / "cmvn.scp"), read_table(data / "spk2utt")
    if missing := [speaker for speaker in speakers if speaker not in stats]:
        sentence = f"{len(missing)} of {len(speakers)} speakers have no statistics"
        judge(len(missing), len(speakers), f"{data}: {sentence}, such as {missing[0]}")
    log.info(f"Succeeded creating CMVN stats for {name}")


if __name__ == "__main__":
    main()
