#!/usr/bin/env python3
"""Count the files and functions of the project that one training goes through.

nnet-train-simple trains a p-norm network by the online natural gradient on one archive of a few
hundred examples.  Counted are the functions of nnet/ and bin/ that it enters after start-up (the
imports, and what the options say), in all threads; and of these, those of one gradient step that is
neither the first nor one that updates Fisher matrices."""

import sys
from pathlib import Path

from train_step import network_config

from nnet.cli import option, program

ROOT = Path(__file__).resolve().parent.parent
DIMS = {"num_hidden_layers": 2, "pnorm_input_dim": 40, "pnorm_output_dim": 10, "num_pdfs": 20}
MINIBATCH_SIZE, NUM_MINIBATCHES, COUNTED_STEP = 32, 14, 12


@program(
    """\
Usage:  benchmarks/walk.py [options]
 e.g.: benchmarks/walk.py --list=true"""
)
@option("--list", False, "Print the functions of each file", "is_listed")
def main(is_listed):
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        whole, step = walk(directory)
    for name, entered in ("nnet-train-simple on one archive", whole), ("one gradient step", step):
        files = sorted({file for file, _ in entered})
        print(f"{name}: {len(files)} files, {len(entered)} functions")
        for file in files if is_listed else ():
            functions = ", ".join(sorted(f for g, f in entered if g == file))
            print(f"  {file} ({functions.count(',') + 1}): {functions}")


def walk(directory):
    """Files and functions, as two sets of pairs: those of all the training, and of one step."""
    import threading
    from unittest import mock

    from nnet.egs import minibatches  # noqa: F401 (so that it is imported before counting)
    from nnet.training.train import Trainer

    arguments, whole, steps = write_inputs(directory), set(), []
    function, make_step = load_program("nnet-train-simple").main.callback, Trainer.step

    def step(trainer, *args):
        steps.append(set())
        sys.setprofile(noting(whole, steps[-1]))
        make_step(trainer, *args)
        sys.setprofile(noting(whole))

    threading.setprofile(noting(whole))
    with mock.patch.object(Trainer, "step", step):
        sys.setprofile(noting(whole))
        try:
            function(**arguments)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return whole, steps[COUNTED_STEP]


def noting(*sets):
    """A profiling function that adds what is entered to some sets; a generator is part of it."""
    roots = tuple(f"{ROOT / name}/" for name in ("nnet", "bin"))

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(roots):
            name = code.co_qualname.split(".<locals>")[0]
            if not name.startswith("<"):
                for entered in sets:
                    entered.add((code.co_filename.removeprefix(f"{ROOT}/"), name))

    return note


def load_program(name):
    """A program of bin/ as a module."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourceFileLoader(name, str(ROOT / "bin" / name))
    module = module_from_spec(spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def write_inputs(directory):
    """Write a model and an archive of examples; the arguments of the program's function."""
    from inspect import signature

    import numpy as np
    from peers import one_state_phones, write_examples

    from nnet.device.device import CPU
    from nnet.model.acoustic_model import AcousticModel
    from nnet.model.network import Network
    from nnet.training.programs import train_model

    config = network_config("online", **DIMS, rank_in=5, rank_out=5)
    network = Network.from_config(config, np.random.default_rng(0))
    model, archive = f"{directory}/0.mdl", f"ark:{directory}/egs.ark"
    AcousticModel(one_state_phones(network.output_dim), network).save(model)
    write_examples(archive, NUM_MINIBATCHES * MINIBATCH_SIZE, network)
    function = load_program("nnet-train-simple").main
    defaults = {option.name: option.default for option in function.params}
    names = {"model_in": model, "training_examples_in": archive, "model_out": f"{directory}/1.mdl"}
    given = defaults | names | {"minibatch_size": MINIBATCH_SIZE, "device": CPU}
    taken = signature(function.callback).parameters | signature(train_model).parameters
    return {name: given[name] for name in taken if name in given}


if __name__ == "__main__":
    main()
