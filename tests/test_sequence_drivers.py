"""The drivers of sequence training, on the utterances of which Kaldi made lattices."""

from __future__ import annotations

import gzip
import re
import shutil

import numpy as np
import pytest

from nnet.decoding.lexicon import unigram_grammar
from nnet.io.tables import sequential_table
from nnet.lattices.tables import COMPACT_LATTICE
from nnet.model.acoustic_model import AcousticModel

FOLDER = "kaldi/golden/discriminative"


@pytest.fixture
def material(reference, tmp_path):
    """Data of some utterances, and a directory of their lattices."""
    train, data, denlats = reference("kaldi/data/train"), tmp_path / "data", tmp_path / "denlats"
    data.mkdir()
    denlats.mkdir()
    for name in "feats.scp", "utt2spk", "text":
        lines = (train / name).read_text().splitlines(keepends=True)
        (data / name).write_text("".join(lines[2::125]))
    (data / "cmvn.scp").write_text((train / "cmvn.scp").read_text())
    speakers: dict[str, list[str]] = {}
    for line in (data / "utt2spk").read_text().splitlines():
        utterance, speaker = line.split()
        speakers.setdefault(speaker, []).append(utterance)
    lines = [f"{speaker} {' '.join(of)}\n" for speaker, of in speakers.items()]
    (data / "spk2utt").write_text("".join(lines))
    lattices = reference(f"{FOLDER}/denlats.ark").read_bytes()
    (denlats / "lat.1.gz").write_bytes(gzip.compress(lattices))
    (denlats / "num_jobs").write_text("1\n")
    return data, denlats


@pytest.mark.slow
def test_from_lattices_to_networks_of_epochs(run_program, reference, material, tmp_path):
    data, denlats = material
    lang, ali = reference("kaldi/data/lang"), reference("kaldi/exp/tri2_ali")
    model, degs, exp = reference(f"{FOLDER}/0.mdl"), tmp_path / "degs", tmp_path / "exp"
    run_program(
        "get_egs_discriminative2.py", "--samples-per-iter", 250, data, lang, ali, denlats, model,
        degs,
    )  # fmt: skip
    assert (degs / "info/num_archives").read_text() == "3\n"
    assert sorted(path.name for path in degs.glob("*.ark")) == [f"degs.{n}.ark" for n in (1, 2, 3)]
    options = ["--num-jobs-nnet", 2, "--num-epochs", 2, "--learning-rate", 0.0005]
    said = run_program("train_discriminative2.py", *options, degs, exp).stderr.decode()
    objectives = [float(x) for x in re.findall(r"smbr objective (\S+) per frame", said)]
    assert len(objectives) == 3 and np.isfinite(objectives).all()
    there = {path.name for path in exp.glob("*.mdl")}
    assert there == {
        "0.mdl",
        "1.mdl",
        "3.mdl",
        "epoch0.mdl",
        "epoch1.mdl",
        "epoch2.mdl",
        "final.mdl",
    }
    final, last = (AcousticModel.load(str(exp / name)) for name in ("final.mdl", "3.mdl"))
    start = AcousticModel.load(str(exp / "0.mdl"))
    for mine, same, before in zip(
        *(m.network.updatable_components for m in (final, last, start)), strict=True
    ):
        np.testing.assert_array_equal(mine.linear_params, same.linear_params)
        assert not np.array_equal(mine.linear_params, before.linear_params)

    changed = run_program("train_discriminative2.py", *options, "--boost", 0.1, degs, exp).stderr
    assert b"nothing to do" in changed
    assert b"it was made with other options: boost was '0.0' and is '0.1'" in changed

    (exp / "final.mdl").unlink()  # goes on from the latest network that is there
    (exp / "3.mdl").unlink()
    shutil.copyfile(exp / "1.mdl", exp / "2.mdl")
    again = run_program("train_discriminative2.py", *options, degs, exp).stderr.decode()
    assert "going on from" in again and again.count("smbr objective") == 1
    (exp / "final.mdl").unlink()
    result = run_program(
        "train_discriminative2.py", *options, "--num-jobs-nnet", 1, degs, exp, check=False
    )
    assert result.returncode == 1 and not (exp / "final.mdl").exists()
    assert b"begun with other options: num-jobs-nnet was '2' and is '1'" in result.stderr


@pytest.mark.slow
def test_denominator_lattices_are_of_the_words_of_the_transcripts(
    run_program, reference, material, tmp_path
):
    whole, data = material[0], tmp_path / "subset"
    lang, ali = reference("kaldi/data/lang"), reference("kaldi/exp/tri2_ali")
    source, denlats = tmp_path / "source", tmp_path / "own_denlats"
    source.mkdir()
    for name in "tree", "final.mat", "splice_opts", "cmvn_opts":
        shutil.copyfile(ali / name, source / name)
    shutil.copyfile(reference(f"{FOLDER}/0.mdl"), source / "final.mdl")
    run_program("subset_data_dir.py", whole, 6, data)
    (denlats / "dengraph").mkdir(parents=True)
    for name in "dengraph/HCLG.fst", "lat.3.gz":  # of an earlier run, by another model
        (denlats / name).write_text("old")
    run_program("make_denlats.py", "--nj", 2, data, lang, source, denlats)
    assert not (denlats / "lat.3.gz").exists()
    assert (denlats / "num_jobs").read_text() == "2\n"
    texts = [line.split() for line in (data / "text").read_text().splitlines()]
    said = {word for _, *words in texts for word in words}
    found = dict(sequential_table(f"ark:gunzip -c {denlats}/lat.*.gz |", COMPACT_LATTICE))
    assert list(found) == [key for key, *_ in texts]
    numbers = dict(line.split() for line in (lang / "words.txt").read_text().splitlines())
    possible = {int(numbers[word]) for word in said}
    of_lattices = [set(lattice.arcs["label"].tolist()) - {0} for lattice in found.values()]
    assert all(words <= possible for words in of_lattices)
    assert max(map(len, of_lattices)) > 1


def test_unigram_grammar_sums_to_one():
    grammar = unigram_grammar({3: 6, 5: 2}, num_sentences=4)
    costs = dict(zip(grammar.arcs["ilabel"].tolist(), grammar.arcs["weight"].tolist(), strict=True))
    assert np.exp(-costs[3]) == pytest.approx(6 / 12)
    assert np.exp(-costs[5]) == pytest.approx(2 / 12)
