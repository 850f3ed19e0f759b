"""Lines that one program logs and another reads: what is written is what is found."""

import re

import pytest

from nnet.io import log_lines
from nnet.io.log_lines import LogLine

LINES = {name: line for name, line in vars(log_lines).items() if isinstance(line, LogLine)}
VECTOR, DATE = " [ 0.5 1.25 ]", "Mon Sep  1 10:00:00 UTC 2025"
OTHERS = {
    "LEFT_OUT": (7, 3, "it was killed by SIGKILL"),
    "COUNTED": ("no features of 3 of 10 recordings", "u4: too short"),
    "SEQUENCE_OBJECTIVE": ("MMI", "-0.5 - 2 = -2.5", 650),
    "STARTED": (DATE,),
    "ENDED": ("code 0", DATE, 3),
}
"""What stands in lines that have more than numbers and vectors."""


def written(name: str, number: float = 3) -> str:
    """Such a line of a log."""
    kinds = re.findall(r"%\.?\d*([dgfs])", LINES[name].format)
    values = OTHERS.get(name) or tuple(VECTOR if kind == "s" else number for kind in kinds)
    line = LINES[name].format % values
    beginning = {"COUNTED": "WARNING (program[1]) "}.get(name, "LOG (program[1]) ")
    return line if re.match("# |%|[0-9]", line) else f"{beginning}{line}"


@pytest.mark.parametrize("name", LINES)
def test_the_pattern_finds_the_line(name):
    """Also where numbers are so large that they are written with an exponent."""
    for number in 3, 12_345_678:
        found = re.search(LINES[name].pattern, written(name, number))
        assert found
        for group in found.groups() if name not in OTHERS else ():
            assert group in VECTOR or float(group) == pytest.approx(number, rel=1e-5)


def test_the_parts_of_a_launchers_last_line():
    line = written("ENDED")
    assert re.search(log_lines.ENDED_CODE, line)[1] == "code 0"
    assert re.search(log_lines.ELAPSED, line)[1] == "3"
    assert re.search(LINES["ENDED"].pattern, line).groups() == ("Sep  1 10:00:00", "2025")


def test_what_was_left_out():
    found = re.match(LINES["COUNTED"].pattern, written("COUNTED")).groups()
    assert found == ("no features of ", "3", "10", "recordings", "u4: too short")


def test_no_line_is_taken_for_another():
    for name, line in LINES.items():
        read = re.fullmatch if name == "LEFT_OUT" else re.search  # the lines of a file of its own
        assert [other for other in LINES if read(line.pattern, written(other))] == [name]
