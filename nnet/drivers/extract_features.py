"""What steps/make_mfcc.py and steps/make_fbank.py do, worked from Kaldi's steps/make_mfcc.sh."""

import os
import shutil
from pathlib import Path

from nnet.cli import read_config
from nnet.cli.config_files import find_config
from nnet.drivers.data_dir import read_table, write_lines
from nnet.drivers.driver import log, require_contents, require_files, run
from nnet.drivers.losses import judge, losses_in, reason_in
from nnet.errors import NgtrainError
from nnet.io.streams import split_offset
from nnet.io.text import text_lines
from nnet.launch.commands import JOB
from utils.split_scp import split_evenly

MOST = 0.05  # of the utterances may be without features, as in Kaldi


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
    data/utt2dur, data/frame_shift and data/conf/KIND.conf.  Raises NgtrainError when a job fails,
    or when more than one recording in twenty is not there or one utterance in twenty has no
    features.
    """
    name = data.resolve().name
    segments = data / "segments"
    has_segments = segments.exists()
    wanted, config = config, find_config(config)
    if config != wanted:
        log.info(f"there is no {wanted} here: using {config}")
    require_files(data / "wav.scp", data / "utt2spk", config)
    require_contents(segments if has_segments else data / "wav.scp")
    shift = frame_shift(config)
    _check_files(data)
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
    log_file = f"{log_dir}/make_{kind}_{name}.{JOB}.log"
    run(
        cmd,
        log_file,
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
    write_lines(data / "frame_shift", [f"{shift:.10g}"])
    (data / "conf").mkdir(exist_ok=True)
    shutil.copyfile(config, data / "conf" / f"{kind}.conf")
    _say_losses(data, [Path(log_file.replace(JOB, str(n + 1))) for n in range(nj)])
    log.info(f"Succeeded creating {kind.upper()} features for {name}")


def _concatenate(pattern: str, nj: int, output: Path) -> None:
    """Write the lines of the files `pattern`, JOB being 1 to nj, to one file."""
    files = [Path(pattern.replace(JOB, str(n + 1))) for n in range(nj)]
    write_lines(output, [line for file in files for line in text_lines(file)])


def frame_shift(config: str) -> float:
    """The seconds between frames with the options of a config file; the last --frame-shift counts.

    Raises NgtrainError if that is no number.
    """
    shift = "10"
    for line in read_config(config):
        name, _, value = line.partition("=")
        if name.lower().replace("_", "-") == "--frame-shift":
            shift = value.strip()
    try:
        return float(shift) / 1000
    except ValueError:
        raise NgtrainError(f"{config}: --frame-shift={shift} is not a number") from None


def _check_files(data: Path) -> None:
    """Raise NgtrainError when many recordings are not there, before hours of work on the others."""
    recordings = read_table(data / "wav.scp")
    files = [split_offset(name)[0] for name in recordings.values() if not name.endswith("|")]
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        sentence = f"{len(missing)} of {len(recordings)} recordings are not there"
        sentence = f"{data}/wav.scp: {sentence}, such as {missing[0]}"
        judge(len(missing), len(recordings), sentence, many=0, most=MOST)


def _say_losses(data: Path, logs: list[Path]) -> None:
    """Say what has no features and why; raise NgtrainError if that is more than MOST of all."""
    for loss in losses_in(logs):
        if not loss.before:  # of recordings that have features
            judge(loss.count, loss.total, str(loss), most=1.0)
    features, utterances = read_table(data / "feats.scp"), read_table(data / "utt2spk")
    missing = [utterance for utterance in utterances if utterance not in features]
    if not missing:
        return
    reason = reason_in(logs, missing[0]) or f"see {logs[0].parent}"
    sentence = (
        f"{data}: {len(missing)} of {len(utterances)} utterances have no features, such as "
        f"{missing[0]}: {reason}"
    )
    judge(len(missing), len(utterances), sentence, many=0, most=MOST)
    log.info(f"utils/fix_data_dir.py {data} would leave them out of the other files, too")
