# How jobs are launched: run.py on this machine, or queue.pl, slurm.pl, ... with their options.
# The recipe adds --gpu, --max-jobs-run and --num-threads where they matter.
train_cmd="run.py"
decode_cmd="run.py"
