"""How far a reader has to go: the files that a training goes through."""

import re
import subprocess
import sys
from pathlib import Path

WALK = Path(__file__).parents[1] / "benchmarks" / "walk.py"


def test_one_gradient_step_goes_through_ten_files():
    result = subprocess.run([sys.executable, WALK], capture_output=True, text=True, check=True)
    counts = dict(re.findall(r"^(.*): (\d+) files", result.stdout, re.MULTILINE))
    assert 5 <= int(counts["one gradient step"]) <= 10
    assert int(counts["one gradient step"]) < int(counts["nnet-train-simple on one archive"])
