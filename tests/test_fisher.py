"""The Fisher recipe: its data in the layout of the corpora, its dictionary, its options.

The whole recipe, on the same miniature, is run by .ci/run.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from nnet.drivers.data_dir import DataDir, read_table
from nnet.features.wave import WAVE
from nnet.io.random_access import random_access_table
from nnet.io.tables import INTEGERS, sequential_table, table_writer

ROOT = Path(__file__).parents[1]
FISHER, ASPIRE = ROOT / "egs" / "fisher", ROOT / "egs" / "aspire"
CORPORA = ["LDC2004S13", "LDC2004T19", "LDC2005S13", "LDC2005T19"]


@pytest.fixture(scope="module")
def corpora(run_program, tmp_path_factory) -> Path:
    """Miniatures of the corpora, of few and short calls."""
    pytest.importorskip("espeakng_loader")
    directory = tmp_path_factory.mktemp("corpora")
    options = ["--calls-per-disc=1", "--turns=4", "--eval-calls=2"]
    run_program(ROOT / "tests/support/miniature_fisher.py", *options, directory)
    return directory


@pytest.fixture
def own_corpora(corpora, tmp_path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(corpora, tmp_path / "corpora")
    return tmp_path / "corpora"


@pytest.fixture
def prepare(run_program, tmp_path):
    """prepare(corpora, *options): the directory of train, dev and test, and what was said."""

    def prepare(corpora, *options, check=True):
        result = run_program(
            FISHER / "local/prepare_fisher.py", "--num-calls=0", "--heldout-utts=4", *options,
            tmp_path / "data", *(corpora / name for name in CORPORA), check=check,
        )  # fmt: skip
        return tmp_path / "data", result.stderr.decode()

    return prepare


def people(corpora: Path, data: DataDir) -> set[str]:
    """The numbers of the people who are heard, from the tables of calls."""
    callers = {}
    for table in corpora.rglob("*_calldata.tbl"):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split(",")
            callers[f"fe_03_{fields[0]}-A"], callers[f"fe_03_{fields[0]}-B"] = fields[5], fields[10]
    return {callers[speaker] for speaker in data["utt2spk"].values()}


def test_sets_share_no_people(corpora, prepare):
    directory, _ = prepare(corpora)
    sets = [DataDir.read(directory / name) for name in ("train", "dev", "test")]
    heard = [people(corpora, data) for data in sets]
    assert not heard[0] & heard[1] and not heard[0] & heard[2] and not heard[1] & heard[2]
    assert len(sets[1]["text"]) >= 4 and len(sets[2]["text"]) >= 4
    calls = [set(data["wav.scp"]) for data in sets]
    assert len(calls[0]) > 5
    assert {call[:8] for call in calls[0]} == {"fe_03_00", "fe_03_05"}  # of both parts


def test_data_directories_are_valid_and_repeatable(corpora, prepare, run_program):
    directory, _ = prepare(corpora)
    for name in "train", "dev", "test":
        run_program("validate_data_dir.py", "--no-feats", directory / name)
    first = {path: path.read_text() for path in directory.rglob("*") if path.is_file()}
    prepare(corpora)
    assert {path: path.read_text() for path in first} == first


def test_transcripts_are_cleaned(corpora, prepare):
    directory, said = prepare(corpora)
    texts = [text for name in ("train", "dev", "test")
             for text in read_table(directory / name / "text").values()]  # fmt: skip
    assert texts and all(texts)
    assert not any("((" in text or "[laugh]" in text for text in texts)
    assert "utterances not understood by the transcriber" in said


def test_segments_hold_the_speech_of_their_side(corpora, prepare, run_program, tmp_path):
    directory, _ = prepare(corpora)
    train = directory / "train"
    run_program("extract-segments", f"scp:{train}/wav.scp", train / "segments",
                f"ark:{tmp_path}/cut.ark")  # fmt: skip
    cut = dict(sequential_table(f"ark:{tmp_path}/cut.ark", WAVE))
    segments = read_table(train / "segments")
    assert cut.keys() == segments.keys()
    with random_access_table(f"scp:{train}/wav.scp", WAVE) as recordings:
        for utterance, wave in cut.items():
            recording, start, end, channel = segments[utterance].split()
            assert wave.duration == pytest.approx(float(end) - float(start), abs=0.001)
            assert utterance.split("-")[1] == "AB"[int(channel)]
            first, last = int(8000 * float(start)), int(8000 * float(end))
            samples = recordings[recording].samples[:, first:last]
            levels = np.linalg.norm(samples, axis=1)
            assert levels[int(channel)] > 3 * levels[1 - int(channel)]


def test_missing_transcript_is_an_error(own_corpora, prepare):
    transcript = min(own_corpora.rglob("fe_03_*.txt"))
    transcript.unlink()
    directory, said = prepare(own_corpora, check=False)
    assert transcript.stem in said.splitlines()[-1]
    assert not directory.exists()


def test_damaged_transcript_is_named(own_corpora, prepare):
    transcript = min(own_corpora.rglob("fe_03_*.txt"))
    transcript.write_text(transcript.read_text() + "12.3 A: what\n")
    directory, said = prepare(own_corpora, check=False)
    assert f"{transcript}: line" in said.splitlines()[-1]
    assert not directory.exists()


def test_incomplete_corpus_is_an_error(corpora, prepare):
    directory, said = prepare(corpora, "--num-calls=11699", check=False)
    assert "expected 11699 recordings" in said.splitlines()[-1]
    assert not directory.exists()


def test_too_many_heldout_utterances_are_an_error(corpora, prepare):
    _, said = prepare(corpora, "--heldout-utts=10000", check=False)
    assert "--heldout-utts=10000 is too many" in said.splitlines()[-1]


def compress(recording: Path) -> None:
    """Make a header say that the samples are compressed."""
    content = recording.read_bytes()
    header = content[:1024].rstrip().replace(b"-s4 ulaw", b"-s27 ulaw,embedded-shorten-v2.00")
    recording.write_bytes(header.ljust(1024) + content[1024:])


def test_compressed_recordings_are_read_by_sph2pipe(own_corpora, prepare, tmp_path, monkeypatch):
    recordings = sorted(own_corpora.rglob("fe_03_*.sph"))
    for recording in recordings:
        compress(recording)
    _, said = prepare(own_corpora, check=False)
    assert "sph2pipe" in said.splitlines()[-1]
    program = tmp_path / "bin" / "sph2pipe"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    directory, _ = prepare(own_corpora)
    for entry in read_table(directory / "train" / "wav.scp").values():
        assert entry.startswith(f"{program} -f wav -p '") and entry.endswith(".sph' |")


def test_evaluation_has_its_segments_and_references(corpora, run_program, tmp_path):
    data = tmp_path / "eval2000"
    run_program(FISHER / "local/prepare_eval2000.py", "--num-recordings=0", corpora / "LDC2002S09",
                corpora / "LDC2002T43", data)  # fmt: skip
    run_program("validate_data_dir.py", "--no-feats", "--no-text", data)
    pem = next(corpora.rglob("*.pem")).read_text().splitlines()
    ignored = (data / "stm").read_text().count("IGNORE_TIME_SEGMENT_IN_SCORING")
    assert ignored == 2
    assert len(read_table(data / "segments")) == len(pem) - 1 - ignored
    assert (data / "glm").exists()


def test_segments_must_be_those_of_the_references(own_corpora, run_program, tmp_path):
    stm = next(own_corpora.rglob("*.stm"))
    stm.write_text("\n".join(stm.read_text().splitlines()[:-2]) + "\n")
    result = run_program(
        FISHER / "local/prepare_eval2000.py", "--num-recordings=0", own_corpora / "LDC2002S09",
        own_corpora / "LDC2002T43", tmp_path / "eval2000", check=False,
    )  # fmt: skip
    assert "not the same segments" in result.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "eval2000").exists()


def test_aspire_has_a_segment_for_each_reference(corpora, run_program, tmp_path):
    run_program(ASPIRE / "local/prepare_aspire.py", corpora, tmp_path)
    data = tmp_path / "aspire"
    run_program("validate_data_dir.py", "--no-feats", "--no-text", data)
    stm = (data / "stm").read_text().splitlines()
    assert len(stm) == len(read_table(data / "segments")) == 8
    assert all(line.split()[1] == "A" for line in stm)


CMUDICT = """\
;;; # comment
YES  Y EH1 S
A  AH0
A(1)  EY1
A.  EY1
T.  T IY1
"""


def test_dictionary_is_that_of_the_words_that_are_said(run_program, tmp_path):
    (tmp_path / "cmudict").write_text(CMUDICT)
    (tmp_path / "text").write_text("u1 yes a._t. a. zebra\nu2 a [noise] zebra be-\n")
    run_program(FISHER / "local/prepare_dict.py", tmp_path / "text", tmp_path / "cmudict",
                tmp_path / "dict")  # fmt: skip
    lexicon = (tmp_path / "dict" / "lexicon.txt").read_text().splitlines()
    assert {"yes y eh s", "a ah", "a ey", "a._t. ey t iy"} <= set(lexicon)
    assert {"<unk> oov", "[noise] noise", "[laughter] laughter"} <= set(lexicon)
    assert not any(line.startswith(("zebra", "be-", "t. ")) for line in lexicon)
    phones = (tmp_path / "dict" / "nonsilence_phones.txt").read_text()
    assert " ".join(phones.split()) == "ah eh ey iy s t y"
    assert (tmp_path / "dict/oov_counts.txt").read_text() == "2 zebra\n1 be-\n"


def test_damaged_dictionary_is_named(run_program, tmp_path):
    (tmp_path / "cmudict").write_text("YES  Y EH1 S\nNO\n")
    (tmp_path / "text").write_text("u1 yes\n")
    result = run_program(FISHER / "local/prepare_dict.py", tmp_path / "text", tmp_path / "cmudict",
                         tmp_path / "dict", check=False)  # fmt: skip
    assert "cmudict: line 2" in result.stderr.decode().splitlines()[-1]


def test_repeated_transcripts_are_removed(run_program, tmp_path):
    text = {f"s-{n}": "yeah" if n % 2 else f"word {n}" for n in range(8)}
    DataDir({"text": text, "utt2spk": dict.fromkeys(text, "s")}).write(tmp_path / "data")
    run_program("remove_dup_utts.py", 2, tmp_path / "data", tmp_path / "few")
    assert "".join(u[-1] for u in read_table(tmp_path / "few" / "text")) == "012346"


@pytest.mark.slow
def test_copies_get_the_alignments_of_their_originals(run_program, tmp_path):
    alignments = {f"{s}-{n}": [ord(s), n, n] for s in "abc" for n in range(3)}
    source = tmp_path / "ali"
    source.mkdir()
    for name in "tree", "final.mdl", "phones.txt":
        (source / name).write_text(f"{name}\n")
    (source / "cmvn_opts").write_text("--norm-vars=true\n")
    with table_writer(f"ark:|gzip -c >{source}/ali.1.gz", INTEGERS) as table:
        for utterance, alignment in list(alignments.items())[:-1]:  # the last one failed
            table.write(utterance, alignment)
    data = DataDir({"utt2spk": {u: u[0] for u in alignments}})
    data.write(tmp_path / "data")
    data.rename(lambda u: f"rvb-{u}", lambda s: f"rvb-{s}").write(tmp_path / "copies")
    run_program("combine_data.py", tmp_path / "both", tmp_path / "data", tmp_path / "copies")
    said = run_program("copy_alignments.py", "--nj", 2, tmp_path / "both", source, tmp_path / "new")
    assert "16 utterances have alignments" in said.stderr.decode()
    assert (tmp_path / "new" / "num_jobs").read_text() == "2\n"
    copied = {}
    for job in 1, 2:
        copied |= dict(sequential_table(f"ark:gunzip -c {tmp_path}/new/ali.{job}.gz |", INTEGERS))
    assert len(copied) == 16
    for utterance, alignment in copied.items():
        assert list(alignment) == alignments[utterance.removeprefix("rvb-")]


# Each script's numbers of leaves and Gaussians, data, lang, source and result.
KALDI_STEPS = [
    "train_mono.sh train_0 lang mono",
    "align_si.sh train_1 lang mono mono_ali",
    "train_deltas.sh 2500 20000 train_1 lang mono_ali tri1",
    "align_si.sh train_1 lang tri1 tri1_ali",
    "train_deltas.sh 2500 20000 train_1 lang tri1_ali tri2",
    "align_si.sh train_2 lang tri2 tri2_ali",
    "train_lda_mllt.sh 5000 40000 train_2 lang tri2_ali tri3a",
    "align_fmllr.sh train_2 lang tri3a tri3a_ali",
    "train_sat.sh 5000 100000 train_2 lang tri3a_ali tri4a",
    "align_fmllr.sh train lang tri4a tri4a_ali",
    "train_sat.sh 10000 300000 train lang tri4a_ali tri5a",
    "align_fmllr.sh train lang tri5a ali",
]
"""The calls in Kaldi's egs/fisher_english/s5/run.sh, up to tri5a."""


