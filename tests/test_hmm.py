"""Topologies, trees and transition models, against Kaldi's files and hand-made cases."""

import io

import numpy as np
import pytest

from nnet.errors import NgtrainError
from nnet.hmm.topology import NO_PDF, HmmState, HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import PDF_CLASS, ContextDependency, Leaf, Split, Table, monophone_tree
from nnet.io.streams import InputStream
from nnet.io.tokens import Reader, Writer, read_object


def text_of(thing) -> str:
    buffer = io.BytesIO()
    thing.write(Writer(buffer, binary=False))
    return buffer.getvalue().decode()


def parse(cls, text: str):
    return cls.read(Reader(InputStream(io.BytesIO(text.encode()), "text"), binary=False))


# --- Files ----------------------------------------------------------------------------------------


def test_tree_is_rewritten_byte_for_byte(kaldi, tree, tmp_path):
    tree.save(str(tmp_path / "tree"))
    assert (tmp_path / "tree").read_bytes() == (kaldi / "exp/tri2_ali/tree").read_bytes()


@pytest.mark.parametrize("name", ["tri2_ali/final.mdl", "nnet_ms/0.mdl", "nnet_ms/final.mdl"])
def test_transition_model_is_rewritten_byte_for_byte(reference, tmp_path, name):
    model = reference(f"kaldi/exp/{name}")
    TransitionModel.load(str(model)).save(str(tmp_path / "trans"))
    written = (tmp_path / "trans").read_bytes()
    assert len(written) > 1000
    assert model.read_bytes().startswith(written)


@pytest.mark.parametrize("cls", [ContextDependency, TransitionModel, HmmTopology])
def test_text_form_reads_back_to_the_same_text(kaldi, tmp_path, cls):
    name = {ContextDependency: "tree", TransitionModel: "final.mdl", HmmTopology: "../topo"}[cls]
    path = kaldi / "data/lang/topo" if cls is HmmTopology else kaldi / "exp/tri2_ali" / name
    thing = cls.load(str(path))
    thing.save(str(tmp_path / "text"), binary=False)
    again = cls.load(str(tmp_path / "text"))
    assert text_of(again) == text_of(thing) == (tmp_path / "text").read_text()


def test_topology_of_the_model_is_that_of_the_lang_directory(kaldi, model):
    assert HmmTopology.load(str(kaldi / "data/lang/topo")) == model.topology


CHAIN = """<Topology>
<TopologyEntry> <ForPhones> 1 2 </ForPhones>
<State> 0 <ForwardPdfClass> 0 <SelfLoopPdfClass> 1 <Transition> 0 0.5 <Transition> 1 0.5 </State>
<State> 1 </State>
</TopologyEntry> </Topology>
"""


def test_model_with_separate_pdfs_on_self_loops(tmp_path):
    topology = parse(HmmTopology, CHAIN)
    model = TransitionModel.from_tree(monophone_tree([[1], [2]], {1: 2, 2: 2}), topology)
    assert model.tuples.tolist() == [[1, 0, 0, 1], [2, 0, 2, 3]]
    assert model.pdf_of.tolist() == [0, 1, 0, 3, 2]
    for binary in (True, False):
        model.save(str(tmp_path / "model"), binary)
        again = TransitionModel.load(str(tmp_path / "model"))
        assert again.tuples.tolist() == model.tuples.tolist()
        assert again.topology == topology
    assert "<Tuples> 2" in (tmp_path / "model").read_text()


def test_pairs_of_pdfs_are_those_that_a_common_context_gives():
    # The pdf of both classes depends on the left phone in the same way: pairs do not mix contexts.
    tree = ContextDependency(
        2,
        1,
        Split(0, (1,), Table(PDF_CLASS, (Leaf(0), Leaf(1))), Table(PDF_CLASS, (Leaf(2), Leaf(3)))),
    )
    model = TransitionModel.from_tree(tree, parse(HmmTopology, CHAIN))
    assert model.tuples[:2].tolist() == [[1, 0, 0, 1], [1, 0, 2, 3]]


@pytest.mark.parametrize("cut", [10, 100, 2000, 3900])
def test_truncated_model_is_a_clear_error(kaldi, tmp_path, cut):
    data = (kaldi / "exp/tri2_ali/final.mdl").read_bytes()[:cut]
    (tmp_path / "cut.mdl").write_bytes(data)
    with pytest.raises(NgtrainError, match=r"cut\.mdl"):
        TransitionModel.load(str(tmp_path / "cut.mdl"))


