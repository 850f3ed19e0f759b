"""What steps/make_mfcc.py and steps/make_fbank.py do, worked from Kaldi's steps/make_mfcc.sh."""

import re
import shutil
from pathlib import Path

from nnet.errors import NgtrainError
from nnet.io.text import text_lines
from utils.commands import JOB
from utils.data_dir import write_lines
from utils.driver import log, require_contents, require_files, run
from utils.split_scp import split_evenly


def extract_features(
    kind: str,
    data: Path,
    log_dir: Path,
    feature_dir: Path,
    config: str,
    nj: int,
    cmd: str,
    compress: bool,
    write_utt2num_frames: bool,
    write_utt2dur: bool,
) -> None:
    """Compute features of `kind` ("mfcc" or "fbank") of a data directory in `nj` jobs.

    Reads data/wav.scp, and data/segments if there is one.  Writes the archives
    feature_dir/raw_KIND_NAME.JOB.ark, data/feats.scp that points into them, data/utt2num_frames,
    data/utt2dur, data/frame_shift and data/conf/KIND.conf.  Raises NgtrainError when a job fails or
    when more than one utterance in twenty has no features.
    """
    name = data.resolve().name
    segments = data / "segments"
    has_segments = segments.exists()
    require_files(data / "wav.scp", data / "utt2spk", config)
    require_contents(segments if has_segments else data / "wav.scp")
    log_dir.mkdir(parents=True, exist_ok=True)
    feature_dir.mkdir(parents=True, exist_ok=True)

    to_split = segments if has_segments else data / "wav.scp"
    lines = list(text_lines(to_split))
    nj = min(nj, len(lines))
    parts = [log_dir / f"{to_split.name}_{name}.{n + 1}" for n in range(nj)]
    for part, part_lines in zip(parts, split_evenly(lines, nj), strict=True):
        write_lines(part, part_lines)

    part = str(parts[0])[: -len("1")] + JOB
    if has_segments:
        log.info("segments file exists: using that.")
        recordings = "ark:-"
        source = ["extract-segments", f"scp,p:{data}/wav.scp", part, "ark:-", "|"]
    else:
        recordings = f"scp,p:{part}"
        source = []
    archive = feature_dir.resolve() / f"raw_{kind}_{name}.{JOB}"
    num_frames, durations = f"{log_dir}/utt2num_frames.{JOB}", f"{log_dir}/utt2dur.{JOB}"
    run(
        cmd,
        f"{log_dir}/make_{kind}_{name}.{JOB}.log",
        *source,
        *[f"compute-{kind}-feats", "--verbose=2", f"--config={config}"],
        *([f"--write-utt2dur=ark,t:{durations}"] if write_utt2dur else []),
        *[recordings, "ark:-", "|", "copy-feats", f"--compress={str(compress).lower()}"],
        *([f"--write-num-frames=ark,t:{num_frames}"] if write_utt2num_frames else []),
        *["ark:-", f"ark,scp:{archive}.ark,{archive}.scp"],
        jobs=nj,
    )

    _concatenate(f"{archive}.scp", nj, data / "feats.scp")
    for written, parts_of_table, table in [
        (write_utt2num_frames, num_frames, "utt2num_frames"),
        (write_utt2dur, durations, "utt2dur"),
    ]:
        if written:
            _concatenate(parts_of_table, nj, data / table)
            parts += [Path(parts_of_table.replace(JOB, str(n + 1))) for n in range(nj)]
    for file in parts:
        file.unlink()
    shift = re.search(r"^--frame-shift=(\d+)", Path(config).read_text(), re.MULTILINE)
    (data / "frame_shift").write_text(f"{0.001 * int(shift[1]):.3f}\n" if shift else "0.01\n")
    (data / "conf").mkdir(exist_ok=True)
    shutil.copyfile(config, data / "conf" / f"{kind}.conf")
    _check_coverage(data)
    log.info(f"Succeeded creating {kind.upper()} features for {name}")


def _concatenate(pattern: str, nj: int, output: Path) -> None:
    """Write the lines of the files `pattern`, JOB being 1 to nj, to one file."""
    files = [Path(pattern.replace(JOB, str(n + 1))) for n in range(nj)]
    write_lines(output, [line for file in files for line in text_lines(file)])


def _check_coverage(data: Path) -> None:
    """Raise NgtrainError when fewer than 95% of the utterances have features."""
    num_features = len(list(text_lines(data / "feats.scp")))
    num_utterances = len(list(text_lines(data / "utt2spk")))
    if num_features < num_utterances - num_utterances // 20:
        raise NgtrainError(
            f"{data}: only {num_features} of {num_utterances} utterances have features"
        )
    if num_features != num_utterances:
        log.warning(
            f"{data}: {num_utterances - num_features} of {num_utterances} utterances have no "
            f"features; consider using utils/fix_data_dir.py {data}"
        )
