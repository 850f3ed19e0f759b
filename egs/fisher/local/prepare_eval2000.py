#!/usr/bin/env python3
"""Make a data directory of the HUB5 evaluation of 2000: calls of Switchboard and CallHome.

<speech-dir> is LDC2002S09, with english/*.sph and english/hub5e_00.pem in it or below; <text-dir>
is LDC2002T43, with reference/hub5e00.english.000405.stm and reference/en20000405_hub5.glm.  The
utterances are the segments of the .pem file; references stay as NIST scores them, in the files stm
and glm.  After Kaldi's egs/swbd/s5c/local/eval2000_data_prep.sh, which says what is amiss in the
stm.
"""

from pathlib import Path

from nnet.cli import argument, log, option, program
from nnet.decoding.nist import COMMENT, read_stm
from nnet.drivers.data_dir import DataDir
from nnet.errors import NgtrainError
from nnet.features.sphere import find_sph2pipe, wav_scp_entry
from nnet.io.text import text_lines, write_lines

SIDES = "AB"
REPAIRS = [("((", "("), ("<B_ASIDE>", ""), ("<E_ASIDE>", "")]


def find_one(directory: str, name: str) -> Path:
    """The file of that name in a directory or below."""
    found = sorted(Path(directory).rglob(name))
    if not found:
        raise NgtrainError(f"{directory}: there is no {name} in it")
    return found[0]


def read_pem(path: Path) -> dict[str, str]:
    """The segments, as in a data directory, by the name of the utterance.

    A line is `recording side speaker start end`.
    """
    segments = {}
    for number, line in enumerate(text_lines(path), start=1):
        if line.startswith(COMMENT) or not line.strip():
            continue
        try:
            recording, side, _, start, end = line.split()
            name = segment_name(recording, side, float(start), float(end))
            segments[name] = f"{recording} {start} {end} {SIDES.index(side)}"
        except ValueError:
            raise NgtrainError(f"{path}: line {number} is no segment: '{line}'") from None
    return segments


def segment_name(recording: str, side: str, start: float, end: float) -> str:
    return f"{recording}-{side}_{round(100 * start):06d}-{round(100 * end):06d}"


def repaired(line: str) -> str:
    for old, new in REPAIRS:
        line = line.replace(old, new)
    return line


@program(
    "Usage:  local/prepare_eval2000.py [options] <speech-dir> <text-dir> <directory>\n"
    " e.g.: local/prepare_eval2000.py /corpora/LDC2002S09 /corpora/LDC2002T43 data/eval2000"
)
@argument("speech_dir")
@argument("text_dir")
@argument("directory")
@option("--num-recordings", type=int, default=40, help="Recordings that there must be; 0: any")
def main(speech_dir, text_dir, directory, num_recordings):
    pem = find_one(speech_dir, "hub5e_00.pem")
    stm = find_one(text_dir, "hub5e00.english.000405.stm")
    glm = find_one(text_dir, "en20000405_hub5.glm")
    recordings = {path.stem: path for path in sorted(pem.parent.glob("*.sph"))}
    if not recordings or num_recordings not in (0, len(recordings)):
        raise NgtrainError(
            f"expected {num_recordings or 'some'} recordings in {pem.parent}, "
            f"found {len(recordings)}"
        )
    references = {
        segment_name(s.recording, s.channel, s.start, s.end): s for s in read_stm(str(stm))
    }
    segments = read_pem(pem)
    if segments.keys() != references.keys():
        name = min(segments.keys() ^ references.keys())
        raise NgtrainError(f"{pem} and {stm} have not the same segments: {name} is in one of them")
    segments = {u: segment for u, segment in segments.items() if not references[u].ignored}
    spoken = {segment.split()[0] for segment in segments.values()}
    if missing := spoken - recordings.keys():
        raise NgtrainError(f"{pem.parent}: there is no {min(missing)}.sph")

    sph2pipe = find_sph2pipe()
    data = DataDir(
        {
            "wav.scp": {r: wav_scp_entry(recordings[r], sph2pipe) for r in spoken},
            "segments": segments,
            "utt2spk": {utterance: utterance.rsplit("_", 1)[0] for utterance in segments},
        }
    )
    data.write(directory)
    write_lines(Path(directory, "stm"), map(repaired, text_lines(stm)))
    write_lines(Path(directory, "glm"), text_lines(glm))
    log.info(f"{directory}: {len(spoken)} recordings, {len(segments)} utterances")


if __name__ == "__main__":
    main()
