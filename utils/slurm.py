#!/usr/bin/env python3
"""Run commands on a cluster with Slurm; see nnet/launch/slurm.py."""

import sys

from nnet.launch.slurm import main

if __name__ == "__main__":
    sys.exit(main())
