"""Lines that one program logs and another reads: what is written is what is found."""

import re

import pytest

from nnet.io import log_lines
from nnet.io.log_lines import LogLine

LINES = {name: line for name, line in vars(log_lines).items() if isinstance(line, LogLine)}
VECTOR = " [ 0.5 1.25 ]"


def test_there_are_lines():
    assert len(LINES) >= 13


@pytest.mark.parametrize("name", LINES)
def test_the_pattern_finds_the_line(name):
    """Also where numbers are so large that they are written with an exponent."""
    line, kinds = LINES[name], re.findall(r"%\.?\d*([dgfs])", LINES[name].format)
    for number in 3, 12_345_678:
        values = [VECTOR if kind == "s" else number for kind in kinds]
        text = f"LOG (program[1]) {line.format % tuple(values)}"
        if name == "LEFT_OUT":  # of a file of its own
            text = line.format % tuple(values)
        found = re.search(line.pattern, text)
        assert found, text
        for group in found.groups():
            assert group in VECTOR or float(group) == pytest.approx(number, rel=1e-5)


def test_no_line_is_taken_for_another():
    """But for those whose parts are the same, which different programs write."""
    texts = {name: line.format.replace("%s", VECTOR) for name, line in LINES.items()}
    texts = {name: f" {re.sub(r'%[.0-9]*[dgf]', '3', text)}" for name, text in texts.items()}
    for name, line in LINES.items():
        if name != "LEFT_OUT":
            assert [other for other in texts if re.search(line.pattern, texts[other])] == [name]
