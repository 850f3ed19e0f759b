"""Directories of universal background models, extractors of i-vectors, and i-vectors.

They are Kaldi's (steps/online/nnet2/*.sh), and either's can be used here:

    final.mat, splice_opts   the transform of the frames that Gaussians see
    online_cmvn.conf         how frames are normalized online
    global_cmvn.stats        for that, statistics of the training data
    final.dubm, final.ie     the mixture and, of an extractor, the extractor
    online_cmvn_iextractor   there if the extractor sees normalized frames, too
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nnet.drivers.driver import decorated_by, option
from nnet.drivers.programs import require_files
from nnet.errors import NgtrainError
from nnet.io.text import write_lines
from nnet.launch.commands import Command, read_from, read_options

UBM_FILES = ("final.dubm", "final.mat", "global_cmvn.stats", "splice_opts", "online_cmvn.conf")
EXTRACTOR_FILES = (*UBM_FILES, "final.ie")
_MARK = "online_cmvn_iextractor"

_ESTIMATION = {
    "num_gselect": (5, "Gaussians for each frame, at most"),
    "min_post": (0.025, "Least posterior of a Gaussian"),
    "posterior_scale": (0.1, "Scale of the posteriors, for the likeness of frames in a row"),
    "max_count": (0.0, "Data, after that scale, above which the prior is scaled up; 0 for never"),
}


def estimation_options(**defaults: float) -> Callable[[Callable], Callable]:
    """Decorator for the options of online estimation; `defaults` replace the usual ones."""
    return decorated_by(
        *(
            option(f"--{name.replace('_', '-')}", type(value)(defaults.get(name, value)), help)
            for name, (value, help) in _ESTIMATION.items()
        )
    )


def copy_files(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy files, and what says that the extractor sees normalized frames.  Raises NgtrainError."""
    names = list(names)
    require_files(*(source / name for name in names))
    target.mkdir(parents=True, exist_ok=True)
    for name in [*names, *([_MARK] if (source / _MARK).exists() else [])]:
        shutil.copyfile(source / name, target / name)


def mark_normalized(directory: Path, normalized: bool) -> None:
    """Note whether the extractor of a directory sees normalized frames."""
    if normalized:
        write_lines(directory / _MARK, [])
    else:
        (directory / _MARK).unlink(missing_ok=True)


def gaussian_features(directory: Path, data: Path, normalized: bool = True, every: int = 1) -> str:
    """Give the frames of a data directory that Gaussians see, as a table.

    data: JOB in it may stand for the number of a job.
    normalized: whether they are normalized online.
    every: take only each such frame.
    """
    splice = ["splice-feats", *read_options(directory / "splice_opts", "splice-feats").split()]
    source, commands = f"scp:{data}/feats.scp", list[Command]()
    if normalized:
        commands = [[
            "apply-cmvn-online", f"--config={directory}/online_cmvn.conf",
            f"--spk2utt=ark:{data}/spk2utt", directory / "global_cmvn.stats", source, "ark:-",
        ]]  # fmt: skip
        source = "ark:-"
    commands.append([*splice, source, "ark:-"])
    commands.append(["transform-feats", directory / "final.mat", "ark:-", "ark:-"])
    if every > 1:
        commands.append(["subsample-feats", f"--n={every}", "ark:-", "ark:-"])
    return read_from(*commands, options="s,cs")


def write_extraction_config(
    conf: Path, extractor: Path, how: Mapping[str, Any], period: int | None = None
) -> Path:
    """Write ivector_extractor.conf, and the files that it names; returns its path.

    conf: the directory for them.
    extractor: has EXTRACTOR_FILES.
    how: the values of `estimation_options`.
    period: frames from one i-vector to the next, if not the usual number.
    """
    require_files(*(extractor / name for name in EXTRACTOR_FILES))
    conf.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(extractor / "online_cmvn.conf", conf / "online_cmvn.conf")
    splice_opts = read_options(extractor / "splice_opts", "splice-feats")
    write_lines(conf / "splice.conf", splice_opts.split())
    lines = [
        f"--cmvn-config={conf}/online_cmvn.conf",
        f"--splice-config={conf}/splice.conf",
        f"--lda-matrix={extractor}/final.mat",
        f"--global-cmvn-stats={extractor}/global_cmvn.stats",
        f"--diag-ubm={extractor}/final.dubm",
        f"--ivector-extractor={extractor}/final.ie",
        "--max-remembered-frames=1000",
        *(f"--{name.replace('_', '-')}={how[name]:g}" for name in _ESTIMATION),
    ]
    if period:
        lines.append(f"--ivector-period={period}")
    if (extractor / _MARK).exists():
        lines.append("--online-cmvn-iextractor=true")
    for line in lines:
        if "\n" in line:
            raise NgtrainError(f"a line break in the name of a file: {line!r}")
    write_lines(conf / "ivector_extractor.conf", lines)
    return conf / "ivector_extractor.conf"


def remove(files: Iterable[Path]) -> None:
    """Remove files of which what was made is there."""
    for file in files:
        file.unlink(missing_ok=True)
