#!/usr/bin/env python3
"""Make an augmented copy of a data directory: what bin/wav-augment does, to every recording.

Names of utterances, recordings and speakers get a prefix, so that the copy can be combined with the
original; utt2uniq says which utterances are copies of the same one.  The recordings are written to
archives in <wav-dir> (default: <dest-data-dir>/data).  Recordings that cannot be read are passed
over, which is said, and is an error if they are most.  Features are to be computed afterwards.
"""

from pathlib import Path

from nnet.drivers.data_dir import (
    DataDir,
    Table,
    read_table,
    recording_of,
    require_other_dir,
    write_table,
)
from nnet.drivers.driver import argument, cmd_option, driver, log, nj_option, option, run
from nnet.drivers.losses import judge, reason_in
from nnet.drivers.splitting import split_evenly
from nnet.errors import NgtrainError
from nnet.launch.commands import JOB


@driver(
    "Usage:  utils/augment_data_dir.py [options] <prefix> <src-data-dir> <dest-data-dir> "
    "[<wav-dir>]\n"
    " e.g.: utils/augment_data_dir.py --speed 0.9 sp0.9- data/train data/train_sp0.9",
    writes="dest_data_dir",
)
@argument("prefix", "src_data_dir", "dest_data_dir")
@argument("wav_dir", required=False)
@nj_option
@cmd_option
@option("--speed", 1.0, "Passed to wav-augment")
@option("--reverberation-time", "", "Passed to wav-augment")
@option("--snr", "", "Passed to wav-augment")
@option("--volume", "", "Passed to wav-augment")
@option("--srand", 0, "Passed to wav-augment")
def main(prefix, src_data_dir, dest_data_dir, wav_dir, nj, cmd, **augmentation):
    require_other_dir(src_data_dir, dest_data_dir)
    if not prefix or set(prefix) & set(" \t/"):
        raise NgtrainError(f"'{prefix}' is no prefix for names: it is empty, or has a space or /")
    data = augmented(DataDir.read(src_data_dir), prefix, augmentation["speed"])
    dest = Path(dest_data_dir)
    wav = Path(wav_dir or dest / "data").resolve() / f"wav_{dest.name}"
    log_dir = dest / "log"
    for directory in wav.parent, log_dir:
        directory.mkdir(parents=True, exist_ok=True)

    nj = min(nj, len(data["wav.scp"]))
    for n, part in enumerate(split_evenly(sorted(data["wav.scp"].items()), nj), 1):
        write_table(log_dir / f"wav.{n}.scp", dict(part))
    run(
        cmd,
        f"{log_dir}/wav_augment.{JOB}.log",
        "wav-augment",
        *[f"--{name.replace('_', '-')}={value}" for name, value in augmentation.items()],
        f"scp,p:{log_dir}/wav.{JOB}.scp",
        f"ark,scp:{wav}.{JOB}.ark,{wav}.{JOB}.scp",
        jobs=nj,
    )
    copies: Table = {}
    for n in range(1, nj + 1):
        copies |= read_table(f"{wav}.{n}.scp")
    logs = [log_dir / f"wav_augment.{n}.log" for n in range(1, nj + 1)]
    data = with_recordings(data, copies, dest, logs)
    data.write(dest)
    data.say_what_is_left_out(src_data_dir)
    log.info("made %s of %s", dest, src_data_dir)


def augmented(data: DataDir, prefix: str, speed: float) -> DataDir:
    """The copy as it will be, except for the places of its recordings."""
    kept = {"wav.scp", "utt2spk", "text", "segments", "utt2uniq", "utt2lang", "spk2gender"}
    data = DataDir({name: table for name, table in data.tables.items() if name in kept})

    def rename(name: str) -> str:
        return prefix + name

    copy = data.rename(rename, rename, rename)
    if "segments" in copy:
        for utterance, segment in copy["segments"].items():
            recording, *times, channel = (*segment.split(), "")[:4]
            # An end of -1 is that of the recording.
            times = [float(time) if float(time) < 0 else float(time) / speed for time in times]
            copy["segments"][utterance] = " ".join(
                [recording, *(f"{time:.3f}" for time in times), channel]
            ).rstrip()
    return copy


def with_recordings(data: DataDir, copies: Table, dest: Path, logs: list[Path]) -> DataDir:
    """Put the copies of recordings in their places; what has none is left out, which is said.

    Raises NgtrainError if that is most of the data.
    """
    recordings = data["wav.scp"]
    missing = [name for name in recordings if name not in copies]
    data.tables["wav.scp"] = copies
    if not missing:
        return data
    kept = set(copies)
    if "segments" in data:
        kept = {utt for utt, value in data["segments"].items() if recording_of(value) in copies}
    num_lost = len(data["utt2spk"].keys() - kept)
    reason = reason_in(logs, missing[0]) or f"see {logs[0].parent}"
    sentence = (
        f"{dest}: {len(missing)} of {len(recordings)} recordings have no copy, such as "
        f"{missing[0]}: {reason}; {num_lost} utterances are left out with them"
    )
    judge(len(missing), len(recordings), sentence)
    return data.select(kept)


if __name__ == "__main__":
    main()
