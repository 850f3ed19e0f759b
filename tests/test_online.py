"""Online decoding: what comes in chunk by chunk is decoded as the whole would be."""

import math
from pathlib import Path

import numpy as np
import pytest
from archives import read_table

from nnet.cli.config_options import read_options
from nnet.cli.endpointing import _DEFAULTS, endpoint_options, take_endpointing
from nnet.cli.features import mfcc_options, read_spectral
from nnet.cli.ivectors import online_cmvn_options
from nnet.decoding.online import ENDPOINT_RULES, EndpointRule
from nnet.errors import NgtrainError
from nnet.features.utterances import Skip
from nnet.io.tables import INTEGERS, MATRIX
from nnet.model.acoustic_model import AcousticModel

NETWORK = """\
SpliceComponent input-dim=13 left-context=3 right-context=2
AffineComponent input-dim=78 output-dim=30 learning-rate=0.01 param-stddev=0.1 bias-stddev=0.1
TanhComponent dim=30
AffineComponent input-dim=30 output-dim=128 learning-rate=0.01 param-stddev=0.5 bias-stddev=0.1
SoftmaxComponent dim=128
"""


@pytest.fixture(scope="module")
def digits(kaldi, shared, reference, run_program, tmp_path_factory):
    """A directory with recordings of a speaker, a random network for them, and mfcc.conf."""
    wav = reference("fsdd/recordings/5_george_0.wav")
    directory = tmp_path_factory.mktemp("online")
    (directory / "nnet.config").write_text(NETWORK)
    (directory / "mfcc.conf").write_text("--sample-frequency=8000\n--use-energy=false\n")
    (directory / "wav.scp").write_text(f"a {wav}\nb {wav}\n")
    (directory / "spk2utt").write_text("george a b\n")
    run_program("nnet-init", directory / "nnet.config", directory / "raw")
    run_program("nnet-am-init", kaldi / "exp/tri2_ali/tree", kaldi / "data/lang/topo",
                directory / "raw", directory / "0.mdl")  # fmt: skip
    model = AcousticModel.load(str(directory / "0.mdl"))
    model.set_priors(np.full(128, 1 / 128))
    model.save(str(directory / "final.mdl"))
    return directory


@pytest.mark.slow
def test_chunks_are_decoded_as_the_whole(digits, kaldi, run_program, tmp_path):
    graph = kaldi / "exp/tri2/graph/HCLG.fst"
    features = f"ark:compute-mfcc-feats --config={digits}/mfcc.conf scp:{digits}/wav.scp ark:- |"
    how = ["--beam=15", "--min-active=200", "--acoustic-scale=0.1"]
    run_program("nnet-decode-faster", *how, digits / "final.mdl", graph, features,
                f"ark:{tmp_path}/words", f"ark:{tmp_path}/alignments")  # fmt: skip
    expected = [read_table(f"ark:{tmp_path}/{name}", INTEGERS) for name in ("words", "alignments")]
    for chunk in "0.03", "-1":
        done = run_program(
            "online2-wav-nnet2-latgen-faster", *how, f"--chunk-length={chunk}",
            f"--mfcc-config={digits}/mfcc.conf", f"--word-symbol-table={graph.parent}/words.txt",
            digits / "final.mdl", graph, f"ark:{digits}/spk2utt", f"scp:{digits}/wav.scp",
            f"ark:{tmp_path}/lattices",
        )  # fmt: skip
        run_program("lattice-best-path", "--acoustic-scale=0.1", f"ark:{tmp_path}/lattices",
                    f"ark:{tmp_path}/words", f"ark:{tmp_path}/alignments")  # fmt: skip
        found = [read_table(f"ark:{tmp_path}/{name}", INTEGERS) for name in ("words", "alignments")]
        for ours, theirs in zip(found, expected, strict=True):
            assert list(ours) == ["a", "b"]
            assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)
        assert b"Decoded 2 utterances, 0 with errors." in done.stderr


@pytest.mark.parametrize("kind", ["mfcc", "plp", "fbank"])
def test_features_of_chunks_are_those_of_the_whole(kind):
    """With dither, too, whose noise goes on from one chunk to the next."""
    samples = np.random.default_rng(0).normal(scale=500, size=5000).astype(np.float32)
    spectral = read_spectral(kind, "")
    whole = spectral("key", samples, 16000)
    stream = spectral.stream("key")
    cuts = range(0, 5000, 701)
    parts = [stream(samples[begin : begin + 701], begin + 701 >= 5000) for begin in cuts]
    assert np.array_equal(np.concatenate(parts), whole)


