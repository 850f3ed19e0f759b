"""Values that may be of any size or form, made fit for one line to the user."""


def printable(data: bytes) -> str:
    """Quote the beginning of what was found in a file."""
    text = data[:20].decode("ascii", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return f"'{text}'" + ("..." if len(data) > 20 else "")


def shortened(text: str, most: int = 300) -> str:
    """Cut the middle out of a long text, such as the name of a file."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[-most // 4 :]} ({len(text)} characters)"