def make_kaldi(root: Path) -> None:
    """A directory that looks like a compiled Kaldi, as far as align_by_kaldi.sh does."""
    program, steps = root / "src/gmmbin/gmm-init-mono", root / "egs/wsj/s5/steps"
    for path in program.parent, steps:
        path.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (steps.parent / "path.sh").write_text("export LC_ALL=C\n")
    for name in {step.split()[0] for step in KALDI_STEPS}:
        (steps / name).symlink_to(ROOT / "tests/support/kaldi_stand_in.sh")


def test_alignments_by_kaldi(corpora, run_program, tmp_path, monkeypatch):
    """All calls of Kaldi's scripts, by scripts that stand for them: Kaldi itself is not run."""
    exp, calls, flat = tmp_path / "exp", tmp_path / "calls", tmp_path / "flat"

    def recipe(*options, check=True):
        return run_program(
            FISHER / "run.sh", "--corpora", corpora, "--cmudict", corpora / "cmudict.0.7a",
            "--config", FISHER / "conf/miniature.conf", "--dir", exp, "--nj", 2,
            "--heldout-utts", 4, *options, check=check,
        )  # fmt: skip

    recipe("--stop-stage", 4)
    train, lang = exp / "data/train", exp / "lang"
    run_program("flat_start.py", "--nj", 2, train, lang, flat)

    make_kaldi(tmp_path / "kaldi")
    monkeypatch.setenv("KALDI_ROOT", str(tmp_path / "kaldi"))
    monkeypatch.setenv("STAND_IN_ALIGNMENTS", str(flat))
    monkeypatch.setenv("STAND_IN_CALLS", str(calls))
    by_kaldi = ["--stop-stage", 5, "--alignments", "kaldi", "--short-utts", "12 10",
                "--align-subsets", "12 16"]  # fmt: skip
    monkeypatch.setenv("STAND_IN_FAILS", "tri3a")
    assert recipe(*by_kaldi, check=False).returncode != 0
    monkeypatch.delenv("STAND_IN_FAILS")
    said = recipe(*by_kaldi).stdout.decode()
    assert "stage 4 is done" in said and "ends before stage" in said

    lda = next(n for n, step in enumerate(KALDI_STEPS) if "lda" in step)  # had to be done twice
    assert calls.read_text().splitlines() == KALDI_STEPS[: lda + 1] + KALDI_STEPS[lda:]

    # 13 cepstra for Gaussian mixtures; the alignments serve networks on 40, without transforms.
    dim = run_program("feat-to-dim", f"scp:{exp}/gmm/data/train/feats.scp", "-")
    assert dim.stdout.split() == [b"13"]
    run_program("validate_ali_dir.py", exp / "ali", train)
    run_program("get_lda.py", "--feat-type", "raw", "--cmvn-opts", "--norm-vars=false",
                "--left-context", 1, "--right-context", 1, train, lang, exp / "ali",
                tmp_path / "lda")  # fmt: skip
    assert (tmp_path / "lda/lda_dim").read_text().strip() == "120"


