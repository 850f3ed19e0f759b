"""nnet-latgen-faster beside Kaldi's, on the same utterances."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from archives import read_table, write_table
from test_lattice_operations import assert_same_paths

from nnet.decoding.fst import ARC, ArrayFst
from nnet.decoding.lattice_decoder import LatticeDecoder, LatticeOptions
from nnet.io.tables import MATRIX
from nnet.lattices.paths import best_path
from nnet.lattices.tables import COMPACT_LATTICE, LATTICE
from nnet.lattices.times import depth

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(reference, kaldi, tmp_path_factory, run_program):
    """Model, graph and features of the utterances in golden/lattices."""
    model = reference("kaldi/exp/nnet_ms/final.mdl")
    folder = tmp_path_factory.mktemp("latgen")
    lines = reference("kaldi/data/test/feats.scp").read_text().splitlines()[4::80]
    root = f"{kaldi.parent}/kaldi"
    lines = [line.replace("../shared/kaldi", root) for line in lines]
    (folder / "feats.scp").write_text("".join(f"{line}\n" for line in lines))
    data = f"--utt2spk=ark:{kaldi}/data/test/utt2spk"
    cmvn = (kaldi / "data/test/cmvn.scp").read_text().replace("../shared/kaldi", root)
    (folder / "cmvn.scp").write_text(cmvn)
    run_program(
        "transform-feats", kaldi / "exp/tri2_ali/final.mat",
        f"ark:apply-cmvn {data} scp:{folder}/cmvn.scp scp:{folder}/feats.scp ark:- |"
        " splice-feats --left-context=3 --right-context=3 ark:- ark:- |",
        f"ark:{folder}/feats.ark",
    )  # fmt: skip
    return model, kaldi / "exp/tri2/graph/HCLG.fst", f"ark:{folder}/feats.ark"


def test_the_lattices_of_kaldi(inputs, golden, run_program, tmp_path):
    """Each is as large as Kaldi's, and has its paths."""
    folder = golden / "lattices"
    result = run_program(
        "nnet-latgen-faster", "--acoustic-scale=0.1", "--beam=30", "--lattice-beam=25", *inputs,
        f"ark:{tmp_path}/lat", f"ark,t:{tmp_path}/words", f"ark,t:{tmp_path}/ali",
    )  # fmt: skip
    assert (tmp_path / "words").read_bytes() == (folder / "words.txt").read_bytes()
    assert (tmp_path / "ali").read_bytes() == (folder / "ali.txt").read_bytes()
    said = result.stderr.decode()
    assert "Done 13 utterances, failed for 0" in said
    assert "Log-like per frame for utterance lucas-0-04 is 0.0225225 over 49 frames." in said
    found = read_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE)
    expected = read_table(f"ark:{folder}/lat.ark", COMPACT_LATTICE)
    assert_same_paths(found, expected)
    for key, lattice in expected.items():
        assert found[key].num_arcs == lattice.num_arcs
    depths = [np.mean([depth(each)[0] for each in table.values()]) for table in (found, expected)]
    assert depths[0] == pytest.approx(depths[1], rel=0.05)


def test_without_determinization(inputs, golden, run_program, tmp_path):
    run_program(
        "nnet-latgen-faster", "--determinize-lattice=false", "--beam=20", "--lattice-beam=8",
        *inputs, f"ark:{tmp_path}/lat",
    )  # fmt: skip
    found = read_table(f"ark:{tmp_path}/lat", LATTICE)
    (tmp_path / "raw").write_bytes(gzip.decompress((golden / "lattices/raw.ark.gz").read_bytes()))
    expected = read_table(f"ark:{tmp_path}/raw", LATTICE)
    assert list(found) == list(expected)
    for key, lattice in found.items():
        ours, theirs = best_path(lattice), best_path(expected[key])
        np.testing.assert_allclose(
            ours.weight(lattice), theirs.weight(expected[key]), rtol=1e-4, atol=1e-2
        )
        assert lattice.num_states == pytest.approx(expected[key].num_states, rel=0.1)


