#!/usr/bin/env python3
"""Give all examples of a directory the labels of new alignments of the same data.

The examples come from steps/get_egs2.py, the alignments from steps/align.py. What is written has
the files of <egs-in-dir> (Kaldi's steps/nnet2/relabel_egs2.sh).
"""

import shutil
from pathlib import Path

from nnet.drivers.data_dir import require_other_dir
from nnet.drivers.driver import argument, cmd_option, driver, log, option
from nnet.drivers.egs_dir import (
    ARCHIVE_INFO,
    SUBSETS,
    forget_egs,
    link_to_storage,
    training_archive,
    training_table,
)
from nnet.drivers.losses import Tally
from nnet.drivers.programs import of_jobs, read_integer, require_files, run
from nnet.io.log_lines import RELABELLED
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, read_from


@driver(
    "Usage:  steps/relabel_egs2.py [options] <ali-dir> <egs-in-dir> <egs-out-dir>\n"
    " e.g.:  steps/relabel_egs2.py exp/nnet/ali_0.5 exp/nnet/egs exp/nnet/egs_0.5",
    writes="egs_out_dir",
)
@argument("ali_dir", "egs_in_dir", "egs_out_dir", type=Path)
@cmd_option
@option("--iter", "final", "The model is <ali-dir>/<iter>.mdl, or else final.mdl")
@option("--extra-egs", "", "Names of more files of examples to relabel")
@option("--parallel-opts", "", "Launcher options")
@option("--stage", 0, "1: the archives are done, but not the subsets")
def main(ali_dir, egs_in_dir, egs_out_dir, cmd, iter, extra_egs, parallel_opts, stage):
    ali, old, new = ali_dir, egs_in_dir, egs_out_dir
    require_other_dir(old, new)
    subsets = [*SUBSETS, *extra_egs.split()]
    model = ali / f"{iter}.mdl"
    if not model.exists():
        model = ali / "final.mdl"
    require_files(model, ali / "num_jobs", training_archive(old, 1), *(old / s for s in subsets))
    num_archives = read_integer(old / "info/num_archives")
    (new / "log").mkdir(parents=True, exist_ok=True)
    forget_egs(new)  # until all of them have the new labels
    others = shutil.ignore_patterns(ARCHIVE_INFO.name, "num_archives")
    shutil.copytree(old / "info", new / "info", ignore=others, dirs_exist_ok=True)
    (new / ARCHIVE_INFO).mkdir(exist_ok=True)
    relabel = ["nnet-relabel-egs", f"--info-dir={new / ARCHIVE_INFO}"]
    alignments = of_jobs(ali / f"ali.{JOB}.gz", read_integer(ali / "num_jobs"))
    pdfs = read_from(["gunzip", "-c", *alignments], ["ali-to-pdf", model, "ark:-", "ark:-"])

    if stage <= 0:
        for archive in range(1, num_archives + 1):
            link_to_storage(training_archive(new, archive))
        log_file = new / f"log/relabel_egs.{JOB}.log"
        tables = [training_table(egs, JOB) for egs in (old, new)]
        run(f"{cmd} {parallel_opts}", log_file, *relabel, pdfs, *tables, jobs=num_archives)
        tally = Tally.of_jobs(log_file, num_archives, RELABELLED.pattern)
        done, total = tally.counts["done"], tally.counts["all"]
        tally.report("gave new labels to", done, total, "examples")
    if stage <= 1:
        tables = [f"ark:{directory}/{name}" for directory in (old, new) for name in subsets]
        run(cmd, new / "log/relabel_egs_extra.log", *relabel, pdfs, *tables)
    write_lines(new / "info/num_archives", [str(num_archives)])
    log.info("Finished relabeling training examples")


if __name__ == "__main__":
    main()
