"""A training in its directory: its files, its options, and what follows from these."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, reduce
from operator import or_
from pathlib import Path

from nnet.drivers.driver import log
from nnet.drivers.egs_dir import missing_egs
from nnet.drivers.feature_pipeline import given_features
from nnet.drivers.multisplice_configs import (
    MultispliceNetwork,
    last_max_change,
    parse_splice_indexes,
)
from nnet.drivers.programs import output_of, read_integer
from nnet.drivers.settings import NOTHING, Part
from nnet.drivers.training_files import models, parts_made, relabelled_egs
from nnet.drivers.training_options import NEVER, TrainingOptions, changed_options, write_options
from nnet.drivers.training_schedule import Schedule
from nnet.errors import NgtrainError
from nnet.io.checksums import check_file, checksum_file

FIRST_STAGES = {
    Part.TRANSFORM: -4, Part.EXAMPLES: -3, Part.NETWORK: -2,
    Part.ITERATIONS: 0, Part.REALIGNMENT: 0,
}  # fmt: skip
"""The first stage that makes something of a part; it does not depend on the data."""


class TrainingRun:
    """One run of the driver in a training directory."""

    def __init__(self, dir: Path, options: TrainingOptions):
        self.dir = dir
        self.options = options
        self.seconds: Counter[str] = Counter()  # by what was done

    def model(self, name: int | str) -> Path:
        return self.dir / f"{name}.mdl"

    def check_model(self, x: int) -> None:
        """Raise NgtrainError if model x is not what was written."""
        try:
            check_file(self.model(x))
        except NgtrainError as error:
            stage = max((y for y in models(self.dir) if y < x), default=-2)
            checksum = f"remove {checksum_file(self.model(x))} if it is to be used as it is"
            raise NgtrainError(f"{error}; --stage {stage} makes it again, or {checksum}") from None

    def log(self, name: str) -> Path:
        return self.dir / "log" / f"{name}.log"

    @property
    def alignments(self) -> list[Path]:
        """The archives of alignments that the training starts from."""
        ali = Path(self.options.alidir)
        return [ali / f"ali.{n + 1}.gz" for n in range(read_integer(ali / "num_jobs"))]

    @property
    def first_egs_dir(self) -> Path:
        """The examples before any realignment."""
        return Path(self.options.egs_dir) if self.options.egs_dir else self.dir / "egs"

    @property
    def egs_are_there(self) -> bool:
        """True if examples are whole; a realignment relabels the first ones, and removes them."""
        directories = [self.first_egs_dir, *relabelled_egs(self.dir)]
        return not all(map(missing_egs, directories))

    def egs_dir(self, x: int) -> Path:
        """The examples that iteration x trains on: those of the last realignment."""
        last = max((y for y in self.realignments if y <= x), default=None)
        return self.first_egs_dir if last is None else self.dir / f"egs_{self.realignments[last]}"

    @cached_property
    def parts_that_stay(self) -> Part:
        """The parts made, when the run began, that --stage does not do again."""
        stage, made = self.options.stage, parts_made(self.dir, self.egs_are_there)
        if stage is None:
            return made
        before = (part for part, first in FIRST_STAGES.items() if first < stage)
        return made & reduce(or_, before, NOTHING)

    def changed_options(self) -> str:
        """Name the options that differ from those with which what stays was made."""
        return ", ".join(changed_options(self.dir, self.options.given, self.parts_that_stay))

    def is_finished(self) -> bool:
        """Tell whether there is nothing to do, and say so."""
        final = self.model("final")
        if self.options.stage is not None or not final.exists():
            return False
        log.info("%s is there: nothing to do (--stage does it again)", final)
        if changed := self.changed_options():
            log.warning("it was made with other options: %s", changed)
        return True

    def remember_options(self) -> None:
        """Write down the options; say where what stays was made with others."""
        if changed := self.changed_options():
            log.warning("what is kept was made with other options: %s", changed)
        (self.dir / "log").mkdir(parents=True, exist_ok=True)
        write_options(self.dir, self.options.given)

    def ends_before(self, stage: int) -> bool:
        """Tell whether --exit-stage says to end before a stage, and say so."""
        wanted = self.options.exit_stage
        if wanted == NEVER or stage < wanted:
            return False
        log.info("ending before stage %d, as --exit-stage %d says", stage, wanted)
        return True

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time that a block takes to self.seconds."""
        start = time.monotonic()
        yield
        self.seconds[what] += time.monotonic() - start

    @property
    def cmd(self) -> str:
        return self.retried(self.options.cmd)

    def retried(self, cmd: str) -> str:
        """Give a launcher, as an option --cmd, that has failed jobs started again."""
        return f"{cmd} --max-retries {self.options.max_retries}"

    @cached_property
    def splices(self) -> dict[int, list[int]]:
        """Frame offsets by layer, of --splice-indexes.  Raises NgtrainError for impossible ones."""
        o = self.options
        try:
            splices = parse_splice_indexes(o.splice_indexes)
        except ValueError as error:
            raise NgtrainError(f"--splice-indexes: {error}") from None
        if (last := max(splices)) >= o.num_hidden_layers:
            layers = f"the {o.num_hidden_layers} hidden layers, counted from 0"
            raise NgtrainError(f"--splice-indexes: layer{last} is not one of {layers}")
        return splices

    @property
    def given_features(self) -> dict[str, str]:
        """Options that say how features are made, as arguments of FeaturePipeline.of()."""
        return {"transform_dir": self.options.alidir, **given_features(self.options.given)}

    @cached_property
    def num_targets(self) -> int:
        """Pdf-ids, the outputs of the network."""
        info = output_of("tree-info", f"{self.options.alidir}/tree")
        return int(re.search(r"num-pdfs (\d+)", info)[1])

    @cached_property
    def network(self) -> MultispliceNetwork:
        """The network that is trained, of the features that the feature transform was made for."""
        o = self.options
        nonlin, dims = o.nonlin, (o.hidden_dim, o.hidden_dim)
        if nonlin == "pnorm":
            dims = o.pnorm_input_dim, o.pnorm_output_dim
            if dims[0] == dims[1]:
                log.warning("--pnorm-input-dim is --pnorm-output-dim: rectified linear units")
                nonlin = "relu"
        last_change = last_max_change(
            o.max_change_per_sample, self.num_targets, o.minibatch_size, dims[1]
        )
        ivector_dim = read_integer(self.dir / "ivector_dim")
        scales = str(self.dir / "presoftmax_prior_scale_vecfile")
        return MultispliceNetwork(
            splices=self.splices,
            input_dim=read_integer(self.dir / "feat_dim") + ivector_dim,
            ivector_dim=ivector_dim,
            lda_mat=str(self.dir / "lda.mat"),
            lda_dim=read_integer(self.dir / "lda_dim"),
            nonlin=nonlin,
            affine_dim=dims[0],
            hidden_dim=dims[1],
            affine=o.affine_component(o.max_change_per_sample),
            last_affine=o.affine_component(last_change),
            bias_stddev=o.bias_stddev,
            num_targets=self.num_targets,
            presoftmax_scales=scales if o.presoftmax_prior_scale_power else None,
        )

    def egs_info(self, name: str) -> int:
        return read_integer(self.first_egs_dir / "info" / name)

    @cached_property
    def schedule(self) -> Schedule:
        return self.schedule_of(self.egs_info("num_archives"), self.egs_info("frames_per_eg"))

    def schedule_of(self, num_archives: int, frames_per_eg: int) -> Schedule:
        """Plan the iterations for so many archives of examples of so many frames."""
        return Schedule.of(self.options, num_archives=num_archives, frames_per_eg=frames_per_eg)

    @cached_property
    def realignments(self) -> dict[int, str]:
        """The iterations before which the data is realigned, with their --realign-times."""
        times = self.options.realign_times.split()
        return {self.schedule.iteration_at(float(time_)): time_ for time_ in times}
