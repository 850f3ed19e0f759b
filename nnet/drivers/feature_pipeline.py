"""The way from stored features to the input of a network: one place for all drivers.

Features are normalized by speaker. Then, for type `raw`, deltas may be added; for type `lda`,
frames are spliced and multiplied by the LDA (+MLLT) matrix of the system that made the alignments.
Adaptation transforms and i-vectors may follow. The files of an alignment or experiment directory
say what applies, as they do for Kaldi's steps/nnet2/{get_lda,get_egs2,align,decode}.sh:

    final.mat     the LDA matrix; without it the type is raw
    splice_opts   options of splice-feats before the LDA matrix
    cmvn_opts     options of apply-cmvn
    delta_order   order of the deltas that are added to raw features
    trans.N       adaptation transforms of the speakers of job N, of num_jobs (raw_trans.N for raw)
    transform_dir where those transforms were that a network was trained with (not a file of Kaldi)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnet.drivers.driver import decorated_by, flag, log, option
from nnet.drivers.programs import output_of, read_integer, require_files
from nnet.errors import NgtrainError
from nnet.io.text import write_lines
from nnet.launch.commands import JOB, Command, options_of, read_from, read_options

OPTIONS = {
    "feat_type": "raw or lda, if it is not to be guessed",
    "cmvn_opts": "Options of the mean normalization, for raw features",
    "delta_order": "Order of deltas, for raw features",
    "transform_dir": "Where adaptation transforms are, if not with the alignments",
    "online_ivector_dir": "Where i-vectors are that are appended to inputs",
}
"""What drivers let the user say of features, as arguments of FeaturePipeline.of(): their help."""


def feature_options(*names: str) -> Callable[[Callable], Callable]:
    """Decorator that gives a driver the options of those names in OPTIONS; empty: not given."""
    return decorated_by(*(option(flag(name), "", OPTIONS[name]) for name in names))


def given_features(options: Mapping[str, Any]) -> dict[str, str]:
    """Select those of a driver's options that feature_options() declares and that were given."""
    return {name: options[name] for name in OPTIONS if options.get(name)}


def feature_words(given: Mapping[str, str | Path]) -> list[str | Path]:
    """Give what given_features() selected as the words of another driver's command line."""
    return [word for name, value in given.items() for word in (flag(name), value)]


# What the files of adaptation transforms are called, by type of features.
TRANSFORMS = {"raw": "raw_trans", "lda": "trans"}


def check_same_matrix(matrix: Path, transform_dir: Path) -> None:
    """Raise NgtrainError if adaptation transforms are of features by another LDA matrix.

    That of a directory of transforms is in it or, as where it was decoded in, in the one above.
    """
    of_transforms = [transform_dir / "final.mat", transform_dir / "../final.mat"]
    there = [path for path in of_transforms if path.is_file()]
    if there and not any(path.read_bytes() == matrix.read_bytes() for path in there):
        raise NgtrainError(
            f"{there[0]} is not {matrix}: the transforms in {transform_dir} are of other features"
        )