def test_sample_rates(tmp_path):
    """Recordings of another rate are resampled where the file of options allows it."""
    samples = np.random.default_rng(0).normal(scale=500, size=4000).astype(np.float32)
    with pytest.raises(Skip, match="sampled at 8000 Hz, not at the 16000"):
        read_spectral("mfcc", "").at_sample_rate("key", samples, 8000)
    (tmp_path / "conf").write_text("--allow-upsample=true\n--dither=0\n")
    spectral = read_spectral("mfcc", str(tmp_path / "conf"))
    resampled = spectral.at_sample_rate("key", samples, 8000)
    frames = spectral.stream("key")(resampled, True)
    assert len(resampled) == 8000
    assert np.array_equal(frames, spectral("key", samples, 8000))


def test_options_in_files(tmp_path):
    path = tmp_path / "mfcc.conf"
    path.write_text("--use-energy=false   # only non-default options\n--num-ceps=20\n")
    read = read_options(mfcc_options, str(path))
    assert (read["use_energy"], read["num_ceps"], read["num_bins"]) == (False, 20, 23)
    assert read_options(online_cmvn_options, "")["cmn_window"] == 600
    path.write_text("--no-such-option=1\n")
    with pytest.raises(NgtrainError, match="conf: there is no option --no-such-option"):
        read_options(online_cmvn_options, str(path))
    path.write_text("--cmn-window=0\n")
    with pytest.raises(NgtrainError, match="conf: Invalid value for '--cmn-window'"):
        read_options(online_cmvn_options, str(path))


def test_rules_of_endpoints():
    given = read_options(endpoint_options, "")
    given["endpoint_silence_phones"] = "1:2"
    assert take_endpointing(given)["silence_phones"] == [1, 2]
    assert given == {}
    assert len(_DEFAULTS) == len(ENDPOINT_RULES)
    for defaults, rule in zip(_DEFAULTS, ENDPOINT_RULES, strict=True):
        limited = EndpointRule(*defaults)  # math.inf: no final state was reached
        for silence, cost, length in (0.6, 1.0, 3.0), (5.0, math.inf, 5.0), (0.1, 9.0, 30.0):
            assert limited.holds(silence, cost, length) == rule.holds(silence, cost, length)
    assert EndpointRule(True, 0.5, 2.0).holds(0.6, 1.0, 3.0)
    assert not EndpointRule(True, 0.5, 2.0).holds(0.6, 1.0, 0.6)  # silence alone
    assert not EndpointRule(True, 0.5, 2.0).holds(0.6, 3.0, 3.0)


