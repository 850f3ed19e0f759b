"""NIST sphere files (.sph) as recordings of a data directory."""

import os
import shutil
from pathlib import Path

from nnet.errors import NgtrainError

HEADER_SIZE = 1024


def find_sph2pipe() -> str | None:
    """Find the program sph2pipe on the PATH, or where Kaldi's tools are installed."""
    places = [os.environ.get("PATH", "")]
    if "KALDI_ROOT" in os.environ:
        places += [str(p) for p in Path(os.environ["KALDI_ROOT"], "tools").glob("sph2pipe*")]
    return shutil.which("sph2pipe", path=os.pathsep.join(places))


def wav_scp_entry(path: Path, sph2pipe: str | None) -> str:
    """Make the entry of wav.scp that reads all channels of a sphere file.

    That is the file itself, or for one that is compressed by shorten, a pipe from sph2pipe.

    Raises:
        NgtrainError: it is no sphere file, or is compressed and there is no sph2pipe.
    """
    from nnet.features.audio import is_shortened  # brings NumPy

    path = path.resolve()
    with open(path, "rb") as file:
        header = file.read(HEADER_SIZE)
    if not header.startswith(b"NIST_1A"):
        raise NgtrainError(f"{path}: it is not a NIST sphere file")
    if not is_shortened(header):
        return str(path)
    if not sph2pipe:
        raise NgtrainError(
            f"{path}: it is compressed by shorten, and there is no sph2pipe to read it: put that "
            "on the PATH (Kaldi's tools/extras/install_sph2pipe.sh makes it)"
        )
    return f"{sph2pipe} -f wav -p '{path}' |"
