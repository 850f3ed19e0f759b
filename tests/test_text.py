"""Text that people wrote: one way to read it, and words of transcripts that nobody knows."""

import shutil

import pytest

from nnet.decoding.dictionary import read_phone_sets
from nnet.decoding.lexicon import read_lexicon
from nnet.decoding.nist import MappingRules, read_stm
from nnet.decoding.symbols import SymbolTable
from nnet.decoding.unknown_words import UnknownWords
from nnet.drivers.data_dir import read_rows
from nnet.errors import NgtrainError
from nnet.io.integer_lists import read_integer_lists
from nnet.io.tables import TOKENS, read_script, sequential_table
from nnet.io.text import split_key, split_words, text_lines, visible

MARK = b"\xef\xbb\xbf"


def write(path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


# Reading ----------------------------------------------------------------------------------------


def test_lines_end_at_newlines_only(tmp_path):
    data = "a\u2028b\x0bc\x0cd\x85e\u0085f\r\ng".encode()
    assert list(text_lines(write(tmp_path / "f", data))) == [
        "a\u2028b\x0bc\x0cd\x85e\u0085f\r",
        "g",
    ]
    assert list(text_lines(write(tmp_path / "f", b""))) == []
    assert list(text_lines(f"printf 'a\\nb' < {tmp_path}/f |")) == ["a", "b"]


def test_words_are_separated_by_white_space_of_ascii():
    assert split_words(" a\tb\r\n\f c\u00a0d\u3000e ") == ["a", "b", "c\u00a0d\u3000e"]
    assert split_key("\tu1  one\u00a0two three \r") == ("u1", "one\u00a0two three")
    assert split_key("u1\r") == ("u1", "")
    assert split_key(" ") == ("", "")


def test_any_bytes_pass_and_are_spelled_out_in_messages(tmp_path):
    [line] = text_lines(write(tmp_path / "f", b"m\xfcller\n"))
    assert line.encode(errors="surrogateescape") == b"m\xfcller"
    assert visible(line) == r"m\udcfcller"
    assert visible("müller") == "müller"
    assert visible("a\u00a0b\ufeff") == r"a\xa0b\ufeff"


READERS = {
    "symbol table": SymbolTable.load,
    "integers": read_integer_lists,
    "lexicon": lambda path: read_lexicon(path, has_probabilities=False),
    "phones": read_phone_sets,
    "script file": read_script,
    "table": read_rows,
    "mapping rules": lambda path: MappingRules.load(path, ()),
    "references": read_stm,
    "archive of words": lambda path: list(sequential_table(f"ark:{path}", TOKENS)),
}


@pytest.mark.parametrize("kind", READERS)
def test_byte_order_mark_is_named(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(MARK + b"a 1\n")
    with pytest.raises(NgtrainError, match=rf"{path}.*byte order mark"):
        READERS[kind](path if kind == "phones" else str(path))


def test_mark_in_the_middle_and_utf_16_are_named(tmp_path):
    with pytest.raises(NgtrainError, match="line 2 begins with a byte order mark"):
        read_rows(write(tmp_path / "f", b"a 1\n" + MARK + b"b 2\n"))
    with pytest.raises(NgtrainError, match="UTF-16"):
        read_rows(write(tmp_path / "f", "a 1\n".encode("utf-16")))


# Programs, in the locale C and with Latin-1 -----------------------------------------------------


@pytest.mark.slow
def test_all_names_may_be_in_latin_1(run_program, shared, tmp_path, monkeypatch):
    """Recordings, utterances, words, phones, and the directory: from features to an alignment."""
    monkeypatch.setenv("LC_ALL", "C")
    data, dictionary = tmp_path / "d\udcfcr", tmp_path / "dict"
    data.mkdir()
    dictionary.mkdir()
    wav = bytes(tmp_path) + b"/m\xfcller.wav"
    shutil.copyfile(shared / "fsdd/recordings/5_george_0.wav", wav)
    write(data / "wav.scp", b"m\xfc-1 " + wav + b"\n")
    write(data / "utt2spk", b"m\xfc-1 m\xfc\n")
    write(data / "spk2utt", b"m\xfc m\xfc-1\n")
    write(data / "text", b"m\xfc-1 f\xfcnf\n")
    write(dictionary / "lexicon.txt", b"<unk> SPN\nf\xfcnf F \xfc N\n")
    write(dictionary / "silence_phones.txt", b"SIL\nSPN\n")
    write(dictionary / "nonsilence_phones.txt", b"F\n\xfc\nN\n")
    write(dictionary / "optional_silence.txt", b"SIL\n")
    config = write(tmp_path / "mfcc.conf", b"--sample-frequency=8000\n")
    lang, ali = tmp_path / "lang", tmp_path / "ali"

    run_program("prepare_lang.py", dictionary, "<unk>", tmp_path / "tmp", lang)
    run_program("make_mfcc.py", "--nj", "1", "--mfcc-config", config, data)
    run_program("compute_cmvn_stats.py", data)
    said = run_program("validate_data_dir.py", "--lang", lang, "--non-print", data).stderr
    assert b"all 1 words of " in said
    run_program("flat_start.py", "--nj", "1", data, lang, ali)
    run_program("validate_ali_dir.py", ali, data)
    archive = f"ark:gunzip -c {ali}/ali.1.gz |"
    times = run_program("ali-to-phones", "--ctm-output", ali / "final.mdl", archive, "-").stdout
    assert times.startswith(b"m\xfc-1 1 0.00 ")
    assert b"f\xfcnf " in (lang / "words.txt").read_bytes()


def test_words_in_latin_1_stay_as_they_are(run_program, tmp_path):
    words = write(tmp_path / "words.txt", b"<eps> 0\nf\xfcnf 1\n")
    text = b"u\xfc f\xfcnf\r\n"
    numbers = run_program("sym2int.py", "-f", "2-", words, stdin=text).stdout
    assert numbers == b"u\xfc 1\n"
    assert run_program("int2sym.py", "-f", "2-", words, stdin=numbers).stdout == b"u\xfc f\xfcnf\n"
    failed = run_program("int2sym.py", "-f", "2-", words, stdin=b"u \xc2\xb2\n", check=False)
    assert failed.returncode == 1 and b"<stdin>: line 1 has" in failed.stderr


# Unknown words ----------------------------------------------------------------------------------


def counted(words: list[str], transcript: list[str]) -> UnknownWords:
    unknown = UnknownWords(SymbolTable([(word, n) for n, word in enumerate(words)], "words.txt"))
    unknown.add(transcript)
    return unknown


def test_few_unknown_words_are_counted_and_many_are_a_warning(caplog):
    caplog.set_level("INFO")
    counted(["a"], ["a"] * 10).report("text")
    counted(["a"], ["a"] * 97 + ["b", "c", "b"]).report("text")
    counted(["a"], ["a"] * 9 + ["A"]).report("text")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "all 10 words of text are in words.txt"),
        (
            "INFO",
            "3 of 100 words of text (3 %) are not in words.txt, such as b (2 times), c",
        ),
        (
            "WARNING",
            "1 of 10 words of text (10 %) are not in words.txt, such as A; 1 of them are there but "
            "for capitals: write transcripts and lexicon in the same letters",
        ),
    ]


