"""Options of the programs for online normalization, Gaussian mixtures and i-vectors.

Each group is a decorator; those that also stand in a file of their own, such as online_cmvn.conf,
are read from it by read_options().
"""

from __future__ import annotations

from typing import Any

from nnet.cli import Choice, log, option
from nnet.cli.config_options import options, read_options
from nnet.errors import NgtrainError

online_cmvn_options = options(
    option(
        "--cmn-window",
        600,
        "Number of frames of sliding context for cepstral mean normalization.",
        least=1,
    ),
    option(
        "--global-frames",
        200,
        "Number of frames of global-average cepstral mean normalization stats to use for first "
        "utterance of a speaker",
        least=0,
    ),
    option(
        "--speaker-frames",
        600,
        "Number of frames of previous utterance(s) from this speaker to use in cepstral mean "
        "normalization",
        least=0,
    ),
    option("--norm-vars", False, "If true, normalize variances, too"),
    option(
        "--norm-means",
        True,
        "If true, do mean normalization (note: you cannot normalize the variance but not the mean)",
    ),
    option(
        "--skip-dims", "", "Dimensions to skip normalization of (colon-separated list of integers)"
    ),
)
"""Decorator for the options of online CMVN."""


def online_cmvn(**given: Any):
    """Make OnlineCmvnOptions of what `online_cmvn_options` declares."""
    from nnet.cli.option_lists import parse_integers
    from nnet.features.online_cmvn import OnlineCmvnOptions

    given["skip_dims"] = parse_integers("--skip-dims", given["skip_dims"])
    return OnlineCmvnOptions(**given)


mixture_update_options = options(
    option("--min-gaussian-weight", 1e-5, "Min Gaussian weight before we remove it."),
    option("--min-gaussian-occupancy", 10.0, "Minimum occupancy to update a Gaussian."),
    option("--min-variance", 0.001, "Variance floor (absolute variance).", above=0),
    option(
        "--remove-low-count-gaussians",
        True,
        "If true, remove Gaussians that fall below floors.",
    ),
)
"""Decorator for the options of the update of a mixture, fields of UpdateOptions."""


splice_options = options(
    option("--left-context", 4, "Number of frames of left context", least=0, most=1000),
    option("--right-context", 4, "Number of frames of right context", least=0, most=1000),
)
"""Decorator for the options of splicing."""

_FILES = {
    "lda_matrix": "Filename of LDA matrix, e.g. final.mat; used for iVector extraction.",
    "global_cmvn_stats": "Global CMVN stats, used in iVector extraction, obtained for example from "
    "'matrix-sum scp:data/train/cmvn.scp -'",
    "cmvn_config": "Configuration file for online CMVN features (e.g. conf/online_cmvn.conf), only "
    "used for iVector extraction.  Contains options as for the program 'apply-cmvn-online'",
    "splice_config": "Configuration file for frame splicing (--left-context and --right-context "
    "options); used for iVector extraction.",
    "diag_ubm": "Filename of diagonal UBM used to obtain posteriors for iVector extraction, e.g. "
    "final.dubm",
    "ivector_extractor": "Filename of iVector extractor, e.g. final.ie",
}

ivector_extraction_options = options(
    *(option(f"--{name.replace('_', '-')}", "", help) for name, help in _FILES.items()),
    option(
        "--online-cmvn-iextractor",
        False,
        "Add online-cmvn to feature pipeline of ivector extractor, use the cmvn setup of the UBM.",
    ),
    option(
        "--ivector-period",
        10,
        "Frequency with which we extract iVectors for neural network adaptation",
        least=1,
    ),
    option("--num-gselect", 5, "Number of Gaussians to select for iVector extraction", least=1),
    option("--min-post", 0.025, "Threshold for posterior pruning in iVector extraction"),
    option(
        "--posterior-scale",
        0.1,
        "Scale for posteriors in iVector extraction (may be viewed as inverse of prior scale)",
    ),
    option(
        "--max-count",
        0.0,
        "Maximum data count we allow before we start scaling the stats down (if nonzero)... helps "
        "to make iVectors from long utterances look more typical.  Interpret as a frame-count "
        "times --posterior-scale, typically 1/10 of a number of frames.  Suggest 100.",
        least=0,
    ),
    option(
        "--use-most-recent-ivector",
        True,
        "If true, always use most recent available iVector, rather than the one for the designated "
        "frame.",
    ),
    option(
        "--greedy-ivector-extractor",
        False,
        "If true, 'read ahead' as many frames as we currently have available when extracting the "
        "iVector.  May improve iVector quality.",
    ),
    option(
        "--max-remembered-frames",
        1000.0,
        "The maximum number of frames of adaptation history that we carry through to later "
        "utterances of the same speaker (having a finite number allows the speaker adaptation "
        "state to change over time).  Interpret as a real frame count, i.e. not a count scaled by "
        "--posterior-scale.",
        least=0,
    ),
)
"""Decorator for the options of online i-vectors; they also stand in ivector_extractor.conf."""


