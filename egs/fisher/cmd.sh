# How jobs are launched: run.py on this machine, or queue.pl, slurm.pl, ... with their options, for
# example train_cmd="slurm.pl --mem 4G".  Jobs that need a GPU ask for one with --gpu 1, and those
# that read and write much are limited by --max-jobs-run; the drivers add these options.
train_cmd="run.py"
decode_cmd="run.py"
