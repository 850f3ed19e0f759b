"""Segments of recordings, listed by the file `segments` of a data directory."""

import logging

import numpy as np

from nnet.features.audio import FULL_SCALE
from nnet.features.wave import WAVE, Wave
from nnet.io.losses import Losses
from nnet.io.numbers import natural
from nnet.io.random_access import random_access_table
from nnet.io.tables import table_writer
from nnet.io.text import split_words, text_lines

log = logging.getLogger("ngtrain")


def extract_segments(
    wav_rspecifier: str,
    segments_rxfilename: str,
    wav_wspecifier: str,
    min_segment_length: float,
    max_overshoot: float,
) -> tuple[int, int]:
    """Cut recordings as a segments file says (Kaldi featbin/extract-segments.cc).

    Lines of that file are `segment recording start end [channel]`, times in seconds, an end of -1
    being that of the recording. Lines that cannot be followed are passed over with a warning.

    Such are segments shorter than `min_segment_length`, or that end later than `max_overshoot`
    after the recording (seconds). Returns the numbers of segments written and of lines.
    """
    num_done = 0
    lost, clipped = Losses(), Losses()
    with (
        random_access_table(wav_rspecifier, WAVE) as recordings,
        table_writer(wav_wspecifier, WAVE) as output,
    ):
        for text in text_lines(segments_rxfilename):
            try:
                segment, recording, start, end, channel = _parse_segment(text)
                if recording not in recordings:
                    raise ValueError(recordings.why_not(recording))
                whole, least = recordings[recording], min_segment_length
                cut = _cut(whole, start, end, channel, least, max_overshoot)
            except ValueError as reason:
                log.warning("segment passed over: %s: '%s'", reason, text)
                lost.add((split_words(text) or ["an empty line"])[0], reason)
                continue
            if np.abs(cut.samples).max(initial=0.0) > FULL_SCALE:
                clipped.add(segment, f"of recording {recording}")
            output.write(segment, cut)
            num_done += 1
    num_lines = num_done + lost.count
    lost.report(f"no output for %d of {num_lines} segments")
    clipped.report(f"%d of {num_done} segments are louder than 16 bits can say and were clipped")
    return num_done, num_lines


def _parse_segment(line: str) -> tuple[str, str, float, float, int | None]:
    words = split_words(line)
    if len(words) not in (4, 5):
        raise ValueError("expected 4 or 5 words")
    start, end = float(words[2]), float(words[3])
    channel = natural(words[4]) if len(words) == 5 else None
    if not (start >= 0 and (end == -1 or end > start)):
        raise ValueError("empty or invalid segment")
    return words[0], words[1], start, end, channel


def _cut(
    recording: Wave,
    start: float,
    end: float,
    channel: int | None,
    min_length: float,
    max_overshoot: float,
) -> Wave:
    length = recording.duration
    if start > length or end > length + max_overshoot:
        raise ValueError(f"outside of the recording, which has {length:g} seconds")
    if end < 0 or end > length:
        end = length
    if end - start < min_length:
        raise ValueError("too short")
    num_channels = len(recording.samples)
    if channel is None and num_channels > 1:
        raise ValueError(
            f"the recording has {num_channels} channels, and the segment must say which (a fifth "
            "word, from 0 on)"
        )
    channel = channel or 0
    if channel >= num_channels:
        raise ValueError(f"no channel {channel} in a recording of {num_channels}")
    first, last = (int(time * recording.sample_rate + 0.5) for time in (start, end))
    return Wave(recording.samples[channel : channel + 1, first:last], recording.sample_rate)
