#!/usr/bin/env python3
"""The launcher for GridEngine under the name that Kaldi's users know; see gridengine.py."""

import sys

if __name__ == "queue":
    # Python puts the folder of a program first among those that it imports from, so that this is
    # what a program beside us gets for the module of the standard library.  It gets that module.
    import importlib.util
    import sysconfig

    file = f"{sysconfig.get_path('stdlib')}/queue.py"
    spec = importlib.util.spec_from_file_location("queue", file)
    sys.modules["queue"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["queue"])
else:
    from nnet.launch.gridengine import main

    if __name__ == "__main__":
        sys.exit(main())
