#!/usr/bin/env python3
"""Compute FBANK features of a data directory.

<log-dir> defaults to <data-dir>/log, and <fbank-dir> to <data-dir>/data.
"""

from pathlib import Path

from nnet.drivers.driver import argument, cmd_option, driver, nj_option, option
from nnet.drivers.extract_features import extract_features


@driver(
    "Usage:  steps/make_fbank.py [options] <data-dir> [<log-dir> [<fbank-dir>]]\n"
    " e.g.: steps/make_fbank.py --nj 4 data/train exp/make_fbank/train fbank",
    writes="data_dir",
)
@argument("data_dir")
@argument("log_dir", required=False)
@argument("fbank_dir", required=False)
@nj_option
@cmd_option
@option(
    "--fbank-config",
    default="conf/fbank.conf",
    help="Config file for compute-fbank-feats; conf/... is looked for in the current folder, then "
    "in the project's root",
)
@option("--compress", type=bool, default=True, help="Write compressed matrices")
@option("--write-utt2num-frames", type=bool, default=True, help="Write data-dir/utt2num_frames")
@option("--write-utt2dur", type=bool, default=True, help="Write data-dir/utt2dur")
def main(
    data_dir,
    log_dir,
    fbank_dir,
    nj,
    cmd,
    fbank_config,
    compress,
    write_utt2num_frames,
    write_utt2dur,
):
    data = Path(data_dir)
    extract_features(
        "fbank",
        data,
        Path(log_dir or data / "log"),
        Path(fbank_dir or data / "data"),
        fbank_config,
        nj,
        cmd,
        compress,
        write_utt2num_frames,
        write_utt2dur,
    )


if __name__ == "__main__":
    main()
