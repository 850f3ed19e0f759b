#!/usr/bin/env python3
"""Make a data directory of the development set of the ASpIRE challenge: far microphones in rooms.

<corpora> has LDC2017S21, with dev.stm, my_english.glm and recordings ASpIRE_single_dev/*.wav in it
or below.  The utterances are the segments of the references, and each recording is a speaker.
After Kaldi's egs/aspire/s5/local/multi_condition/aspire_data_prep.sh.
"""

from pathlib import Path

from nnet.cli import argument, log, program
from nnet.decoding.nist import read_stm
from nnet.drivers.data_dir import DataDir
from nnet.errors import NgtrainError
from nnet.io.text import text_lines, write_lines


def find_one(directory: Path, name: str) -> Path:
    """The file of that name in a directory or below."""
    found = sorted(directory.rglob(name))
    if not found:
        raise NgtrainError(f"{directory}: there is no {name} in it")
    return found[0]


@program(
    "Usage:  local/prepare_aspire.py <corpora> <directory>\n"
    " e.g.: local/prepare_aspire.py /corpora/LDC data      (makes data/aspire)"
)
@argument("corpora")
@argument("directory")
def main(corpora, directory):
    corpus, directory = Path(corpora, "LDC2017S21"), Path(directory, "aspire")
    segments = read_stm(str(find_one(corpus, "dev.stm")))
    glm = find_one(corpus, "my_english.glm")
    wav = {path.stem: path.resolve() for path in corpus.rglob("ASpIRE_single_dev/*.wav")}
    recordings = {segment.recording for segment in segments}
    if missing := recordings - wav.keys():
        raise NgtrainError(f"{corpus}: there is no recording {min(missing)}.wav")
    names = {
        f"{s.recording}-{round(1000 * s.start):07d}-{round(1000 * s.end):07d}": s
        for s in segments
        if not s.ignored
    }
    DataDir(
        {
            "wav.scp": {name: str(wav[name]) for name in recordings},
            "segments": {name: f"{s.recording} {s.start} {s.end}" for name, s in names.items()},
            "utt2spk": {name: s.recording for name, s in names.items()},
        }
    ).write(directory)
    write_lines(
        directory / "stm",
        (f"{s.recording} A {s.recording} {s.start} {s.end} {s.text}".rstrip() for s in segments),
    )
    write_lines(directory / "glm", text_lines(glm))
    log.info(f"{directory}: {len(recordings)} recordings, {len(names)} utterances")


if __name__ == "__main__":
    main()
