#!/usr/bin/env python3
"""Compute MFCC features of a data directory.

<log-dir> defaults to <data-dir>/log, and <mfcc-dir> to <data-dir>/data.
"""

from pathlib import Path

from nnet.drivers.driver import argument, cmd_option, driver, nj_option, option
from nnet.drivers.extract_features import extract_features


@driver(
    "Usage:  steps/make_mfcc.py [options] <data-dir> [<log-dir> [<mfcc-dir>]]\n"
    " e.g.: steps/make_mfcc.py --nj 4 data/train exp/make_mfcc/train mfcc",
    writes="data_dir",
)
@argument("data_dir")
@argument("log_dir", required=False)
@argument("mfcc_dir", required=False)
@nj_option
@cmd_option
@option(
    "--mfcc-config",
    default="conf/mfcc.conf",
    help="Config file for compute-mfcc-feats; conf/... is looked for in the current folder, then "
    "in the project's root",
)
@option("--compress", type=bool, default=True, help="Write compressed matrices")
@option("--write-utt2num-frames", type=bool, default=True, help="Write data-dir/utt2num_frames")
@option("--write-utt2dur", type=bool, default=True, help="Write data-dir/utt2dur")
def main(
    data_dir,
    log_dir,
    mfcc_dir,
    nj,
    cmd,
    mfcc_config,
    compress,
    write_utt2num_frames,
    write_utt2dur,
):
    data = Path(data_dir)
    extract_features(
        "mfcc",
        data,
        Path(log_dir or data / "log"),
        Path(mfcc_dir or data / "data"),
        mfcc_config,
        nj,
        cmd,
        compress,
        write_utt2num_frames,
        write_utt2dur,
    )


if __name__ == "__main__":
    main()
