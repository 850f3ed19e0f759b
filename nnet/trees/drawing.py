"""Pictures of decision trees, as text for GraphViz (Kaldi's tree/tree-renderer.cc)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from nnet.errors import NgtrainError
from nnet.hmm.tree import PDF_CLASS, ContextDependency, Event, Leaf, Node, Split, Table
from nnet.io.numbers import natural

PLAIN, TRACED = "color=black, penwidth=1", "color=red, penwidth=3"


class Symbols(Protocol):
    """A table of phones, by number and by name."""

    def __getitem__(self, number: int) -> str: ...

    def number(self, symbol: str) -> int: ...


def parse_query(text: str, phones: Symbols, tree: ContextDependency) -> dict[int, int]:
    """Parse `pdf-class/phone/.../phone` as an event; NgtrainError where it is none."""
    pdf_class, *window = text.split("/")
    try:
        event = {PDF_CLASS: natural(pdf_class)}
    except ValueError:
        raise NgtrainError(f"--query={text}: {pdf_class} is no pdf-class") from None
    if len(window) != tree.context_width:
        raise NgtrainError(
            f"--query={text}: expected {tree.context_width} phones after a pdf-class"
        )
    return event | {key: phones.number(phone) for key, phone in enumerate(window)}


def dot_lines(
    tree: ContextDependency, phones: Symbols, query: Event | None, use_tooltips: bool = False
) -> Iterator[str]:
    """Describe a tree in GraphViz' language, line by line.

    Args:
        query: an event; its way from the root is red.
        use_tooltips: show the values of answers when the mouse is over them, not always.
    """
    numbers = iter(range(1, 1 << 62))

    def value_name(key: int, value: int) -> str:
        return str(value) if key == PDF_CLASS else phones[value]

    def draw(node: Node, number: int, traced: bool) -> Iterator[str]:
        style = TRACED if traced else PLAIN
        if isinstance(node, Leaf):
            yield f"{number}[shape=doublecircle, label={node.answer}, {style}];"
            return
        yield f'{number}[label="{_question(tree, node.key)}", {style}];'
        value = query.get(node.key) if query and traced else None
        for label, is_way, branch in branches(node, value):
            child = next(numbers)
            style = TRACED if traced and is_way else PLAIN
            yield f"\t{number} -> {child} [{label}, {style}];"
            yield from draw(branch, child, traced and is_way)

    def branches(node: Split | Table, value: int | None) -> Iterator[tuple[str, bool, Node]]:
        if isinstance(node, Split):
            names = ", ".join(value_name(node.key, v) for v in node.yes_set)
            is_yes = value in node.yes_set
            yes = f'tooltip="{names}", label=YES' if use_tooltips else f'label="{names}"'
            yield yes, is_yes, node.yes
            yield "label=NO", not is_yes, node.no
        else:
            for number, branch in enumerate(node.branches):
                if branch is not None:
                    yield f'label="{value_name(node.key, number)}"', number == value, branch

    yield "digraph EventMap {"
    yield from draw(tree.root, 0, query is not None)
    yield "}"


def _question(tree: ContextDependency, key: int) -> str:
    """Name what a node asks about."""
    triphones = (tree.context_width, tree.central_position) == (3, 1)
    if key == PDF_CLASS:
        return "PdfClass = ?"
    if tree.context_width == 1:
        return "Phone = ?"
    if key == tree.central_position:
        return "Center = ?"
    if triphones:
        return "LContext = ?" if key == 0 else "RContext = ?"
    return f"Ctx Position {key} = ?"
