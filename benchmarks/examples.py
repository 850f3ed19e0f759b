#!/usr/bin/env python3
"""Time what is done to examples in one process: making, reading, copying, shuffling, decompressing.

The examples are made from random features, of 40 dimensions with 4 frames of context on each side,
once with a single labelled frame and once with eight.  The table shows examples per second of
processor time, the best of some rounds, so that neither the disk nor other programs count much."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from nnet.cli import option, program

DIM, CONTEXT, UTTERANCE, NUM_PDFS = 40, 4, 400, 3000


@program(
    """\
Usage:  benchmarks/examples.py [options]
 e.g.: benchmarks/examples.py --num-frames=200000"""
)
@option("--num-frames", type=int, default=100000, help="Labelled frames, about")
@option("--num-rounds", type=int, default=3, help="Rounds to be timed")
def main(num_frames, num_rounds):
    print(f"{'':40}{'1 frame':>12}{'8 frames':>12}   (examples per second)")
    with TemporaryDirectory() as directory:
        directory = Path(directory)
        write_data(directory, -(-num_frames // UTTERANCE))
        rates = [time_all(directory, frames_per_eg, num_rounds) for frames_per_eg in (1, 8)]
    for name in rates[0]:
        print(f"{name:40}" + "".join(f"{rate[name]:12.0f}" for rate in rates))


def write_data(directory, num_utterances):
    """Random features and posteriors of some utterances: directory/feats and directory/post."""
    import numpy as np

    from nnet.io.tables import MATRIX, POSTERIOR, table_writer

    rng = np.random.default_rng(0)
    with (
        table_writer(f"ark:{directory}/feats", MATRIX) as features,
        table_writer(f"ark:{directory}/post", POSTERIOR) as posteriors,
    ):
        for i in range(num_utterances):
            features.write(f"u{i:06}", rng.standard_normal((UTTERANCE, DIM)).astype(np.float32))
            pdfs = rng.integers(0, NUM_PDFS, UTTERANCE).tolist()
            posteriors.write(f"u{i:06}", [[(pdf, 1.0)] for pdf in pdfs])


def time_all(directory, frames_per_eg, num_rounds):
    """Examples per second of each operation, by its name."""
    from nnet.egs import copy_examples, shuffle_examples
    from nnet.egs_making import Cut, make_examples
    from nnet.io.example_archives import read_blocks
    from nnet.io.examples import read_minibatches

    egs, copy = f"ark:{directory}/egs", f"ark:{directory}/copy"
    cut = Cut(CONTEXT, CONTEXT, frames_per_eg)
    make_examples(f"ark:{directory}/feats", f"ark,s,cs:{directory}/post", egs, cut)
    num_examples = sum(map(len, read_blocks(egs)))
    operations = {
        "make (nnet-get-egs)": lambda: make_examples(
            f"ark:{directory}/feats", f"ark,s,cs:{directory}/post", copy, cut
        ),
        "read": lambda: sum(map(len, read_blocks(egs))),
        "copy (nnet-copy-egs)": lambda: copy_examples(egs, [copy]),
        "copy to 4 tables": lambda: copy_examples(egs, [f"{copy}.{i}" for i in range(4)]),
        "take frame 0 (--frame=0)": lambda: copy_examples(egs, [copy], frame=0),
        "shuffle, in memory": lambda: shuffle_examples(egs, copy, buffer_size=0, srand=0),
        "shuffle, buffer of 5000": lambda: shuffle_examples(egs, copy, buffer_size=5000, srand=0),
        "minibatches of 512, frame 0": lambda: sum(
            map(len, read_minibatches(egs, 512, CONTEXT, CONTEXT, frame=0))
        ),
    }
    return {
        name: num_examples / min(seconds(operation) for _ in range(num_rounds))
        for name, operation in operations.items()
    }


def seconds(operation):
    start = time.process_time()
    operation()
    return time.process_time() - start


if __name__ == "__main__":
    main()
