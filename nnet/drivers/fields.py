"""Ranges of the fields of a line, as utils/sym2int.py and utils/int2sym.py take them."""

from nnet.drivers.driver import option
from nnet.errors import NgtrainError

field_option = option("--field", "1-", "Range of fields to replace, such as 2- or 1-2", "-f")


def parse_field_range(text: str) -> slice:
    """Make a slice of `2`, `2-`, `2-5` or `-5`, counted from 1.  Raises NgtrainError."""
    first, dash, last = text.partition("-")
    try:
        begin = int(first or 1)
        end = int(last) if last else None if dash else begin
    except ValueError:
        begin, end = 0, None
    if begin < 1 or (end is not None and end < begin):
        raise NgtrainError(f"--field={text}: expected a range of fields such as 2- or 1-2")
    return slice(begin - 1, end)