def test_endpointing_needs_silence(digits, kaldi, run_program):
    graph = kaldi / "exp/tri2/graph/HCLG.fst"
    done = run_program(
        "online2-wav-nnet2-latgen-faster", "--do-endpointing=true", digits / "final.mdl", graph,
        "ark:/dev/null", "ark:/dev/null", "ark:/dev/null", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"Endpointing requires nonempty --endpoint.silence-phones" in done.stderr


@pytest.mark.slow
def test_ivectors_from_the_drivers(kaldi, reference, shared, run_program, tmp_path):
    """A mixture and an extractor are trained, i-vectors extracted, and a directory put together."""
    reference("kaldi/mfcc/raw_mfcc_train.2.ark")
    data, lines = tmp_path / "data", {}
    data.mkdir()
    for name in "feats.scp", "utt2spk":
        rows = (kaldi / "data/train" / name).read_text().splitlines()[::40]
        lines[name] = "".join(row.replace("../shared", str(shared)) + "\n" for row in rows)
        (data / name).write_text(lines[name])
    speakers: dict[str, list[str]] = {}
    for row in lines["utt2spk"].splitlines():
        utterance, speaker = row.split()
        speakers.setdefault(speaker, []).append(utterance)
    (data / "spk2utt").write_text(
        "".join(f"{speaker} {' '.join(keys)}\n" for speaker, keys in speakers.items())
    )
    run_program("train_diag_ubm.py", "--nj", "2", "--num-iters-init", "3", "--num-iters", "2",
                data, "8", kaldi / "exp/tri2_ali", tmp_path / "ubm")  # fmt: skip
    run_program("train_ivector_extractor.py", "--nj", "2", "--ivector-dim", "4", "--num-iters", "2",
                "--posterior-scale", "0.5", data, tmp_path / "ubm", tmp_path / "ie")  # fmt: skip
    run_program("extract_ivectors_online.py", "--nj", "2", data, tmp_path / "ie", tmp_path / "iv")
    ivectors = read_table(f"scp:{tmp_path}/iv/ivector_online.scp", MATRIX)
    assert len(ivectors) == len(lines["utt2spk"].splitlines())
    assert {matrix.shape[1] for matrix in ivectors.values()} == {4}
    assert (tmp_path / "iv/ivector_period").read_text() == "10\n"
    assert not list((tmp_path / "ie").glob("*.acc")) + list((tmp_path / "ubm").glob("*.gz"))


def test_features_of_online_decoding_as_a_table(
    digits, kaldi_ivector, shared, run_program, tmp_path
):
    """Cepstra and i-vectors that a network sees are those of the programs that make each."""
    given = Path(kaldi_ivector("ivector_extractor.conf")).read_text()
    given = given.replace("../shared", str(shared)) + "\n--use-most-recent-ivector=false\n"
    (tmp_path / "ie.conf").write_text(given)
    mfcc, cepstra = f"--config={digits}/mfcc.conf", f"ark:{tmp_path}/cepstra"
    run_program("compute-mfcc-feats", mfcc, f"scp:{digits}/wav.scp", cepstra)
    run_program("ivector-extract-online2", f"--config={tmp_path}/ie.conf", "--repeat=true",
                f"ark:{digits}/spk2utt", cepstra, f"ark:{tmp_path}/ivectors")  # fmt: skip
    expected = [read_table(table, MATRIX) for table in (cepstra, f"ark:{tmp_path}/ivectors")]
    how = f"--mfcc-config={digits}/mfcc.conf", f"--ivector-extraction-config={tmp_path}/ie.conf"
    for chunk in "0.03", "-1":
        done = run_program(
            "online2-wav-dump-features", *how, f"--chunk-length={chunk}", f"ark:{digits}/spk2utt",
            f"scp:{digits}/wav.scp", f"ark:{tmp_path}/features",
        )  # fmt: skip
        features = read_table(f"ark:{tmp_path}/features", MATRIX)
        assert list(features) == ["a", "b"]
        for key, rows in features.items():
            theirs = np.hstack([table[key] for table in expected])
            np.testing.assert_allclose(rows, theirs, atol=1e-3)
        assert b"Processed 2 utterances, 0 with errors; " in done.stderr
    dim = run_program("online2-wav-dump-features", *how, "--print-ivector-dim=true").stdout
    assert int(dim) == expected[1]["a"].shape[1]
    failed = run_program("online2-wav-dump-features", *how, "a", "b", check=False)
    assert b"three arguments are needed, or --print-ivector-dim=true" in failed.stderr


def test_decoding_driver(digits, kaldi, run_program, tmp_path):
    """A network is put together for online decoding, and decodes recordings with its options."""
    nnet, data, online = tmp_path / "nnet", tmp_path / "data", tmp_path / "online"
    nnet.mkdir()
    data.mkdir()
    (nnet / "tree").write_bytes((kaldi / "exp/tri2_ali/tree").read_bytes())
    (nnet / "final.mdl").write_bytes((digits / "final.mdl").read_bytes())
    for name in "wav.scp", "spk2utt":
        (data / name).write_text((digits / name).read_text())
    (data / "utt2spk").write_text("a george\nb george\n")
    (data / "text").write_text("a five\nb five\n")
    run_program("prepare_online_decoding.py", "--mfcc-config", digits / "mfcc.conf",
                kaldi / "data/lang", nnet, online)  # fmt: skip
    how = "--silence-weight", "0.25", "--max-state-duration", "30", "--per-utt", "true"
    said = run_program("decode_online.py", "--nj", "2", *how, "--lmwt", "10", "--word-ins-penalty",
                       "0.0", kaldi / "exp/tri2/graph", data, online / "decode").stderr  # fmt: skip
    assert b" / 2," in said  # words of the reference in %WER
    log = (online / "decode/log/decode.1.log").read_text()
    assert "--ivector-silence-weighting.silence-weight=0.25" in log
    assert "Decoded 1 utterances, 0 with errors." in log
    rows = [(online / f"decode/scoring/10_0.0.{n}.tra").read_text().split()[0] for n in (1, 2)]
    assert rows == ["a", "b"]
