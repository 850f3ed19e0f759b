"""Sequence training in its directory: iterations of parallel jobs, whose networks are averaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnet.drivers.driver import flag, log
from nnet.drivers.programs import Background, read_integer, require_files, run
from nnet.drivers.training_files import models, models_of_jobs
from nnet.drivers.training_options import as_text, write_options
from nnet.errors import NgtrainError
from nnet.io.log_lines import SEQUENCE_OBJECTIVE
from nnet.launch.commands import read_from
from nnet.report.training_logs import last_number, read_options

OF_THE_SYSTEM = ("tree", "phones.txt", "splice_opts", "cmvn_opts", "delta_order", "final.mat")
"""Files of examples that a directory with a network has, too, if they are there."""

CRITERION = ("criterion", "acoustic_scale", "boost", "drop_frames", "one_silence_class")
"""Options that are passed on to training jobs."""

INDECISIVE = ("cmd", "parallel_opts", "use_gpu", "cleanup", "num_epochs")
"""Options that change no network that is there already."""


@dataclass
class SequenceTraining:
    """One run of steps/train_discriminative2.py; iteration x makes network x + 1 of network x.

    degs, dir: the examples, and where networks go.
    options: those of the driver, by name.
    """

    degs: Path
    dir: Path
    options: Mapping[str, Any]

    def __post_init__(self):
        info = self.degs / "info"
        self.source = Path(self.options["src_model"] or self.degs / "final.mdl")
        require_files(self.source, info / "silence.csl", info / "num_archives")
        self.num_archives = read_integer(info / "num_archives")
        self.archives = [self.degs / f"degs.{n + 1}.ark" for n in range(self.num_archives)]
        require_files(*self.archives)
        self.num_jobs = min(self.options["num_jobs_nnet"], self.num_archives)
        self.num_epochs = self.options["num_epochs"]

    def model(self, name: int | str) -> Path:
        return self.dir / f"{name}.mdl"

    def log(self, name: str) -> str:
        return f"{self.dir}/log/{name}.log"

    def end_of_epoch(self, epoch: int) -> int:
        """Find the network that there is after an epoch."""
        return epoch * self.num_archives // self.num_jobs

    def run(self) -> None:
        """Do the iterations that have not been done."""
        num_iters, final = self.end_of_epoch(self.num_epochs), self.model("final")
        changed = ", ".join(self.changed_options()) if models(self.dir) else ""
        if final.exists():
            log.info("%s is there: nothing to do", final)
            if changed:
                log.warning("it was made with other options: %s", changed)
            return
        if changed:
            remedy = "use the same, or another directory"
            raise NgtrainError(f"{self.dir} was begun with other options: {changed}; {remedy}")
        write_options(self.dir, self.decisive_options())
        (self.dir / "log").mkdir(parents=True, exist_ok=True)
        for name in OF_THE_SYSTEM:
            if (self.degs / name).is_file():
                shutil.copyfile(self.degs / name, self.dir / name)
        log.info("will train for %d epochs = %d iterations", self.num_epochs, num_iters)
        if not models(self.dir):
            self.start()
        first = max(models(self.dir))
        if first:
            log.info("going on from %s", self.model(first))
        for x in range(first, num_iters):
            self.iterate(x)
        self.finish(num_iters)

    def decisive_options(self) -> dict[str, Any]:
        """Give the options, and the examples, on which the networks depend."""
        decisive = {name: o for name, o in self.options.items() if name not in INDECISIVE}
        files = {"degs_dir": self.degs.resolve(), "src_model": self.source.resolve()}
        return decisive | {"num_jobs_nnet": self.num_jobs} | files

    def changed_options(self) -> Iterator[str]:
        """Find the options that differ from those of the run before."""
        before = read_options(self.dir / "train_options")
        for name, value in self.decisive_options().items():
            if name in before and before[name] != as_text(value):
                yield f"{name.replace('_', '-')} was '{before[name]}' and is '{as_text(value)}'"

    def start(self) -> None:
        """Make network 0: natural gradients of a longer history, because frames of an utterance
        are alike, and the learning rate."""
        o = self.options
        rate = o["effective_lrate"] * self.num_jobs or o["learning_rate"]
        run(
            o["cmd"], self.log("convert"),
            "nnet-am-copy", f"--learning-rate={rate:.15g}", self.source, "-", "|",
            "nnet-am-switch-preconditioning",
            f"--num-samples-history={o['num_samples_history']:.15g}", "-", self.model(0),
        )  # fmt: skip

    def iterate(self, x: int) -> None:
        """Train network x by all jobs, and average what they make."""
        o, made = self.options, [self.model(f"{x + 1}.{n + 1}") for n in range(self.num_jobs)]
        logs = [self.log(f"train.{x}.{n + 1}") for n in range(self.num_jobs)]
        silence = (self.degs / "info/silence.csl").read_text().strip()
        criterion = [f"{flag(name)}={o[name]}".lower() for name in CRITERION]
        combine = "nnet-combine-egs-discriminative", f"--max-length={o['max_length']}"
        with Background() as jobs:
            for n, (model, log_file) in enumerate(zip(made, logs, strict=True)):
                archive = self.archives[(n + x * self.num_jobs) % self.num_archives]
                jobs.start(
                    f"{o['cmd']} {o['parallel_opts']}", log_file,
                    "nnet-train-discriminative-simple", f"--silence-phones={silence}", *criterion,
                    f"--use-gpu={o['use_gpu']}", self.model(x),
                    read_from([*combine, f"ark:{archive}", "ark:-"]), model,
                    **({"gpu": 1} if o["use_gpu"] in ("yes", "wait") else {}),
                )  # fmt: skip
        self.average(x, made)
        found = [last_number(SEQUENCE_OBJECTIVE.pattern, Path(path)) for path in logs]
        known = [value for value in found if value is not None]
        if not known:
            raise NgtrainError(f"{logs[0]}: the objective is not in it")
        log.info(
            "iteration %d of %d: %s objective %g per frame",
            *(x + 1, self.end_of_epoch(self.num_epochs), o["criterion"], sum(known) / len(known)),
        )

    def average(self, x: int, made: list[Path]) -> None:
        """Make network x + 1 of those of the jobs, and remove these."""
        o = self.options
        modify = [
            "-", "|", "nnet-modify-learning-rates",
            f"--retroactive={o['retroactive']}".lower(),
            f"--last-layer-factor={o['last_layer_factor']:g}",
            f"--first-layer-factor={o['first_layer_factor']:g}", self.model(x), "-",
        ] if o["modify_learning_rates"] else []  # fmt: skip
        run(
            o["cmd"], self.log(f"average.{x}"), "nnet-am-average", *made, *modify, self.model(x + 1)
        )
        for model in models_of_jobs(self.dir).values():
            model.unlink()

    def finish(self, num_iters: int) -> None:
        """Name the networks of epochs and the final one, and remove the others."""
        ends = {self.end_of_epoch(epoch): epoch for epoch in range(self.num_epochs + 1)}
        for x, epoch in ends.items():
            shutil.copyfile(self.model(x), self.model(f"epoch{epoch}"))
        if self.options["cleanup"]:
            for x, model in models(self.dir).items():
                if x not in ends:
                    model.unlink()
        shutil.copyfile(self.model(num_iters), self.model("new"))
        self.model("new").replace(self.model("final"))
        log.info("done: %s", self.model("final"))
