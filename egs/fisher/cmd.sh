# How jobs are launched: run.py on this machine, slurm.py or queue.py (GridEngine) on a cluster, with
# their options, for example train_cmd="slurm.py --mem 4G"; Kaldi's slurm.pl and queue.pl do as well.
# Jobs that need a GPU ask for one with --gpu 1, and those that read and write much are limited by
# --max-jobs-run; the drivers add these options.  With --max-retries 2, jobs that fail start again.
#
# What options become for the scheduler stands in conf/slurm.conf or conf/queue.conf here or, if they
# are not there, of the project, or in the file of --config, as in train_cmd="slurm.py --config $PWD/conf/my.conf"; its path
# is a full one, because Kaldi's scripts (--alignments kaldi) work in another directory.
train_cmd="run.py"
decode_cmd="run.py"