def test_truncated_tree_is_a_clear_error(kaldi, tmp_path):
    (tmp_path / "tree").write_bytes((kaldi / "exp/tri2_ali/tree").read_bytes()[:2000])
    with pytest.raises(NgtrainError, match="tree"):
        ContextDependency.load(str(tmp_path / "tree"))


LOOP = "<PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5"


def states(*contents):
    return "".join(f"<State> {n} {content} </State> " for n, content in enumerate(contents))


@pytest.mark.parametrize(
    ("phones", "body", "reason"),
    [
        ("0", states(LOOP, ""), "positive"),
        ("x", "", "expected a phone"),
        ("1", states(""), "at least one emitting"),
        ("1", f"<State> 1 {LOOP} </State>", "in order"),
        ("1", states("<PdfClass> 0 <Transition> 2 1", ""), "does not exist"),
        ("1", states("<PdfClass> 1 <Transition> 1 1", ""), "contiguous"),
        ("1", states("<PdfClass> 0 <Transition> 1 0", ""), "not positive"),
        ("1", states("<PdfClass> 0", ""), "no transition out"),
        ("1", states("<PdfClass> 0 <Transition> 1 0.5 <Transition> 1 0.5", ""), "same state"),
        ("1", states("<Transition> 1 1", ""), "non-emitting"),
        ("1", states(LOOP, LOOP), "last state"),
        (
            "1",
            states("<PdfClass> 0 <Transition> 2 1", "<PdfClass> 0 <Transition> 2 1", ""),
            "no transition into it",
        ),
    ],
)
def test_bad_topology_is_a_clear_error(phones, body, reason):
    entry = f"<TopologyEntry> <ForPhones> {phones} </ForPhones> {body} </TopologyEntry>"
    with pytest.raises(NgtrainError, match=reason):
        parse(HmmTopology, f"<Topology> {entry} </Topology> ")


def test_empty_topology_is_a_clear_error():
    with pytest.raises(NgtrainError, match="empty"):
        parse(HmmTopology, "<Topology> </Topology> ")


# --- Trees ----------------------------------------------------------------------------------------


def test_lookups_in_a_hand_made_tree():
    text = (
        "ContextDependency 3 1 ToPdf TE 1 3 ( NULL "
        "SE 0 [ 1 ]\n{ CE 5 SE -1 [ 0 ]\n{ CE 6 CE 7 } \n} \n"
        "CE 8 ) \nEndContextDependency "
    )
    tree = parse(ContextDependency, text)
    assert tree.num_pdfs == 9
    assert tree.compute([1, 1, 2], 0) == 5
    assert tree.compute([2, 1, 2], 0) == 6
    assert tree.compute([2, 1, 0], 1) == 7
    assert tree.compute([0, 2, 0], 1) == 8
    assert tree.compute([0, 0, 0], 0) is None
    assert tree.compute([0, 3, 0], 0) is None
    assert tree.pdfs_of(1, 0) == [5, 6]
    assert tree.pdfs_of(1, 1) == [5, 7]
    assert text_of(tree) == text


def test_monophone_tree_numbers_pdfs_by_phone():
    tree = monophone_tree([[1], [2], [3]], {1: 5, 2: 3, 3: 3})
    assert text_of(tree) == (
        "ContextDependency 1 0 ToPdf TE 0 4 ( NULL "
        "TE -1 5 ( CE 0 CE 1 CE 2 CE 3 CE 4 ) \n"
        "TE -1 3 ( CE 5 CE 6 CE 7 ) \n"
        "TE -1 3 ( CE 8 CE 9 CE 10 ) \n) \n"
        "EndContextDependency "
    )


def test_monophone_tree_with_shared_phones_splits_the_list_of_sets_in_halves():
    tree = monophone_tree([[1, 2], [3], [4]], {1: 1, 2: 1, 3: 1, 4: 2})
    assert text_of(tree) == (
        "ContextDependency 1 0 ToPdf SE 0 [ 1 2 ]\n{ TE -1 1 ( CE 0 ) \n"
        "TE 0 5 ( NULL NULL NULL TE -1 1 ( CE 1 ) \nTE -1 2 ( CE 2 CE 3 ) \n) \n} \n"
        "EndContextDependency "
    )
    assert tree.compute([2], 0) == tree.compute([1], 0) == 0


