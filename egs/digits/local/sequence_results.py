#!/usr/bin/env python3
"""Print the results of run_sequence.sh: errors before and after, and the objective as it rises.

Objectives are means over an epoch, per frame, each before its step.  Errors on the test set are
with the acoustic scale and penalty that are best on the tuning set.  Of the rates of a criterion
that with the fewest errors on the tuning set counts (the smallest of several): its row is marked.
`better` and `worse` count test utterances with fewer and with more errors than before; p is that of
the sign test, the probability that chance alone makes these two differ as much.
"""

import re
from dataclasses import dataclass
from math import comb
from pathlib import Path

from nnet.cli import argument, option, program
from nnet.drivers.decode_dir import read_results
from nnet.errors import NgtrainError
from nnet.io.log_lines import SEQUENCE_OBJECTIVE, WER
from nnet.report.training_logs import last_number

COLUMNS = (
    *("criterion", "rate", "objective by epoch", "errors, tuning"),
    *("errors, test", "%WER", "better", "worse", "p"),
)


@dataclass
class Decoded:
    """What a network makes of the tuning and the test set.

    network: the directory.
    tuning, errors, rate: errors on the tuning and on the test set, and %WER of the latter.
    of: the errors in each test utterance.
    """

    network: Path
    tuning: int
    errors: int
    rate: str
    of: dict[str, int]

    @classmethod
    def read(cls, network: Path, tune: str) -> "Decoded":
        test = network / "decode_test"
        match = re.match(WER.pattern, (test / "tuned_wer").read_text())
        if not match:
            raise NgtrainError(f"{test}/tuned_wer: it does not start with %WER")
        lines = (test / "wer_details/per_utt").read_text().splitlines()
        rows = [line.split() for line in lines if " #csid " in line]
        of = {key: sum(map(int, wrong)) for key, _, _, *wrong in rows}
        tuning = min(read_results(network / f"decode_{tune}").values())
        return cls(network, tuning, int(match[2]), match[1], of)

    def row(self, before: "Decoded", is_chosen: bool) -> list[str]:
        better = sum(self.of[key] < before.of[key] for key in before.of)
        worse = sum(self.of[key] > before.of[key] for key in before.of)
        name, _, rate = self.network.name.rpartition("_")
        values = ", ".join(f"{value:.4f}" for value in objectives(self.network))
        p = f"{sign_test(better, worse):.2g}"
        counts = map(str, (self.tuning, self.errors, self.rate, better, worse, p))
        return [f"**{name}**" if is_chosen else name, rate, values, *counts]


def sign_test(one: int, other: int) -> float:
    """The two-sided p of two counts that are equally likely to be the greater one."""
    n, least = one + other, min(one, other)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)


def objectives(network: Path) -> list[float]:
    """The mean over the jobs of each epoch."""
    jobs: dict[int, list[float]] = {}
    for log in network.glob("log/train.*.log"):
        value = last_number(SEQUENCE_OBJECTIVE.pattern, log)
        if value is not None:
            jobs.setdefault(int(log.name.split(".")[1]), []).append(value)
    num_epochs = len(list(network.glob("epoch[1-9]*.mdl")))
    of_epochs: list[list[float]] = [[] for _ in range(num_epochs)]
    for x, values in jobs.items():
        of_epochs[x * num_epochs // len(jobs)] += values
    return [sum(values) / len(values) for values in of_epochs]


@program(
    "Usage:  local/sequence_results.py <sequence-dir>\n"
    " e.g.: local/sequence_results.py exp/fsdd/unseen/sequence"
)
@argument("directory", type=Path)
@option("--tune", "tune_noisy", "The tuning set")
def main(directory, tune):
    first = Decoded.read(directory / "degs", tune)
    rows = [["before", "", "", str(first.tuning), str(first.errors), first.rate, "", "", ""]]
    for criterion in "mmi", "mpfe", "smbr":
        found = [
            Decoded.read(network, tune)
            for network in sorted(directory.glob(f"{criterion}_*"))
            if (network / "decode_test/tuned_wer").exists()
        ]
        chosen = min(found, key=lambda decoded: decoded.tuning, default=None)
        rows += [decoded.row(first, decoded is chosen) for decoded in found]
    for row in [COLUMNS, ["---"] * len(COLUMNS), *rows]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
