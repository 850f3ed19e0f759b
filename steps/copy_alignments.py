#!/usr/bin/env python3
"""Give copies of utterances the alignments of their originals (Kaldi's steps/copy_ali_dir.sh).

<data> has copies, as utils/augment_data_dir.py makes them: its file utt2uniq says what each is a
copy of.  Copies must be as long as the originals: with noise or in a room, not at another speed.
<ali-dir> becomes an alignment directory of <data>, the rest of it being that of <src-ali-dir>.
Utterances whose originals have no alignment are left out.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from nnet.drivers.ali_dir import alignments_in, make_ali_dir
from nnet.drivers.data_dir import Table, read_table, require_other_dir, write_table
from nnet.drivers.driver import argument, driver, job_options, log
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.programs import require_files, run
from nnet.errors import NgtrainError
from nnet.launch.commands import JOB, unzipped

COPIED = ["tree", "final.mdl", "phones.txt"]


@driver(
    "Usage:  steps/copy_alignments.py [options] <data> <src-ali-dir> <ali-dir>\n"
    " e.g.: steps/copy_alignments.py data/train_multi exp/tri5a_ali exp/tri5a_multi_ali",
    writes="ali_dir",
)
@argument("data", "src_ali_dir", "ali_dir", type=Path)
@job_options
def main(data, src_ali_dir, ali_dir, nj, cmd):
    source, ali = src_ali_dir, ali_dir
    require_files(data / "utt2spk", *(source / name for name in [*COPIED, "ali.1.gz"]))
    require_other_dir(source, ali)
    log_dir = ali / "log"
    originals, counts = log_dir / "originals", Counter()

    def command(split: Path, nj: int, _) -> list:
        copies = f"ark,scp:{originals}.ark,{originals}.scp"
        words = "copy-int-vector", unzipped(*alignments_in(source)), copies
        run(cmd, f"{originals}.log", *words)
        place_of = read_table(f"{originals}.scp")
        for job in range(1, nj + 1):
            file = f"{log_dir}/ali.{job}.scp"
            counts.update(write_places(file, split / str(job), place_of, source))
        return ["copy-int-vector", f"scp:{log_dir}/ali.{JOB}.scp"]

    make_ali_dir(
        ali, data, nj, cmd, copies={name: source / name for name in COPIED},
        features=FeaturePipeline.of(source), log_name="copy", command=command,
    )  # fmt: skip
    for file in log_dir.glob("*.scp"):
        file.unlink()
    Path(f"{originals}.ark").unlink()
    log.info(f"{counts['done']} utterances have alignments in {ali}, {counts['lost']} have none")


def write_places(file: str, part: Path, place_of: Table, source: Path) -> Mapping[str, int]:
    """Write where the originals of a part have their alignments, if any has one; count them."""
    copied = read_table(part / "utt2uniq") if (part / "utt2uniq").exists() else {}
    original = {u: copied.get(u, u) for u in read_table(part / "utt2spk")}
    found = {u: place_of[first] for u, first in original.items() if first in place_of}
    if not found:
        raise NgtrainError(f"{source} has no alignment of any utterance of {part}")
    write_table(file, found)
    return {"done": len(found), "lost": len(original) - len(found)}


if __name__ == "__main__":
    main()
