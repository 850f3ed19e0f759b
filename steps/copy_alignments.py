#!/usr/bin/env python3
"""Give copies of utterances the alignments of their originals (Kaldi's steps/copy_ali_dir.sh).

<data> has copies, as utils/augment_data_dir.py makes them: its file utt2uniq says what each is a
copy of.  Copies must be as long as the originals: with noise or in a room, not at another speed.
<ali-dir> becomes an alignment directory of <data>, the rest of it being that of <src-ali-dir>.
Utterances whose originals have no alignment are left out.
"""

import shutil
from pathlib import Path

from nnet.drivers.data_dir import read_table, write_lines, write_table
from nnet.drivers.driver import argument, cmd_option, driver, log, nj_option, require_files, run
from nnet.drivers.feature_pipeline import FeaturePipeline
from nnet.drivers.splitting import split_by_speaker
from nnet.errors import NgtrainError
from nnet.launch.commands import JOB, unzipped, zipped
from utils.validate_ali_dir import alignments_in

COPIED = ["tree", "final.mdl", "phones.txt"]


@driver(
    "Usage:  steps/copy_alignments.py [options] <data> <src-ali-dir> <ali-dir>\n"
    " e.g.: steps/copy_alignments.py data/train_multi exp/tri5a_ali exp/tri5a_multi_ali",
    writes="ali_dir",
)
@argument("data")
@argument("src_ali_dir")
@argument("ali_dir")
@nj_option
@cmd_option
def main(data, src_ali_dir, ali_dir, nj, cmd):
    data, source, ali = Path(data), Path(src_ali_dir), Path(ali_dir)
    require_files(data / "utt2spk", *(source / name for name in [*COPIED, "ali.1.gz"]))
    if source.resolve() == ali.resolve():
        raise NgtrainError(f"the source and the destination are the same directory: {source}")
    split, nj = split_by_speaker(data, nj)
    log_dir = ali / "log"
    log_dir.mkdir(parents=True, exist_ok=True)
    for old in alignments_in(ali):
        old.unlink()
    for name in COPIED:
        shutil.copyfile(source / name, ali / name)
    FeaturePipeline.of(source).save(ali)

    originals = f"{log_dir}/originals"
    run(
        cmd,
        f"{log_dir}/originals.log",
        *["copy-int-vector", unzipped(*alignments_in(source))],
        f"ark,scp:{originals}.ark,{originals}.scp",
    )
    place_of = read_table(f"{originals}.scp")
    num_done = num_failed = 0
    for job in range(1, nj + 1):
        part = split / str(job)
        original = read_table(part / "utt2uniq") if (part / "utt2uniq").exists() else {}
        original = {u: original.get(u, u) for u in read_table(part / "utt2spk")}
        found = {u: place_of[first] for u, first in original.items() if first in place_of}
        if not found:
            raise NgtrainError(f"{source} has no alignment of any utterance of {part}")
        num_done, num_failed = num_done + len(found), num_failed + len(original) - len(found)
        write_table(f"{log_dir}/ali.{job}.scp", found)
    run(
        cmd,
        f"{log_dir}/copy.{JOB}.log",
        *["copy-int-vector", f"scp:{log_dir}/ali.{JOB}.scp", zipped(ali / f"ali.{JOB}.gz")],
        jobs=nj,
    )
    for file in log_dir.glob("*.scp"):
        file.unlink()
    Path(f"{originals}.ark").unlink()
    write_lines(ali / "num_jobs", [str(nj)])
    log.info(f"{num_done} utterances have alignments in {ali}, {num_failed} have none")


if __name__ == "__main__":
    main()
