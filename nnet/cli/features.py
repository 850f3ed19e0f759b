"""Options shared by compute-mfcc-feats and compute-fbank-feats.

They are those of Kaldi's FrameExtractionOptions, MelBanksOptions and of the two programs.
"""

from collections.abc import Callable

from nnet.cli import Choice, log, option

# A second name is that of the field of kaldi-native-fbank.
_OPTIONS = [
    option("--sample-frequency", 16000.0, "Waveform data sample frequency (in Hz)", "samp_freq"),
    option("--frame-length", 25.0, "Frame length in milliseconds", "frame_length_ms"),
    option("--frame-shift", 10.0, "Frame shift in milliseconds", "frame_shift_ms"),
    option("--preemphasis-coefficient", 0.97, "Coefficient of signal preemphasis", "preemph_coeff"),
    option("--remove-dc-offset", True, "Subtract mean from waveform on each frame"),
    option("--blackman-coeff", 0.42, "Constant coefficient of the blackman window"),
    option("--round-to-power-of-two", True, "Round window size by zero-padding"),
    option(
        "--snip-edges",
        True,
        "Only output frames that completely fit in the file; if false, reflect at the edges",
    ),
    option("--num-mel-bins", 23, "Number of triangular mel-frequency bins", "num_bins"),
    option("--low-freq", 20.0, "Low cutoff frequency for mel bins"),
    option("--high-freq", 0.0, "High cutoff frequency (if <= 0, offset from Nyquist)"),
    option(
        "--window-type",
        "povey",
        "Type of window",
        type=Choice(["hamming", "hanning", "povey", "rectangular", "sine", "blackman"]),
    ),
    option("--dither", 1.0, "Dithering constant (0.0 means none)"),
    option(
        "--allow-downsample",
        False,
        "Accept recordings of a higher sample frequency than specified, and resample",
    ),
    option(
        "--allow-upsample",
        False,
        "Accept recordings of a lower sample frequency than specified, and resample",
    ),
    option("--srand", 0, "Seed of the dither"),
    option("--subtract-mean", False, "Subtract mean of each file"),
    option("--channel", -1, "Channel to extract (-1 -> expect mono, 0 -> left, 1 -> right)"),
    option("--min-duration", 0.0, "Minimum duration of recordings to process (in seconds)"),
    option(
        "--write-utt2dur",
        "",
        "Wspecifier to write duration of each utterance in seconds, e.g. ark,t:utt2dur",
    ),
]


def spectral_options(function: Callable) -> Callable:
    """Declare the shared options (a decorator)."""
    for declare in reversed(_OPTIONS):
        function = declare(function)
    return function


def run(
    kind: str,
    *,
    wav_rspecifier: str,
    feats_wspecifier: str,
    channel: int,
    min_duration: float,
    subtract_mean: bool,
    write_utt2dur: str,
    **options,
) -> int:
    """Compute features with the options as they were given; returns the program's exit status."""
    from nnet.features.spectral import SpectralFeatures, compute_features

    num_done, num_recordings = compute_features(
        wav_rspecifier,
        feats_wspecifier,
        SpectralFeatures(kind, **options),
        channel,
        min_duration,
        subtract_mean,
        write_utt2dur,
    )
    log.info("Done %d out of %d utterances.", num_done, num_recordings)
    return 0 if num_done else 1
