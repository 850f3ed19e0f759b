"""Numbers in text, of no more digits than the numbers in files have."""


def natural(text: str | bytes) -> int:
    """Parse ASCII digits as a number from 0 to 2^31 - 1.

    Raises:
        ValueError: it is something else, such as digits by the thousand, which take Python long.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) >= 1 << 31:
        raise ValueError("not a natural number of 32 bits")
    return int(text)


def integer(text: str) -> int:
    """Parse a number from -(2^31 - 1) to 2^31 - 1, such as a dimension or an offset of a layer."""
    return -natural(text[1:]) if text.startswith("-") else natural(text)
