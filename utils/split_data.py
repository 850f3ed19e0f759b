#!/usr/bin/env python3
"""Split a data directory into parts for parallel jobs: <data-dir>/split<n>/{1,...,<n>}.

The utterances of a speaker stay together, unless --per-utt is given; then the parts are in
<data-dir>/split<n>utt.  Nothing is done if the parts are of this data: newer, and made of the same
contents, of which the last part has a note in its file made_of.
"""

import zlib
from pathlib import Path

from nnet.drivers.data_dir import KINDS, DataDir, group_by_value
from nnet.drivers.driver import argument, integer, option, require_files, tool
from nnet.drivers.programs import require_contents
from nnet.drivers.splitting import split_evenly, split_groups
from nnet.io.text import write_lines
from nnet.launch.directory_lock import only_driver_in

NOTE = "made_of"


def is_of(part: Path, data: Path, contents: list[str]) -> bool:
    """Whether all that is in `data` is in `part` too, not older, and made of these contents."""
    note = part / NOTE
    if not note.is_file() or note.read_text(errors="replace").splitlines() != contents:
        return False
    names = [line.split()[0] for line in contents]
    return all(
        (part / name).is_file()
        and (part / name).stat().st_mtime_ns >= (data / name).stat().st_mtime_ns
        for name in names
    )


def contents_of(data: Path) -> list[str]:
    """Name, size and checksum of each file of a data directory that is split: a line for each."""
    names = [name for name in (*KINDS, "frame_shift") if (data / name).is_file()]
    files = ((name, (data / name).read_bytes()) for name in names)
    return [f"{name} {len(text)} {zlib.crc32(text):08x}" for name, text in files]


@tool("""Usage:  utils/split_data.py [--per-utt] <data-dir> <num-to-split>
 e.g.: utils/split_data.py data/train 4""")
@argument("data_dir")
@argument("num_to_split", type=integer(least=1))
@option("--per-utt", False, "Split speakers too")
def main(data_dir, num_to_split, per_utt):
    source = Path(data_dir)
    require_files(source / "utt2spk")
    require_contents(*(source / name for name in KINDS if (source / name).exists()))
    split_dir = source / f"split{num_to_split}{'utt' if per_utt else ''}"
    last = split_dir / str(num_to_split)
    # The last part is written last: if it is complete and new, so are the others.
    if is_of(last, source, contents_of(source)):  # which may be all that we may read
        return
    with only_driver_in(source, wait=True):  # several drivers may want the same parts at once
        contents = contents_of(source)
        if is_of(last, source, contents):
            return
        (last / NOTE).unlink(missing_ok=True)  # until all parts are new
        data = DataDir.read(source)
        data.scoring = {}  # which is not done in jobs
        if per_utt:
            parts = split_evenly(sorted(data["utt2spk"]), num_to_split)
        else:
            parts = split_groups(list(group_by_value(data["utt2spk"]).values()), num_to_split)
        for number, part in enumerate(data.split(parts), 1):
            part.write(split_dir / str(number))
        write_lines(last / NOTE, contents)


if __name__ == "__main__":
    main()