def ivector_system(**given: Any):
    """Load the IvectorSystem of what `ivector_extraction_options` declares.

    Raises:
        NgtrainError: a file was not given or cannot be read, or they do not go together.
    """
    import numpy as np

    from nnet.features.online_cmvn import read_global_statistics
    from nnet.io.tokens import read_object
    from nnet.ivectors.extractor import IvectorExtractor
    from nnet.ivectors.mixtures import DiagGmm
    from nnet.ivectors.online import IvectorSystem, OnlineIvectorOptions

    if given["greedy_ivector_extractor"] and not given["use_most_recent_ivector"]:
        log.warning("--greedy-ivector-extractor=true implies --use-most-recent-ivector=true")
        given["use_most_recent_ivector"] = True
    files = {name: given.pop(name) for name in _FILES}
    for name, file in files.items():
        if not file:
            raise NgtrainError(
                f"--{name.replace('_', '-')} option must be set (note: this may be needed in the "
                "file supplied to --ivector-extraction-config)"
            )
    return IvectorSystem(
        IvectorExtractor.load(files["ivector_extractor"]),
        DiagGmm.load(files["diag_ubm"]),
        read_object(files["lda_matrix"], lambda reader: reader.matrix(np.float32)),
        read_global_statistics(files["global_cmvn_stats"]),
        online_cmvn(**read_options(online_cmvn_options, files["cmvn_config"])),
        **read_options(splice_options, files["splice_config"]),
        options=OnlineIvectorOptions(**given),
    )


front_end_options = options(
    option("--feature-type", "mfcc", "Base feature type", type=Choice(["mfcc", "plp", "fbank"])),
    option("--mfcc-config", "", "Configuration file for MFCC features (e.g. conf/mfcc.conf)"),
    option("--plp-config", "", "Configuration file for PLP features (e.g. conf/plp.conf)"),
    option(
        "--fbank-config", "", "Configuration file for filterbank features (e.g. conf/fbank.conf)"
    ),
    option(
        "--cmvn-config",
        "",
        "Configuration file for online cmvn features (e.g. conf/online_cmvn.conf), of the features "
        "that the network sees (not of i-vectors).  If not set, these are not normalized.",
    ),
    option(
        "--global-cmvn-stats",
        "",
        "File with global statistics for that normalization",
    ),
    option(
        "--ivector-extraction-config",
        "",
        "Configuration file for online iVector extraction; options as of ivector-extract-online2",
    ),
)
"""Decorator for the options of the front end of online decoding."""


def front_end_system(
    feature_type: str,
    mfcc_config: str,
    plp_config: str,
    fbank_config: str,
    cmvn_config: str,
    global_cmvn_stats: str,
    ivector_extraction_config: str,
    online: bool,
):
    """Load the FrontEndSystem of what `front_end_options` declares.

    Args:
        online: whether i-vectors are of what has come in; otherwise of all frames.
    Raises:
        NgtrainError: a file was not given or cannot be read, or they do not go together.
    """
    from nnet.cli.features import read_spectral
    from nnet.features.online_cmvn import read_global_statistics
    from nnet.ivectors.front_end import FrontEndSystem

    files = {"mfcc": mfcc_config, "plp": plp_config, "fbank": fbank_config}
    for kind, file in files.items():
        if file and kind != feature_type:
            log.warning("--%s-config has no effect, since --feature-type is %s", kind, feature_type)
    system = FrontEndSystem(read_spectral(feature_type, files[feature_type]))
    if cmvn_config:
        if not global_cmvn_stats:
            raise NgtrainError("--cmvn-config needs --global-cmvn-stats")
        system.cmvn = online_cmvn(**read_options(online_cmvn_options, cmvn_config))
        system.global_cmvn_stats = read_global_statistics(global_cmvn_stats)
    if ivector_extraction_config:
        given = read_options(ivector_extraction_options, ivector_extraction_config)
        if not online:
            given |= {"use_most_recent_ivector": True, "greedy_ivector_extractor": True}
        system.ivectors = ivector_system(**given)
    return system
