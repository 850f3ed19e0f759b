"""The options of steps/get_lda.py."""

from __future__ import annotations

from dataclasses import dataclass

from nnet.drivers.driver import cmd_option
from nnet.drivers.feature_pipeline import feature_options
from nnet.drivers.settings import NOTHING, TRANSFORM, setting, shared


@dataclass(frozen=True, kw_only=True)
class LdaOptions:
    """The options for estimating the feature transform; what affects nothing does not change it."""

    cmd: str = shared(cmd_option, NOTHING)
    feat_type: str = shared(feature_options("feat_type"), TRANSFORM)
    cmvn_opts: str = shared(feature_options("cmvn_opts"), TRANSFORM)
    transform_dir: str = shared(feature_options("transform_dir"), TRANSFORM)
    online_ivector_dir: str = shared(feature_options("online_ivector_dir"), TRANSFORM)
    splice_width: int = setting(
        4, TRANSFORM, "Frames spliced on each side of the middle one", least=0
    )
    left_context: int | None = setting(
        None, TRANSFORM, "Frames spliced on the left, instead of --splice-width", least=0
    )
    right_context: int | None = setting(
        None, TRANSFORM, "Frames spliced on the right, instead of --splice-width", least=0
    )
    rand_prune: float = setting(4.0, TRANSFORM, "Prunes small posteriors, for speed", least=0)
    within_class_factor: float = setting(
        0.0001, TRANSFORM, "Of nnet-get-feature-transform", above=0
    )
    lda_dim: int | None = setting(
        None, TRANSFORM, "Dimension of the output (default: that of the input)", least=1
    )
    num_feats: int = setting(10000, TRANSFORM, "Use about so many utterances at most", least=1)
    ivector_randomize_prob: float = setting(
        0.0,
        TRANSFORM,
        "How probably an i-vector is replaced by another one of the utterance",
        least=0,
        most=1,
    )
    srand: int = setting(0, TRANSFORM, "Seed of the pruning", least=0)
    stage: int = setting(0, NOTHING, "1: the statistics are there; 2: their sum, too")

    @property
    def context(self) -> tuple[int, int]:
        """Frames that are spliced on the left and on the right."""
        left, right = self.left_context, self.right_context
        return (
            self.splice_width if left is None else left,
            self.splice_width if right is None else right,
        )
