"""A training that is as small as can be: its data, and the command."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nnet.io.tables import INTEGERS, sequential_table, table_writer

NUM_UTTERANCES = 60

OPTIONS = [
    *["--pnorm-input-dim", "20", "--pnorm-output-dim", "10"],
    *["--num-hidden-layers", "2", "--add-layers-period", "1", "--num-epochs", "4"],
    *["--splice-indexes", "layer0/-1:0:1 layer1/-1:1", "--frames-per-eg", "2"],
    *["--num-jobs-initial", "1", "--num-jobs-final", "2", "--minibatch-size", "64"],
    *["--samples-per-iter", "1500", "--egs-opts", "--num-utts-subset 5"],
    *["--num-jobs-compute-prior", "1", "--realign-times", "0.5", "--num-jobs-align", "1"],
    *["--num-threads", "1", "--combine-num-threads", "1"],
]
"""Five iterations, of which the last three average; data is realigned before the fourth."""


@dataclass(frozen=True)
class Corpus:
    """A data directory with a few utterances of one speaker, and their alignment."""

    data: Path
    ali: Path
    lang: Path

    def command(self, directory: Path, *options: str) -> list[str]:
        """That trains on it; later options count."""
        arguments = [self.data, self.lang, self.ali, directory]
        return ["train_multisplice.py", *OPTIONS, *options, *map(str, arguments)]


def make_corpus(shared: Path, root: Path) -> Corpus:
    """Write it into directories of `root`."""
    kaldi = shared / "kaldi"
    data, ali = root / "data", root / "ali"
    data.mkdir(parents=True)
    shutil.copytree(kaldi / "exp" / "tri2_ali", ali, copy_function=shutil.copyfile)
    rows = (kaldi / "data" / "train" / "feats.scp").read_text().splitlines()[:NUM_UTTERANCES]
    keys = {row.split()[0] for row in rows}
    feats = [row.replace("../shared", str(shared)) for row in rows]
    (data / "feats.scp").write_text("".join(f"{row}\n" for row in feats))
    for name in "utt2spk", "text":
        lines = (kaldi / "data" / "train" / name).read_text().splitlines(keepends=True)
        (data / name).write_text("".join(line for line in lines if line.split()[0] in keys))
    speakers = {line.split()[1] for line in (data / "utt2spk").read_text().splitlines()}
    (speaker,) = speakers
    (data / "spk2utt").write_text(f"{speaker} {' '.join(sorted(keys))}\n")
    cmvn = (kaldi / "data" / "train" / "cmvn.scp").read_text().splitlines()
    cmvn = [row.replace("../shared", str(shared)) for row in cmvn if row.split()[0] == speaker]
    (data / "cmvn.scp").write_text(f"{cmvn[0]}\n")
    alignments = {}
    for part in ali.glob("ali.*.gz"):
        with sequential_table(f"ark:gunzip -c {part} |", INTEGERS) as table:
            alignments.update({key: value for key, value in table if key in keys})
        part.unlink()
    with table_writer(f"ark:| gzip -c > {ali}/ali.1.gz", INTEGERS) as writer:
        for key in sorted(alignments):
            writer.write(key, alignments[key])
    (ali / "num_jobs").write_text("1\n")
    return Corpus(data, ali, kaldi / "data" / "lang")
