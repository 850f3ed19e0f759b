"""Stands for a package of the project where Python looks first: in the folder of the program.

So every program finds the project, also one that is started by its path, without ". ./path.sh".
What else that file does is done in nnet/cli/environment.py.
"""

import sys
from importlib import import_module
from os.path import dirname, realpath

sys.path[0] = dirname(dirname(realpath(__file__)))  # for the package itself, and all that follow
del sys.modules[__name__]
import_module(__name__)
