"""Recordings of every kind: read whole whatever their headers say, or refused in a clear line."""

import io
import struct
import tracemalloc

import numpy as np
import pytest

from nnet.errors import NgtrainError
from nnet.features import audio, riff
from nnet.features.wave import WAVE, Wave
from nnet.io.streams import InputStream, open_input
from nnet.io.tables import sequential_table
from nnet.io.text import text_lines

RATE = 8000
TONE = np.rint(3000 * np.sin(0.35 * np.arange(2000))).astype(np.int16)
UNKNOWN = 0xFFFFFFFF


def chunk(name, contents, order="<", pad=True):
    padding = b"\0" * (pad and len(contents) % 2)
    return name + struct.pack(f"{order}I", len(contents)) + contents + padding


def wav(riff_size=None, data_size=None, before=b"", after=b"", form=b"RIFF", samples=TONE):
    """A WAVE file whose sizes, where they are given, are these; `before` and `after` its samples
    stand other chunks."""
    order = ">" if form == b"RIFX" else "<"
    pcm = samples.astype(f"{order}i2").tobytes()
    description = struct.pack(f"{order}HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"WAVE" + before + chunk(b"fmt ", description, order) + b"data"
    right_size = len(head) + 4 + len(pcm) + len(after)
    sizes = [
        struct.pack(f"{order}I", size)
        for size in (
            right_size if riff_size is None else riff_size,
            len(pcm) if data_size is None else data_size,
        )
    ]
    return form + sizes[0] + head + sizes[1] + pcm + after


def read(path, contents) -> Wave:
    path.write_bytes(contents)
    with open_input(str(path)) as stream:
        return WAVE.read(stream)


def read_archive(path, contents) -> dict[str, Wave]:
    path.write_bytes(contents)
    with sequential_table(f"ark:{path}", WAVE) as recordings:
        return dict(recordings)


def encoded(file_format, subtype=None, samples=TONE, rate=RATE) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


LIST = chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0")  # 17 bytes and one that fills up

# Whose samples are all found, whether or not other recordings follow; and what is warned of.
WITH_SIZE = {
    "right": (wav(), ""),
    "RIFF of half": (wav(riff_size=36 + 2000), "the size in its header is wrong"),
    "RIFF of the header": (wav(riff_size=36), "the size in its header is wrong"),
    "RIFF of the file": (wav(riff_size=44 + 4000), "the size in its header is wrong"),
    "RIFF of more": (wav(riff_size=500_000), "the size in its header is wrong"),
    "RIFF unknown": (wav(riff_size=UNKNOWN), ""),
    "RIFF zero": (wav(riff_size=0), ""),
    "chunks before": (wav(before=chunk(b"JUNK", bytes(28)) + LIST), ""),
    "chunk not filled up": (wav(before=chunk(b"bext", b"odd", pad=False)), ""),
    "chunk after": (wav(after=LIST), ""),
    "chunks after": (wav(after=LIST + chunk(b"id3 ", b"ID3")), ""),
    "big-endian": (wav(form=b"RIFX"), ""),
    "RF64": (
        wav(
            riff_size=UNKNOWN,
            data_size=UNKNOWN,
            before=chunk(b"ds64", struct.pack("<QQQI", 72 + 4000, 4000, 2000, 0)),
            form=b"RF64",
        ),
        "",
    ),
}

# Whose samples go on to the end of the file.
WITHOUT_SIZE = {
    "none set": wav(riff_size=36, data_size=0),
    "no data": wav(data_size=0),
    "both zero": wav(riff_size=0, data_size=0),
    "SoX": wav(riff_size=0x7FFFF024, data_size=0x7FFFF000),
    "FFmpeg": wav(riff_size=UNKNOWN, data_size=UNKNOWN),
    "arecord": wav(riff_size=0x80000024, data_size=0x80000000),
}


@pytest.mark.parametrize("name", WITH_SIZE)
def test_samples_are_those_of_the_data_chunk(tmp_path, caplog, name):
    contents, warning = WITH_SIZE[name]
    np.testing.assert_array_equal(read(tmp_path / "a.wav", contents).samples, TONE[None])
    assert warning in caplog.text and bool(caplog.text) == bool(warning)
    with open_input(f"cat {tmp_path}/a.wav |") as stream:
        np.testing.assert_array_equal(WAVE.read(stream).samples, TONE[None])


@pytest.mark.parametrize("name", WITH_SIZE)
def test_in_archives_the_next_recording_is_found(tmp_path, name):
    contents = WITH_SIZE[name][0]
    recordings = read_archive(tmp_path / "a.ark", b"a " + contents + b"utt2 " + contents)
    assert list(recordings) == ["a", "utt2"]
    for recording in recordings.values():
        np.testing.assert_array_equal(recording.samples, TONE[None])


@pytest.mark.parametrize("name", WITHOUT_SIZE)
def test_without_a_size_samples_go_on_to_the_end(tmp_path, name):
    contents = WITHOUT_SIZE[name]
    np.testing.assert_array_equal(read(tmp_path / "a.wav", contents).samples, TONE[None])
    with open_input(f"cat {tmp_path}/a.wav |") as stream:
        np.testing.assert_array_equal(WAVE.read(stream).samples, TONE[None])
    # In an archive, the first of these is a recording without samples, and then comes no key.
    said = "key" if name == "none set" else r"key a: its header does not say how long"
    with pytest.raises(NgtrainError, match=rf"a\.ark.*{said}"):
        read_archive(tmp_path / "a.ark", b"a " + contents + b"b " + contents)


def test_recordings_without_samples(tmp_path):
    empty = wav(samples=TONE[:0])
    assert read(tmp_path / "a.wav", empty).samples.shape == (1, 0)
    recordings = read_archive(tmp_path / "a.ark", b"a " + empty + b"b " + wav())
    assert [recording.duration for recording in recordings.values()] == [0, 0.25]


@pytest.mark.parametrize("filled_up", [True, False])
def test_an_odd_number_of_bytes(tmp_path, filled_up):
    """Three samples of 24 bits; a byte follows them, or should."""
    contents = bytearray(encoded("WAV", "PCM_24", np.array([0.5, -0.5, 0.25])))
    size = contents.index(b"data") + 8 + 9
    contents = contents[: size + filled_up]
    contents[4:8] = struct.pack("<I", len(contents) - 8)
    archive = b"a " + bytes(contents) + b"b " + wav()
    recordings = read_archive(tmp_path / "a.ark", archive)
    np.testing.assert_array_equal(recordings["a"].samples, [[16384, -16384, 8192]])
    np.testing.assert_array_equal(recordings["b"].samples, TONE[None])


@pytest.mark.parametrize(
    "file_format, subtype, error",
    [
        ("WAV", "PCM_U8", 256),
        ("WAV", "PCM_24", 0),
        ("WAV", "PCM_32", 0),
        ("WAV", "FLOAT", 0.01),
        ("WAV", "DOUBLE", 0.01),
        ("WAV", "ULAW", 128),
        ("WAV", "ALAW", 128),
        ("WAV", "IMA_ADPCM", 4000),
        ("WAVEX", "PCM_16", 0),
        ("WAVEX", "FLOAT", 0.01),
        ("RF64", "PCM_16", 0),
        ("FLAC", "PCM_24", 0),
        ("AIFF", "PCM_16", 0),
        ("AU", "ULAW", 128),
        ("CAF", "PCM_16", 0),
        ("W64", "PCM_16", 0),
        ("NIST", "ULAW", 128),
        ("OGG", "VORBIS", 1500),
    ],
)
def test_formats(tmp_path, file_format, subtype, error):
    """Of two channels, in a file and through a pipe, as libsndfile reads the whole file."""
    import soundfile

    stereo = np.stack([TONE, np.roll(TONE, 700)])
    path = tmp_path / "a"
    first = read(path, encoded(file_format, subtype, stereo.T / 32768))
    with open_input(f"cat {path} |") as stream:
        second = WAVE.read(stream)
    expected, _ = soundfile.read(path, dtype="float32")
    for recording in first, second:
        assert recording.sample_rate == RATE
        np.testing.assert_array_equal(recording.samples, 32768 * expected.T)
        assert np.abs(recording.samples[:, :2000] - stereo).max() <= error


def test_more_than_one_recording_in_a_file(tmp_path, caplog):
    assert read(tmp_path / "two.wav", wav() + wav()).duration == 0.25
    assert f"{tmp_path}/two.wav: more follows the recording, and is not read" in caplog.text


# Archives and places in them ----------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["FLAC", "OGG", "AIFF", "AU", "CAF"])
def test_others_than_wave_at_a_place_in_an_archive(tmp_path, file_format):
    contents = encoded(file_format)
    alone = read(tmp_path / "a", contents).samples
    archive = b"".join(b"u%d " % n + contents for n in range(3))
    (tmp_path / "a.ark").write_bytes(archive)
    for start in (3, 2 * len(contents) + 9):
        with open_input(f"{tmp_path}/a.ark:{start}") as stream:
            np.testing.assert_array_equal(WAVE.read(stream).samples, alone)
    with pytest.raises(NgtrainError, match=r"a\.ark, key u0: only WAVE .* script file \(scp:\)"):
        read_archive(tmp_path / "a.ark", archive)


def test_a_format_that_does_not_say_where_it_ends(tmp_path):
    (tmp_path / "a.ark").write_bytes(b"u " + encoded("NIST"))
    with (
        pytest.raises(NgtrainError, match="NIST in an archive does not say where it ends"),
        open_input(f"{tmp_path}/a.ark:2") as stream,
    ):
        WAVE.read(stream)


def test_of_an_archive_only_the_recording_is_read(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(-3000, 3000, 30_000, dtype=np.int16)
    contents = encoded("FLAC", samples=noise)
    places = [n * (len(contents) + 2) + 2 for n in range(100)]
    (tmp_path / "a.ark").write_bytes(100 * (b"u " + contents))
    lines = [f"u{n} {tmp_path}/a.ark:{place}\n" for n, place in enumerate(places)]
    (tmp_path / "a.scp").write_text("".join(lines))
    sizes = []
    read_raw = InputStream._read_raw

    def counting(stream, size):
        sizes.append(len(data := read_raw(stream, size)))
        return data

    monkeypatch.setattr(InputStream, "_read_raw", counting)
    with sequential_table(f"scp:{tmp_path}/a.scp", WAVE) as recordings:
        assert sum(recording.samples.shape[1] for _, recording in recordings) == 100 * 30_000
    assert sum(sizes) < 6 * 100 * len(contents)


# What is not there, or has no end -----------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "AIFF", "AU", "NIST", "MP3"])
def test_what_is_cut_short_is_refused(tmp_path, file_format):
    contents = encoded(file_format, samples=np.tile(TONE, 20))
    with pytest.raises(NgtrainError, match=rf"^{tmp_path}/cut: (truncated|no audio)"):
        read(tmp_path / "cut", contents[: len(contents) * 2 // 3])


def test_silence_in_flac(tmp_path):
    """551 samples for a byte."""
    silence = np.zeros((RATE * 60, 2), np.int16)
    assert read(tmp_path / "muted.flac", encoded("FLAC", samples=silence)).duration == 60


def test_a_header_allocates_nothing(tmp_path):
    """FLAC of 2000 samples that claims 2^36 - 1 of them."""
    contents = bytearray(encoded("FLAC"))
    contents[21] |= 0x0F
    contents[22:26] = b"\xff\xff\xff\xff"
    tracemalloc.start()
    try:
        with pytest.raises(NgtrainError, match=r"a\.flac: (truncated|no audio)"):
            read(tmp_path / "a.flac", contents)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_devices_are_no_audio(device):
    with (
        pytest.raises(NgtrainError, match=f"{device}: no audio that can be read"),
        open_input(device) as stream,
    ):
        WAVE.read(stream)


@pytest.mark.parametrize(
    "beginning", [wav(data_size=UNKNOWN), wav(data_size=0x70000000), encoded("FLAC")]
)
def test_recordings_without_an_end(tmp_path, monkeypatch, beginning):
    """More is read than one recording may have, and no more than that is kept."""
    monkeypatch.setattr(audio, "MOST_BYTES", 1 << 22)
    monkeypatch.setattr(riff, "MOST_BYTES", 1 << 22)
    (tmp_path / "head").write_bytes(beginning)
    tracemalloc.start()
    try:
        with (
            pytest.raises(NgtrainError, match="more than 4 MiB, or without an end"),
            open_input(f"cat {tmp_path}/head /dev/zero |") as stream,
        ):
            WAVE.read(stream)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_chunks_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(riff, "MOST_BYTES", 1 << 16)
    (tmp_path / "head").write_bytes(b"RIFF\xff\xff\xff\xffWAVE")
    with (
        pytest.raises(NgtrainError, match="no chunk 'data'"),
        open_input(f"(cat {tmp_path}/head; yes JUNK) |") as stream,
    ):
        WAVE.read(stream)


def test_too_many_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "MOST_SAMPLES", RATE * 60)
    silence = encoded("FLAC", samples=np.zeros(RATE * 61, np.int16))
    with pytest.raises(NgtrainError, match="more than 480000 samples"):
        read(tmp_path / "a.flac", silence)


def test_a_sampling_rate_that_is_none(tmp_path):
    contents = bytearray(wav())
    contents[24:28] = struct.pack("<I", 2_000_000)
    with pytest.raises(NgtrainError, match="a sampling rate of 2000000 Hz"):
        read(tmp_path / "a.wav", contents)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_no_numbers(tmp_path, caplog, value, subtype):
    samples = TONE / 32768
    samples[1000] = value
    for name, contents in ("good", wav()), ("bad", encoded("WAV", subtype, samples)):
        (tmp_path / f"{name}.wav").write_bytes(contents)
    (tmp_path / "wav.scp").write_text(f"u1 {tmp_path}/bad.wav\nu2 {tmp_path}/good.wav\n")
    message = f"{tmp_path}/bad.wav, key u1: a sample that is NaN or infinite: number 1000"
    with (
        pytest.raises(NgtrainError, match=message),
        sequential_table(f"scp:{tmp_path}/wav.scp", WAVE) as recordings,
    ):
        list(recordings)
    with sequential_table(f"scp,p:{tmp_path}/wav.scp", WAVE) as recordings:
        assert [key for key, _ in recordings] == ["u2"]
    assert message in caplog.text
    assert recordings.losses.count == 1 and recordings.losses.example.startswith(message)


# What is no audio ---------------------------------------------------------------------------------

SHORTEN = (
    b"NIST_1A\n   1024\nsample_count -i 8000\nsample_n_bytes -i 2\nchannel_count -i 1\n"
    b"sample_rate -i 8000\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
).ljust(1024) + bytes(200)


@pytest.mark.parametrize(
    "contents, said",
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08" + bytes(100), "compressed by gzip: read it as 'gunzip -c {path} |'"),
        (
            b"\0\0\0\x20ftypM4A " + bytes(100),
            "(AAC, ALAC): read it as 'ffmpeg -v error -i {path} -f wav - |'",
        ),
        (b"\0BFM \x04" + bytes(100), "no audio that can be read: a matrix"),
        (b"this is no recording at all", "no audio that can be read: text"),
        (b"RIFF\x10\0\0\0AVI " + bytes(100), "a film"),
        (SHORTEN, "compressed by shorten: use `sph2pipe -f wav -p {path} |`"),
    ],
)
def test_what_is_no_audio_is_named(tmp_path, contents, said):
    path = tmp_path / "a.wav"
    said = said.format(path=path)
    with pytest.raises(NgtrainError) as error:
        read(path, contents)
    assert str(error.value).startswith(f"{path}: no audio that can be read: ")
    assert said in str(error.value) and "0x" not in str(error.value)
    with pytest.raises(NgtrainError) as error, open_input(f"cat {path} |") as stream:
        WAVE.read(stream)
    assert "no audio that can be read: " in str(error.value)


@pytest.mark.parametrize("beginning", [b"ID3\x04" + bytes(100), b"\xff\xfb\x90\x00" + bytes(100)])
def test_mp3_is_named_where_libsndfile_does_not_read_it(tmp_path, beginning):
    (tmp_path / "x.mp3").write_bytes(beginning)
    with open_input(f"{tmp_path}/x.mp3") as stream:
        said = str(audio.refusal(stream, beginning, "Format not recognised"))
    assert f"an MP3 recording: read it as 'ffmpeg -v error -i {tmp_path}/x.mp3" in said


@pytest.mark.parametrize("name", ["MAC", "ID3", "wvpk", "ajkg", "OggS"])
def test_names_of_utterances_are_no_formats(tmp_path, name):
    (tmp_path / "text").write_text(f"{name} some words\n")
    assert list(text_lines(tmp_path / "text")) == [f"{name} some words"]
