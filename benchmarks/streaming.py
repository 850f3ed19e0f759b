#!/usr/bin/env python3
"""Show that programs stream: their peak memory, with an input and with one ten times as large.

The jobs are those of startup.py that read or write tables, on utterances of a second.  A program
that streams needs as much memory for the large input as for the small one, or little more, for what
is by nature one entry per utterance (the names in a spk2utt or scp) or for a buffer that the small
input does not fill.  The table shows MiB, and what ten times the input adds, per input of it."""

from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import measure, write_json
from startup import ROOT, make_data, trivial_jobs

from nnet.cli import option, program


@program(
    """\
Usage:  benchmarks/streaming.py [options]
 e.g.: benchmarks/streaming.py --num-utterances=1000 --json=streaming.json"""
)
@option("--num-utterances", type=int, default=500, help="Of the small input")
@option("--json", default="", help="Write all figures to this file, too")
def main(num_utterances, json):
    sizes = num_utterances, 10 * num_utterances
    peaks = {}
    for size in sizes:
        with TemporaryDirectory() as directory:
            # Elsewhere, because a program is said to need no less than the process that starts it.
            process = Process(target=make_data, args=(Path(directory), size))
            process.start()
            process.join()
            for name, arguments in trivial_jobs().items():
                cost = measure([ROOT / "bin" / name, *arguments], cwd=directory)
                if any(is_table(argument) for argument in arguments):
                    peaks.setdefault(name, []).append(cost.peak_mb)
    print(f"{'MiB':24}{sizes[0]:>8}{sizes[1]:>8}{'added':>8}   utterances")
    for name, (small, large) in sorted(peaks.items(), key=lambda item: item[1][0] - item[1][1]):
        print(f"{name:24}{small:8.1f}{large:8.1f}{large - small:8.1f}")
    if json:
        write_json(json, num_utterances=sizes, peak_mb=peaks)


def is_table(argument):
    return argument.startswith(("ark", "scp"))


if __name__ == "__main__":
    main()
