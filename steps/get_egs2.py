#!/usr/bin/env python3
"""Make the examples that networks are trained on, of several labelled frames each.

Writes into <egs-dir> (Kaldi's steps/nnet2/get_egs2.sh):
  egs.1.ark, egs.2.ark, ...    the training data in random order, spread over info/num_archives
                               archives of about --samples-per-iter examples; egs.1.h5, ... with
                               --egs-format h5
  valid_diagnostic.egs, train_diagnostic.egs
                               single frames of utterances that are held out, and of others
  combine.egs                  single frames for the final combination of models
  info/                        num_frames, num_archives, frames_per_eg, egs_per_archive,
                               left_context, right_context, ivector_dim, egs_format
  info/archives/               for each of the files above counts, dimensions and a checksum, to
                               find damage by (utils/validate_egs_dir.py)
and what a system needs to make the same features: splice_opts, cmvn_opts, final.mat, delta_order.
"""

import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from nnet.drivers.data_dir import group_by_value, read_table
from nnet.drivers.driver import argument, driver, log
from nnet.drivers.egs_dir import (
    ARCHIVE_INFO,
    link_to_storage,
    remove_with_target,
    training_archives,
    training_table,
)
from nnet.drivers.egs_options import EgsOptions, count_frames
from nnet.drivers.feature_pipeline import FeaturePipeline, given_features
from nnet.drivers.losses import Tally
from nnet.drivers.programs import Background, of_jobs, output_of, read_integer, require_files, run
from nnet.drivers.settings import options_from
from nnet.errors import NgtrainError
from nnet.io.log_lines import EXAMPLES
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, read_from


@driver(
    "Usage:  steps/get_egs2.py [options] <data> <ali-dir> <egs-dir>\n"
    " e.g.:  steps/get_egs2.py data/train exp/tri3_ali exp/tri4_nnet/egs",
    writes="egs_dir",
)
@argument("data", "ali_dir", "egs_dir", type=Path)
@options_from(EgsOptions)
def main(data, ali_dir, egs_dir, **options):
    ExampleMaker(data, ali_dir, egs_dir, EgsOptions(**options)).run()


ALL = r"(valid|train_subset)_all\.egs"
SUBSET = rf"{ALL}|((valid|train)_)?combine\.egs|(valid|train)_diagnostic\.egs"
"""Names of files of single frames: those made on the way, and those that stay."""
PART = r"egs_orig\.[0-9]+\.[0-9]+\.ark"
"""Names of what a job makes for an archive, the number of which comes first."""


