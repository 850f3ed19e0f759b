"""The stages of a training before its iterations: feature transform, examples, first network.

A stage is done unless what it makes is there, so that a driver that is run again goes on where it
stopped; --stage has it forgotten first.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from nnet.drivers.egs_dir import forget_egs
from nnet.drivers.egs_options import EgsOptions
from nnet.drivers.extract_features import copy_configs
from nnet.drivers.feature_pipeline import feature_words
from nnet.drivers.multisplice_configs import context, presoftmax_scales
from nnet.drivers.programs import of_jobs, read_integer, run, run_step
from nnet.drivers.settings import read_words
from nnet.drivers.training_options import egs_format_for
from nnet.drivers.training_run import TrainingRun
from nnet.errors import NgtrainError
from nnet.io.checksums import remove_with_checksum
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, pipeline, unzipped


class Stage:
    """A part of the work of a training, which make() does unless its file is there.

    number: that --stage and --exit-stage know it by.
    name: what it makes, in the account of seconds.
    file_name: the last one of those that it makes.
    """

    number: int
    name: str
    file_name: str

    def __init__(self, training: TrainingRun):
        self.training = training

    @property
    def file(self) -> Path:
        return self.training.dir / self.file_name

    def made(self) -> bool:
        return self.file.exists()

    def forget(self) -> None:
        """Have made() say no."""
        remove_with_checksum(self.file)

    def do(self) -> None:
        """Make what is not there yet."""
        with self.training.timed(self.name):
            if not self.made():
                self.make()


class FeatureTransform(Stage):
    """lda.mat, with the files that say how features are made and their dimensions."""

    number, name, file_name = -4, "transform", "lda.mat"

    def make(self) -> None:
        training, o = self.training, self.training.options
        left, *_, right = training.splices[0]
        copy_configs(Path(o.data), training.dir)
        run_step(
            "get_lda.py", *shlex.split(o.lda_opts), *feature_words(training.given_features),
            "--cmd", training.cmd, "--left-context", -left, "--right-context", right,
            "--rand-prune", o.randprune, *(["--lda-dim", o.lda_dim] if o.lda_dim else []),
            "--srand", o.srand, o.data, o.lang, o.alidir, training.dir,
        )  # fmt: skip


class Examples(Stage):
    """The examples, unless --egs-dir says where they are."""

    number, name = -3, "examples"

    def made(self) -> bool:
        return bool(self.training.options.egs_dir) or self.training.egs_are_there

    def make(self) -> None:
        o, egs_dir = self.training.options, self.training.first_egs_dir
        run_step("get_egs2.py", *self.words(), o.data, o.alidir, egs_dir)
        self.check_context()

    def forget(self) -> None:
        forget_egs(self.training.dir / "egs")

    def words(self) -> list:
        """Give the options of get_egs2.py."""
        o, (left, right) = self.training.options, context(self.training.splices)
        return [
            *feature_words(self.training.given_features),
            *["--cmd", self.training.cmd, "--io-opts", o.io_opts],
            *["--left-context", left, "--right-context", right, "--stage", o.get_egs_stage],
            *["--samples-per-iter", o.samples_per_iter, "--frames-per-eg", o.frames_per_eg],
            *["--egs-format", egs_format_for(o.use_gpu), "--srand", o.srand],
            *shlex.split(o.egs_opts),
        ]

    def options(self) -> EgsOptions:
        """Give the same as get_egs2.py will read it.  Raises NgtrainError where it will not."""
        return read_words(EgsOptions, self.words())

    def check_context(self) -> None:
        """Raise NgtrainError unless the examples have the context that the network needs."""
        training, (left, right) = self.training, context(self.training.splices)
        there = training.egs_info("left_context"), training.egs_info("right_context")
        if there[0] < left or there[1] < right:
            raise NgtrainError(
                f"the examples in {training.first_egs_dir} have too little context for a network "
                f"that needs {left} frames on the left and {right} on the right"
            )


class FirstNetwork(Stage):
    """0.mdl, a network of one hidden layer, and the configs of the other layers.

    Transition probabilities and priors are those of the alignment.
    """

    number, name, file_name = -2, "initialization", "0.mdl"

    def make(self) -> None:
        training, network, o = self.training, self.training.network, self.training.options
        if network.presoftmax_scales:
            self.write_presoftmax_scales(network.presoftmax_scales)
        write_lines(training.dir / "nnet.config", network.nnet_config())
        for layer in range(1, o.num_hidden_layers):
            write_lines(training.dir / f"hidden_{layer}.config", network.hidden_config(layer))
        init = ["nnet-init", f"--srand={o.srand}", training.dir / "nnet.config", "-"]
        run(
            training.cmd, training.log("nnet_init"),
            "nnet-am-init", f"{o.alidir}/tree", f"{o.lang}/topo", f"{pipeline(init)} |", "-", "|",
            "nnet-train-transitions", "--write-checksum=true", "-",
            unzipped(*training.alignments), self.file,
        )  # fmt: skip

    def write_presoftmax_scales(self, path: str) -> None:
        """Write the scales of the softmax's inputs, by how often classes are in the alignment."""
        training, ali = self.training, Path(self.training.options.alidir)
        num_jobs = read_integer(ali / "num_jobs")
        run(
            training.cmd, training.log(f"acc_pdf.{JOB}"),
            "ali-to-post", unzipped(ali / f"ali.{JOB}.gz"), "ark:-", "|",
            "post-to-tacc", "--per-pdf=true", "--binary=false", f"{ali}/final.mdl",
            "ark:-", f"{training.dir}/{JOB}.pacc", jobs=num_jobs,
        )  # fmt: skip
        files = of_jobs(training.dir / f"{JOB}.pacc", num_jobs)
        counts = [[float(count) for count in file.read_text().split()[1:-1]] for file in files]
        totals = [sum(of_class) for of_class in zip(*counts, strict=True)]
        scales = presoftmax_scales(totals, training.options.presoftmax_prior_scale_power)
        write_lines(Path(path), [f" [ {' '.join(f'{scale:f}' for scale in scales)} ]"])
        for file in files:
            file.unlink()
