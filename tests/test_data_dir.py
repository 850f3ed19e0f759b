"""The tools for data directories."""

import os
import wave
from itertools import chain
from pathlib import Path

import pytest

from nnet.drivers.data_dir import DataDir, read_frame_shift, read_table
from nnet.drivers.egs_options import count_frames
from nnet.drivers.splitting import split_evenly, split_groups
from nnet.errors import NgtrainError
from nnet.io.text import write_lines


def write_files(path: Path, **files: str) -> Path:
    """Write files; in a name `_scp` stands for `.scp`, in a text `/` for the end of a line."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        lines = text.split("/")
        (path / name.replace("_scp", ".scp")).write_text("".join(line + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.fixture
def data(tmp_path) -> Path:
    """Two speakers, a with three utterances and b with one."""
    utts = ["a-1", "a-2", "a-3", "b-1"]
    wavs = write_files(tmp_path / "wavs", **dict.fromkeys(utts, ""))
    for name in "f.ark", "c.ark":
        (tmp_path / name).write_bytes(bytes(20))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("".join(f"{utt} {wavs}/{utt}\n" for utt in utts))
    return write_files(
        tmp_path / "data",
        utt2spk="a-1 a/a-2 a/a-3 a/b-1 b",
        spk2utt="a a-1 a-2 a-3/b b-1",
        text="a-1 one/a-2 two  two/a-3/b-1 zwölf",
        feats_scp="a-1 f.ark:4/a-2 f.ark:8/a-3 f.ark:12/b-1 f.ark:16",
        cmvn_scp="a c.ark:2/b c.ark:9",
        spk2gender="a f/b m",
        utt2num_frames="a-1 100/a-2 20/a-3 30/b-1 10",
    )


@pytest.fixture
def segmented(data) -> Path:
    """The same with segments: a-1 and a-2 in recording r1, a-3 and b-1 in r2."""
    (data / "wav.scp").unlink()
    return write_files(
        data,
        segments="a-1 r1 0 1.5/a-2 r1 1.5 2/a-3 r2 0 1/b-1 r2 1 3",
        wav_scp="r1 cat r1.wav |/r2 cat r2.wav |",
        reco2file_and_channel="r1 x A/r2 y B",
    )


# The library ------------------------------------------------------------------------------------


def test_reading_and_writing_gives_the_same_files(data, segmented, tmp_path):
    DataDir.read(data).write(tmp_path / "copy")
    for path in data.iterdir():
        copy = (tmp_path / "copy" / path.name).read_text()
        assert copy == path.read_text(), path.name


def test_lines_are_sorted_by_bytes_and_may_hold_any_bytes(tmp_path):
    rows = [b"b x", b"a\xcc\x81 1", b"Z 2", b"a-1 \xff\xfe", b"a 4"]
    (tmp_path / "utt2spk").write_bytes(b"\n".join(rows) + b"\n")
    DataDir.read(tmp_path).write(tmp_path / "copy")
    expected = b"\n".join(sorted(rows, key=lambda row: row.split(b" ")[0])) + b"\n"
    assert (tmp_path / "copy" / "utt2spk").read_bytes() == expected


@pytest.mark.parametrize(
    "text, reason", [("a 1/b 2/a 3", "line 3: the key a comes a second time"), ("a 1/", "line 2")]
)
def test_bad_tables(tmp_path, text, reason):
    write_files(tmp_path, utt2spk=text)
    with pytest.raises(NgtrainError, match=reason):
        read_table(tmp_path / "utt2spk")


def test_a_directory_without_utt2spk(tmp_path):
    with pytest.raises(NgtrainError, match="utt2spk"):
        DataDir.read(tmp_path)


def test_files_appear_whole_or_not_at_all(tmp_path):
    def lines():
        yield "first"
        raise KeyError

    with pytest.raises(KeyError):
        write_lines(tmp_path / "file", lines())
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_there_any_more_go_to_backup(data, tmp_path):
    write_files(tmp_path / "copy", utt2dur="a-1 3")
    DataDir.read(data).write(tmp_path / "copy")
    assert not (tmp_path / "copy" / "utt2dur").exists()
    assert lines_of(tmp_path / "copy" / ".backup" / "utt2dur") == ["a-1 3"]


def test_select_follows_speakers_and_recordings(segmented):
    subset = DataDir.read(segmented).select({"a-1", "a-2"})
    assert list(subset["segments"]) == ["a-1", "a-2"]
    assert list(subset["wav.scp"]) == list(subset["reco2file_and_channel"]) == ["r1"]
    assert list(subset["cmvn.scp"]) == list(subset["spk2gender"]) == ["a"]


# Splitting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number, parts, sizes", [(10, 3, [4, 3, 3]), (9, 3, [3, 3, 3]), (3, 3, [1, 1, 1])]
)
def test_split_evenly(number, parts, sizes):
    split = split_evenly(list(range(number)), parts)
    assert [len(part) for part in split] == sizes
    assert list(chain(*split)) == list(range(number))


@pytest.mark.parametrize(
    "group_sizes, sizes",
    [
        ([1, 1, 1, 9], [3, 9]),
        ([9, 1, 1, 1], [9, 3]),
        ([5, 5, 5], [10, 5]),
        ([2, 2, 2, 2, 2, 2], [4, 4, 4]),
        ([7, 1, 1, 1, 1, 7], [7, 4, 7]),
    ],
)
def test_split_groups_balances_and_keeps_groups_together(group_sizes, sizes):
    groups = [[(group, n) for n in range(size)] for group, size in enumerate(group_sizes)]
    split = split_groups(groups, len(sizes))
    assert [len(part) for part in split] == sizes
    assert list(chain(*split)) == list(chain(*groups))


def test_split_into_too_many_parts():
    with pytest.raises(NgtrainError, match="cannot split 2 speakers into 3 parts"):
        split_groups([[1], [2]], 3)
    with pytest.raises(NgtrainError, match="cannot split 2 lines into 3 parts"):
        split_evenly([1, 2], 3)


def test_split_scp(run_program, data, tmp_path):
    outs = [tmp_path / "1", tmp_path / "2"]
    run_program("split_scp.py", data / "text", *outs)
    assert [len(lines_of(out)) for out in outs] == [2, 2]
    run_program("split_scp.py", f"--utt2spk={data}/utt2spk", data / "text", *outs)
    assert [len(lines_of(out)) for out in outs] == [3, 1]
    assert outs[0].read_text() + outs[1].read_text() == (data / "text").read_text()


def test_split_data(run_program, segmented):
    run_program("split_data.py", segmented, 2)
    first, second = segmented / "split2" / "1", segmented / "split2" / "2"
    assert lines_of(first / "utt2spk") == ["a-1 a", "a-2 a", "a-3 a"]
    assert lines_of(first / "spk2utt") == ["a a-1 a-2 a-3"]
    assert lines_of(first / "cmvn.scp") == ["a c.ark:2"]
    assert lines_of(first / "wav.scp") == ["r1 cat r1.wav |", "r2 cat r2.wav |"]
    assert lines_of(second / "feats.scp") == ["b-1 f.ark:16"]
    assert lines_of(second / "wav.scp") == ["r2 cat r2.wav |"]
    assert lines_of(second / "reco2file_and_channel") == ["r2 y B"]

    run_program("split_data.py", "--per-utt", segmented, 4)
    assert len(list((segmented / "split4utt").iterdir())) == 4
    result = run_program("split_data.py", segmented, 4, check=False)
    assert result.returncode == 1
    assert b"cannot split 2 speakers into 4 parts" in result.stderr


def test_split_data_is_done_again_only_for_newer_data(run_program, data):
    run_program("split_data.py", data, 2)
    part = data / "split2" / "1" / "text"
    part.write_text("kept\n")
    run_program("split_data.py", data, 2)
    assert part.read_text() == "kept\n"
    later = part.stat().st_mtime + 1
    os.utime(data / "text", (later, later))
    run_program("split_data.py", data, 2)
    assert part.read_text() == "a-1 one\na-2 two  two\na-3\n"


# Copy, subset, combine --------------------------------------------------------------------------


def test_copy_with_prefixes(run_program, segmented, tmp_path):
    options = ["--utt-prefix", "x-", "--spk-prefix=x-", "--utt-suffix", "-y"]
    run_program("copy_data_dir.py", *options, segmented, tmp_path / "copy")
    copy = DataDir.read(tmp_path / "copy")
    assert copy["utt2spk"]["x-a-1-y"] == "x-a"
    assert copy["utt2uniq"] == {f"x-{utt}-y": utt for utt in ("a-1", "a-2", "a-3", "b-1")}
    assert copy["segments"]["x-a-1-y"] == "r1 0 1.5"
    assert list(copy["wav.scp"]) == ["r1", "r2"]
    assert copy["cmvn.scp"]["x-b"] == "c.ark:9"
    result = run_program("copy_data_dir.py", segmented, segmented, check=False)
    assert result.returncode == 1
    assert b"are the same directory" in result.stderr


@pytest.fixture
def with_references(segmented) -> Path:
    """The same with references and rules for scoring; file x of them is recording r1, y is r2."""
    return write_files(
        segmented,
        stm=";; comment/x A a 0 1 <o> one/y B b 1 3 <o> zwölf",
        ctm="x A 0 1 one/y B 1 2 zwölf",
        glm=";; rules/[a] => [b]",
        frame_shift="0.01",
        spk2age="a 5/b 7",
    )


def test_copies_have_the_references_too_and_name_what_they_leave(
    run_program, with_references, tmp_path
):
    copy = tmp_path / "copy"
    result = run_program("copy_data_dir.py", with_references, copy)
    for name in "stm", "ctm", "glm", "frame_shift", "reco2file_and_channel":
        assert (copy / name).read_bytes() == (with_references / name).read_bytes()
    assert b"files of " in result.stderr and b"left out: spk2age\n" in result.stderr
    # Files keep their names when utterances get others.
    run_program("copy_data_dir.py", "--utt-prefix=x-", with_references, copy)
    assert (copy / "stm").read_bytes() == (with_references / "stm").read_bytes()
    for name in "stm", "glm", "frame_shift":
        (with_references / name).unlink()
    run_program("copy_data_dir.py", with_references, copy)
    assert not (copy / "stm").exists() and not (copy / "frame_shift").exists()
    assert (copy / ".backup" / "stm").exists() and (copy / "ctm").exists()


def test_references_of_recordings_that_are_utterances_are_renamed(run_program, data, tmp_path):
    write_files(data, stm=";; comment/a-1 A a 0 1 <o> one")
    run_program("copy_data_dir.py", "--utt-prefix=x-", "--spk-prefix=x-", data, tmp_path / "copy")
    assert lines_of(tmp_path / "copy" / "stm") == [";; comment", "x-a-1 A a 0 1 <o> one"]


def test_subsets_have_the_references_of_their_recordings(run_program, with_references, tmp_path):
    result = run_program("subset_data_dir.py", "--last", with_references, 1, tmp_path / "subset")
    assert lines_of(tmp_path / "subset" / "stm") == [";; comment", "y B b 1 3 <o> zwölf"]
    assert lines_of(tmp_path / "subset" / "ctm") == ["y B 1 2 zwölf"]
    assert lines_of(tmp_path / "subset" / "glm") == lines_of(with_references / "glm")
    assert b"left out: spk2age" in result.stderr
    run_program("split_data.py", with_references, 2)
    assert not (with_references / "split2/1/stm").exists()


@pytest.mark.slow
def test_combining_references(run_program, with_references, tmp_path):
    parts = tmp_path / "one", tmp_path / "two"
    for number, part in enumerate(parts):
        option = ["--first", "--last"][number]
        run_program("subset_data_dir.py", option, with_references, 2, part)
    run_program("combine_data.py", tmp_path / "all", *parts)
    for name in "stm", "ctm", "glm":
        assert lines_of(tmp_path / "all" / name) == lines_of(with_references / name)
    write_files(parts[0], glm="[x] => [y]")
    (parts[1] / "ctm").unlink()
    result = run_program("combine_data.py", tmp_path / "all", *parts)
    assert b"not combining glm: the rules differ" in result.stderr
    assert b"not combining ctm, which is not in all" in result.stderr
    assert not (tmp_path / "all" / "glm").exists() and not (tmp_path / "all" / "ctm").exists()


def test_lists_with_other_names_are_said(run_program, data, tmp_path):
    (tmp_path / "list").write_text("a-1\nzebra\n")
    result = run_program(
        "subset_data_dir.py", "--utt-list", tmp_path / "list", data, tmp_path / "subset"
    )
    assert b"1 of 2 names in " in result.stderr and b"such as zebra" in result.stderr


def test_copy_without_segments_renames_recordings(run_program, data, tmp_path):
    run_program("copy_data_dir.py", "--utt-prefix=x-", "--spk-prefix=x-", data, tmp_path / "copy")
    copy = DataDir.read(tmp_path / "copy")
    assert list(copy["wav.scp"]) == list(copy["text"]) == ["x-a-1", "x-a-2", "x-a-3", "x-b-1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, number, utterances",
    [
        ([], 2, "a-1 a-3"),
        (["--first"], 2, "a-1 a-2"),
        (["--last", "true"], 2, "a-3 b-1"),
        (["--per-spk"], 2, "a-1 a-2 b-1"),
        (["--shortest"], 2, "a-2 b-1"),
        (["--speakers"], 1, "b-1"),
        (["--speakers"], 4, "a-1 a-2 a-3 b-1"),
    ],
)
def test_subset(run_program, data, tmp_path, options, number, utterances):
    run_program("subset_data_dir.py", *options, data, number, tmp_path / "subset")
    subset = DataDir.read(tmp_path / "subset")
    assert " ".join(subset["feats.scp"]) == utterances
    assert set(subset["cmvn.scp"]) == {utt[0] for utt in utterances.split()}


def test_subset_by_a_list(run_program, data, tmp_path):
    (tmp_path / "list").write_text("b something\na-2\n")
    run_program("subset_data_dir.py", "--spk-list", tmp_path / "list", data, tmp_path / "subset")
    assert list(DataDir.read(tmp_path / "subset")["text"]) == ["b-1"]
    run_program("subset_data_dir.py", "--utt-list", tmp_path / "list", data, tmp_path / "subset")
    assert list(DataDir.read(tmp_path / "subset")["text"]) == ["a-2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "args, message",
    [
        (["--first", "--last", "{data}", "2", "out"], "only one way"),
        (["{data}", "5", "out"], "has 4 utterances, not 5"),
        (["{data}", "two", "out"], "<num-utt> is a number, not two"),
        (["{data}", "out"], "come <num-utt> and <dest-data-dir>"),
        (["nowhere", "2", "out"], "no such file: nowhere/utt2spk"),
    ],
)
def test_subset_errors(run_program, data, tmp_path, args, message):
    words = [arg.format(data=data) for arg in args]
    result = run_program("subset_data_dir.py", *words, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr.decode()
    assert not (tmp_path / "out").exists()


def test_combine(run_program, data, tmp_path):
    for name, utts in ("one", ["a-1", "a-2"]), ("two", ["b-1"]):
        DataDir.read(data).select(utts).write(tmp_path / name)
    (tmp_path / "two" / "utt2num_frames").unlink()
    names = ["all", "one", "two"]
    result = run_program("combine_data.py", *names, cwd=tmp_path)
    combined = DataDir.read(tmp_path / "all")
    assert list(combined["wav.scp"]) == ["a-1", "a-2", "b-1"]
    assert combined.spk2utt() == {"a": "a-1 a-2", "b": "b-1"}
    assert "utt2num_frames" not in combined
    assert b"not combining utt2num_frames" in result.stderr


def test_combine_makes_segments(run_program, segmented, tmp_path):
    other = write_files(
        tmp_path / "other", utt2spk="c-1 c", wav_scp="c-1 c.wav", utt2dur="c-1 2.25"
    )
    run_program("combine_data.py", tmp_path / "all", segmented, other)
    assert lines_of(tmp_path / "all" / "segments")[-2:] == ["b-1 r2 1 3", "c-1 c-1 0.0 2.25"]
    (other / "utt2dur").unlink()
    result = run_program("combine_data.py", tmp_path / "all", segmented, other, check=False)
    assert result.returncode == 1
    assert b"no utt2dur to make them from" in result.stderr


def test_combine_what_does_not_agree(run_program, data, tmp_path):
    DataDir.read(data).write(tmp_path / "two")
    write_files(tmp_path / "two", cmvn_scp="a other.ark:2/b c.ark:9")
    result = run_program("combine_data.py", tmp_path / "all", data, tmp_path / "two")
    assert b"not combining statistics" in result.stderr
    assert "cmvn.scp" not in DataDir.read(tmp_path / "all")
    write_files(tmp_path / "two", text="a-1 other/a-2 two two/a-3/b-1 x")
    result = run_program("combine_data.py", tmp_path / "new", data, tmp_path / "two", check=False)
    assert result.returncode == 1
    assert b"text: a-1 has two values: 'one' and 'other'" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_perturb_speed(run_program, tmp_path):
    with wave.open(str(tmp_path / "a-1.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000))
    data = write_files(tmp_path / "data", utt2spk="a-1 a", text="a-1 one", feats_scp="a-1 f.ark:4")
    (data / "wav.scp").write_text(f"a-1 {tmp_path}/a-1.wav\n")
    said = run_program("perturb_data_dir_speed.py", "--nj", "1", "0.8", data, tmp_path / "slow")
    slow = DataDir.read(tmp_path / "slow")
    assert slow["utt2spk"] == {"sp0.8-a-1": "sp0.8-a"}
    assert slow["utt2uniq"] == {"sp0.8-a-1": "a-1"}
    assert slow["text"] == {"sp0.8-a-1": "one"}
    assert "feats.scp" not in slow
    assert b"left out: feats.scp" in said.stderr
    archive, _, offset = slow["wav.scp"]["sp0.8-a-1"].rpartition(":")
    with open(archive, "rb") as file:
        file.seek(int(offset))
        with wave.open(file) as recording:
            assert (recording.getframerate(), recording.getnframes()) == (8000, 10000)


# Fix and validate -------------------------------------------------------------------------------


def test_fix(run_program, data):
    before = (data / "text").read_text()
    write_files(
        data,
        utt2spk="b-1 b/a-2 a/a-1 a/a-3 a/a-1 z",
        feats_scp="a-2 f.ark:8/a-1 f.ark:4/b-1 f.ark:16/x-1 f.ark:20",
        utt2num_frames="a-1 100/a-2 0/a-3 30/b-1 10",
    )
    result = run_program("fix_data_dir.py", data)
    assert lines_of(data / "utt2spk") == ["a-1 a", "b-1 b"]
    assert lines_of(data / "feats.scp") == ["a-1 f.ark:4", "b-1 f.ark:16"]
    assert lines_of(data / "text") == ["a-1 one", "b-1 zwölf"]
    assert lines_of(data / "spk2utt") == ["a a-1", "b b-1"]
    assert (data / ".backup" / "text").read_text() == before
    assert b"kept 2 of 4 utterances" in result.stderr
    run_program("validate_data_dir.py", data, cwd=data.parent)


def test_fix_mends_what_editors_leave(run_program, data):
    mark = b"\xef\xbb\xbf"
    text = "a-1 one\u00a0two\r\na-2\ttwo\r\n\na-3\nb-1 zwölf".encode()
    (data / "text").write_bytes(mark + text)
    (data / "utt2spk").write_bytes(mark + (data / "utt2spk").read_bytes())
    write_files(data, stm="a-9 A a 0 1 <o> one", frame_shift="0.01")
    result = run_program("fix_data_dir.py", data)
    assert (data / "text").read_bytes() == "a-1 one two\na-2 two\na-3\nb-1 zwölf\n".encode()
    assert (data / ".backup" / "text").read_bytes() == mark + text
    assert lines_of(data / "stm") == ["a-9 A a 0 1 <o> one"]
    assert lines_of(data / "frame_shift") == ["0.01"]
    for said in (
        "text: 1 lines began with a byte order mark", "text: 2 lines ended with a carriage return",
        "text: 1 lines had what only looks like a space", "text: left out 1 empty lines",
        "utt2spk: 1 lines began with a byte order mark", "kept all 4 utterances",
    ):  # fmt: skip
        assert said in result.stderr.decode()
    run_program("validate_data_dir.py", data, cwd=data.parent)


def test_fix_says_why_utterances_go(run_program, data):
    write_files(data, text="a-2 x/a-3 x/b-1 x", cmvn_scp="a c.ark:2")
    result = run_program("fix_data_dir.py", data)
    assert b"1 utterances are not in text, such as a-1" in result.stderr
    assert b"1 utterances are not in cmvn.scp, such as b-1" in result.stderr


def test_fix_with_segments_speakers_and_recordings(run_program, segmented):
    write_files(segmented, wav_scp="r1 cat r1.wav |/r3 cat r3.wav |")
    run_program("fix_data_dir.py", segmented)
    fixed = DataDir.read(segmented)
    assert list(fixed["text"]) == ["a-1", "a-2"]
    assert list(fixed["wav.scp"]) == list(fixed["reco2file_and_channel"]) == ["r1"]
    assert list(fixed["cmvn.scp"]) == ["a"]


def test_fix_changes_nothing_when_nothing_would_be_left(run_program, data):
    write_files(data, text="x hello")
    result = run_program("fix_data_dir.py", data, check=False)
    assert result.returncode == 1
    assert b"no utterance is in all the files" in result.stderr
    assert len(lines_of(data / "utt2spk")) == 4
    assert not (data / ".backup").exists()


@pytest.mark.parametrize(
    "files, said",
    [
        (
            {"utt2dur": "x-1 2.5/x-2 3"},
            "{data}/utt2dur has none of those of utt2spk: remove what is of older data",
        ),
        (
            {"utt2dur": "x-1 2.5", "utt2num_frames": "x-1 250", "cmvn_scp": "b c.ark:9"},
            "; {data}/utt2dur, {data}/utt2num_frames have none of those",
        ),
        ({"wav_scp": "r9 r9.wav"}, "; {data}/wav.scp has none"),
        ({"text": "a-1 one", "utt2dur": "b-1 2.5"}, "so nothing was changed\n"),  # none of the two
    ],
)
def test_fix_names_the_file_of_other_utterances(run_program, data, files, said):
    write_files(data, **files)
    result = run_program("fix_data_dir.py", data, check=False)
    assert result.returncode == 1
    assert said.format(data=data) in result.stderr.decode()
    assert len(lines_of(data / "utt2spk")) == 4


def test_numbers_of_a_data_directory(run_program, data, tmp_path):
    """They are read in one way, whichever file they are in."""
    write_files(data, utt2dur="a-1 1/a-2 0.2/a-3 0.3/b-1 0.1")
    assert count_frames(data) == 160
    (data / "utt2num_frames").unlink()
    assert read_frame_shift(data) == 0.01 and count_frames(data) == 160
    write_files(data, frame_shift="0.005")
    assert count_frames(data) == 320
    for text in "ten ms", "0", "-0.01", "nan", "inf", "10", "":
        write_files(data, frame_shift=text)
        with pytest.raises(NgtrainError, match=f"^{data}/frame_shift: expected the seconds .*0.01"):
            count_frames(data)
    for value in "two", "-1", "nan", "inf", "":
        write_files(data, utt2dur=f"a-1 1/a-2 {value}/a-3 x/b-1 0.1")
        with pytest.raises(NgtrainError, match=f"^{data}/utt2dur: 2 lines .* such as a-2"):
            count_frames(data)
    result = run_program("subset_data_dir.py", "--shortest", data, 2, tmp_path / "x", check=False)
    assert b"utt2dur: 2 lines have no number from 0 on, such as a-2" in result.stderr


def test_validate_good_directories(run_program, data, reference):
    result = run_program("validate_data_dir.py", data, cwd=data.parent)
    assert b"Successfully validated" in result.stderr
    shared = reference("kaldi/mfcc/raw_mfcc_train.2.ark").parents[2]
    train = shared / "kaldi" / "data" / "train"
    run_program("validate_data_dir.py", train, cwd=shared.parent / "shared")


@pytest.mark.slow
@pytest.mark.parametrize(
    "files, problems",
    [
        ({"text": "a-1 one/a-2 two/b-1 x"}, ["text: lacks: 1 utterances of utt2spk, such as a-3"]),
        (
            {"utt2spk": "a-1 a/a-2 a/b-1 b/a-3 a"},
            ["utt2spk: line 4: a-3 stands after b-1: not sorted"],
        ),
        (
            {"spk2gender": "a f/b x/c m"},
            [
                "spk2gender: 1 lines are not 'speaker m|f', such as 'b x'",
                "has too many: 1 speakers",
            ],
        ),
        ({"spk2utt": "a a-1 a-2/b b-1"}, ["spk2utt: it does not match utt2spk for 1 speakers"]),
        ({"text": "a-1 <s> x/a-2 /a-3 x/b-1 x"}, ["text: 1 lines are not 'utterance words"]),
        ({"text": "a-1 \x07/a-2 /a-3 x/b-1 x"}, ["text: 1 lines are not 'printable'"]),
        ({"wav_scp": "a-1 /a-2 x|/a-3 x|/b-1 no-file"}, ["such as 'a-1'", "such as no-file"]),
        ({"utt2num_frames": "a-1 1/a-2 2/a-3 1.5/b-1 0"}, ["2 lines are not 'utterance number'"]),
        (
            {"utt2dur": "a-1 1/a-2 2/a-2 1.5/b-1 x"},
            ["the key a-2 comes a second", "such as 'b-1 x'"],
        ),
        (
            {"feats_scp": "a-1 f.ark:4/a-2 f.ark:21/a-3 no.ark:1[0:3]/b-1 cat x |"},
            [
                "feats.scp: 1 files are not there, such as no.ark",
                "feats.scp: 1 places are beyond the end, such as f.ark:21",
            ],
        ),
        ({"cmvn_scp": "a c.ark:2/b none"}, ["cmvn.scp: 1 files are not there, such as none"]),
        ({"spk2warp": "a 0.9/b 2"}, ["spk2warp: 1 lines are not 'spk 0.5..1.5', such as 'b 2'"]),
        (
            {"segments": "a-1 r 0 1/a-2 r 2 2/a-3 r 1 3/b-1 r 0 9"},
            ["such as 'a-2 r 2 2'", "wav.scp"],
        ),
    ],
)
def test_validate_finds(run_program, data, files, problems):
    write_files(data, **files)
    result = run_program("validate_data_dir.py", data, check=False, cwd=data.parent)
    assert result.returncode == 1
    for problem in problems:
        assert problem in result.stderr.decode()


def test_validate_says_all_at_once(run_program, data):
    (data / "feats.scp").unlink()
    (data / "text").write_bytes(b"a-1 one\r\na-2 two")
    (data / "cmvn.scp").write_bytes(b"")
    result = run_program("validate_data_dir.py", data, check=False, cwd=data.parent)
    said = result.stderr.decode().replace(f"{data}/", "").splitlines()
    assert [line.removeprefix("utils/validate_data_dir.py: error: ") for line in said] == [
        "text: the last line does not end with a newline",
        "text: lines end with a carriage return, as on DOS",
        "cmvn.scp: it is empty",
        "feats.scp: there is no such file (--no-feats says that this is meant)",
        "text: lacks: 2 utterances of utt2spk, such as a-3",
        "cmvn.scp: lacks: 2 speakers of utt2spk, such as a",
    ]
    result = run_program("validate_data_dir.py", "--no-feats", data, check=False)
    assert b"feats.scp" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, problem",
    [
        (b"\xef\xbb\xbfa-1 x\na-2\na-3\nb-1\n", "text: 1 lines begin with a byte order mark"),
        ("a-1 x\na-2\na-3\nb-1\n".encode("utf-16"), "text: it is UTF-16 and should be UTF-8"),
        (b"a-1 x\na-2\na-3 f\xfcnf\nb-1\n", r"'in UTF-8 (see iconv)', such as 'a-3 f\udcfcnf'"),
        ("a-1 x\u00a0y\na-2\na-3\nb-1\n".encode(), r"separates nothing', such as 'a-1 x\xa0y'"),
        ("a-1\u00a0x\na-2\na-3\nb-1\n".encode(), r"the key a-1\xa0x has what only looks like"),
    ],
)
def test_validate_names_what_no_terminal_shows(run_program, data, text, problem):
    (data / "text").write_bytes(text)
    result = run_program("validate_data_dir.py", data, check=False, cwd=data.parent)
    assert result.returncode == 1
    assert problem in result.stderr.decode()
    assert b"not sorted" not in result.stderr


def test_validate_sorting_by_speaker(run_program, tmp_path):
    data = write_files(tmp_path, utt2spk="1 b/2 a", spk2utt="a 2/b 1")
    options = ["--no-feats", "--no-text", "--no-wav"]
    result = run_program("validate_data_dir.py", *options, data, check=False)
    assert b"speakers should be prefixes" in result.stderr
    run_program("validate_data_dir.py", *options, "--no-spk-sort", data)


# Filters ----------------------------------------------------------------------------------------


def test_utt2spk_and_spk2utt(run_program, data):
    utt2spk, spk2utt = (data / "utt2spk").read_bytes(), (data / "spk2utt").read_bytes()
    assert run_program("utt2spk_to_spk2utt.py", data / "utt2spk").stdout == spk2utt
    assert run_program("utt2spk_to_spk2utt.py", stdin=utt2spk).stdout == spk2utt
    assert run_program("spk2utt_to_utt2spk.py", stdin=spk2utt).stdout == utt2spk
    for program, line in ("utt2spk_to_spk2utt.py", b"a b c\n"), ("spk2utt_to_utt2spk.py", b"a\n"):
        result = run_program(program, stdin=line, check=False)
        assert result.returncode == 1
        assert b"line 1" in result.stderr


@pytest.mark.slow
def test_filter_scp(run_program, tmp_path):
    (tmp_path / "ids").write_text("a x\nc\n")
    rows = "a\t1\nb  2\nc 3 \xff\n".encode("latin-1")

    def filtered(*options, stdin=rows):
        return run_program("filter_scp.py", *options, tmp_path / "ids", stdin=stdin).stdout

    assert filtered() == b"a\t1\nc 3 \xff\n"
    assert filtered("--exclude") == b"b  2\n"
    assert filtered("-f", "2", stdin=b"1 a\n2 b\n") == filtered("--field=2", stdin=b"1 a\n2 b\n")
    assert filtered("-f", "2", stdin=b"1 a\n2 b\n") == b"1 a\n"
    result = run_program("filter_scp.py", "-f", "3", tmp_path / "ids", stdin=b"1 a\n", check=False)
    assert result.returncode == 1
    assert b"<stdin>: line 1 has no field 3" in result.stderr
