"""Run a command, or many like it at the same time, on a cluster with Slurm, each with its own log.

Usage:  slurm.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]
 e.g.:  slurm.py --mem 2G JOB=1:4 exp/log/copy.JOB.log nnet-copy-egs ark:egs.JOB ark:copy.JOB

The interface is that of run.py, and of Kaldi's slurm.pl.  The jobs are one job array, submitted by
sbatch --wait.  The exit status is 1 if any job failed, or did not say that it succeeded.

Options:
  --mem <size>         Memory of each job, for each of its threads (default: the cluster's)
  --num-threads <n>    Threads of each job (default: 1)
  --gpu <n>            GPUs of each job (default: 0)
  --time <limit>       Time that each job may take (default: the cluster's)
  --max-jobs-run <n>   How many jobs run at the same time (default: as many as there is room for)
  --exclude-hosts <a>,<b>...  Machines not to use, unless no others could do it
  --config <file>      What these options become, and other options (default: conf/slurm.conf, in
                       the current folder or, if it is not there, in the project's root)
Options with one dash go to sbatch as they are.  A node that fails is the cluster's to replace: if
it is configured so (JobRequeue), jobs start again elsewhere, and their logs say so.
"""

from __future__ import annotations

import re
import subprocess

from nnet.launch.cluster import Scheduler, ask
from nnet.launch.launcher import Call
from nnet.launch.launcher import main as launcher_main


class Slurm(Scheduler):
    name = "slurm.py"
    config_file = "conf/slurm.conf"
    own_options = frozenset({"max_jobs_run"})
    task = "SLURM_ARRAY_TASK_ID"
    here = (
        "$SLURMD_NODENAME, Slurm job ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
        "${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
        "${SLURM_RESTART_COUNT:+, restart $SLURM_RESTART_COUNT}"
    )
    submission = "--wait --parsable --job-name={name} --open-mode=append --output={output}"
    excluding = "--exclude={hosts}"
    cancel = "scancel --name={name}"
    submitted = re.compile(r"^\d+(?:;\S+)?$", flags=re.MULTILINE)
    unreachable = re.compile(r"Unable to contact slurm controller|temporarily unable|timed out")

    def array(self, call: Call) -> list[str]:
        at_once = call.number("max_jobs_run", None)
        limit = f"%{at_once}" if at_once else ""
        return [f"--array={call.jobs[0]}-{call.jobs[-1]}{limit}"]

    def is_active(self, name: str) -> bool:
        listing = squeue(name, "--format=%T")
        return listing.returncode != 0 or listing.stdout != ""

    def fates(self, name: str, said: str) -> dict[int, str]:
        """Slurm forgets jobs after a while (MinJobAge), and not all may be known any more."""
        listing = squeue(name, "--states=all", "--format=%K %T %N").stdout
        jobs = (line.split() for line in listing.splitlines())
        return {
            int(task) if task.isdecimal() else 1: " on ".join([state, *hosts])
            for task, state, *hosts in jobs
            if state != "COMPLETED"
        }


def squeue(name: str, *options: str) -> subprocess.CompletedProcess:
    """Ask Slurm for the jobs called `name`, a line for each."""
    command = ["squeue", "--noheader", "--array", f"--name={name}", *options]
    return ask(command)


def main() -> int:
    return launcher_main(__doc__, Slurm().launch)