@pytest.mark.slow
def test_several_utterances_at_once(inputs, run_program, tmp_path):
    """By as many processes as may be, the same lines and bytes, through pipes, too."""
    options = "--beam=12", "--lattice-beam=4"

    def results(name, *more) -> tuple:
        outputs = [tmp_path / each for each in ("words", "ali")]
        pipe = f"ark:| cat > {tmp_path}/lat"
        said = run_program(name, *options, *more, *inputs, pipe, *(f"ark:{o}" for o in outputs))
        lines = [line.partition(") ")[2] for line in said.stderr.decode().splitlines()[1:]]
        files = [file.read_bytes() for file in (tmp_path / "lat", *outputs)]
        for file in tmp_path.iterdir():
            file.unlink()
        return [line for line in lines if "Time taken" not in line], files

    alone = results("nnet-latgen-faster")
    assert "Done 13 utterances, failed for 0" in alone[0]
    for more in (
        ["--num-threads=1"],
        ["--num-threads=3"],
        ["--num-threads=2", "--num-threads-total=2"],
    ):
        assert results("nnet-latgen-faster-parallel", *more) == alone


def test_what_cannot_be_decoded(inputs, run_program, tmp_path):
    """No features, no frames, a graph that ends before them; a graph for each utterance."""
    model, graph, features = inputs
    some = dict(list(read_table(features, MATRIX).items())[:3])
    first, second, third = some
    ArrayFst.parse("0 1 1 0\n1\n").save(str(tmp_path / "short.fst"))
    some[second] = some[second][:0]
    write_table(f"ark:{tmp_path}/feats", MATRIX, some)
    (tmp_path / "graphs.scp").write_text(f"{first} {graph}\n{second} {graph}\nother {graph}\n"
        f"{third} {tmp_path}/short.fst\n")  # fmt: skip
    tables = (
        f"scp:{tmp_path}/graphs.scp", f"ark:{tmp_path}/feats", f"ark:{tmp_path}/lat"
    )  # fmt: skip
    for program in ["nnet-latgen-faster"], ["nnet-latgen-faster-parallel", "--num-threads=2"]:
        options = "--beam=12", "--lattice-beam=4", "--allow-partial=true"
        said = run_program(*program, *options, model, *tables).stderr.decode()
        assert f"Zero-length utterance: {second}" in said
        assert f"Not producing output for utterance {third} since no path survives" in said
        assert "Not decoding utterance other because no features available." in said
        assert "Done 1 utterances, failed for 3" in said
        assert list(read_table(f"ark:{tmp_path}/lat", COMPACT_LATTICE)) == [first]


@pytest.mark.slow
def test_nothing_is_written_where_a_process_fails(inputs, run_program, tmp_path):
    """What it says is said once, as that of the program."""
    model, graph, features = inputs
    some = read_table(features, MATRIX)
    last = list(some)[-1]
    some[last] = some[last][:, :5]
    write_table(f"ark:{tmp_path}/feats", MATRIX, some)
    result = run_program(
        "nnet-latgen-faster-parallel", "--num-threads=2", "--beam=9", "--lattice-beam=4", model,
        graph, f"ark:{tmp_path}/feats", f"ark:{tmp_path}/lat", check=False,
    )  # fmt: skip
    said = result.stderr.decode()
    assert result.returncode == 1 and said.count("ERROR") == 1 and last in said
    assert "Traceback" not in said and not (tmp_path / "lat").exists()


def test_no_final_state(model):
    """Partial output where it is asked for; none where no path is long enough."""
    arcs = np.array([(3, 0, 0.0, 1), (1, 0, 0.0, 2), (12, 0, 0.0, 3)], ARC)
    graph = ArrayFst.from_arcs(0, [np.inf, np.inf, np.inf, 0.0], [0, 1, 2], arcs)
    decoder = LatticeDecoder(graph, model, LatticeOptions())

    def decoded(num_frames, allow_partial=False):
        likelihoods = np.zeros((num_frames, model.num_pdfs), np.float32)
        return decoder.decode(likelihoods, 0.1, allow_partial)

    whole, part = decoded(3), decoded(2, allow_partial=True)
    assert whole.reached_final and whole.path.alignment == [3, 1, 12]
    assert not part.reached_final and part.path.alignment == [3, 1]
    assert decoded(2) is None and decoded(4, allow_partial=True) is None
