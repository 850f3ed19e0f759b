"""The options of steps/get_egs2.py, and what follows from them for the examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnet.drivers.data_dir import read_amounts, read_frame_shift, read_table
from nnet.drivers.driver import cmd_option
from nnet.drivers.egs_dir import EGS_FORMATS
from nnet.drivers.feature_pipeline import feature_options
from nnet.drivers.programs import output_of
from nnet.drivers.settings import EXAMPLES, NOTHING, setting, shared


@dataclass(frozen=True, kw_only=True)
class EgsOptions:
    """The options for making examples; what affects nothing does not change them."""

    # fmt: off
    cmd: str = shared(cmd_option, NOTHING)
    feat_type: str = shared(feature_options("feat_type"), EXAMPLES)
    cmvn_opts: str = shared(feature_options("cmvn_opts"), EXAMPLES)
    delta_order: str = shared(feature_options("delta_order"), EXAMPLES)
    transform_dir: str = shared(feature_options("transform_dir"), EXAMPLES)
    online_ivector_dir: str = shared(feature_options("online_ivector_dir"), EXAMPLES)
    frames_per_eg: int = setting(8, EXAMPLES, "Labelled frames per example", least=1)
    left_context: int = setting(4, EXAMPLES, "Frames of input on the left of them", least=0)
    right_context: int = setting(4, EXAMPLES, "Frames of input on the right of them", least=0)
    reduce_frames_per_eg: bool = setting(True, EXAMPLES,
        "Take fewer frames per example as long as the data fits into one archive")
    num_utts_subset: int = setting(300, EXAMPLES,
        "Utterances that are held out, and as many others to compare with", least=1)
    num_valid_frames_combine: int = setting(0, EXAMPLES,
        "Frames that are held out, for the final combination of models", least=0)
    num_train_frames_combine: int = setting(10000, EXAMPLES, "Training frames for it", least=0)
    num_frames_diagnostic: int = setting(4000, EXAMPLES, "Frames for diagnostics", least=1)
    samples_per_iter: int = setting(400000, EXAMPLES, "Examples per archive, about", least=1)
    egs_format: str = setting("ark", EXAMPLES, choices=EGS_FORMATS,
        help="ark for archives, h5 for HDF5 files, which are faster to read in random order")
    postdir: str = setting("", EXAMPLES, "Has post.JOB.scp, to train on soft targets")
    io_opts: str = setting("--max-jobs-run 5", NOTHING, "Launcher options for jobs of much I/O")
    srand: int = setting(0, EXAMPLES, "Seed of what is held out and of the order", least=0)
    stage: int = setting(0, NOTHING,
        "2: the number of frames is known; 3: the subsets are there, too; 4: all examples are, "
        "but not in random order")
    # fmt: on

    def plan_archives(self, num_frames: int) -> tuple[int, int]:
        """Decide on the number of archives, and of labelled frames per example."""
        # Rounded up: we assume that it does not divide exactly.
        frames_per_eg, examples = self.frames_per_eg, self.samples_per_iter
        num_archives = num_frames // (frames_per_eg * examples) + 1
        if self.reduce_frames_per_eg:
            while frames_per_eg > 1 and num_frames // ((frames_per_eg - 1) * examples) == 0:
                frames_per_eg -= 1
                num_archives = 1
        return num_archives, frames_per_eg

    def nothing_to_combine_on(self) -> str:
        """Say why there would be no examples for the final combination; empty if there will be."""
        if self.num_train_frames_combine or self.num_valid_frames_combine:
            return ""
        return "--num-train-frames-combine 0 leaves nothing to combine models on"

    def too_few_utterances(self, count: int) -> str:
        """Say why `count` utterances are too few to hold some out; empty if they are not."""
        size = self.num_utts_subset
        if count > 4 * size:
            return ""
        largest = (count - 1) // 4
        remedy = f"use --num-utts-subset {largest} or less" if largest > 0 else "it needs more data"
        return (
            f"number of utterances {count} in your training data is too small versus "
            f"--num-utts-subset={size}; you probably have so little data that it doesn't make "
            f"sense to train a neural net; {remedy}"
        )


def count_frames(data: Path) -> int:
    """Count the frames of a data directory, by what it says or else by its features."""
    utterances = read_table(data / "utt2spk")
    for name in "utt2num_frames", "utt2dur":
        amounts = read_amounts(data / name) if (data / name).is_file() else {}
        if utterances.keys() <= amounts.keys():
            total = sum(amounts[utterance] for utterance in utterances)
            return round(total / read_frame_shift(data) if name == "utt2dur" else total)
    return int(output_of("feat-to-len", f"scp:{data}/feats.scp"))
