"""Words with times and confidences, from lattices to recordings."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from archives import read_table, write_table

from nnet.decoding.symbols import SymbolTable
from nnet.hmm.transition_model import TransitionModel
from nnet.lattices.tables import COMPACT_LATTICE


@pytest.fixture
def decoded(reference, tmp_path):
    """Kaldi's lattices in a decoding directory of two jobs, with the data and what Kaldi says."""
    folder, lang = reference("kaldi/golden/lattices"), reference("kaldi/data/lang")
    exp, data = tmp_path / "exp", tmp_path / "test"
    decode = exp / "decode"
    decode.mkdir(parents=True)
    data.mkdir()
    (exp / "final.mdl").symlink_to(reference("kaldi/exp/nnet_ms/final.mdl"))
    lattices = list(read_table(f"ark:{folder}/lat.ark", COMPACT_LATTICE).items())
    for job, part in enumerate((lattices[:5], lattices[5:]), 1):
        write_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE, dict(part))
        (decode / f"lat.{job}.gz").write_bytes(gzip.compress((tmp_path / "lat").read_bytes()))
    (decode / "num_jobs").write_text("2\n")
    (data / "utt2spk").write_text("".join(f"{key} x\n" for key, _ in lattices))
    symbols = SymbolTable.load(str(lang / "words.txt"))
    rows = [line.split() for line in (folder / "conf.ctm").read_text().splitlines()]
    expected = [(row[0], symbols[int(row[4])], row[5]) for row in rows]
    return decode, data, lang, expected


@pytest.mark.slow
def test_words_and_confidences_are_kaldis(decoded, run_program):
    decode, data, lang, expected = decoded
    command = ["get_ctm_conf.py", "--beam", 100, data, lang, decode]
    said = run_program(*command).stderr.decode()
    assert "test.ctm has 13 of 13 utterances" in said
    result = decode / "score_10_0.0/test.ctm"
    rows = [line.split() for line in result.read_text().splitlines()]
    assert [(row[0], row[4], row[5]) for row in rows] == expected
    assert all(row[1] == "1" and 0.1 < float(row[3]) < 1 for row in rows)
    assert [path.name for path in result.parent.iterdir() if path.is_file()] == ["test.ctm"]

    keys = dict.fromkeys(row[0] for row in rows)
    (data / "segments").write_text("".join(f"{key} rec 100.5 102\n" for key in keys))
    (data / "reco2file_and_channel").write_text("rec file B\n")
    run_program(*command)
    for old, line in zip(rows, result.read_text().splitlines(), strict=True):
        place = ["file", "B", f"{100.5 + float(old[2]):.2f}"]
        assert line.split() == place + old[3:]
    (data / "reco2file_and_channel").unlink()
    (decode / "best_wer").write_text("%WER 1.00 [ 1 / 100, 0 ins, 0 del, 1 sub ] x/wer_12_0.5\n")
    run_program("get_ctm_conf.py", "--tuned-in", decode, data, lang, decode)
    assert (decode / "score_12_0.5/test.ctm").read_text().startswith("rec 1 100.")


def test_what_is_missing(decoded, run_program, tmp_path):
    decode, data, lang, _ = decoded
    (decode / "lat.2.gz").unlink()
    done = run_program("get_ctm_conf.py", data, lang, decode, check=False)
    assert done.returncode == 1 and b"lat.2.gz" in done.stderr
    (decode / "num_jobs").write_text("1\n")
    (tmp_path / "lang").mkdir()
    (tmp_path / "lang/words.txt").write_text("<eps> 0\n")
    done = run_program("get_ctm_conf.py", data, tmp_path / "lang", decode, check=False)
    assert done.returncode == 1 and b"align_lexicon.int, to find words by" in done.stderr