@pytest.mark.parametrize("recipe", [FISHER, ASPIRE])
@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "--corpora"),
        (["--corpora", "."], "--cmudict"),
        (["--num-epoch", "3"], "there is no option --num-epoch"),
        (["--alignments"], "--alignments needs a value"),
        (
            ["--corpora=.", "--cmudict=README.md", "--alignments=hmm"],
            "flat_start or kaldi",
        ),
        (["--config", "nowhere.conf"], "no such file: nowhere.conf"),
        (["--corpora=.", "--cmudict=README.md", "--stop-stage=x"], "--stop-stage is a number"),
        (["--corpora=.", "--cmudict=README.md", "--alignments=kaldi"], "needs KALDI_ROOT"),
        (["--corpora=.", "--cmudict=README.md", "--arpa=nowhere"], "not 'nowhere'"),
    ],
)
def test_bad_options_end_before_anything_is_done(
    run_program, tmp_path, monkeypatch, recipe, arguments, reason
):
    monkeypatch.delenv("KALDI_ROOT", raising=False)
    result = run_program(
        recipe / "run.sh", "--dir", tmp_path / "exp", *arguments, check=False, cwd=ROOT
    )
    assert result.returncode != 0
    (line,) = result.stderr.decode().splitlines()
    assert reason in line
    assert not (tmp_path / "exp").exists()
