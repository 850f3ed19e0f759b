"""Words and what they were recognised as: the files of Kaldi's steps/scoring/score_kaldi_wer.sh.

per_utt has four lines for each utterance, words that belong together standing in one column:

    utt1 ref  yes   no  ***
    utt1 hyp  yes  yes   no
    utt1 op     C    S    I
    utt1 #csid 1 1 1 0

and ops a line for each pair of words, the most frequent first: `substitution no yes 12`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

NOTHING = "***"
KINDS = {"C": "correct", "S": "substitution", "I": "insertion", "D": "deletion"}


class ErrorDetails:
    """The alignments of hypotheses with their references."""

    def __init__(
        self,
        references: Iterable[tuple[str, Sequence[str]]],
        hypotheses: Mapping[str, Sequence[str]],
    ):
        from kaldialign import align

        self.per_utt: list[str] = []
        self.ops: Counter[tuple[str, str, str]] = Counter()  # kind, reference and hypothesis
        for key, reference in references:
            if key in hypotheses:
                self._add(key, align(list(reference), list(hypotheses[key]), NOTHING))

    def _add(self, key: str, pairs: Sequence[tuple[str, str]]) -> None:
        kinds = [kind_of(*pair) for pair in pairs]
        rows = {"ref": [a for a, _ in pairs], "hyp": [b for _, b in pairs], "op": kinds}
        widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)]
        for name, row in rows.items():
            cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            self.per_utt.append(f"{key} {name:3}  {'  '.join(cells)}".rstrip())
        self.per_utt.append(f"{key} #csid {' '.join(str(kinds.count(kind)) for kind in KINDS)}")
        self.ops.update((KINDS[kind], *pair) for kind, pair in zip(kinds, pairs, strict=True))

    def op_lines(self) -> list[str]:
        """The lines of the file ops: errors first, then what was right."""
        ranked = sorted(self.ops.items(), key=lambda op: (op[0][0] == "correct", -op[1], op[0]))
        return [f"{' '.join(op)} {count}" for op, count in ranked]

    def most_confused(self, most: int = 5) -> str:
        """The most frequent errors in a line of words; empty where there are none."""
        errors = sorted((-count, *op) for op, count in self.ops.items() if op[0] != "correct")
        return ", ".join(f"{said} -> {heard} ({-count})" for count, _, said, heard in errors[:most])


def kind_of(reference: str, hypothesis: str) -> str:
    """C for correct, S for a substitution, I for an insertion, D for a deletion."""
    if reference == hypothesis:
        return "C"
    return "I" if reference == NOTHING else "D" if hypothesis == NOTHING else "S"
