"""Checks of a training before hours of work: all that is wrong, and what helps.

Only what is needed by the parts of the work that are still to be done is looked at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from nnet.drivers.ali_dir import MOST_JOBS, check_same_phones, mismatch
from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import flag
from nnet.drivers.egs_dir import (
    SUBSETS,
    missing_egs,
    recorded_info,
    training_archive,
    training_archives,
)
from nnet.drivers.egs_options import EgsOptions, count_frames
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import of_jobs, output_of, read_integer
from nnet.drivers.settings import EXAMPLES, NETWORK, TRANSFORM, Part, read_words, words_of
from nnet.drivers.stages import Examples
from nnet.drivers.training_files import TIME, models
from nnet.drivers.training_options import NEVER, LdaOptions
from nnet.drivers.training_run import TrainingRun
from nnet.drivers.training_schedule import Schedule, ScheduleError
from nnet.drivers.transcripts import check_text
from nnet.errors import NgtrainError
from nnet.launch.commands import JOB, read_from
from nnet.launch.gpus import visible_gpus
from nnet.launch.jobs import parse_cmd
from nnet.launch.launcher import program_of

PROGRAMS = ("bash", "cat", "gzip", "gunzip", "nnet-train-simple", "nnet-am-average")
"""Some that jobs need, of our own and of the system."""


class TrainingChecks:
    """The checks of one training."""

    def __init__(self, training: TrainingRun):
        self.training = training
        self.options = o = training.options
        self.examples = Examples(training)
        self.data, self.lang, self.ali = map(Path, (o.data, o.lang, o.alidir))
        self.made = training.parts_that_stay

    def problems(self) -> list[str]:
        """List all that is wrong, a line for each."""
        of_options = self.gather(
            self.dimensions, self.splices, self.realign_times, self.lda_options, self.egs_options,
            self.launchers, self.gpus, self.begun,
        )  # fmt: skip
        of_files = self.gather(self.files, self.programs)
        problems = [*of_options, *of_files]
        if not of_files:
            problems += self.gather(self.system, self.utterances, self.given_egs, self.mixtures)
        if not problems:
            problems += self.gather(self.features, self.amounts)
        return problems

    def gather(self, *checks: Callable[[], Iterable[str]]) -> list[str]:
        """Collect what checks yield, or the error that they raise."""
        problems = []
        for check in checks:
            try:
                problems += check()
            except NgtrainError as error:
                problems.append(str(error))
        return problems

    def to_do(self, parts: Part) -> bool:
        """Tell whether one of some parts is still to be made."""
        return bool(parts & ~self.made)

    def dimensions(self) -> Iterator[str]:
        o = self.options
        if o.nonlin == "pnorm" and o.pnorm_input_dim % o.pnorm_output_dim:
            wanted = f"must be a multiple of --pnorm-output-dim {o.pnorm_output_dim}"
            yield f"--pnorm-input-dim {o.pnorm_input_dim}: {wanted}"

    def mixtures(self) -> Iterator[str]:
        num_mixtures, num_pdfs = self.options.mix_up, self.training.num_targets
        if 0 < num_mixtures <= num_pdfs:
            yield f"--mix-up {num_mixtures}: must be more than {num_pdfs}, the number of pdf-ids"

    def splices(self) -> list[str]:
        return [] if self.training.splices else ["--splice-indexes: nothing is spliced"]

    def realign_times(self) -> Iterator[str]:
        for time in self.options.realign_times.split():
            if not re.fullmatch(TIME, time) or not float(time) > 0.0:
                yield f"--realign-times: {time} is not strictly between 0 and 1, such as 0.5"

    def lda_options(self) -> Iterator[str]:
        try:
            read_words(LdaOptions, words_of(self.options.lda_opts))
        except NgtrainError as error:
            yield f"--lda-opts: {error}"

    def egs_options(self) -> Iterator[str]:
        try:
            options = read_words(EgsOptions, words_of(self.options.egs_opts))
            reason = options.nothing_to_combine_on()
        except NgtrainError as error:
            reason = str(error)
        if reason:
            yield f"--egs-opts: {reason}"

    def launchers(self) -> Iterator[str]:
        for name in "cmd", "align_cmd":
            if cmd := getattr(self.options, name):
                launcher, *_ = parse_cmd(cmd)
                if not shutil.which(program_of(launcher)):
                    yield f"{flag(name)} {cmd}: there is no program {launcher}"

    def gpus(self) -> Iterator[str]:
        """Find out whether a GPU that is asked for is there, as far as jobs run on this machine."""
        o = self.options
        if o.use_gpu not in ("yes", "wait") or parse_cmd(o.cmd)[0] != "run.py":
            return
        remedy = "use --use-gpu no or optional, or a launcher for machines that have one"
        if not visible_gpus():
            yield f"--use-gpu {o.use_gpu}: nvidia-smi shows no GPU on this machine; {remedy}"
        elif not find_spec("cupy"):
            yield f"--use-gpu {o.use_gpu}: CuPy is not installed here; {remedy}"

    def begun(self) -> Iterator[str]:
        """Find options that a directory was not begun with, where they affect what is there."""
        if self.options.stage is None and (changed := self.training.changed_options()):
            yield (
                f"{self.training.dir} was begun with other options: {changed}; use the same, "
                "another directory, or --stage to say from where to do it again"
            )

    def files(self) -> Iterator[str]:
        data, lang, ali = self.data, self.lang, self.ali
        wanted = [data / "feats.scp", lang / "L.fst", lang / "topo"]
        wanted += [ali / "final.mdl", ali / "tree", ali / "num_jobs"]
        if self.to_do(TRANSFORM | EXAMPLES):
            wanted += [data / "utt2spk", data / "cmvn.scp"]
        if self.to_do(TRANSFORM):
            wanted += [lang / "phones.txt", lang / "phones/silence.csl"]
        if self.options.realign_times:  # in the midst of the training
            wanted += [data / "text", data / "utt2spk", data / "cmvn.scp", lang / "phones.txt"]
            wanted += [lang / "words.txt", lang / "oov.int", lang / "phones/disambig.int"]
        if missing := [str(path) for path in dict.fromkeys(wanted) if not path.is_file()]:
            yield f"no such file: {', '.join(missing)}"
        elif self.to_do(TRANSFORM | EXAMPLES | NETWORK):
            num_jobs = read_integer(ali / "num_jobs")
            archives = of_jobs(ali / f"ali.{JOB}.gz", min(num_jobs, MOST_JOBS))
            if lost := [str(path) for path in archives if not path.is_file()]:
                yield f"no such file: {', '.join(lost[:5])}; {ali}/num_jobs is {num_jobs}"

    def programs(self) -> Iterator[str]:
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            yield f"no such program: {', '.join(missing)}; `. ./path.sh` says where ours are"

    def system(self) -> Iterator[str]:
        """Find out whether alignments, tree, model and lang are of one system."""
        if self.to_do(TRANSFORM):
            check_same_phones(self.lang / "phones.txt", self.ali / "phones.txt")
        if self.to_do(TRANSFORM | EXAMPLES | NETWORK):
            topo = self.lang / "topo"
            if reason := mismatch(self.ali / "tree", self.ali / "final.mdl", topo):
                yield f"{reason}; take all of them from the directory that made the alignments"

    def utterances(self) -> Iterator[str]:
        """Find out whether utterances are enough to hold some out, and speakers for the parts."""
        if self.options.realign_times:  # which takes transcripts
            check_text(self.data, self.lang)
        if not self.to_do(TRANSFORM | EXAMPLES):
            return
        utt2spk = read_table(self.data / "utt2spk")
        num_jobs, num_speakers = read_integer(self.ali / "num_jobs"), len(set(utt2spk.values()))
        if num_jobs > num_speakers:
            speakers = f"{self.data} has {num_speakers} speakers"
            yield f"{self.ali} is of {num_jobs} jobs, but {speakers}: align this data"
        if self.to_do(EXAMPLES) and not self.options.egs_dir:
            reason = self.examples.options().too_few_utterances(len(utt2spk))
            yield from [f"{self.data}: {reason} in --egs-opts"] if reason else []

    def features(self) -> Iterator[str]:
        """Try the way to the input of the network with a few utterances."""
        if not self.to_do(TRANSFORM | EXAMPLES):
            return
        training, o = self.training, self.options
        features = FeaturePipeline.of(self.ali, **training.given_features)
        select = ["subset_scp.py", "--quiet", 10, self.data / "feats.scp"]
        commands = features.commands(self.data, select=select)
        dim = int(output_of("feat-to-dim", read_from(*commands), "-"))
        left, *_, right = training.splices[0]
        spliced = dim * (right - left + 1) + features.ivector_dim()
        if o.lda_dim and o.lda_dim > spliced:
            yield f"--lda-dim {o.lda_dim}: the spliced features have only {spliced} dimensions"
        if o.egs_dir:
            archive = training_archive(Path(o.egs_dir), 1)
            input_dim = str(dim + features.ivector_dim())
            if (there := recorded_info(archive).get("input-dim", input_dim)) != input_dim:
                yield (
                    f"{archive}: its inputs have {there} dimensions, those of {self.data} "
                    f"{input_dim}: make the examples of this data"
                )
        elif self.to_do(EXAMPLES):
            yield from self.room(dim)

    def room(self, dim: int) -> Iterator[str]:
        """Find out whether there is room for the examples, a byte for each number at least."""
        options = self.examples.options()
        if (self.training.first_egs_dir / "storage").exists():  # links lead to other disks
            return
        context = options.left_context + options.right_context
        rows = self.num_frames * (1 + context / options.frames_per_eg)
        above = (self.training.dir, *self.training.dir.absolute().parents)
        there = next(directory for directory in above if directory.is_dir())
        needed, free = rows * dim, shutil.disk_usage(there).free
        if free < needed:
            yield (
                f"{self.training.dir}: there is room for {free / 1e9:.1f} GB, but examples need "
                f"{needed / 1e9:.1f} at least: make room, or make a directory egs/storage in it "
                "with links to other disks"
            )

    def given_egs(self) -> Iterator[str]:
        """Find out whether the examples there are whole, of this system, with enough context."""
        training, egs_dir = self.training, self.training.first_egs_dir
        if self.has_egs():
            self.examples.check_context()
        if not self.options.egs_dir:
            return
        if missing := missing_egs(egs_dir):
            yield f"no such file: {', '.join(map(str, missing[:3]))}; make the examples again"
        num_pdfs = training.num_targets
        for archive in [*training_archives(egs_dir), *(egs_dir / name for name in SUBSETS)]:
            largest = recorded_info(archive).get("largest-pdf", "0")
            if largest.isdecimal() and int(largest) >= num_pdfs:
                yield (
                    f"{archive}: it has a label of {largest}, but {self.ali}/tree {num_pdfs} "
                    "pdf-ids: make the examples with these alignments"
                )
                return

    def has_egs(self) -> bool:
        """Tell whether the examples are given, or there and stay."""
        is_made = self.training.egs_are_there and not self.to_do(EXAMPLES)
        return bool(self.options.egs_dir) or is_made

    @cached_property
    def num_frames(self) -> int:
        return count_frames(self.data)

    def amounts(self) -> Iterable[str]:
        """Find out whether the data is enough for jobs, layers and epochs, and stages are there."""
        try:
            schedule = self.schedule()
        except ScheduleError as error:
            return error.problems
        problems = [*stage_problems(self.training, schedule)]
        if not problems:  # a stage that there is not needs no labels
            problems += self.lost_labels(schedule)
        return [*problems, *self.unheeded_realignments(schedule)]

    def unheeded_realignments(self, schedule: Schedule) -> Iterator[str]:
        """Find realignments that no iteration begins with, or that another one undoes."""
        times: dict[int, str] = {}
        for time in self.options.realign_times.split():
            x = schedule.iteration_at(float(time))
            if x >= schedule.num_iters:
                yield f"--realign-times: {time} is after the last of {x} iterations"
            elif x in times:
                yield f"--realign-times: {times[x]} and {time} are both iteration {x}"
            times[x] = time

    def lost_labels(self, schedule: Schedule) -> Iterator[str]:
        """Find out whether the examples of a realignment that --stage leaves as it is are there."""
        o, dir = self.options, self.training.dir
        times = {schedule.iteration_at(float(time)): time for time in o.realign_times.split()}
        before = [x for x in times if o.stage is not None and x < o.stage]
        if before and missing_egs(egs_dir := dir / f"egs_{times[max(before)]}"):
            again = f"--stage {max(before)} does the realignment that makes them again"
            yield f"--stage {o.stage}: the examples in {egs_dir} are not there any more; {again}"

    def schedule(self) -> Schedule:
        """Plan the training, of the examples that there are or will be."""
        if self.has_egs():
            return self.training.schedule
        plan = self.examples.options().plan_archives(self.num_frames)
        return self.training.schedule_of(*plan)


def stage_problems(training: TrainingRun, schedule: Schedule) -> Iterator[str]:
    """Find stages that there are not, and models that are needed and not there any more."""
    o, num_iters, there = training.options, schedule.num_iters, models(training.dir)
    for name, stage in ("--stage", o.stage), ("--exit-stage", o.exit_stage):
        if stage is not None and stage > num_iters + 1:
            yield (
                f"{name} {stage}: the last stages of this training are {num_iters}, the "
                f"combination, and {num_iters + 1}, the priors"
            )
            return
    if o.stage is not None and o.exit_stage != NEVER and o.exit_stage <= o.stage:
        yield f"--exit-stage {o.exit_stage} must come after --stage {o.stage}"

    def missing(stage: int) -> list[int]:
        """List the models that are needed to go on with a stage, and are gone."""
        to_combine = [x for group in schedule.combination() for x in group]
        needed = {*(x for x in to_combine if x <= stage), max(stage, 0)}
        return sorted(needed - there.keys()) if stage > 0 else []

    combined = any(training.model(name).exists() for name in ("combined", "final"))
    if o.stage is None:
        latest = max((x for x in there if x <= num_iters), default=0)
        if not combined and (gone := missing(latest)):
            yield (
                f"--max-models-combine {o.max_models_combine}: {numbers(gone)} of the models to "
                "combine were removed already; combine fewer"
            )
    elif (o.stage > num_iters and not combined) or (o.stage <= num_iters and missing(o.stage)):
        possible = [*([0] if there else []), *(x for x in there if x > 0 and not missing(x))]
        possible += [num_iters + 1] if combined else []
        gone = "combined.mdl" if o.stage > num_iters else f"model {numbers(missing(o.stage))}"
        yield (
            f"--stage {o.stage}: {gone} is not there (training removes models, but for every "
            "hundredth and the last ones, and at its end those, too, that were combined); "
            f"possible are {', '.join(map(str, sorted(set(possible)))) or 'those up to -2'}"
        )


def numbers(values: list[int]) -> str:
    """Write numbers as "7, 8, 9", or "7 to 45" where there are many."""
    return ", ".join(map(str, values)) if len(values) < 6 else f"{values[0]} to {values[-1]}"
