"""Docstrings read alone in an editor's tooltip, and class names stand once in the project."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RIDDLES = ("What ", "Of ", "That ", "Those ", "The same", "Whether ", "How ", "Which ")
ROOMS = (
    *("cli", "components", "decoding", "device", "drivers", "egs", "features", "hmm", "io"),
    *("ivectors", "launch", "model", "natural_gradient", "report", "training"),
)
"""The packages of nnet/."""


def definitions(path):
    tree = ast.parse(path.read_text())
    return [tree, *(node for node in ast.walk(tree) if hasattr(node, "decorator_list"))]


@pytest.mark.parametrize("room", ROOMS)
def test_first_lines_have_a_subject_of_their_own(room):
    found = [
        f"{path}:{getattr(node, 'lineno', 1)}: {said}"
        for path in sorted((ROOT / "nnet" / room).rglob("*.py"))
        for node in definitions(path)
        if (said := (ast.get_docstring(node) or "").partition("\n")[0]).startswith(RIDDLES)
    ]
    assert found == []


def test_a_class_name_stands_once():
    places = defaultdict(list)
    for folder in "nnet", "bin", "steps", "utils":
        for path in (ROOT / folder).rglob("*.py"):
            for node in definitions(path):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path}:{node.lineno}")
    assert {name: found for name, found in places.items() if found[1:]} == {}
