"""Alignment directories: how one is made, what is in it, and whether that belongs together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import run
from nnet.drivers.splitting import split_by_speaker
from nnet.errors import NgtrainError
from nnet.io.text import text_lines, write_lines
from nnet.launch.commands import JOB, unzipped, zipped

MOST_JOBS, ARCHIVE = 100_000, r"ali\.[0-9]+\.gz"


def make_ali_dir(
    ali: Path, data: Path, nj: int, cmd: str, *, copies: Mapping[str, Path],
    features: FeaturePipeline, log_name: str,
    command: Callable[[Path, int, FeaturePipeline], list], gpu: bool = False,
) -> int:  # fmt: skip
    """Make an alignment directory of a data directory, in parallel jobs; returns their number.

    nj: number of jobs; of fewer speakers there are fewer jobs.
    copies: the files that are copied into it, by the name that they get.
    features: how features are made, which is written down.
    log_name: logs are log/LOG_NAME.JOB.log.
    command: gives the words of a pipeline that prints the alignments of job JOB, from the
        directory of the parts of the data, their number, and the features as written down.
    """
    split, nj = split_by_speaker(data, nj)
    (ali / "log").mkdir(parents=True, exist_ok=True)
    (ali / "num_jobs").unlink(missing_ok=True)  # until all jobs have ended well
    for old in alignments_in(ali):
        old.unlink()
    for name, source in copies.items():
        shutil.copyfile(source, ali / name)
    words = command(split, nj, features.save(ali))
    log_file = f"{ali}/log/{log_name}.{JOB}.log"
    resources = {"gpu": 1} if gpu else {}
    run(cmd, log_file, *words, zipped(ali / f"ali.{JOB}.gz"), jobs=nj, **resources)
    write_lines(ali / "num_jobs", [str(nj)])
    return nj


def copy_ali_dir(source: Path, target: Path) -> None:
    """Copy an alignment directory that make_ali_dir() made, of raw features, without its logs."""
    for old in alignments_in(target):
        old.unlink()
    files = ["tree", "final.mdl", "phones.txt", "cmvn_opts", "delta_order", "num_jobs"]
    for file in [*alignments_in(source), *(source / name for name in files)]:
        if file.exists():
            shutil.copyfile(file, target / file.name)


def alignments_in(ali_dir: Path) -> list[Path]:
    """List the archives of alignments that are there, by number; other names do not count."""
    found = [path for path in ali_dir.glob("ali.*") if re.fullmatch(ARCHIVE, path.name)]
    return sorted(found, key=lambda path: (int(path.name.split(".")[1]), path))


def changed_phones(before: Path, after: Path) -> tuple[int, int]:
    """Count the frames that changed their phones between two alignment directories, and all frames.

    Both are of the same data and number of jobs.  Where only one has an utterance, all its frames
    count.
    """
    import numpy as np

    from nnet.hmm.transition_model import TransitionModel
    from nnet.io.tables import INTEGERS, sequential_table

    changed = total = 0
    phones = [TransitionModel.load(str(ali / "final.mdl")).phone_of for ali in (before, after)]
    for archives in zip(alignments_in(before), alignments_in(after), strict=True):
        old, new = (
            {key: phone_of[ids] for key, ids in sequential_table(unzipped(archive), INTEGERS)}
            for phone_of, archive in zip(phones, archives, strict=True)
        )
        for key in old.keys() | new.keys():
            first, second = old.get(key), new.get(key)
            num_frames = len(second if first is None else first)
            total += num_frames
            is_in_both = first is not None and second is not None
            changed += int(np.count_nonzero(first != second)) if is_in_both else num_frames
    return changed, total


def mismatch(tree_file: Path, model_file: Path, topo_file: Path | None = None) -> str:
    """Say why a tree, a model and a topology are not of one system; empty if they are.

    They are if tree and topology, that of the model if none is given, make the transition-states of
    the model: it is these that the alignments count.  Raises NgtrainError if one cannot be read.
    """
    from nnet.hmm.topology import HmmTopology
    from nnet.hmm.transition_model import TransitionModel
    from nnet.hmm.tree import ContextDependency
    from nnet.io.tokens import read_object

    tree = ContextDependency.load(str(tree_file))
    model = read_object(str(model_file), TransitionModel.read)
    different = "they do not belong together"
    if tree.num_pdfs != model.num_pdfs:
        sizes = f"has {tree.num_pdfs} pdf-ids, {model_file} {model.num_pdfs}"
        return f"{tree_file} {sizes}: {different}"
    topology = HmmTopology.load(str(topo_file)) if topo_file else model.topology
    names = f"{tree_file} and {topo_file}" if topo_file else str(tree_file)
    try:
        made = TransitionModel.from_tree(tree, topology).tuples
    except ValueError as error:
        return f"{names}: {error}"
    if made.tolist() == model.tuples.tolist():
        return ""
    counts = f"{len(made)} transition-states, {model_file} has {len(model.tuples)}"
    return f"{names} make {counts} or others: {different}"


def check_same_phones(lang_phones: Path, ali_phones: Path) -> None:
    """Raise NgtrainError if two lists of phones differ but for disambiguation symbols."""
    if not ali_phones.exists():  # not every alignment directory has one
        return
    lang, ali = (
        [line for line in text_lines(path) if not line.startswith("#")]
        for path in (lang_phones, ali_phones)
    )
    if lang != ali:
        raise NgtrainError(f"phone symbol tables {lang_phones} and {ali_phones} are not compatible")
