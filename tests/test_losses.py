"""What is left out is counted, with an example and the reason, by programs and by drivers."""

import io
import struct
import wave

import numpy as np
import pytest

from nnet.drivers.losses import judge, losses_in, reason_in
from nnet.errors import NgtrainError
from nnet.io.losses import Losses
from nnet.io.tables import MATRIX, sequential_table, table_writer

RATE = 8000
TONE = np.rint(3000 * np.sin(0.35 * np.arange(RATE // 2)))


def wav(samples=TONE, rate=RATE) -> bytes:
    contents = io.BytesIO()
    with wave.open(contents, "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return contents.getvalue()


def float_wav(samples) -> bytes:
    """A WAVE file of 32-bit floating point, in which a sample may be anything."""
    data = np.asarray(samples, "<f4").tobytes()
    description = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    head = b"WAVE" + description + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data


GOOD = wav()
NAN = float_wav([0.0, np.nan] * 2000)
BAD = {
    "short": (wav(TONE[:100]), "short: too short for one frame"),
    "nothing": (wav(TONE[:0]), "nothing: too short for one frame"),
    "rate": (wav(TONE, 16000), "is sampled at 16000 Hz, not at the 8000 Hz"),
    "nan": (NAN, "key nan: a sample that is NaN or infinite: number 1 of channel 0"),
    "web": (b"<html>404</html>", "key web: no audio that can be read: a web page"),
    "loud": (float_wav([3e33, -3e33] * 2000), "loud: "),
    "cut": (GOOD[:2000], "key cut: truncated"),
}


@pytest.fixture
def recordings(tmp_path):
    """recordings({name: contents}, ...) writes them and tmp_path/wav.scp."""

    def write(named: dict[str, bytes]):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        for name, contents in named.items():
            (tmp_path / "wavs" / f"{name}.wav").write_bytes(contents)
        lines = [f"{name} {tmp_path}/wavs/{name}.wav\n" for name in sorted(named)]
        (tmp_path / "wav.scp").write_text("".join(lines))
        return f"scp,p:{tmp_path}/wav.scp"

    return write


def said_by(result) -> list[str]:
    return [line.partition(") ")[2] for line in result.stderr.decode().splitlines()]


def keys_of(archive) -> list[str]:
    with sequential_table(f"ark:{archive}", MATRIX) as table:
        return [key for key, _ in table]


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_recordings_without_features(recordings, tmp_path, run_program, name):
    contents, reason = BAD[name]
    wavs = recordings({"a": GOOD, name: contents, "z": GOOD})
    result = run_program(
        "compute-mfcc-feats", "--sample-frequency=8000", wavs, f"ark:{tmp_path}/mfcc.ark"
    )
    assert keys_of(tmp_path / "mfcc.ark") == ["a", "z"]
    *_, summary, done = said_by(result)
    assert summary.startswith("no features of 1 of 3 recordings, such as ") and reason in summary
    assert done == "Done 2 out of 3 utterances."


def test_no_recording_has_features(recordings, tmp_path, run_program):
    wavs = recordings({name: contents for name, (contents, _) in BAD.items()})
    result = run_program(
        "compute-fbank-feats",
        "--sample-frequency=8000",
        wavs,
        f"ark:{tmp_path}/fbank.ark",
        check=False,
    )
    assert result.returncode == 1
    assert said_by(result)[-1].startswith("no features of any of 7 recordings, such as ")
    assert not (tmp_path / "fbank.ark").exists()


def test_recordings_that_are_odd(recordings, run_program):
    stereo = np.stack([TONE, TONE], axis=1)
    wavs = recordings({"a": GOOD, "b": wav(stereo), "c": wav(0 * TONE), "d": wav(stereo)})
    result = run_program(
        "compute-mfcc-feats", "--sample-frequency=8000", "--dither=0", wavs, "ark:/dev/null"
    )
    assert said_by(result)[-3:] == [
        "2 of 4 recordings have several channels: used the first, such as b",
        "1 of 4 recordings are silent: all of their samples are zero, such as c",
        "Done 4 out of 4 utterances.",
    ]


def test_segments(recordings, tmp_path, run_program):
    loud = float_wav(2 * np.sin(0.3 * np.arange(4000)))
    wavs = recordings(
        {"mono": GOOD, "stereo": wav(np.stack([TONE] * 2, axis=1)), "nan": NAN, "loud": loud}
    )
    (tmp_path / "segments").write_text(
        "u1 mono 0 0.4\nu2 stereo 0 0.4\nu3 stereo 0 0.4 1\nu4 mono 0.2 7\nu5 nan 0 0.4\n"
        "u6 nan 0 0.3\nu7 loud 0 0.4\n"
    )
    result = run_program(
        "extract-segments", wavs, tmp_path / "segments", f"ark,t:{tmp_path}/cut.ark"
    )
    text = result.stderr.decode()
    assert "the recording has 2 channels, and the segment must say which" in text
    assert "outside of the recording, which has 0.5 seconds: 'u4 mono 0.2 7'" in text
    assert "number 1 of channel 0: 'u6 nan 0 0.3'" in text
    assert text.count("passed over: ") == 4 + 1  # the recording, once
    *_, lost, clipped, done = said_by(result)
    assert lost.startswith("no output for 4 of 7 segments, such as u2: the recording has 2")
    assert clipped.startswith("1 of 3 segments are louder than 16 bits can say and were clipped")
    assert done == "Successfully processed 3 lines out of 7 in the segments file."


# Features -----------------------------------------------------------------------------------------

EMPTY = "a [ ]\nb [ 1 2 3\n4 5 6 ]\nc [ ]\nd [ 7 8 9 ]\n"


@pytest.fixture
def with_empty(tmp_path):
    (tmp_path / "feats.ark").write_text(EMPTY)
    return f"ark:{tmp_path}/feats.ark"


def test_statistics_of_others_than_empty_utterances(with_empty, tmp_path, run_program):
    (tmp_path / "spk2utt").write_text("s a b c d\nt a\n")
    result = run_program(
        "compute-cmvn-stats",
        f"--spk2utt=ark:{tmp_path}/spk2utt",
        with_empty,
        f"ark,t:{tmp_path}/stats",
    )
    with sequential_table(f"ark:{tmp_path}/stats", MATRIX) as table:
        stats = dict(table)
    np.testing.assert_array_equal(stats["s"][0], [12, 15, 18, 3])
    assert list(stats) == ["s"]
    text = result.stderr.decode()
    assert "No stats accumulated for speaker t" in text
    assert "no statistics of 3 of 5 utterances, such as a: empty feature matrix" in text
    run_program("compute-cmvn-stats", with_empty, f"ark:{tmp_path}/each")
    assert keys_of(tmp_path / "each") == ["b", "d"]
    run_program("compute-cmvn-stats", with_empty, tmp_path / "all")


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        ["add-deltas"],
        ["splice-feats"],
        ["subsample-feats", "--n=2"],
        ["apply-cmvn", "{stats}"],
        ["transform-feats", "{matrix}"],
        ["paste-feats", "{feats}"],
    ],
)
def test_empty_utterances_are_left_out(with_empty, tmp_path, run_program, program):
    (tmp_path / "stats").write_text(" [ 12 15 18 3\n66 93 126 0 ]\n")
    (tmp_path / "matrix").write_text(" [ 1 0 0\n0 1 0 ]\n")
    names = {"stats": tmp_path / "stats", "matrix": tmp_path / "matrix", "feats": with_empty}
    name, *first = (word.format(**names) for word in program)
    result = run_program(name, *first, with_empty, f"ark:{tmp_path}/out")
    assert keys_of(tmp_path / "out") == ["b", "d"]
    summary = "no output for 2 of 4 utterances, such as a: empty feature matrix"
    assert summary in said_by(result)


def test_the_dimension_is_that_of_the_first_frames(with_empty, run_program):
    assert run_program("feat-to-dim", with_empty, "-").stdout == b"3\n"


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_cannot_be_compressed_is_named(tmp_path, run_program, value):
    (tmp_path / "feats.ark").write_text(f"x [ 1 2 ]\ny [ 1 {value} ]\n")
    source = f"ark:{tmp_path}/feats.ark"
    result = run_program(
        "copy-feats", "--compress=true", source, f"ark:{tmp_path}/out", check=False
    )
    assert f"{source}, key y: cannot compress a matrix with NaN" in result.stderr.decode()
    assert result.returncode == 1 and not (tmp_path / "out").exists()


def test_what_a_script_names_and_is_not_there_is_said_with_its_key(tmp_path, run_program):
    (tmp_path / "feats.scp").write_text("u1 /no/such/file\nu2 false |\n")
    result = run_program("copy-feats", f"scp,p:{tmp_path}/feats.scp", "ark:-", check=False)
    assert "passed over: key u1: cannot open /no/such/file" in result.stderr.decode()
    assert "passed over: key u2: " in result.stderr.decode()
    assert "2 of 2 entries were passed over, such as key u1" in result.stderr.decode()


# Options ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "option, said",
    [
        ("--frame-shift=0", "--frame-shift=0 is not between 1 samples and 10000 ms"),
        ("--frame-shift=0.0001", "--frame-shift=0.0001"),
        ("--frame-shift=-10", "--frame-shift=-10"),
        ("--frame-length=0", "--frame-length=0"),
        ("--frame-length=1e7", "--frame-length=1e+07"),
        ("--sample-frequency=0", "--sample-frequency=0"),
        ("--num-ceps=0", "--num-ceps"),
        ("--num-ceps=50", "no features: num-ceps"),
        ("--num-mel-bins=0", "no features: "),
        ("--num-mel-bins=100000000", "no features: "),
        ("--low-freq=9000", "no features: "),
        ("--preemphasis-coefficient=7", "no features: preemph"),
    ],
)
def test_options_with_which_there_are_no_features(recordings, run_program, option, said):
    """kaldi-native-fbank crashes over some of these, and never ends with others."""
    result = run_program(
        "compute-mfcc-feats", option, recordings({"a": GOOD}), "ark:/dev/null", check=False
    )
    assert result.returncode == 1 and said in said_by(result)[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, option",
    [
        ("add-deltas", "--delta-window=1000000"),
        ("add-deltas", "--delta-order=1001"),
        ("splice-feats", "--left-context=1000000"),
        ("splice-feats", "--right-context=-1"),
        ("subsample-feats", "--n=-1000000000"),
        ("wav-augment", "--reverberation-time=1e9:1e9"),
        ("wav-augment", "--snr=-inf:5"),
        ("wav-augment", "--volume=1e300:1e300"),
    ],
)
def test_options_are_bounded(run_program, program, option):
    result = run_program(program, option, "ark:/dev/null", "ark:/dev/null", check=False)
    assert result.returncode == 1
    assert option.partition("=")[0] in said_by(result)[-1]


# The drivers --------------------------------------------------------------------------------------


@pytest.fixture
def data(recordings, tmp_path):
    """data({name: contents}) is a data directory, with a configuration beside it."""

    def write(named, segments=""):
        recordings(named)
        directory = tmp_path / "data"
        directory.mkdir()
        (tmp_path / "wav.scp").rename(directory / "wav.scp")
        utterances = [line.split()[0] for line in segments.splitlines()] or sorted(named)
        (directory / "utt2spk").write_text("".join(f"{name} s\n" for name in utterances))
        (directory / "spk2utt").write_text(f"s {' '.join(utterances)}\n")
        if segments:
            (directory / "segments").write_text(segments)
        (tmp_path / "conf").write_text("--sample-frequency=8000\n--use-energy=false\n")
        return directory

    return write


def many(count, **others):
    return {f"u{n:02}": GOOD for n in range(count)} | others


def make_mfcc(run_program, directory, *options):
    config = directory.parent / "conf"
    result = run_program(
        "make_mfcc.py", "--nj", 2, "--mfcc-config", config, *options, directory, check=False
    )
    return result.returncode, result.stderr.decode().splitlines()


@pytest.mark.slow
def test_a_driver_says_what_has_no_features(data, run_program):
    directory = data(many(29, web=BAD["web"][0]))
    status, said = make_mfcc(run_program, directory)
    assert status == 0
    (warning,) = [line for line in said if "warning" in line]
    assert "1 of 30 utterances have no features, such as web: WARNING" in warning
    assert "key web: no audio that can be read: a web page" in warning


@pytest.mark.slow
@pytest.mark.parametrize("name", ["web", "short", "rate", "nan"])
def test_more_than_one_in_twenty_is_an_error(data, run_program, name):
    contents, reason = BAD[name]
    status, said = make_mfcc(run_program, data(many(9) | {name: contents}))
    assert status == 1
    assert f"1 of 10 utterances have no features, such as {name}: " in said[-1]
    assert reason in said[-1]


def test_what_is_not_there_is_said_before_any_job(data, run_program):
    directory = data(many(4))
    text = (directory / "wav.scp").read_text()
    (directory / "wav.scp").write_text(text.replace("/wavs/u0", "/elsewhere/u0"))
    status, said = make_mfcc(run_program, directory)
    assert status == 1
    assert "wav.scp: 4 of 4 recordings are not there, such as " in said[-1]
    assert "/elsewhere/u00.wav" in said[-1]
    assert not (directory / "log").exists()


@pytest.mark.slow
def test_why_a_segment_has_no_features_is_said_of_its_recording(data, run_program):
    segments = "u1 r1 0 0.4\nu2 r2 0 0.4\n"
    directory = data({"r1": GOOD, "r2": NAN}, segments)
    status, said = make_mfcc(run_program, directory, "--nj", 1)
    assert status == 1
    assert "1 of 2 utterances have no features, such as u2: " in said[-1]
    assert "key r2: a sample that is NaN or infinite" in said[-1]


@pytest.mark.slow
def test_channels_that_are_not_used_are_said(data, run_program):
    stereo = wav(np.stack([TONE, TONE], axis=1))
    status, said = make_mfcc(run_program, data(many(2, v1=stereo, v2=stereo)))
    assert status == 0
    assert any("2 of 2 recordings have several channels: used the first" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, seconds",
    [
        ("--frame-shift=12.5\n", "0.0125"),
        ("--frame-shift=10\n--frame_shift=5  # ms\n", "0.005"),
        ("# --frame-shift=5\n", "0.01"),
        ("--frame-shift=0.5\n", "0.0005"),
    ],
)
def test_the_frame_shift_is_written_exactly(data, run_program, config, seconds):
    directory = data(many(1))
    with open(directory.parent / "conf", "a") as file:
        file.write(config)
    status, said = make_mfcc(run_program, directory)
    assert status == 0, said
    assert (directory / "frame_shift").read_text() == f"{seconds}\n"


@pytest.mark.slow
def test_the_driver_of_statistics_says_what_has_none(data, run_program):
    directory = data(many(3))
    archive = directory / "feats.ark"
    with table_writer(f"ark,scp:{archive},{directory}/feats.scp", MATRIX) as output:
        for name, frames in ("u00", 5), ("u01", 0), ("u02", 5):
            output.write(name, np.ones((frames, 2 * (frames > 0)), np.float32))
    result = run_program("compute_cmvn_stats.py", directory)
    summary = "warning: no statistics of 1 of 3 utterances, such as u01: empty feature matrix"
    assert summary in result.stderr.decode()
    (directory / "spk2utt").write_text("s u00 u02\nt u01\nv u01\nw u01\n")
    result = run_program("compute_cmvn_stats.py", directory, check=False)
    assert result.returncode == 1
    assert b"no statistics of 3 of 5 utterances, such as u01" in result.stderr


# The mechanism ------------------------------------------------------------------------------------


def test_how_serious_a_loss_is(caplog):
    caplog.set_level("INFO")
    judge(4, 100, "4 of 100")
    judge(5, 100, "5 of 100")
    judge(50, 100, "50 of 100")
    levels = [(record.levelname, record.message) for record in caplog.records]
    assert levels == [("INFO", "4 of 100"), ("WARNING", "5 of 100"), ("WARNING", "50 of 100")]
    with pytest.raises(NgtrainError, match="51 of 100"):
        judge(51, 100, "51 of 100")


def test_losses_of_jobs_are_added_up(tmp_path, caplog):
    for job, count in (1, 2), (2, 3), (3, 0):
        losses = Losses()
        for n in range(count):
            losses.add(f"u{job}{n}", "it, such as this, was bad")
        caplog.clear()
        losses.report("no output for %d of 10 utterances")
        lines = "".join(f"WARNING (x[1]) {record.message}\n" for record in caplog.records)
        (tmp_path / f"{job}.log").write_text(f"# x\n{lines}LOG (x[1]) Done\n")
    logs = [tmp_path / f"{job}.log" for job in (1, 2, 3, 4)]
    (loss,) = losses_in(logs)
    assert str(loss) == ("no output for 5 of 20 utterances, such as u10: it, such as this, was bad")


def test_the_reason_is_that_of_the_name(tmp_path):
    log = tmp_path / "log"
    log.write_text("LOG (x) u1\nWARNING (x) u10: a\nWARNING (x) /u1.wav, key u1: b\nERROR u1: c\n")
    assert reason_in([log], "u1") == "WARNING (x) /u1.wav, key u1: b"
    assert reason_in([log], "u2") == ""
