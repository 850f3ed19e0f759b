"""benchmarks/presets.py: what it tries of presets, and the tables that it writes in the guide."""

from itertools import product
from math import log
from pathlib import Path

import pytest

from nnet.drivers.training_schedule import Schedule

ROOT = Path(__file__).parents[1]
FRAMES = 50_000


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def test_the_guide_has_the_tables_of_conf_and_of_the_trainings():
    from preset_tables import GUIDE, with_tables

    text = GUIDE.read_text()
    assert with_tables(text) == text, "benchmarks/presets.py writes them anew"
    assert text.count("| `minutes.conf` |") == 2


def test_all_networks_of_conf_are_in_the_tables():
    from preset_tables import PRESETS

    files = {file.name for file in (ROOT / "conf").glob("*.conf")}
    networks = {
        name for name in files if "--num-hidden-layers" in (ROOT / "conf" / name).read_text()
    }
    assert {name for name in PRESETS if name.endswith(".conf")} == networks
    assert "defaults" in PRESETS


def test_no_preset_that_was_tried_diverged():
    """Each ends above a guess; above the frequencies of classes, where it had time to learn."""
    from preset_tables import NUM_CLASSES, PRESETS, read_trainings

    trainings = read_trainings()
    tried = [(t.preset, t.classes) for t in trainings]
    assert len(set(tried)) == len(tried)
    assert set(tried) <= {(preset, n) for preset in PRESETS for n in NUM_CLASSES}
    assert [t for t in trainings if t.diverged == "yes" or t.final <= -log(t.classes)] == []
    few_steps = "multisplice.conf", "pnorm_paper.conf"  # minibatches of 512, and few of them
    assert [t for t in trainings if t.final <= t.priors and t.preset not in few_steps] == []


def test_tables_say_what_diverged_and_what_was_not_tried(monkeypatch):
    import preset_tables
    from preset_tables import Training, trainings

    one = Training("small.conf", 11, 0, "2 to 2", 1000, 3, -1.9, -9.0, -2.0, -9.0, "yes")
    monkeypatch.setattr(preset_tables, "read_trainings", lambda: [one])
    *_, row = trainings()
    assert row == [
        "`small.conf`",
        "3, 2 jobs of 1000 samples",
        "not tried",
        "**diverged** (-9.00)",
        "not tried",
    ]


@pytest.mark.parametrize("num_classes", [2, 11, 137])
def test_lexicons_have_the_classes(num_classes):
    """States of all phones, and of silence, that are not shared."""
    from presets import STATES, lexicon

    phones = {phone for line in lexicon(num_classes) for phone in line.split()[1:]}
    of_phones, of_silence = STATES[num_classes]
    assert len(phones) * of_phones + of_silence == num_classes


def test_in_small_presets_keep_networks_and_rates_of_jobs():
    from preset_tables import NUM_CLASSES, PRESETS
    from presets import NUM_ITERATIONS, SAMPLES, given, jobs_per_epoch, options_for

    for name, n in product(SAMPLES, NUM_CLASSES):
        preset, o = given(PRESETS[name].split()), given(options_for(name, n, FRAMES))
        for kept in "nonlin", "pnorm_input_dim", "splice_indexes", "minibatch_size":
            assert getattr(o, kept) == getattr(preset, kept)
        a_job = preset.initial_effective_lrate * preset.num_jobs_initial
        assert o.initial_effective_lrate >= 0.99 * a_job
        schedule = Schedule.of(o, num_archives=jobs_per_epoch(o, FRAMES), frames_per_eg=1)
        assert schedule.num_iters == NUM_ITERATIONS
