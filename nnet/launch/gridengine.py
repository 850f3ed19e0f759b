"""Run a command, or many like it at the same time, on a cluster with GridEngine, each with a log.

Usage:  queue.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]
 e.g.:  queue.py --mem 2G JOB=1:4 exp/log/copy.JOB.log nnet-copy-egs ark:egs.JOB ark:copy.JOB

The interface is that of run.py, and of Kaldi's queue.pl.  The jobs are one job array, submitted by
qsub -sync y.  The exit status is 1 if any job failed, or did not say that it succeeded.

Options:
  --mem <size>         Memory of each job (default: the cluster's)
  --num-threads <n>    Threads of each job (default: 1)
  --gpu <n>            GPUs of each job, which it has for itself as with run.py (default: 0)
  --max-jobs-run <n>   How many jobs run at the same time (default: as many as there is room for)
  --exclude-hosts <a>,<b>...  Machines not to use, unless no others could do it
  --config <file>      What these options become, and other options (default: conf/queue.conf, in
                       the current folder or, if it is not there, in the project's root)
Options with one dash go to qsub as they are.

gridengine.py is the same launcher.  Where pip has put it, it has this name alone, for programs that
lie beside a file queue.py would take that for Python's own module; --cmd queue.py starts it there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nnet.launch.cluster import Scheduler, ask
from nnet.launch.launcher import Call
from nnet.launch.launcher import main as launcher_main


class GridEngine(Scheduler):
    name = "queue.py"
    config_file = "conf/queue.conf"
    task = "SGE_TASK_ID"
    here = "$HOSTNAME, GridEngine job $JOB_ID.$SGE_TASK_ID${RESTARTED/#0/}"
    submission = "-sync y -N {name} -o {output}"
    excluding = "-w e -l hostname=!({hosts})"
    between_hosts = "|"
    cancel = "qdel {name}"
    submitted = re.compile(r"^Your job(?:-array)? \d+.*has been submitted", flags=re.MULTILINE)
    unreachable = re.compile(r"gdi request|qmaster")
    on_node = ("num_threads", "gpu")  # GridEngine counts GPUs, but does not say which

    def array(self, call: Call) -> list[str]:
        return ["-t", f"{call.jobs[0]}-{call.jobs[-1]}"]

    def is_active(self, name: str) -> bool:
        listing = ask(["qstat", "-j", name])
        return listing.returncode == 0 or "do not exist" not in listing.stderr

    def fates(self, name: str, said: str) -> dict[int, str]:
        """qsub prints how each job ended, and a line for those that were deleted."""
        ends = re.findall(r"^Job \d+(?:\.(\d+))? (exited .+?)\.?$", said, flags=re.MULTILINE)
        deleted = re.findall(r"^Unable to run job \d+(?:\.(\d+))?", said, flags=re.MULTILINE)
        fates = {int(task or 1): how for task, how in ends if how != "exited with exit code 0"}
        return fates | {int(task or 1): "deleted" for task in deleted}


def main() -> int:
    scheduler = GridEngine()
    scheduler.name = Path(sys.argv[0]).name  # it has two
    return launcher_main(__doc__, scheduler.launch)
