"""Options shared by compute-mfcc-feats, compute-fbank-feats and compute-plp-feats.

They are those of Kaldi's FrameExtractionOptions, MelBanksOptions and of the programs.
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
    option(
        "--vtln-warp",
        1.0,
        "Vtln warp factor (only applicable if --vtln-map not specified)",
        above=0,
    ),
    option(
        "--vtln-map",
        "",
        "Map from utterance or speaker-id to vtln warp factor (rspecifier).  Utterances without "
        "one are left out",
    ),
    option("--utt2spk", "", "Utterance to speaker-id map rspecifier (if doing VTLN per speaker)"),
    option("--vtln-low", 100.0, "Low inflection point in piecewise linear VTLN warping function"),
    option(
        "--vtln-high",
        -500.0,
        "High inflection point in piecewise linear VTLN warping function (if negative, offset from "
        "Nyquist)",
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
    option("--output-format", "kaldi", "Format of the output files", type=Choice(["kaldi", "htk"])),
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


def _with_own(*own: Callable) -> Callable:
    """Make a decorator of the shared options and those of one kind of features."""

    def decorate(function: Callable) -> Callable:
        for declare in reversed(own):
            function = declare(function)
        return spectral_options(function)

    return decorate


mfcc_options = _with_own(
    option("--num-ceps", 13, "Number of cepstra (including C0)", least=1),
    option("--use-energy", True, "Use energy (not C0)"),
    option("--energy-floor", 0.0, "Floor on energy (absolute, not relative)"),
    option("--raw-energy", True, "Energy before preemphasis and windowing"),
    option("--cepstral-lifter", 22.0, "Constant that scales the cepstra"),
    option("--htk-compat", False, "Put energy or C0 last"),
)
"""Decorator for the options of compute-mfcc-feats, which mfcc.conf has."""

fbank_options = _with_own(
    option("--use-energy", False, "Add an extra dimension with energy"),
    option("--energy-floor", 0.0, "Floor on energy (absolute, not relative)"),
    option("--raw-energy", True, "Energy before preemphasis and windowing"),
    option("--htk-compat", False, "Put energy last"),
    option("--use-log-fbank", True, "Log filter-bank, not linear"),
    option("--use-power", True, "Use power, not magnitude"),
)
"""Decorator for the options of compute-fbank-feats, which fbank.conf has."""

plp_options = _with_own(
    option("--lpc-order", 12, "Order of LPC analysis in PLP computation", least=1),
    option("--num-ceps", 13, "Number of cepstra in PLP computation (including C0)", least=1),
    option("--use-energy", True, "Use energy (not C0) for zeroth PLP feature"),
    option("--energy-floor", 0.0, "Floor on energy (absolute, not relative) in PLP computation"),
    option("--raw-energy", True, "If true, compute energy before preemphasis and windowing"),
    option("--compress-factor", 0.33333, "Compression factor in PLP computation", above=0),
    option("--cepstral-lifter", 22, "Constant that controls scaling of PLPs", least=0),
    option("--cepstral-scale", 1.0, "Scaling constant in PLP computation"),
    option("--htk-compat", False, "If true, put energy or C0 last"),
)
"""Decorator for the options of compute-plp-feats, which plp.conf has."""

_OF_TABLES = (
    *("channel", "min_duration", "subtract_mean", "write_utt2dur", "vtln_warp", "vtln_map"),
    *("utt2spk", "output_format"),
)


def read_spectral(kind: str, filename: str):
    """Make the SpectralFeatures or PlpFeatures of "mfcc", "plp" or "fbank" by a file of options.

    An empty name stands for the defaults.  Raises NgtrainError.
    """
    from nnet.cli.config_options import read_options
    from nnet.features.plp import PlpFeatures
    from nnet.features.spectral import SpectralFeatures

    options = {"mfcc": mfcc_options, "plp": plp_options, "fbank": fbank_options}
    given = read_options(options[kind], filename)
    for name in _OF_TABLES:  # of programs that read recordings from tables
        given.pop(name)
    return PlpFeatures(**given) if kind == "plp" else SpectralFeatures(kind, **given)


def run(
    kind: str,
    *,
    wav_rspecifier: str,
    feats_wspecifier: str,
    channel: int,
    min_duration: float,
    subtract_mean: bool,
    write_utt2dur: str,
    vtln_warp: float,
    vtln_map: str,
    utt2spk: str,
    output_format: str,
    **options,
) -> int:
    """Compute features with the options as they were given; returns the program's exit status."""
    from nnet.features.foreign import form_of
    from nnet.features.plp import PlpFeatures
    from nnet.features.spectral import SpectralFeatures, compute_features
    from nnet.features.vtln import warps

    with warps(vtln_warp, vtln_map, utt2spk) as warp_of:
        num_done, num_recordings = compute_features(
            wav_rspecifier,
            feats_wspecifier,
            PlpFeatures(**options) if kind == "plp" else SpectralFeatures(kind, **options),
            channel,
            min_duration,
            subtract_mean,
            write_utt2dur,
            warp_of,
            form_of(output_format, kind, options["use_energy"]),
        )
    log.info("Done %d out of %d utterances.", num_done, num_recordings)
    return 0 if num_done else 1
