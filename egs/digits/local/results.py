#!/usr/bin/env python3
"""Print the results of a run of the recipe as a table, and where things are.

WER (tuned) is with the acoustic scale and the word insertion penalty that were best on the tuning
set; WER (best) is the lowest over all of them on the test set itself, as Kaldi's scoring reports.
"""

import re
from pathlib import Path

from nnet.cli import argument, program
from nnet.errors import NgtrainError
from nnet.io.log_lines import PROBABILITY

LAYOUT = "{:<24} {:>12} {:>12} {:>22} {:>22}"


def word_error_rate(path: Path) -> str:
    """The number after %WER in a file like best_wer."""
    match = re.match(r"%WER (\S+) ", path.read_text())
    if not match:
        raise NgtrainError(f"{path}: it does not start with %WER")
    return f"{match[1]} %"


def objective(log: Path) -> str:
    """Log-probability per frame and accuracy, from a log of nnet-compute-prob."""
    match = re.search(PROBABILITY.pattern, log.read_text())
    if not match:
        raise NgtrainError(f"{log}: it does not say 'average probability is'")
    return f"{float(match[1]):.3f} / {100 * float(match[2]):.1f} %"


@program("Usage:  local/results.py <dir>\n e.g.: local/results.py exp/fsdd")
@argument("dir")
def main(dir):
    networks = [path.parents[1] for path in sorted(Path(dir).rglob("nnet/decode_test/best_wer"))]
    if not networks:
        raise NgtrainError(f"{dir}: there is no nnet/decode_test/best_wer in it")
    print(LAYOUT.format("", "WER (tuned)", "WER (best)", "log-prob/acc. held out", "... training"))
    for network in networks:
        decoded = network / "decode_test"
        print(
            LAYOUT.format(
                str(network.relative_to(dir)),
                word_error_rate(decoded / "tuned_wer"),
                word_error_rate(decoded / "best_wer"),
                objective(network / "log/compute_prob_valid.final.log"),
                objective(network / "log/compute_prob_train.final.log"),
            )
        )
    print(f"\nin {dir}, for each network:")
    print("  final.mdl, and by iteration log/compute_prob_{valid,train}.*.log")
    print("  decode_test/best_wer, tuned_wer, wer_LMWT_PENALTY, scoring/: transcripts")


if __name__ == "__main__":
    main()