@pytest.mark.parametrize("sets", [[], [[1], []], [[1], [1, 2]], [[1], [9]]])
def test_monophone_tree_rejects_sets_that_are_no_partition(sets):
    with pytest.raises(ValueError):
        monophone_tree(sets, {1: 3, 2: 3})


# --- Transition models ----------------------------------------------------------------------------


def test_tree_and_topology_give_kaldis_transition_states(model, tree):
    built = TransitionModel.from_tree(tree, model.topology)
    assert built.tuples.tolist() == model.tuples.tolist()
    expected = [0.75, 0.25, 0.25, 0.25, 0.25]
    phone = model.phones[1]
    first = built.first_id[1 + np.flatnonzero(model.tuples[:, 0] == phone)[0]]
    assert np.exp(built.log_probs[first : first + 2]) == pytest.approx(expected[:2])


def test_maps_agree_with_each_other(model):
    ids = np.arange(1, model.num_transition_ids + 1)
    states = model.state_of[ids]
    assert (model.first_id[states] <= ids).all() and (ids < model.first_id[states + 1]).all()
    assert (model.tuples[states - 1, 0] == model.phone_of[ids]).all()
    assert (model.tuples[states - 1, 1] == model.hmm_state_of[ids]).all()
    assert (model.tuples[states - 1, 2] == model.pdf_of[ids]).all()
    loops = model.self_loop_of[1:]
    assert model.is_self_loop[loops].all() and model.is_self_loop.sum() == len(loops)
    for state, row in enumerate(model.tuples.tolist(), 1):
        assert model.transition_state(*row) == state


def test_pdfs_of_alignments_are_kaldis(golden, model, alignments):
    lines = (golden / "pdf_ali.txt").read_text().splitlines()
    assert len(lines) > 20
    for key, *pdfs in map(str.split, lines):
        assert model.pdf_of[alignments[key]].tolist() == list(map(int, pdfs))


def test_probabilities_out_of_a_state_sum_to_one(model):
    probs = np.exp(model.log_probs)
    totals = np.bincount(model.state_of[1:], probs[1:])[1:]
    # Kaldi floors at 0.01 without normalizing again.
    assert totals == pytest.approx(np.ones(len(totals)), abs=0.011)
    leave = np.exp(model.non_self_loop_log_probs[1:])
    assert leave + probs[model.self_loop_of[1:]] == pytest.approx(np.ones(len(leave)), abs=1e-6)


def test_scaled_probabilities(model):
    scaled = model.scaled_log_probs(transition_scale=0.5, self_loop_scale=0.1)
    loops = model.is_self_loop
    assert scaled[loops] == pytest.approx(0.1 * model.log_probs[loops])
    leave = model.non_self_loop_log_probs[model.state_of]
    expected = 0.1 * leave + 0.5 * (model.log_probs - leave)
    assert scaled[1:][~loops[1:]] == pytest.approx(expected[1:][~loops[1:]], abs=1e-6)
    assert model.scaled_log_probs(1, 1) == pytest.approx(model.log_probs, abs=1e-6)


def test_update_gives_kaldis_probabilities(reference, model, alignments):
    counts = np.zeros(model.num_transition_ids + 1)
    for alignment in alignments.values():
        counts += np.bincount(alignment, minlength=len(counts))
    initial = TransitionModel(model.topology, model.tuples)
    objf_change, count = initial.mle_update(counts)
    trained = TransitionModel.load(str(reference("kaldi/exp/nnet_ms/0.mdl")))
    assert initial.log_probs == pytest.approx(trained.log_probs, abs=2e-7)
    # Kaldi's log of this update: "objf change is 0.0942 per frame over 80819 frames".
    assert count == 80819
    assert objf_change / count == pytest.approx(0.0942, abs=1e-5)


def two_phone_model():
    topology = HmmTopology(
        [(HmmState(0, 0, ((0, 0.75), (1, 0.25))), HmmState(NO_PDF, NO_PDF, ()))], {1: 0, 2: 0}
    )
    return TransitionModel.from_tree(monophone_tree([[1, 2]], {1: 1, 2: 1}), topology)


