#!/usr/bin/env python3
"""Make frames of the experiment from the features and the alignment of a data directory.

<ali-dir> says how features are made, too.  Frames that are there are not made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from frames import Frames

from nnet.cli import argument, log, program
from nnet.drivers.driver import read_integer
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.random_access import random_access_table
from nnet.io.tables import FEATURES, INTEGERS, sequential_table
from nnet.launch.commands import read_from
from nnet.launch.directory_lock import only_driver_in


@program("""\
Usage:  benchmarks/convergence/make_frames.py [options] <data> <ali-dir> <frames-dir>
 e.g.: benchmarks/convergence/make_frames.py data/train exp/ali exp/convergence/frames/train""")
@argument("data", "ali_dir", "frames_dir", type=Path)
def main(data, ali_dir, frames_dir):
    with only_driver_in(frames_dir, wait=True):
        if not Frames.are_in(frames_dir):
            alignments = [
                f"{ali_dir}/ali.{n + 1}.gz" for n in range(read_integer(ali_dir / "num_jobs"))
            ]
            to_pdfs = ["ali-to-pdf", "--print-args=false", ali_dir / "final.mdl", "ark:-", "ark:-"]
            pdfs = read_from(["gunzip", "-c", *alignments], to_pdfs)
            frames = read_frames(FeaturePipeline.of(ali_dir).rspecifier(data), pdfs)
            frames.save(frames_dir)
            log.info("%d frames of %s are in %s", len(frames), data, frames_dir)


def read_frames(features_rspecifier: str, pdfs_rspecifier: str) -> Frames:
    """Read utterances that have both; what has not is counted."""
    features, labels, losses = [], [], Losses()
    with (
        sequential_table(features_rspecifier, FEATURES) as utterances,
        random_access_table(pdfs_rspecifier, INTEGERS) as alignments,
    ):
        for key, matrix in utterances:
            pdfs = alignments.get(key)
            if pdfs is None or len(pdfs) != len(matrix):
                losses.add(key, "no alignment" if pdfs is None else "another length")
            else:
                features.append(np.asarray(matrix, np.float32))
                labels.append(np.asarray(pdfs, np.int32))
    losses.report("%d utterances were left out")
    if not features:
        raise NgtrainError(f"{pdfs_rspecifier}: no utterance of {features_rspecifier} is in it")
    starts = np.cumsum([0, *map(len, labels)], dtype=np.int64)
    return Frames(np.concatenate(features), np.concatenate(labels), starts)


if __name__ == "__main__":
    main()
