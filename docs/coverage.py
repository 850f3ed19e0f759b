#!/usr/bin/env python3
"""Write into docs/from-kaldi.md which programs and components of Kaldi's nnet2 there are here.

Kaldi's names are listed below (its src/nnet2bin, and src/nnet2/nnet-component.cc); what there is
here is what lies in bin/, and the components that the library registers.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs/from-kaldi.md"

PROGRAMS = """
    nnet-adjust-priors nnet-align-compiled nnet-am-average nnet-am-compute nnet-am-copy nnet-am-fix
    nnet-am-info nnet-am-init nnet-am-mixup nnet-am-reinitialize nnet-am-switch-preconditioning
    nnet-am-widen nnet-combine nnet-combine-egs-discriminative nnet-combine-fast
    nnet-compare-hash-discriminative nnet-compute nnet-compute-from-egs nnet-compute-prob
    nnet-copy-egs nnet-copy-egs-discriminative nnet-get-egs nnet-get-egs-discriminative
    nnet-get-feature-transform nnet-get-feature-transform-multi nnet-get-weighted-egs nnet-init
    nnet-insert nnet-latgen-faster nnet-latgen-faster-parallel nnet-modify-learning-rates
    nnet-normalize-stddev nnet-relabel-egs nnet-replace-last-layers nnet-show-progress
    nnet-shuffle-egs nnet-shuffle-egs-discriminative nnet-subset-egs nnet-to-raw-nnet
    nnet-train-discriminative-parallel nnet-train-discriminative-simple nnet-train-ensemble
    nnet-train-parallel nnet-train-simple nnet-train-transitions nnet1-to-raw-nnet raw-nnet-concat
    raw-nnet-copy raw-nnet-info
"""
COMPONENTS = """
    Sigmoid Tanh Power Softmax LogSoftmax RectifiedLinear Normalize SoftHinge Pnorm Maxout Scale
    Affine AffinePreconditioned AffinePreconditionedOnline SumGroup BlockAffine
    BlockAffinePreconditioned Permute Dct FixedLinear FixedAffine FixedScale FixedBias Splice
    SpliceMax Dropout AdditiveNoise Convolutional1d Maxpooling
"""


def component_name(short: str) -> str:
    """The type of a component as files have it: what is special comes after the word."""
    kind, special, method = short.partition("Preconditioned")
    return f"{kind}Component{special}{method}"


def programs() -> Iterator[tuple[str, str]]:
    """Programs of nnet2bin, each with what it says of itself, or nothing if it is not here."""
    for name in PROGRAMS.split():
        file = ROOT / "bin" / name
        if os.access(file, os.X_OK):
            said = " ".join(ast.get_docstring(ast.parse(file.read_text())).split())
            sentence = re.split(r"(?<!e\.g)(?<!i\.e)\. |; |: ", said)[0].rstrip(".")
            yield f"[{name}](programs/{name}.md)", escaped(sentence)
        else:
            yield f"`{name}`", ""


def components() -> Iterator[tuple[str, str]]:
    """Components, each with the file that it is in, or nothing if it is not here."""
    from nnet.components.base import component_types

    types = component_types()
    for name in map(component_name, COMPONENTS.split()):
        file = inspect.getsourcefile(types[name]) if name in types else ""
        yield f"`{name}`", f"`{Path(file).relative_to(ROOT)}`" if file else ""


def escaped(text: str) -> str:
    """Plain text as Markdown, options as code."""
    pieces = re.split(r"(--[a-z][\w-]*(?:=\w+)?)", text)
    pieces[1::2] = [f"`{option}`" for option in pieces[1::2]]
    pieces[::2] = [re.sub(r"([\\*_$<\[\]{}|#])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)


def table(heading: str, rows: list[tuple[str, str]]) -> str:
    """How many of the rows are here, which are not, and those that are."""
    here, missing = [row for row in rows if row[1]], [name for name, what in rows if not what]
    lines = [f"{len(here)} of {len(rows)} are here" + ("; missing: " if missing else ".")]
    if missing:
        lines[0] += f"{', '.join(missing)}."
    lines += ["", f"| {heading} |", "|---|---|"]
    lines += [f"| {name} | {what} |" for name, what in here]
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """Replace the tables in the text, each of which stands between two comments."""
    tables = {
        "programs": table("program of `nnet2bin` | what it does", list(programs())),
        "components": table("component | where", list(components())),
    }
    for name, rows in tables.items():
        begin, end = f"<!-- {name}: docs/coverage.py writes this -->\n", f"<!-- {name} end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{rows}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
