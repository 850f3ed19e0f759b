#!/usr/bin/env python3
"""Run commands on a cluster with GridEngine; see nnet/launch/gridengine.py."""

import sys

from nnet.launch.gridengine import main

if __name__ == "__main__":
    sys.exit(main())
