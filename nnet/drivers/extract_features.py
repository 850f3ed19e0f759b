"""Features of a data directory, as Kaldi's steps/make_mfcc.sh computes them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from nnet.cli import read_config
from nnet.cli.config_files import find_config
from nnet.drivers.data_dir import read_table
from nnet.drivers.driver import Driver, argument, driver, job_options, log, option
from nnet.drivers.losses import judge, losses_in, reason_in
from nnet.drivers.programs import of_jobs, require_contents, require_files, run
from nnet.drivers.splitting import split_evenly
from nnet.errors import NgtrainError
from nnet.io.streams import split_offset
from nnet.io.text import text_lines, write_lines
from nnet.launch.commands import JOB

MOST = 0.05  # of the utterances may be without features, as in Kaldi


def feature_driver(kind: str, description: str) -> Driver:
    """Make the driver that computes features of `kind`, "mfcc" or "fbank"."""

    @driver(
        f"Usage:  steps/make_{kind}.py [options] <data-dir> [<log-dir> [<{kind}-dir>]]\n"
        f" e.g.: steps/make_{kind}.py --nj 4 data/train exp/make_{kind}/train {kind}",
        writes="data_dir",
        help=description.strip(),
    )
    @argument("data_dir", type=Path)
    @argument("log_dir", required=False)
    @argument(f"{kind}_dir", required=False)
    @job_options
    @option(
        f"--{kind}-config", f"conf/{kind}.conf",
        f"Config file for compute-{kind}-feats; conf/... is looked for in the current folder, then "
        "in the project's root",
    )  # fmt: skip
    @option("--compress", True, "Write compressed matrices")
    @option("--write-utt2num-frames", True, "Write data-dir/utt2num_frames")
    @option("--write-utt2dur", True, "Write data-dir/utt2dur")
    def main(data_dir, log_dir, nj, cmd, **o):
        wanted = o[f"{kind}_config"]
        if (config := find_config(wanted)) != wanted:
            log.info(f"there is no {wanted} here: using {config}")
        folders = Path(log_dir or data_dir / "log"), Path(o[f"{kind}_dir"] or data_dir / "data")
        tables = [name for name in ("utt2num_frames", "utt2dur") if o[f"write_{name}"]]
        FeatureExtraction(kind, data_dir, *folders, config).run(nj, cmd, o["compress"], tables)

    return main


@dataclass
class FeatureExtraction:
    """Features of `kind` of one data directory, with the options of a config file.

    Reads data/wav.scp, and data/segments if there is one.  Writes the archives
    feature_dir/raw_KIND_NAME.JOB.ark, data/feats.scp that points into them, data/frame_shift,
    data/conf/KIND.conf, and such tables as are asked for.
    """

    kind: str
    data: Path
    log_dir: Path
    feature_dir: Path
    config: str

    def run(self, nj: int, cmd: str, compress: bool, outputs: list[str]) -> None:
        """Compute them and the tables `outputs` in at most `nj` jobs.  Raises NgtrainError."""
        data, kind, name = self.data, self.kind, self.data.resolve().name
        to_split = data / ("segments" if (data / "segments").exists() else "wav.scp")
        part = f"{self.log_dir}/{to_split.name}_{name}.{JOB}"
        parts = self.split(to_split, part, nj)
        nj, log_file = len(parts), f"{self.log_dir}/make_{kind}_{name}.{JOB}.log"
        archive = f"{self.feature_dir.resolve()}/raw_{kind}_{name}.{JOB}"
        tables = {output: f"{self.log_dir}/{output}.{JOB}" for output in outputs}
        run(cmd, log_file, *self.command(part, archive, compress, tables), jobs=nj)
        _concatenate(f"{archive}.scp", nj, data / "feats.scp")
        for output, pattern in tables.items():
            parts += _concatenate(pattern, nj, data / output)
        for file in parts:
            file.unlink()
        write_lines(data / "frame_shift", [f"{frame_shift(self.config):.10g}"])
        (data / "conf").mkdir(exist_ok=True)
        shutil.copyfile(self.config, data / "conf" / f"{kind}.conf")
        _say_losses(data, of_jobs(log_file, nj))
        log.info(f"Succeeded creating {kind.upper()} features for {name}")

    def split(self, to_split: Path, part: str, nj: int) -> list[Path]:
        """Check what is needed, and write `part` of a file for each of at most `nj` jobs."""
        data = self.data
        require_files(data / "wav.scp", data / "utt2spk", self.config)
        require_contents(to_split)
        frame_shift(self.config)
        _check_files(data)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.feature_dir.mkdir(parents=True, exist_ok=True)
        lines = list(text_lines(to_split))
        parts = of_jobs(part, min(nj, len(lines)))
        for file, lines_of_part in zip(parts, split_evenly(lines, len(parts)), strict=True):
            write_lines(file, lines_of_part)
        return parts

    def command(self, part: str, archive: str, compress: bool, tables: dict[str, str]) -> list:
        """Give the words of a job, which reads `part` of the recordings or of the segments."""
        source, recordings = [], f"scp,p:{part}"
        if (self.data / "segments").exists():
            log.info("segments file exists: using that.")
            source = ["extract-segments", f"scp,p:{self.data}/wav.scp", part, "ark:-", "|"]
            recordings = "ark:-"
        durations, num_frames = tables.get("utt2dur"), tables.get("utt2num_frames")
        return [
            *[*source, f"compute-{self.kind}-feats", "--verbose=2", f"--config={self.config}"],
            *([f"--write-utt2dur=ark,t:{durations}"] if durations else []),
            *[recordings, "ark:-", "|", "copy-feats", f"--compress={str(compress).lower()}"],
            *([f"--write-num-frames=ark,t:{num_frames}"] if num_frames else []),
            *["ark:-", f"ark,scp:{archive}.ark,{archive}.scp"],
        ]


def _concatenate(pattern: str, nj: int, output: Path) -> list[Path]:
    """Write the lines of the files `pattern` to one file; returns them."""
    files = of_jobs(pattern, nj)
    write_lines(output, [line for file in files for line in text_lines(file)])
    return files


def frame_shift(config: str) -> float:
    """Find the seconds between frames in a config file.  Raises NgtrainError."""
    shift = "10"
    for line in read_config(config):
        name, _, value = line.partition("=")
        if name.lower().replace("_", "-") == "--frame-shift":
            shift = value.strip()
    try:
        return float(shift) / 1000
    except ValueError:
        raise NgtrainError(f"{config}: --frame-shift={shift} is not a number") from None


def copy_configs(source: Path, target: Path) -> None:
    """Copy the options that features were made with, conf/KIND.conf, if a directory has them."""
    for config in sorted((source / "conf").glob("*.conf")):
        (target / "conf").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config, target / "conf" / config.name)


def _check_files(data: Path) -> None:
    """Raise NgtrainError when many recordings are not there, before hours of work on the others."""
    recordings = read_table(data / "wav.scp")
    files = [split_offset(name)[0] for name in recordings.values() if not name.endswith("|")]
    if missing := [file for file in files if not os.path.exists(file)]:
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
    sentence = f"{len(missing)} of {len(utterances)} utterances have no features"
    sentence = f"{data}: {sentence}, such as {missing[0]}: {reason}"
    judge(len(missing), len(utterances), sentence, many=0, most=MOST)
    log.info(f"utils/fix_data_dir.py {data} would leave them out of the other files, too")
