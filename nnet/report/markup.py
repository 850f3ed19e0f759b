"""The HTML of a page: sections, tables, captions, with every value escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnet.report.plots import NUM_COLORS
from nnet.report.words import cell


def page(title: str, parts: Iterable[str]) -> str:
    """Make a page of `parts`, those that are not empty, with all that they need."""
    content = "\n".join(filter(None, parts))
    style = Path(__file__).with_name("style.css").read_text()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n"
        f"<h1>{escape(title).replace('/', '/<wbr>')}</h1>\n{content}\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """Make a section, or nothing where there is no content."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def details(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def captioned(title: str, keys: Iterable[str], svg: str) -> str:
    """Make a figure, or nothing where there is no picture."""
    caption = f"<figcaption><b>{escape(title)}</b>{' '.join(keys)}</figcaption>"
    return f"<figure>{caption}\n{svg}</figure>\n" if svg else ""


def key(label: str, color: int, kind: str) -> str:
    """Make the key to a colour of a picture."""
    variable = f"--color: var(--c{(color - 1) % NUM_COLORS + 1})"
    return f'<span class="key {kind}" style="{variable}"><i></i>{escape(label)}</span>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence],
    text: Sequence[str] = (),
    formats: Mapping[str, Callable[[Any], str]] | None = None,
) -> str:
    """Make a table.

    Args:
        text: names of the columns of words; the last of them may be long.
        formats: of values that are known, by column; otherwise it is that of `cell`.
    """
    kinds = ["text" if name in text else "" for name in header]
    if kinds[-1]:
        kinds[-1] = "text long"
    format_of = [(formats or {}).get(name, cell) for name in header]
    body = ""
    for row in rows:
        cells = zip(format_of, row, strict=True)
        body += table_row("td", [cell(v) if v is None else form(v) for form, v in cells], kinds)
    head = table_row("th", header, kinds)
    return (
        f'<div class="scroll"><table><thead>\n{head}</thead><tbody>\n{body}</tbody></table></div>'
    )


def table_row(tag: str, values: Sequence[str], kinds: Sequence[str]) -> str:
    cells = [
        f'<{tag} class="{kind}">{breakable(value) if kind else escape(value)}</{tag}>'
        for value, kind in zip(values, kinds, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>\n".replace(' class=""', "")


def breakable(name: str) -> str:
    """Let lines end within names such as frames_per_eg, AffineComponent and exp/nnet."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[_/])", "<wbr>", escape(name))


def escape(value: object) -> str:
    return html.escape(str(value))
