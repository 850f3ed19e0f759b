#!/usr/bin/env python3
"""Write report.html into a training directory: a web page about how the training went.

The page is one file, which needs nothing beside it; report.*.csv have its numbers.  The training
may still be running, and may be one of Kaldi's steps/nnet2 scripts.  bin/nnet-report compares
several, and writes scalars for TensorBoard.
"""

from pathlib import Path

from nnet.drivers.driver import argument, driver, log


@driver("Usage:  steps/report.py [options] <exp-dir>\n e.g.:  steps/report.py exp/nnet")
@argument("dir")
def main(dir):
    from nnet.report.page import write_report

    page = Path(dir) / "report.html"
    write_report([dir], str(page))
    log.info("wrote %s", page)


if __name__ == "__main__":
    main()
