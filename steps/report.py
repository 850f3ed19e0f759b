#!/usr/bin/env python3
"""Write report.html into a training directory: a web page about how the training went.

The page is one file, which needs nothing beside it; report.*.csv have its numbers.  The training
may still be running, and may be one of Kaldi's steps/nnet2 scripts.  bin/nnet-report compares
several, and writes scalars for TensorBoard.
"""

from pathlib import Path

from nnet.drivers.driver import argument, driver, log


@driver("Usage:  steps/report.py [options] <exp-dir>\n e.g.:  steps/report.py exp/nnet")
@argument("dir", type=Path)
def main(dir):
    from nnet.report.page import write_report

    write_report([str(dir)], f"{dir}/report.html")
    log.info("wrote %s/report.html", dir)


if __name__ == "__main__":
    main()