@dataclass
class ExampleMaker:
    """One run of the driver: a method per stage, in the order of run()."""

    data: Path
    ali: Path
    egs: Path
    options: EgsOptions

    def __post_init__(self):
        o = self.options
        require_files(
            *(self.data / name for name in ("feats.scp", "utt2spk", "cmvn.scp")),
            *(self.ali / name for name in ("ali.1.gz", "final.mdl", "tree", "num_jobs")),
        )
        if reason := o.nothing_to_combine_on():
            raise NgtrainError(reason)
        given = {"transform_dir": self.ali, **given_features(vars(o))}
        self.features = FeaturePipeline.of(self.ali, **given)
        self.num_jobs = read_integer(self.ali / "num_jobs")
        self.split = self.data / f"split{self.num_jobs}"
        # Has programs that write archives say in info/ what is in them.
        self.info_dir = f"--info-dir={self.egs / ARCHIVE_INFO}"

    def run(self) -> None:
        stage = self.options.stage
        log.info("feature type is %s", self.features.feat_type)
        for subdirectory in "log", ARCHIVE_INFO:
            (self.egs / subdirectory).mkdir(parents=True, exist_ok=True)
        self.features = self.features.save(self.egs)
        shutil.copyfile(self.ali / "tree", self.egs / "tree")
        output_of("split_data.py", self.data, self.num_jobs)
        self.choose_utterances()
        if stage <= 0:
            log.info("working out number of frames of training data")
            self.write_info(num_frames=count_frames(self.data))
        self.remove_outputs(stage)  # before info/ says that there are other ones
        num_archives, frames_per_eg = self.plan_archives()
        if stage <= 2:
            log.info("Getting validation and training subset examples.")
            self.make_subsets()
        if stage <= 3:
            log.info("Generating training examples on disk")
            self.make_training_examples(num_archives, frames_per_eg)
            self.report_losses()
        if stage <= 4:
            log.info("recombining and shuffling order of archives on disk")
            self.shuffle(num_archives)
        for part in self.made(PART):
            remove_with_target(part)
        log.info("Finished preparing training examples")

    def choose_utterances(self) -> None:
        """Write valid_uttlist, which is held out, and train_subset_uttlist, to compare with."""
        size, rng = self.options.num_utts_subset, random.Random(self.options.srand)
        utterances = list(read_table(self.data / "utt2spk"))
        if reason := self.options.too_few_utterances(len(utterances)):
            raise NgtrainError(f"{self.data}: {reason}")
        valid = rng.sample(utterances, size)
        if (self.data / "utt2uniq").is_file():
            # What is held out must not be trained on in another speed or volume either.
            original = read_table(self.data / "utt2uniq")
            if unknown := [utterance for utterance in utterances if utterance not in original]:
                lacks = f"{len(unknown)} of {len(utterances)} utterances, such as {unknown[0]}"
                raise NgtrainError(f"{self.data}/utt2uniq lacks {lacks}: add them, or remove it")
            versions = group_by_value(original)
            held_out = sorted({original[utterance] for utterance in valid})
            valid = sorted(utterance for name in held_out for utterance in versions[name])
        rest = sorted(set(utterances) - set(valid))
        write_lines(self.egs / "valid_uttlist", valid)
        write_lines(self.egs / "train_subset_uttlist", rng.sample(rest, min(size, len(rest))))

    def plan_archives(self) -> tuple[int, int]:
        """Decide on the number of archives and of frames per example, and write info/."""
        o = self.options
        num_frames = read_integer(self.egs / "info/num_frames")
        num_archives, frames_per_eg = o.plan_archives(num_frames)
        self.check_parts(num_archives)
        if frames_per_eg < o.frames_per_eg:
            log.info("reduced frames_per_eg to %d because amount of data is small.", frames_per_eg)
        egs_per_archive = num_frames // (frames_per_eg * num_archives)
        self.write_info(
            num_archives=num_archives, frames_per_eg=frames_per_eg,
            egs_per_archive=egs_per_archive, left_context=o.left_context,
            right_context=o.right_context, ivector_dim=self.features.ivector_dim(),
            egs_format=o.egs_format,
        )  # fmt: skip
        log.info(
            "creating %d archives, each with %d egs, with %d labels per example, and "
            "(left,right) context = (%d,%d)",
            *(num_archives, egs_per_archive, frames_per_eg, o.left_context, o.right_context),
        )
        return num_archives, frames_per_eg

    def write_info(self, **values: int | str) -> None:
        for name, value in values.items():
            write_lines(self.egs / "info" / name, [str(value)])

    def made(self, pattern: str) -> list[Path]:
        """List the files that are there of a name that this driver gives."""
        return [path for path in self.egs.glob("*") if re.fullmatch(pattern, path.name)]

    def check_parts(self, num_archives: int) -> None:
        """Raise NgtrainError if examples that are only to be shuffled are for more archives."""
        most = max((int(part.name.split(".")[1]) for part in self.made(PART)), default=0)
        if most > num_archives:
            raise NgtrainError(
                f"--stage 4: {self.egs} has examples for {most} archives or more, and these options"
                f" make {num_archives}: use the same as for the stages before"
            )

    def remove_outputs(self, stage: int) -> None:
        """Remove what will be made again, so that never old and new files are there together."""
        if stage <= 2:
            for subset in self.made(SUBSET):
                subset.unlink()
        if stage <= 3:
            for part in self.made(PART):
                remove_with_target(part)
        if stage <= 4:
            for archive in training_archives(self.egs):
                remove_with_target(archive)
        self.discard_archive_info()

    def discard_archive_info(self) -> None:
        """Remove what info/ says of archives that are not there any more."""
        for info in (self.egs / ARCHIVE_INFO).iterdir():
            if not (self.egs / info.name).exists():
                info.unlink()

    def get_egs(self, features: str, posteriors: str, output: str, num_frames: int = 1) -> list:
        """Give the command that makes examples; arguments are tables."""
        o, words = self.options, ["nnet-get-egs"]
        if self.features.ivector_dir:
            words.append(f"--const-feat-dim={self.features.ivector_dim()}")
        words += [f"--left-context={o.left_context}", f"--right-context={o.right_context}"]
        if num_frames != 1:
            words.append(f"--num-frames={num_frames}")
        return [*words, features, posteriors, output]

    def posteriors(self, alignments: Path) -> str:
        """Name the table of posteriors of the pdf-ids of alignments, a gzipped archive."""
        to_pdf = ["ali-to-pdf", self.ali / "final.mdl", "ark:-", "ark:-"]
        to_post = ["ali-to-post", "ark:-", "ark:-"]
        return read_from(["gunzip", "-c", alignments], to_pdf, to_post, options="s,cs")

    def make_subsets(self) -> None:
        """Make single frames of some utterances: {valid,train}_diagnostic.egs and combine.egs."""
        o, egs = self.options, self.egs
        uttlists = {kind: egs / f"{kind}_uttlist" for kind in ("valid", "train_subset")}
        # Their alignments are spread over all jobs; picking them out once spares a pass.
        both, alignments = egs / "diagnostic_uttlist", egs / "ali_special.gz"
        write_lines(both, sorted(key for path in uttlists.values() for key in read_table(path)))
        run(
            o.cmd, egs / "log/ali_special.log",
            "gunzip", "-c", *of_jobs(self.ali / f"ali.{JOB}.gz", self.num_jobs), "|",
            "copy-int-vector", "ark:-", "ark,t:-", "|", "filter_scp.py", both, "|",
            "gzip", "-c", ">", alignments,
        )  # fmt: skip
        with Background() as background:
            for kind, uttlist in uttlists.items():
                select = ["filter_scp.py", uttlist, self.data / "feats.scp"]
                features = self.features.rspecifier(self.data, select=select)
                output = f"ark:{egs}/{kind}_all.egs"
                command = self.get_egs(features, self.posteriors(alignments), output)
                background.start(o.cmd, egs / f"log/create_{kind}.log", *command)
        log.info("... Getting subsets of validation examples for diagnostics and combination.")
        subsets = [
            ("valid", "valid_combine", o.num_valid_frames_combine),
            ("valid", "valid_diagnostic", o.num_frames_diagnostic),
            ("train_subset", "train_combine", o.num_train_frames_combine),
            ("train_subset", "train_diagnostic", o.num_frames_diagnostic),
        ]
        with Background() as background:
            for source, name, size in subsets:
                if size > 0:
                    background.start(
                        o.cmd, egs / f"log/create_{name}.log",
                        "nnet-subset-egs", f"--n={size}", f"--srand={o.srand}", self.info_dir,
                        f"ark:{egs}/{source}_all.egs", f"ark:{egs}/{name}.egs",
                    )  # fmt: skip
        for_combination = [egs / f"{kind}_combine.egs" for kind in ("valid", "train")]
        for_combination = [path for path in for_combination if path.exists()]
        run(
            o.cmd, egs / "log/create_combine.log", "nnet-copy-egs", self.info_dir,
            read_from(["cat", *for_combination]), f"ark:{egs}/combine.egs",
        )  # fmt: skip
        for path in [*for_combination, *self.made(ALL), both, alignments]:
            path.unlink()
        self.discard_archive_info()

    def make_training_examples(self, num_archives: int, frames_per_eg: int) -> None:
        """Make egs_orig.N.JOB.ark, in order, of job JOB of alignments; they take turns with N."""
        o, egs = self.options, self.egs
        part = self.split / JOB
        select = ["filter_scp.py", "--exclude", egs / "valid_uttlist", part / "feats.scp"]
        features = self.features.rspecifier(part, select=select, num_jobs=self.num_jobs)
        posteriors = self.posteriors(self.ali / f"ali.{JOB}.gz")
        if o.postdir:
            posteriors = f"scp:{o.postdir}/post.{JOB}.scp"
        outputs = []
        for n in range(1, num_archives + 1):
            link_to_storage(egs / f"egs.{n}.{o.egs_format}")
            for archive in of_jobs(egs / f"egs_orig.{n}.{JOB}.ark", self.num_jobs):
                link_to_storage(archive)
            outputs.append(f"ark:{egs}/egs_orig.{n}.{JOB}.ark")
        if num_archives == 1:
            command = self.get_egs(features, posteriors, *outputs, frames_per_eg)
        else:
            get_egs = self.get_egs(features, posteriors, "ark:-", frames_per_eg)
            command = [*get_egs, "|", "nnet-copy-egs", "ark:-", *outputs]
        run(f"{o.cmd} {o.io_opts}", egs / f"log/get_egs.{JOB}.log", *command, jobs=self.num_jobs)

    def report_losses(self) -> None:
        """Say how much of the data became examples, held out or to train on."""
        log_file, held_out = self.egs / f"log/get_egs.{JOB}.log", self.egs / "log/create_valid.log"
        tally = Tally.of_jobs(log_file, self.num_jobs, EXAMPLES.pattern, held_out)
        counts, num_utterances = tally.counts, len(read_table(self.data / "utt2spk"))
        frames = f"{counts['frames']} of {read_integer(self.egs / 'info/num_frames')} frames"
        unit = f"utterances ({frames})"
        tally.report("made examples of", counts["utterances"], num_utterances, unit)

    def shuffle(self, num_archives: int) -> None:
        """Make the archives to train on: the examples of all jobs in random order."""
        o, egs = self.options, self.egs
        parts = [egs / f"egs_orig.{JOB}.{job}.ark" for job in range(1, self.num_jobs + 1)]
        # The digits of --srand before those of the job make a seed of its own for each.
        run(
            f"{o.cmd} {o.io_opts}", egs / f"log/shuffle.{JOB}.log",
            "nnet-shuffle-egs", f"--srand={o.srand}{JOB}", self.info_dir,
            read_from(["cat", *parts]), training_table(egs, JOB), jobs=num_archives,
        )  # fmt: skip


if __name__ == "__main__":
    main()
