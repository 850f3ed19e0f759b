"""Words and what they were recognised as: the files of Kaldi's steps/scoring/score_kaldi_wer.sh.

per_utt has four lines for each utterance, words that belong together standing in one column:

    utt1 ref  yes   no  ***
    utt1 hyp  yes  yes   no
    utt1 op     C    S    I
    utt1 #csid 1 1 1 0

ops has a line for each pair of words, the most frequent first: `substitution no yes 12`; and
per_spk a line for each speaker, whose last column is the word error rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from nnet.decoding.scoring import aligned

NOTHING = "***"
KINDS = {"C": "correct", "S": "substitution", "I": "insertion", "D": "deletion"}


class ErrorDetails:
    """The alignments of hypotheses with their references, those of `aligned`.

    Raises:
        NgtrainError: a sentence has the word ***.
    """

    def __init__(
        self,
        references: Iterable[tuple[str, Sequence[str]]],
        hypotheses: Mapping[str, Sequence[str]],
    ):
        self.per_utt: list[str] = []
        self.ops: Counter[tuple[str, str, str]] = Counter()  # kind, reference and hypothesis
        self.kinds: dict[str, Counter[str]] = {}  # of each utterance
        for key, reference in references:
            if key in hypotheses:
                self._add(key, aligned(key, reference, hypotheses[key], NOTHING))

    def _add(self, key: str, pairs: Sequence[tuple[str, str]]) -> None:
        kinds = [kind_of(*pair) for pair in pairs]
        self.kinds[key] = Counter(kinds)
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

    def speakers(self, speaker_of: Mapping[str, str]) -> dict[str, Counter[str]]:
        """Add up what came of the words of each speaker, by kind."""
        totals: dict[str, Counter[str]] = {}
        for key, kinds in self.kinds.items():
            totals.setdefault(speaker_of[key], Counter()).update(kinds)
        return dict(sorted(totals.items()))

    def speaker_lines(self, speaker_of: Mapping[str, str]) -> list[str]:
        """The lines of the file per_spk."""
        sentences = Counter(speaker_of[key] for key in self.kinds)
        rows = [["SPEAKER", "#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "WER"]]
        for speaker, kinds in self.speakers(speaker_of).items():
            words, errors = words_and_errors(kinds)
            counts = [sentences[speaker], words, *(kinds[kind] for kind in KINDS)]
            rate = f"{100 * errors / words:.2f}" if words else "-"
            rows.append([speaker, *map(str, counts), rate])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.rjust, row, widths)) for row in rows]

    def most_confused(self, most: int = 5) -> str:
        """The most frequent errors in a line of words; empty where there are none."""
        errors = sorted((-count, *op) for op, count in self.ops.items() if op[0] != "correct")
        return ", ".join(f"{said} -> {heard} ({-count})" for count, _, said, heard in errors[:most])


def words_and_errors(kinds: Mapping[str, int]) -> tuple[int, int]:
    """Count the words that were said, and the errors."""
    errors = kinds["S"] + kinds["I"] + kinds["D"]
    return kinds["C"] + kinds["S"] + kinds["D"], errors


def speakers_of(lines: Iterable[str]) -> dict[str, Counter[str]]:
    """Read the lines of a file per_spk back, as `ErrorDetails.speakers` gives them."""
    rows = [line.split() for line in lines][1:]
    columns = {"C": 3, "S": 4, "I": 5, "D": 6}
    return {
        row[0]: Counter({kind: int(row[column]) for kind, column in columns.items()})
        for row in rows
    }


def wer_interval(
    speakers: Iterable[Mapping[str, int]],
    others: Iterable[Mapping[str, int]] | None = None,
    replications: int = 10000,
    srand: int = 0,
) -> tuple[float, float]:
    """Compute the 95 % interval of a word error rate by bootstrap over speakers.

    Errors of one speaker come together, so that speakers, not sentences, are drawn with replacement
    (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004).

    Args:
        speakers: what came of the words of each, by kind; someone must have said a word.
        others: what another system made of the same words of the same speakers; then the interval
            is that of the difference, this rate less the other.
    Returns:
        percentages.
    """
    import numpy as np

    words, errors = np.array([words_and_errors(kinds) for kinds in speakers]).T
    if others is not None:
        errors = errors - [words_and_errors(kinds)[1] for kinds in others]
    draws = np.random.default_rng(srand).integers(len(words), size=(replications, len(words)))
    rates = 100 * errors[draws].sum(axis=1) / np.maximum(words[draws].sum(axis=1), 1)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def kind_of(reference: str, hypothesis: str) -> str:
    """C for correct, S for a substitution, I for an insertion, D for a deletion."""
    if reference == hypothesis:
        return "C"
    return "I" if reference == NOTHING else "D" if hypothesis == NOTHING else "S"