def test_times_of_recordings(run_program, tmp_path):
    """The example in Kaldi's utils/convert_ctm.pl."""
    segments, files, ctm = (tmp_path / name for name in ("segments", "reco2file", "ctm"))
    segments.write_text("utt reco 10.0 20.0\n")
    files.write_text("reco file A\n")
    ctm.write_text("utt 1 8.0 1.0 word 0.5\n")
    done = run_program("convert_ctm.py", segments, files, ctm)
    assert done.stdout == b"file A 18.00 1.00 word 0.5\n"
    words = b"utt 1 8.0 2.5 word\nother 1 0 1 word\n"
    done = run_program("convert_ctm.py", "--skip-unknown", segments, stdin=words)
    assert done.stdout == b"reco 1 18.00 2.50 word\n"
    assert b"1 of 2 words end later than their segments, such as utt" in done.stderr
    assert b"1 of 2 words are of utterances that" in done.stderr
    for wrong, reason in (words, b"has no utterance other"), (b"utt 1 0 x word\n", b"line 1"):
        done = run_program("convert_ctm.py", segments, stdin=wrong, check=False)
        assert done.returncode == 1 and reason in done.stderr


def test_times_of_words_on_one_path(run_program, tmp_path):
    """Digits behind the point are Kaldi's: 0.01 in single precision is less than 0.01."""
    text = "a \n0 1 5 1,1,7_8_8\n1 2 0 0,0,9\n2 3 6 0,0,9_9\n3 0,1,\n\n"
    (tmp_path / "lat").write_text(text)
    for options, expected in (
        ([], ["a 1 0.000 0.030 5", "a 1 0.040 0.020 6"]),
        (
            ["--print-silence=true", "--frame-shift=0.03"],
            ["a 1 0.00 0.09 5", "a 1 0.09 0.03 0", "a 1 0.12 0.06 6"],
        ),
        (["--frame-shift=0.0005"], ["a 1 0.0000 0.0015 5", "a 1 0.0020 0.0010 6"]),
        (["--precision=1", "--frame-shift=1"], ["a 1 0.0 3.0 5", "a 1 4.0 2.0 6"]),
    ):
        result = run_program("nbest-to-ctm", *options, f"ark:{tmp_path}/lat", "-")
        assert result.stdout.decode().splitlines() == expected
        assert b"approximate" not in result.stderr
    (tmp_path / "lat").write_text(text.replace("3 0,1,", "3 0,1,9"))
    result = run_program("nbest-to-ctm", f"ark:{tmp_path}/lat", "-")
    assert b"times are approximate, such as a" in result.stderr


def test_words_with_their_phones(reference, run_program, tmp_path):
    """A word of two phones, of 3 frames and of 1, and silence; ids are those of whole phones."""
    model = TransitionModel.load(str(reference("kaldi/exp/nnet_ms/final.mdl")))
    ids = np.arange(1, model.num_transition_ids + 1)
    ends = ids[model.is_final[ids] & ~model.is_self_loop[ids]]  # transitions that end a phone
    sil, two, three = (int(ends[model.phone_of[ends] == phone][0]) for phone in (1, 2, 3))
    loop = model.self_loop_of[model.state_of[two]]
    (tmp_path / "lat").write_text(
        f"a \n0 1 0 0,0,{sil}\n1 2 5 0,0,{two}_{loop}_{loop}_{three}\n2 0,0,\n\n"
    )
    arguments = reference("kaldi/exp/nnet_ms/final.mdl"), f"ark:{tmp_path}/lat", "-"
    assert run_program("nbest-to-prons", *arguments).stdout == b"a 0 1 0 1\na 1 4 5 2 3\n"
    result = run_program("nbest-to-prons", "--print-lengths-per-phone=true", *arguments)
    assert result.stdout == b"a 0 1 0 1\na 1 3,1 5 2 3\n"
    (tmp_path / "lat").write_text("a \n0 1 5 0,0,999999\n1 0,0,\n\n")
    result = run_program("nbest-to-prons", *arguments, check=False)
    assert result.returncode == 1 and b"999999 is not a transition-id" in result.stderr
