#!/usr/bin/env python3
"""Time what is done to examples: making, copying, shuffling and choosing them, and minibatches.

The examples are made from random features, of 40 dimensions with 4 frames of context on each side,
with one labelled frame or with eight.  Programs are run whole, and what they make goes to
/dev/null, so that starting counts and the disk does not; with $KALDI_ROOT set, Kaldi's programs of
the same names do the same on the same files, in turns with ours.  Minibatches, which are single
labelled frames of the examples with their context, are timed inside a process: decompressed, and
once as they are sent to a GPU.  The table shows the best of some rounds: thousands of examples per
second of real time and of processor time, and the peak of memory."""

import multiprocessing
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Cost, kaldi_program, measure, write_json

from nnet.cli import log, option, program

DIM, CONTEXT, UTTERANCE, NUM_PDFS = 40, 4, 400, 3000
MINIBATCH_SIZE, POOL_SIZE = 512, 5000

CONTEXTS = f"--left-context={CONTEXT} --right-context={CONTEXT}"
PROGRAMS = {
    "make": f"nnet-get-egs {CONTEXTS} --num-frames=FRAMES ark:feats ark,s,cs:post ark:/dev/null",
    "copy": "nnet-copy-egs ark:egs ark:/dev/null",
    "copy, frame 0": "nnet-copy-egs --frame=0 ark:egs ark:/dev/null",
    "copy, random frame": "nnet-copy-egs --frame=random ark:egs ark:/dev/null",
    "shuffle": "nnet-shuffle-egs ark:egs ark:/dev/null",
    "shuffle, buffer of 5000": "nnet-shuffle-egs --buffer-size=5000 ark:egs ark:/dev/null",
    "subset of 10000": "nnet-subset-egs --n=10000 ark:egs ark:/dev/null",
}
STORE_PROGRAMS = {
    "copy to HDF5": "nnet-copy-egs ark:egs h5:copy.h5",
    "copy from HDF5": "nnet-copy-egs h5:egs.h5 ark:/dev/null",
    "shuffle, from HDF5": "nnet-shuffle-egs h5:egs.h5 ark:/dev/null",
}
# The table, the number of examples to shuffle among (None for the order of the table), and whether
# to leave the frames compressed, as for a GPU.
MINIBATCHES = {
    "minibatches": ("ark:egs", None, False),
    "minibatches, shuffled": ("ark:egs", POOL_SIZE, False),
    "minibatches, HDF5": ("h5:egs.h5", None, False),
    "minibatches, HDF5 shuffled": ("h5:egs.h5", POOL_SIZE, False),
    "the same, compressed": ("h5:egs.h5", POOL_SIZE, True),
}


@program(
    """\
Usage:  benchmarks/examples.py [options]
 e.g.: benchmarks/examples.py --num-examples=10000,100000,1000000 --json=examples.json"""
)
@option("--num-examples", default="100000", help="About so many examples; several: 10000,100000")
@option("--frames-per-eg", default="1,8", help="Labelled frames of an example; several: 1,8")
@option("--num-rounds", type=int, default=3, help="Rounds to be timed")
@option("--json", default="", help="Write all figures to this file, too")
def main(num_examples, frames_per_eg, num_rounds, json):
    figures = []
    for num_frames in map(int, frames_per_eg.split(",")):
        for size in map(int, num_examples.split(",")):
            with TemporaryDirectory() as directory:
                directory = Path(directory)
                count = in_a_process(make_data, directory, size, num_frames)
                costs = programs(directory, num_frames, num_rounds)
                costs |= {
                    name: {"ours": in_a_process(minibatches, directory, *what, num_rounds)}
                    for name, what in MINIBATCHES.items()
                }
            facts = {"num_examples": count, "frames_per_eg": num_frames}
            print_table(facts, costs)
            seconds = {
                name: {who: [vars(cost) for cost in rounds] for who, rounds in row.items()}
                for name, row in costs.items()
            }
            figures.append(facts | {"costs": seconds})
    if json:
        write_json(json, figures=figures)