@pytest.mark.parametrize(
    ("words", "transcript", "reason"),
    [
        (["one", "two"], ["ONE", "TWO", "one"], "2 of them are there but for capitals"),
        (["ONE", "TWO"], ["one", "two"], "2 of them are there but for capitals"),
        (["one", "two"], ["one,", "„two“"], "2 of them are there without the punctuation"),
        (["one", "two"], ["One,", "TWO."], "but for capitals and punctuation"),
        (["caf\u00e9"], ["cafe\u0301"], "in another Unicode normal form"),
        (["fünf"], ["f\udcfcnf"], "in another encoding"),
        (["eins", "zwei"], ["one", "two"], "of another language, or another lang directory"),
        (["eins", "zwei"], ["eins\u00a0zwei"], r"such as eins\\xa0zwei; are they"),
    ],
)
def test_most_words_unknown_is_an_error_with_the_reason(words, transcript, reason):
    with pytest.raises(NgtrainError, match=reason):
        counted(words, transcript).report("text")


def test_sym2int_says_what_it_replaces(run_program, tmp_path):
    words = write(tmp_path / "words.txt", b"<unk> 1\none 2\n")
    text = b"".join(b"u%d ONE one\n" % n for n in range(30))
    result = run_program("sym2int.py", "--map-oov", "<unk>", "-f", "2-", words, stdin=text)
    assert result.stdout.count(b" 1 2\n") == 30
    said = result.stderr.decode().splitlines()
    assert said[0] == "utils/sym2int.py: warning: replacing ONE with 1"
    assert said[19:] == [
        "utils/sym2int.py: warning: replacing ONE with 1",
        "utils/sym2int.py: warning: not warning of each unknown word any more",
        "utils/sym2int.py: warning: replaced 30 of 60 words with <unk>",
    ]
    failed = run_program("sym2int.py", "-f", "2-", words, stdin=text, check=False)
    assert failed.stderr.endswith(b"<stdin>: line 1: ONE is not in " + words.encode() + b"\n")