@dataclass(frozen=True)
class FeaturePipeline:
    """The way from stored features to the input of a network, of the type "raw" or "lda"."""

    feat_type: str
    cmvn_opts: str = ""
    delta_order: str = ""
    splice_opts: str = ""
    lda_matrix: Path | None = None
    transform_dir: Path | None = None
    ivector_dir: Path | None = None

    @classmethod
    def of(
        cls, directory: str | Path, *, feat_type: str = "", cmvn_opts: str = "",
        delta_order: str = "", transform_dir: str | Path = "", online_ivector_dir: str | Path = "",
    ) -> FeaturePipeline:  # fmt: skip
        """Read the files of a directory; options given here count more.  Raises NgtrainError."""
        directory, ivectors = Path(directory), Path(online_ivector_dir)
        matrix = directory / "final.mat"
        adapted = [
            type_
            for type_, name in TRANSFORMS.items()
            if transform_dir and Path(transform_dir, f"{name}.1").is_file()
        ]
        if not feat_type:
            feat_type = "lda" if matrix.is_file() and "raw" not in adapted else "raw"
        if feat_type not in TRANSFORMS:
            raise NgtrainError(f"--feat-type is raw or lda, not {feat_type}")
        if feat_type in adapted:
            require_files(Path(transform_dir, "num_jobs"))
        elif transform_dir and Path(transform_dir) != directory:
            raise NgtrainError(f"no such file: {transform_dir}/{TRANSFORMS[feat_type]}.1")
        made_with = directory / "transform_dir"
        if made_with.is_file() and feat_type not in adapted:
            log.warning(
                "features are not adapted to speakers, but those of %s were, by the transforms in "
                "%s: --transform-dir says where these speakers' are",
                *(directory, made_with.read_text().strip()),
            )
        if online_ivector_dir:
            require_files(ivectors / "ivector_online.scp", ivectors / "ivector_period")
        pipeline = cls(
            feat_type,
            options_of("apply-cmvn", cmvn_opts, "--cmvn-opts")
            or read_options(directory / "cmvn_opts", "apply-cmvn"),
            transform_dir=Path(transform_dir) if feat_type in adapted else None,
            ivector_dir=ivectors if online_ivector_dir else None,
        )
        if feat_type == "raw":
            order = directory / "delta_order"
            if not delta_order and order.is_file():
                delta_order = str(read_integer(order))
            return replace(pipeline, delta_order=delta_order)
        if cmvn_opts or delta_order:
            raise NgtrainError(
                "--cmvn-opts and --delta-order are for raw features: those of type lda must be "
                f"made as they were for {matrix}"
            )
        require_files(matrix)
        if pipeline.transform_dir is not None:
            check_same_matrix(matrix, pipeline.transform_dir)
        splice_opts = read_options(directory / "splice_opts", "splice-feats")
        return replace(pipeline, splice_opts=splice_opts, lda_matrix=matrix)

    def save(self, directory: str | Path) -> FeaturePipeline:
        """Write what says this, but for transforms and i-vectors; returns the pipeline with it.

        What says otherwise, of an earlier run with other features, is removed.
        """
        directory = Path(directory)
        is_lda = self.lda_matrix is not None
        transform_dir = self.transform_dir and str(self.transform_dir.resolve())
        contents = {
            "cmvn_opts": self.cmvn_opts,
            "delta_order": self.delta_order or None,
            "splice_opts": self.splice_opts if is_lda else None,
            "transform_dir": transform_dir,
        }
        for name, line in contents.items():
            if line is None:
                (directory / name).unlink(missing_ok=True)
            else:
                write_lines(directory / name, [line])
        copy = directory / "final.mat"
        if not is_lda:
            copy.unlink(missing_ok=True)
            return self
        if not (copy.exists() and copy.samefile(self.lda_matrix)):
            shutil.copyfile(self.lda_matrix, copy)
        return replace(self, lda_matrix=copy)

    def unsaved_words(self) -> list:
        """Give what save() does not write as the words of another driver's command line."""
        given = {
            "feat_type": self.feat_type,
            "transform_dir": self.transform_dir,
            "online_ivector_dir": self.ivector_dir,
        }
        return feature_words({name: value for name, value in given.items() if value})

    def rspecifier(self, data: str | Path, **how) -> str:
        """Give the features of a data directory as a table; see :meth:`commands`."""
        commands = [*self.commands(data, **how), *self.ivector_commands(data)]
        return read_from(*commands, options="s,cs")

    def commands(
        self, data: str | Path, *, select: Command = (), num_jobs: int | None = None
    ) -> list[Command]:
        """Give the commands of the pipeline up to the i-vectors.

        data: the data directory; JOB in it may stand for the number of a job.
        select: command that prints lines of a feats.scp, if it is not to be the directory's.
        num_jobs: into how many parts the data was split, if it was.
        """
        scp = "scp:-" if select else f"scp:{data}/feats.scp"
        utt2spk = f"--utt2spk=ark:{data}/utt2spk"
        normalize = ["apply-cmvn", *self.cmvn_opts.split(), utt2spk]
        commands = [select] if select else []
        commands.append([*normalize, f"scp:{data}/cmvn.scp", scp, "ark:-"])
        if self.delta_order:
            commands.append(["add-deltas", f"--delta-order={self.delta_order}", "ark:-", "ark:-"])
        if self.lda_matrix is not None:
            commands.append(["splice-feats", *self.splice_opts.split(), "ark:-", "ark:-"])
            commands.append(["transform-feats", self.lda_matrix, "ark:-", "ark:-"])
        if self.transform_dir is not None:
            transforms = self.transforms(num_jobs)
            commands.append(["transform-feats", utt2spk, transforms, "ark:-", "ark:-"])
        return commands

    def ivector_dim(self) -> int:
        """Find the dimension of the i-vectors; 0 where there are none."""
        if self.ivector_dir is None:
            return 0
        return int(output_of("feat-to-dim", f"scp:{self.ivector_dir}/ivector_online.scp", "-"))

    def transforms(self, num_jobs: int | None) -> str:
        """Name the table of the adaptation transforms: of a job where the data was split alike."""
        num_parts = read_integer(self.transform_dir / "num_jobs")
        name = self.transform_dir / TRANSFORMS[self.feat_type]
        if num_jobs == num_parts:
            return f"ark:{name}.{JOB}"
        return read_from(["cat", *(f"{name}.{part + 1}" for part in range(num_parts))])

    def ivector_commands(self, data: str | Path, randomize_prob: float = 0.0) -> list[Command]:
        """Give the command that appends i-vectors, others of the utterance with a probability."""
        if self.ivector_dir is None:
            return []
        period = read_integer(self.ivector_dir / "ivector_period")
        commands = [
            ["filter_scp.py", f"{data}/utt2spk", self.ivector_dir / "ivector_online.scp"],
            ["subsample-feats", f"--n=-{period}", "scp:-", "ark:-"],
        ]
        if randomize_prob:
            randomize = f"--randomize-prob={randomize_prob:g}"
            commands.append(["ivector-randomize", randomize, "ark:-", "ark:-"])
        ivectors = read_from(*commands, options="s,cs")
        return [["paste-feats", f"--length-tolerance={period}", "ark:-", ivectors, "ark:-"]]
