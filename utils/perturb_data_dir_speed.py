#!/usr/bin/env python3
"""Make a copy of a data directory at another speed, for training data only.

Names get the prefix sp<factor>-, as in Kaldi; utils/augment_data_dir.py does the work, and can do
more.  Features are to be computed afterwards.
"""

import os

from nnet.drivers.driver import argument, cmd_option, driver, nj_option


@driver(
    "Usage:  utils/perturb_data_dir_speed.py [options] <warping-factor> <src-data-dir> "
    "<dest-data-dir>\n"
    " e.g.: utils/perturb_data_dir_speed.py 0.9 data/train data/train_sp0.9",
    writes="dest_data_dir",
)
@argument("warping_factor", "src_data_dir", "dest_data_dir")
@nj_option
@cmd_option
def main(warping_factor, src_data_dir, dest_data_dir, nj, cmd):
    program = "augment_data_dir.py"
    options = [f"--speed={warping_factor}", f"--nj={nj}", f"--cmd={cmd}"]
    os.execvp(program, [program, *options, f"sp{warping_factor}-", src_data_dir, dest_data_dir])


if __name__ == "__main__":
    main()