@pytest.fixture
def in_capitals(tmp_path):
    """A data and a lang directory that do not go together, and a directory for results."""
    data, lang = tmp_path / "data", tmp_path / "lang"
    (lang / "phones").mkdir(parents=True)
    data.mkdir()
    write(lang / "words.txt", b"<eps> 0\n<unk> 1\none 2\n#0 3\n<s> 4\n</s> 5\n")
    write(lang / "oov.int", b"1\n")
    for name in "L.fst", "topo", "phones.txt", "phones/disambig.int", "phones/sets.int":
        write(lang / name, b"")
    write(lang / "phones/silence.csl", b"1\n")
    for name, line in (
        ("text", b"a-1 ONE ONE\n"),
        ("utt2spk", b"a-1 a\n"),
        ("spk2utt", b"a a-1\n"),
    ):
        write(data / name, line)
    for name in "feats.scp", "cmvn.scp":
        write(data / name, b"")
    (tmp_path / "model").mkdir()
    for name in "final.mdl", "tree", "phones.txt":
        write(tmp_path / "model" / name, b"")
    return data, lang, tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "flat_start.py --nj 1 {data} {lang} {dir}/ali",
        "align.py --nj 1 {data} {lang} {dir}/model {dir}/ali",
        "train_ngram_lm.py {data}/text {lang} {dir}/ali/lm.arpa",
        "score.py {data} {lang} {dir}/ali",
        "validate_data_dir.py --no-wav --no-feats --lang {lang} {data}",
    ],
)
def test_every_driver_refuses_transcripts_of_unknown_words(run_program, in_capitals, command):
    data, lang, directory = in_capitals
    name, *args = command.format(data=data, lang=lang, dir=directory).split()
    result = run_program(name, *args, check=False)
    assert result.returncode == 1
    assert b"2 of 2 words of " in result.stderr and b"but for capitals" in result.stderr
    assert not (directory / "ali").exists()


def test_utterances_without_transcripts_are_counted(run_program, in_capitals):
    data, lang, directory = in_capitals
    write(data / "text", b"a-1 one\n")
    write(data / "utt2spk", b"a-1 a\na-2 a\na-3 a\n")
    result = run_program("flat_start.py", "--nj", 1, data, lang, directory / "ali", check=False)
    assert b"2 of 3 utterances of " in result.stderr
    assert b"have no transcript, such as a-2" in result.stderr
    assert not (directory / "ali").exists()
