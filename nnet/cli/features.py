"""Options shared by compute-mfcc-feats and compute-fbank-feats.

They are those of Kaldi's FrameExtractionOptions, MelBanksOptions and of the two programs.
"""

from collections.abc import Callable
from typing import Any

from nnet.cli import Choice, log, option

# Kaldi's option, the field of kaldi-native-fbank, default, help.
_FRAME = [
    ("sample-frequency", "samp_freq", 16000.0, "Waveform data sample frequency (in Hz)"),
    ("frame-length", "frame_length_ms", 25.0, "Frame length in milliseconds"),
    ("frame-shift", "frame_shift_ms", 10.0, "Frame shift in milliseconds"),
    ("preemphasis-coefficient", "preemph_coeff", 0.97, "Coefficient of signal preemphasis"),
    ("remove-dc-offset", "remove_dc_offset", True, "Subtract mean from waveform on each frame"),
    ("blackman-coeff", "blackman_coeff", 0.42, "Constant coefficient of the blackman window"),
    ("round-to-power-of-two", "round_to_power_of_two", True, "Round window size by zero-padding"),
    (
        "snip-edges",
        "snip_edges",
        True,
        "Only output frames that completely fit in the file; if false, reflect at the edges",
    ),
]
_MEL = [
    ("num-mel-bins", "num_bins", 23, "Number of triangular mel-frequency bins"),
    ("low-freq", "low_freq", 20.0, "Low cutoff frequency for mel bins"),
    ("high-freq", "high_freq", 0.0, "High cutoff frequency (if <= 0, offset from Nyquist)"),
]


def spectral_options(function: Callable) -> Callable:
    """Declare the shared options (a decorator)."""
    declared = [
        option(f"--{name}", type=type(default), default=default, help=text)
        for name, _, default, text in _FRAME + _MEL
    ]
    declared += [
        option(
            "--window-type",
            type=Choice(["hamming", "hanning", "povey", "rectangular", "sine", "blackman"]),
            default="povey",
            help="Type of window",
        ),
        option("--dither", type=float, default=1.0, help="Dithering constant (0.0 means none)"),
        option(
            "--allow-downsample",
            type=bool,
            default=False,
            help="Accept recordings of a higher sample frequency than specified, and resample",
        ),
        option(
            "--allow-upsample",
            type=bool,
            default=False,
            help="Accept recordings of a lower sample frequency than specified, and resample",
        ),
        option("--srand", type=int, default=0, help="Seed of the dither"),
        option("--subtract-mean", type=bool, default=False, help="Subtract mean of each file"),
        option(
            "--channel",
            type=int,
            default=-1,
            help="Channel to extract (-1 -> expect mono, 0 -> left, 1 -> right)",
        ),
        option(
            "--min-duration",
            type=float,
            default=0.0,
            help="Minimum duration of recordings to process (in seconds)",
        ),
        option(
            "--write-utt2dur",
            default="",
            help="Wspecifier to write duration of each utterance in seconds, e.g. ark,t:utt2dur",
        ),
    ]
    for declare in reversed(declared):
        function = declare(function)
    return function


def run(
    kind: str,
    wav_rspecifier: str,
    feats_wspecifier: str,
    own: dict[str, Any],
    dither: float,
    srand: int,
    subtract_mean: bool,
    channel: int,
    min_duration: float,
    write_utt2dur: str,
    window_type: str,
    allow_downsample: bool,
    allow_upsample: bool,
    **fields: Any,
) -> int:
    """Compute features with the options as they were given; returns the program's exit status."""
    from nnet.features.spectral import SpectralFeatures, compute_features

    def chosen(table: list[tuple]) -> dict[str, Any]:
        return {field: fields[name.replace("-", "_")] for name, field, _, _ in table}

    frame = chosen(_FRAME) | {"window_type": window_type}
    features = SpectralFeatures(
        kind, frame, chosen(_MEL), own, dither, srand, allow_downsample, allow_upsample
    )
    num_done, num_recordings = compute_features(
        wav_rspecifier,
        feats_wspecifier,
        features,
        channel,
        min_duration,
        subtract_mean,
        write_utt2dur,
    )
    log.info("Done %d out of %d utterances.", num_done, num_recordings)
    return 0 if num_done else 1
