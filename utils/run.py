#!/usr/bin/env python3
"""Run a command, or many like it at the same time, on this machine, each with its own log.

Usage:  run.py [options] [JOB=1:<n>] <log-file> <command> [<argument> ...]
 e.g.:  run.py JOB=1:4 exp/log/copy.JOB.log nnet-copy-egs "ark:gunzip -c egs.JOB.gz |" ark:egs.JOB

The interface is that of Kaldi's run.pl (egs/wsj/s5/utils/parallel/run.pl), so that each can stand
for the other, or for slurm.py and queue.py.  JOB, or whatever name stands left of =1:<n>, becomes
the job's number in the log file's name and in the command.  The words of the command are joined
and run by bash: a word with white space stays one word, operators such as \\| act.  A pipeline
fails when any of its commands does.  The exit status is 1 if any job failed.

Options:
  --max-jobs-run <n>  How many jobs run at the same time (default: as many as there are processors,
                      or as GPUs have room for when --gpu is given)
  --num-threads <n>   Threads that each job uses (default: 1)
  --gpu <n>           GPUs that each job has for itself, through CUDA_VISIBLE_DEVICES (default: 0).
                      Jobs wait until as many are free of the jobs of all run.py on this machine.
  --jobs-per-gpu <n>  With --gpu 1, how many jobs share a GPU; each can have that part of its
                      memory for arrays, by CUPY_GPU_MEMORY_LIMIT (default: 1)
  --host <name>       What logs call this machine (default: its name)
  --status-file <file>  Gets the exit status of a job when its log is complete
Other options, which would be for a queueing system, are accepted with their value and ignored.
"""

import sys

from nnet.launch.launcher import main
from nnet.launch.local import launch

if __name__ == "__main__":
    sys.exit(main(__doc__, launch))
