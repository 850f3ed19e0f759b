"""Augmented recordings, and augmented copies of data directories."""

import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest

from nnet.features.augmentation import Augmentation, add_noise, change_speed, reverberate
from nnet.features.wave import Wave

RATE = 8000
TONE = 1000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)


def pitch(signal: np.ndarray) -> float:
    """The frequency of the largest peak of the spectrum, in Hz."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return spectrum.argmax() * RATE / len(signal)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_speed_changes_duration_and_pitch_together(speed):
    faster = change_speed(TONE, speed)
    assert len(faster) == pytest.approx(len(TONE) / speed, abs=1)
    assert pitch(faster) == pytest.approx(440 * speed, abs=2)
    middle = faster[1000:-1000]
    assert np.sqrt(2 * (middle**2).mean()) == pytest.approx(1000, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("snr", [0.0, 15.0])
def test_noise_is_as_loud_as_asked(snr):
    noise = add_noise(TONE, snr, np.random.default_rng(0)) - TONE
    assert 10 * np.log10((TONE**2).sum() / (noise**2).sum()) == pytest.approx(snr)


def test_room_answers_an_impulse_with_a_decaying_tail():
    impulse = np.zeros(RATE)
    impulse[100] = 1.0
    response = reverberate(impulse, RATE, time=0.4, ratio=6.0, rng=np.random.default_rng(0))
    assert np.abs(response[:100]).max() < 1e-12
    tail = response[101:]
    assert response[100] == pytest.approx(1.0)
    assert 10 * np.log10(1 / (tail**2).sum()) == pytest.approx(6.0, abs=0.01)
    # Over 0.1 s it decays by a quarter of 60 dB.
    first, second = (tail[n : n + 400] for n in (0, 800))
    assert 10 * np.log10((first**2).sum() / (second**2).sum()) == pytest.approx(15, abs=2)


def test_what_is_drawn_depends_on_seed_and_key_alone():
    augment = Augmentation(snr=(0.0, 20.0), volume=(0.5, 2.0), srand=1)
    recording = Wave(TONE[np.newaxis].astype(np.float32), RATE)
    copy = augment("a", recording).samples
    np.testing.assert_array_equal(copy, augment("a", recording).samples)
    assert not np.array_equal(copy, augment("b", recording).samples)
    other = Augmentation(snr=(0.0, 20.0), volume=(0.5, 2.0), srand=2)
    assert not np.array_equal(copy, other("a", recording).samples)


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def test_program_makes_loud_copies_quieter_instead_of_clipping(tmp_path, run_program):
    write_wav(tmp_path / "a.wav", 30 * TONE)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    run_program("wav-augment", "--volume=4:4", f"scp:{tmp_path}/wav.scp", f"ark:{tmp_path}/out.ark")
    contents = (tmp_path / "out.ark").read_bytes()
    assert contents.startswith(b"a RIFF")
    samples = np.frombuffer(contents[len(b"a ") + 44 :], "<i2").astype(float)
    assert np.abs(samples).max() == pytest.approx(32767, abs=1)
    np.testing.assert_allclose(samples / 32767, TONE / np.abs(TONE).max(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("bad", ["--snr=20:5", "--snr=loud", "--speed=0", "--volume=1"])
def test_bad_options_end_in_one_line(tmp_path, run_program, bad):
    write_wav(tmp_path / "a.wav", TONE)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    result = run_program(
        "wav-augment", bad, f"scp:{tmp_path}/wav.scp", f"ark:{tmp_path}/out.ark", check=False
    )
    assert result.returncode != 0
    assert bad.partition("=")[0] in result.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "out.ark").exists()


@pytest.mark.slow
def test_copy_of_a_data_directory(tmp_path, run_program):
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    for name in "r1", "r2":
        write_wav(tmp_path / f"{name}.wav", TONE)
    (source / "wav.scp").write_text(f"r1 {tmp_path}/r1.wav\nr2 {tmp_path}/r2.wav\n")
    (source / "segments").write_text("s-1 r1 0.2 0.9\ns-2 r2 0 -1\n")
    (source / "utt2spk").write_text("s-1 s\ns-2 s\n")
    (source / "text").write_text("s-1 one two\ns-2 three\n")
    run_program("augment_data_dir.py", "--speed", "0.5", "--nj", "2", "x-", source, dest)
    assert (dest / "text").read_text() == "x-s-1 one two\nx-s-2 three\n"
    assert (dest / "spk2utt").read_text() == "x-s x-s-1 x-s-2\n"
    assert (dest / "utt2uniq").read_text() == "x-s-1 s-1\nx-s-2 s-2\n"
    assert (dest / "segments").read_text() == "x-s-1 x-r1 0.400 1.800\nx-s-2 x-r2 0.000 -1.000\n"
    lengths = run_program("wav-copy", f"scp:{dest}/wav.scp", "ark:-").stdout
    assert len(lengths) == pytest.approx(2 * (2 * 2 * RATE + 44), abs=16)


@pytest.mark.slow
def test_recordings_that_cannot_be_read_are_left_out(tmp_path, run_program):
    """With their utterances, which is said, and refused where they are most."""
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    names = [f"r{n}" for n in range(4)]
    for name in names:
        write_wav(tmp_path / f"{name}.wav", TONE)
    (source / "wav.scp").write_text("".join(f"{name} {tmp_path}/{name}.wav\n" for name in names))
    segments = [f"s-{n} r{n // 2} 0.{n % 2} 0.9\n" for n in range(8)]
    (source / "segments").write_text("".join(segments))
    (source / "utt2spk").write_text("".join(f"s-{n} s\n" for n in range(8)))
    (tmp_path / "r2.wav").write_text("<html>404</html>")
    command = "augment_data_dir.py", "--speed=0.5", "--nj=1", "x-", source, dest
    said = run_program(*command).stderr.decode()
    assert f"warning: {dest}: 1 of 4 recordings have no copy, such as x-r2: " in said
    assert "key x-r2: no audio that can be read: " in said and "a web page" in said
    assert "; 2 utterances are left out with them" in said
    kept = [f"x-s-{n}" for n in range(8) if n not in (4, 5)]
    for name, keys in ("utt2spk", kept), ("segments", kept), ("wav.scp", ["x-r0", "x-r1", "x-r3"]):
        assert [line.split()[0] for line in (dest / name).read_text().splitlines()] == keys

    for name in "r0", "r1":
        (tmp_path / f"{name}.wav").write_bytes(b"")
    shutil.rmtree(dest)
    result = run_program(*command, check=False)
    assert result.returncode == 1
    assert "3 of 4 recordings have no copy, such as x-r0: " in result.stderr.decode()
    assert not (dest / "utt2spk").exists()


def test_what_is_clipped_is_named(tmp_path, run_program):
    """Of floating-point recordings."""
    import soundfile

    for name, volume in ("quiet", 0.5), ("loud", 1.5):
        tone = volume * TONE / np.abs(TONE).max()
        soundfile.write(tmp_path / f"{name}.wav", tone, RATE, subtype="FLOAT")
    wavs = "".join(f"{name} {tmp_path}/{name}.wav\n" for name in ("loud", "quiet"))
    (tmp_path / "wav.scp").write_text(wavs)
    out = tmp_path / "out.ark"
    said = run_program("wav-copy", f"scp:{tmp_path}/wav.scp", f"ark:{out}").stderr.decode()
    [warning] = [line for line in said.splitlines() if "WARNING" in line]
    assert re.search(rf"{out}, key loud: clipping \d+ samples$", warning)