def in_a_process(function, *arguments):
    """What a function returns.

    The memory of this process counts as that of the programs that it starts, and is kept small.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def make_data(directory, num_examples, num_frames):
    """Random features and posteriors, and their examples: feats, post, egs and egs.h5."""
    import numpy as np

    from nnet.egs.making import Cut, make_examples
    from nnet.egs.programs import copy_examples
    from nnet.egs.tables import read_blocks
    from nnet.io.tables import MATRIX, POSTERIOR, table_writer

    rng = np.random.default_rng(0)
    with (
        table_writer(f"ark:{directory}/feats", MATRIX) as features,
        table_writer(f"ark:{directory}/post", POSTERIOR) as posteriors,
    ):
        for i in range(-(-num_examples * num_frames // UTTERANCE)):
            features.write(f"u{i:06}", rng.standard_normal((UTTERANCE, DIM)).astype(np.float32))
            pdfs = rng.integers(0, NUM_PDFS, UTTERANCE).tolist()
            posteriors.write(f"u{i:06}", [[(pdf, 1.0)] for pdf in pdfs])
    egs, cut = f"ark:{directory}/egs", Cut(CONTEXT, CONTEXT, num_frames)
    make_examples(f"ark:{directory}/feats", f"ark,s,cs:{directory}/post", egs, cut)
    copy_examples(egs, [f"h5:{directory}/egs.h5"])
    return sum(map(len, read_blocks(egs)))


def programs(directory, num_frames, num_rounds):
    """The costs of each program in each round: of ours, and of Kaldi's where there is one."""
    commands = {}
    for name, command in (PROGRAMS | STORE_PROGRAMS).items():
        ours, *arguments = command.replace("FRAMES", str(num_frames)).split()
        commands[name] = {"ours": [ours, *arguments]}
        kaldi = kaldi_program(ours)
        if kaldi and name in PROGRAMS:
            commands[name]["kaldi"] = [kaldi, *arguments]
    costs = {name: {who: [] for who in row} for name, row in commands.items()}
    for _ in range(num_rounds):
        for name, row in commands.items():
            for who, command in row.items():
                costs[name][who].append(measure(command, cwd=directory))
        log.info("one round is done")
    return costs


def minibatches(directory, table, pool_size, compressed, num_rounds):
    """The costs of reading minibatches of single frames, in each round."""
    import numpy as np

    from nnet.egs.minibatches import read_minibatches

    kind, _, name = table.partition(":")
    costs = []
    for seed in range(num_rounds):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in read_minibatches(
            f"{kind}:{directory}/{name}",
            MINIBATCH_SIZE,
            CONTEXT,
            CONTEXT,
            frame="random",
            buffer_size=pool_size,
            rng=np.random.default_rng(seed),
            compressed=compressed,
        ):
            pass
        costs.append(Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s, 0.0))
    return costs


def print_table(facts, costs):
    print("{num_examples} examples of {frames_per_eg} labelled frames".format(**facts))
    print(f"{'1000 examples per second':28}{'ours':>8}{'(cpu)':>8}{'MB':>6}", end="")
    print(f"{'Kaldi':>8}{'(cpu)':>8}{'MB':>6}{'ratio':>7}")
    for name, row in costs.items():
        wall = {}
        print(f"{name:28}", end="")
        for who, rounds in row.items():
            wall[who] = min(cost.wall_s for cost in rounds)
            cpu = min(cost.cpu_s for cost in rounds)
            rates = [facts["num_examples"] / seconds / 1000 for seconds in (wall[who], cpu)]
            memory = max(cost.peak_mb for cost in rounds)
            print("".join(f"{rate:8.0f}" for rate in rates), end="")
            print(f"{memory:6.0f}" if memory else "", end="")
        print(f"{wall['kaldi'] / wall['ours']:7.2f}" if "kaldi" in wall else "")
    rows = 2 * CONTEXT + 1
    print(f"A minibatch has {rows} frames of input for each labelled one.", end="\n\n", flush=True)


if __name__ == "__main__":
    main()