def test_update_floors_and_skips():
    model = two_phone_model()
    model.mle_update(np.array([0, 100.0, 0.0, 3.0, 1.0]))
    probs = np.exp(model.log_probs[1:])
    # Floored to 0.01, then thrice divided by the sum of 1.01 and floored again.
    assert probs[0] == pytest.approx(1 / 1.01, abs=1e-4)
    assert probs[1] == pytest.approx(0.01, abs=1e-6)
    assert probs[2:] == pytest.approx([0.75, 0.25])  # a count of 4 is too little


def test_update_shared_between_states_of_a_pdf():
    model = two_phone_model()
    model.mle_update(np.array([0, 6.0, 2.0, 1.0, 1.0]), share_for_pdfs=True)
    assert np.exp(model.log_probs[1:]) == pytest.approx([0.7, 0.3, 0.7, 0.3])


def test_sharing_needs_states_of_equal_shape():
    left_to_right = HmmState(0, 0, ((0, 0.5), (1, 0.5)))
    end = HmmState(NO_PDF, NO_PDF, ())
    topology = HmmTopology([(left_to_right, end), (HmmState(0, 0, ((1, 1.0),)), end)], {1: 0, 2: 1})
    model = TransitionModel.from_tree(monophone_tree([[1, 2]], {1: 1, 2: 1}), topology)
    with pytest.raises(NgtrainError, match="share-for-pdfs"):
        model.mle_update(np.ones(model.num_transition_ids + 1), share_for_pdfs=True)


@pytest.mark.parametrize("reordered", [True, False])
def test_phones_of_an_alignment(model, reordered):
    def visit(state, frames):
        first, loop = model.first_id[state], model.self_loop_of[state]
        leave = first if first != loop else first + 1
        loops = [loop] * (frames - 1)
        return [leave, *loops] if reordered else [*loops, leave]

    # A phone of three states, twice in a row, then another.
    phones = model.tuples[:, 0]
    states = 1 + np.array(
        [np.flatnonzero((phones == phone) & (model.tuples[:, 1] == s))[0]
         for phone in (2, 3) for s in range(3)]
    )  # fmt: skip
    frames = [2, 1, 3, 1, 1, 4, 2, 2, 1]
    alignment = np.concatenate(
        [visit(s, n) for s, n in zip([*states[:3], *states[:3], *states[3:]], frames, strict=True)]
    )
    assert model.phone_starts(alignment).tolist() == [0, 6, 12]


def test_min_length(model):
    assert [model.topology.min_length(phone) for phone in (1, 2)] == [3, 3]


# --- Programs -------------------------------------------------------------------------------------


def test_alignment_of_another_model_is_a_clear_error(run_program, kaldi, tmp_path):
    (tmp_path / "ali").write_text("utt1 1 2 999\n")
    result = run_program(
        "ali-to-pdf",
        kaldi / "exp/tri2_ali/final.mdl",
        f"ark:{tmp_path}/ali",
        f"ark:{tmp_path}/pdf",
        check=False,
    )
    assert result.returncode != 0
    assert b"utt1: 999 is not a transition-id" in result.stderr
    assert b"Traceback" not in result.stderr
    assert not (tmp_path / "pdf").exists()


def test_phones_and_lengths(run_program, kaldi, alignments):
    pipe = f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.1.gz |"
    model = kaldi / "exp/tri2_ali/final.mdl"
    lengths = run_program("ali-to-phones", "--write-lengths", model, pipe, "ark,t:-").stdout
    frames = run_program("ali-to-phones", "--per-frame=true", model, pipe, "ark,t:-").stdout
    rows = [line.split(None, 1) for line in lengths.decode().splitlines()]
    per_frame = dict(line.split(None, 1) for line in frames.decode().splitlines())
    assert len(rows) > 900
    for key, text in rows:
        pairs = [tuple(map(int, pair.split())) for pair in text.split(";")]
        expanded = [phone for phone, length in pairs for _ in range(length)]
        assert expanded == list(map(int, per_frame[key].split()))
        assert len(expanded) == len(alignments[key])
        assert all(length >= 3 for _, length in pairs)  # three states, none can be skipped


def test_silence_weighting_and_counts(run_program, kaldi, alignments, model, tmp_path):
    mdl = kaldi / "exp/tri2_ali/final.mdl"
    pipe = f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.*.gz |"
    weighted = f"ark:ali-to-post '{pipe}' ark:- | weight-silence-post 0.5 1 {mdl} ark:- ark:- |"
    run_program("post-to-tacc", "--per-pdf=true", mdl, weighted, tmp_path / "counts")
    counts = read_object(str(tmp_path / "counts"), Reader.vector)
    every = np.concatenate(list(alignments.values()))
    weight = np.where(model.phone_of[every] == 1, 0.5, 1.0)
    expected = np.bincount(model.pdf_of[every], weight, minlength=model.num_pdfs)
    assert counts == pytest.approx(expected)


def test_weights_of_frames(run_program, tmp_path):
    """As Kaldi's weight-post and post-to-weights; where weights end, the former reads on."""
    (tmp_path / "post").write_text(
        "a [ 1 0.25 3 0.5 ] [ ] [ 2 1 ]\nb [ 1 1 ]\nc [ 5 0.25 ] [ 1 1 ]\nd [ 1 1 ]\n"
    )
    (tmp_path / "weights").write_text("a  [ 0.5 1 0 ]\nb  [ 1 1 1 1 ]\nc  [ -2 ]\n")
    done = run_program(
        "weight-post", f"ark:{tmp_path}/post", f"ark:{tmp_path}/weights", f"ark,t:{tmp_path}/out"
    )
    assert (tmp_path / "out").read_text() == "a [ 1 0.125 3 0.25 ] [ ] [ ] \nc [ 5 -0.5 ] [ ] \n"
    assert b"Scaled 2 posteriors; errors on 2" in done.stderr
    assert b"left out, such as b: 4 weights for 1 frames" in done.stderr
    output = run_program("post-to-weights", f"ark:{tmp_path}/post", "ark,t:-").stdout
    assert output == b"a  [ 0.75 0 1 ]\nb  [ 1 ]\nc  [ 0.25 1 ]\nd  [ 1 ]\n"


def test_tree_info(run_program, kaldi):
    output = run_program("tree-info", kaldi / "exp/tri2_ali/tree").stdout
    assert output == b"num-pdfs 128\ncontext-width 3\ncentral-position 1\n"


def test_show_transitions(run_program, kaldi):
    lines = (
        run_program(
            "show-transitions", kaldi / "data/lang/phones.txt", kaldi / "exp/tri2_ali/final.mdl"
        )
        .stdout.decode()
        .splitlines()
    )
    assert lines[0] == "Transition-state 1: phone = SIL hmm-state = 0 pdf = 0"
    assert lines[1].startswith(" Transition-id = 1 p = ") and lines[1].endswith(" [self-loop]")
    assert lines[2].endswith(" [0 -> 1]")
    assert len(lines) == 140 + 288


def test_show_alignments(run_program, kaldi, tmp_path, alignments):
    key, alignment = next(iter(alignments.items()))
    (tmp_path / "ali").write_text(f"{key} {' '.join(map(str, alignment))}\n")
    numbers, phones, empty = run_program(
        "show-alignments",
        kaldi / "data/lang/phones.txt",
        kaldi / "exp/tri2_ali/final.mdl",
        f"ark:{tmp_path}/ali",
    ).stdout.decode().splitlines()  # fmt: skip
    assert [int(word) for word in numbers.split()[1:] if word not in "[]"] == list(alignment)
    assert phones.split()[1:] == ["Z", "IH", "R", "OW"]
    assert empty == ""
    assert phones.index("IH") == [i for i, c in enumerate(numbers) if c == "["][1]


def test_init_mono(run_program, kaldi, tmp_path):
    lang = kaldi / "data/lang"
    run_program(
        "init-mono",
        f"--shared-phones={lang}/phones/sets.int",
        lang / "topo",
        tmp_path / "tree",
        tmp_path / "0.mdl",
    )
    tree = ContextDependency.load(str(tmp_path / "tree"))
    model = TransitionModel.load(str(tmp_path / "0.mdl"))
    assert (tree.context_width, tree.num_pdfs, model.num_pdfs) == (1, 62, 62)
    assert tree.compute([1], 4) == 4 and tree.compute([2], 0) == 5
