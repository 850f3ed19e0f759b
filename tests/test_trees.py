"""Decision trees: statistics, questions, building and conversion, against Kaldi's files."""

import gzip

import numpy as np
import pytest

from nnet.errors import NgtrainError
from nnet.hmm.topology import HmmTopology
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency, Leaf, RootPhones, Split, Table, root_map
from nnet.io.tables import INTEGERS, sequential_table
from nnet.trees.building import build_tree, leaves_of
from nnet.trees.clustering import bottom_up, c_random, k_means, refine, top_down
from nnet.trees.conversion import AlignmentConverter, UnsuitableAlignment, _borrowed
from nnet.trees.questions import Questions, cluster_for_questions
from nnet.trees.statistics import ABSENT, StateAccumulator, TreeStatistics, objective


@pytest.fixture(scope="module")
def trees(golden):
    return golden / "tree"


@pytest.fixture(scope="module")
def lang(kaldi):
    return kaldi / "data/lang"


@pytest.fixture(scope="module")
def treeacc(trees, tmp_path_factory):
    path = tmp_path_factory.mktemp("trees") / "treeacc"
    path.write_bytes(gzip.decompress((trees / "treeacc.gz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def old_model(kaldi):
    return TransitionModel.load(str(kaldi / "exp/tri2_ali/final.mdl"))


# --- Kaldi's files --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("part", [1, 2])
def test_statistics_agree(kaldi, trees, shared, reference, run_program, tmp_path, part):
    """Features come from where feats.scp says: beside the checkout."""
    reference("kaldi/mfcc/raw_mfcc_train.2.ark")  # where that is, the first is whole, too
    lines = (kaldi / "data/train/feats.scp").read_text().splitlines()[400 * (part - 1) : 400 * part]
    scp = tmp_path / "feats.scp"
    scp.write_text("".join(line.replace("../shared", str(shared)) + "\n" for line in lines))
    data = kaldi / "data/train"
    cmvn = tmp_path / "cmvn.scp"
    cmvn.write_text((data / "cmvn.scp").read_text().replace("../shared", str(shared)))
    features = (
        f"ark,s,cs:apply-cmvn --utt2spk=ark:{data}/utt2spk scp:{cmvn} scp:{scp} ark:- | "
        "splice-feats --left-context=3 --right-context=3 ark:- ark:- | "
        f"transform-feats {kaldi}/exp/tri2_ali/final.mat ark:- ark:- |"
    )
    run_program(
        "acc-tree-stats", "--ci-phones=1", kaldi / "exp/tri2_ali/final.mdl", features,
        f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.*.gz |", tmp_path / "treeacc",
    )  # fmt: skip
    ours = TreeStatistics.load(str(tmp_path / "treeacc"))
    theirs = TreeStatistics.load(f"gunzip -c {trees}/{part}.treeacc.gz |")
    assert np.array_equal(ours.events, theirs.events)
    largest = np.abs(theirs.sums).max(axis=1, keepdims=True)
    assert (np.abs(ours.sums - theirs.sums) <= 1e-5 * largest).all()
    assert ours.var_floor == theirs.var_floor


def test_sum_is_byte_for_byte(trees, treeacc, run_program, tmp_path):
    parts = [f"gunzip -c {trees}/{part}.treeacc.gz |" for part in (1, 2)]
    run_program("sum-tree-stats", tmp_path / "sum", *parts)
    assert (tmp_path / "sum").read_bytes() == treeacc.read_bytes()
    run_program("sum-tree-stats", "--binary=false", tmp_path / "text", treeacc)
    assert (
        (tmp_path / "text")
        .read_text()
        .startswith("BTS 132 EV 4 -1 0 0 0 1 6 2 15 \nT GCL 2 0.01  [\n  7.628336 ")
    )
    assert len(TreeStatistics.load(str(tmp_path / "text"))) == 132


@pytest.mark.slow
def test_questions_are_byte_for_byte(trees, lang, treeacc, run_program, tmp_path):
    sets, extra = lang / "phones/sets.int", lang / "phones/extra_questions.int"
    said = run_program("cluster-phones", treeacc, sets, tmp_path / "questions.int").stderr
    assert b"no stats available for 1 sets of phones, such as: 1" in said
    questions = (tmp_path / "questions.int").read_bytes() + extra.read_bytes()
    assert questions == (trees / "questions.int").read_bytes()
    run_program("compile-questions", lang / "topo", trees / "questions.int", tmp_path / "qst")
    assert (tmp_path / "qst").read_bytes() == (trees / "questions.qst").read_bytes()
    Questions.load(str(tmp_path / "qst")).save(str(tmp_path / "text"), binary=False)
    Questions.load(str(tmp_path / "text")).save(str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == (trees / "questions.qst").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("40", ["--max-leaves=40"]),
        ("100", ["--max-leaves=100"]),
        ("200", ["--max-leaves=200"]),
        ("nocluster", ["--max-leaves=100", "--cluster-thresh=0", "--thresh=0"]),
    ],
)
def test_trees_are_byte_for_byte(trees, lang, treeacc, run_program, tmp_path, name, options):
    said = run_program(
        "build-tree", *options, treeacc, lang / "phones/roots.int", trees / "questions.qst",
        lang / "topo", tmp_path / "tree",
    ).stderr.decode()  # fmt: skip
    assert (tmp_path / "tree").read_bytes() == (trees / f"tree.{name}").read_bytes()
    kaldi_said = (trees / f"build-tree.{name}.log").read_text()
    for line in kaldi_said.splitlines():
        if "before building" in line or "DoDecisionTreeSplit" in line or "removed" in line:
            assert line.split(") ", 1)[1] in said


def test_transition_model_and_alignments_are_kaldis(kaldi, trees, lang, run_program, tmp_path):
    tree = ContextDependency.load(str(trees / "tree.100"))
    model = TransitionModel.from_tree(tree, HmmTopology.load(str(lang / "topo")))
    model.save(str(tmp_path / "mdl"))
    written = (tmp_path / "mdl").read_bytes()
    assert (trees / "100.mdl").read_bytes().startswith(written)
    converted = tmp_path / "converted.txt"
    run_program(
        "convert-ali", kaldi / "exp/tri2_ali/final.mdl", tmp_path / "mdl", trees / "tree.100",
        f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.1.gz |", f"ark,t:{converted}",
    )  # fmt: skip
    theirs = (trees / "converted.txt").read_text().splitlines()
    assert converted.read_text().splitlines()[: len(theirs)] == theirs
    assert len(theirs) == 40


# --- Statistics and clusters ----------------------------------------------------------------------


def test_random_numbers_are_those_of_the_c_library():
    random = c_random()
    assert [next(random) for _ in range(4)] == [1804289383, 846930886, 1681692777, 1714636915]


def gaussians(means, count=100.0):
    """Statistics of unit variance around one-dimensional means."""
    means = np.array(means, float)[:, np.newaxis]
    return np.hstack([np.full_like(means, count), count * means, count * (means**2 + 1)])


def test_objective_is_the_log_likelihood():
    x = np.random.default_rng(0).normal(2, 3, (1000, 4))
    sums = np.concatenate([[len(x)], x.sum(axis=0), (x * x).sum(axis=0)])
    mean, variance = x.mean(axis=0), x.var(axis=0)
    expected = -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum()
    assert objective(sums, 0.01) == pytest.approx(expected, rel=1e-6)
    assert objective(np.zeros(9), 0.01) == 0


def with_rare_ones(count, num_points=12, num_rare=6, dim=39):
    """Statistics of a million frames, but `count` frames of some points."""
    rng = np.random.default_rng(0)
    counts = np.repeat([1e6 / (num_points - num_rare), count], [num_points - num_rare, num_rare])
    counts = rng.permutation(np.rint(counts))[:, np.newaxis]
    means, variances = rng.normal(size=(num_points, dim)), rng.uniform(0.5, 2, (num_points, dim))
    return np.hstack([counts, counts * means, counts * (means**2 + variances)])


@pytest.mark.parametrize("count", [0, 1])
def test_refinement_ends_though_points_have_hardly_any_data(count):
    points = with_rare_ones(count)
    for seed in range(20):
        assignment = np.random.default_rng(seed).integers(0, 2, len(points))
        refine(points, assignment, 2, 0.01)
        assert refine(points, assignment, 2, 0.01, num_rounds=1) == 0


def test_questions_about_phones_without_data(monkeypatch):
    num_calls = 0

    def counted(*args):
        nonlocal num_calls
        num_calls += 1
        return objective(*args)

    monkeypatch.setattr("nnet.trees.clustering.objective", counted)
    phone_sets = [[phone] for phone in range(1, 13)]
    sets = cluster_for_questions(with_rare_ones(0), phone_sets, 0.01, c_random())
    assert all(phones in sets for phones in phone_sets)
    assert num_calls < 10_000  # 141463 where rounding moves what has no data


def test_k_means_finds_what_is_together():
    points = gaussians([0, 10, 0.1, 10.1, 20, 20.1])
    assignment, gain = k_means(points, 3, 0.01, c_random(), num_tries=5)
    assert len(set(assignment)) == 3
    assert assignment[0] == assignment[2] != assignment[1] == assignment[3]
    assert gain > 0


def test_top_down_divides_the_farthest_first():
    leaf_of, parents = top_down(gaussians([0, 1, 50]), 0.01, c_random())
    assert sorted(leaf_of) == [0, 1, 2]
    assert parents[leaf_of[0]] == parents[leaf_of[1]] != parents[leaf_of[2]]
    assert parents[-1] == len(parents) - 1


def test_bottom_up_merges_within_compartments_only():
    apart = [gaussians([0, 5, 0.01]), gaussians([0, 7])]
    merged = bottom_up(apart, 0.01, max_cost=1.0)
    assert [list(part) for part in merged] == [[1, 0, 1], [0, 1]]
    merged = bottom_up(apart, 0.01, max_cost=np.inf, min_clusters=2)
    assert [list(part) for part in merged] == [[0, 0, 0], [0, 0]]


def test_context_independent_phones_have_no_neighbours(kaldi, old_model):
    pipe = f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.1.gz |"
    [(_, alignment), *_] = sequential_table(pipe, INTEGERS)
    accumulator = StateAccumulator(old_model, ci_phones=[int(old_model.phone_of[alignment[0]])])
    features = np.random.default_rng(0).normal(size=(len(alignment), 3)).astype(np.float32)
    accumulator.add(alignment, features)
    accumulator.add(alignment, features)
    statistics = accumulator.statistics()
    first = statistics.events[statistics.values(1) == old_model.phone_of[alignment[0]]]
    assert (first[:, [1, 3]] == ABSENT).all()
    assert statistics.count == 2 * len(alignment)
    assert statistics.sums[:, 1:4].sum(axis=0) == pytest.approx(2 * features.sum(axis=0), abs=1e-3)
    with pytest.raises(NgtrainError, match="features of dimension 2, those before had 3"):
        accumulator.add(alignment, features[:, :2])


# --- Trees ----------------------------------------------------------------------------------------


def contexts(means):
    """Statistics of phone 2 in contexts (left phone, pdf-class): one-dimensional means."""
    events = np.array([[c, left, 2, 0] for left, c in means], np.int32)
    return TreeStatistics(events, gaussians(list(means.values())), 0.01)


def test_tree_asks_what_tells_apart():
    statistics = contexts({(1, 0): 0, (3, 0): 0.1, (4, 0): 9, (5, 0): 9.1})
    topology = HmmTopology.load(f"echo '{usual_topology(range(1, 6))}' |")
    questions = Questions.compiled(topology, [[1, 3], [4, 5], [1, 4], [1], [2], [3]], 3)
    roots = [RootPhones((2,), shared=True, split=True)]
    common = {
        "roots": roots,
        "questions": questions,
        "num_pdf_classes": {2: 1},
        "cluster_threshold": 0,
    }
    tree = build_tree(statistics, **common, round_num_leaves=False)
    assert tree == Split(0, (1, 3), Leaf(0), Leaf(1))
    whole = [RootPhones((2,), shared=True, split=False)]
    with pytest.raises(NgtrainError, match="--thresh or --max-leaves must be positive"):
        build_tree(statistics, **common, threshold=0)
    assert leaves_of(tree, statistics.events).tolist() == [0, 0, 1, 1]
    kept = build_tree(statistics, **(common | {"roots": whole}), round_num_leaves=False)
    assert kept == Leaf(0)


def usual_topology(phones):
    """A topology of one state for each phone, in Kaldi's text form."""
    return (
        f"<Topology> <TopologyEntry> <ForPhones> {' '.join(map(str, phones))} </ForPhones> "
        "<State> 0 <PdfClass> 0 <Transition> 0 0.5 <Transition> 1 0.5 </State> <State> 1 </State> "
        "</TopologyEntry> </Topology>"
    )


def test_roots_share_phones_and_pdf_classes():
    roots = [RootPhones((1,), False, False), RootPhones((2, 3), True, True)]
    stub, num_leaves = root_map(roots, {1: 2, 2: 3, 3: 3}, 1)
    assert num_leaves == 3
    assert stub == Split(1, (1,), Table(-1, (Leaf(0), Leaf(1))), Leaf(2))


def test_a_tree_without_an_answer_says_for_what():
    tree = Table(1, (None, Leaf(0)))
    with pytest.raises(NgtrainError, match="no answer for pdf-class 0 of the phones 1 2 0:"):
        leaves_of(tree, np.array([[0, 1, 2, 0]]))


# --- Conversion -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def new_system(trees, lang):
    tree = ContextDependency.load(str(trees / "tree.100"))
    return tree, TransitionModel.from_tree(tree, HmmTopology.load(str(lang / "topo")))


@pytest.fixture(scope="module")
def alignment(kaldi):
    pipe = f"ark:gunzip -c {kaldi}/exp/tri2_ali/ali.1.gz |"
    return next(iter(sequential_table(pipe, INTEGERS)))[1]


def test_order_of_self_loops(old_model, new_system, alignment):
    tree, model = new_system
    reordered = AlignmentConverter(old_model, model, tree)(alignment)
    plain = AlignmentConverter(old_model, model, tree, reordered=False)(alignment)
    assert model.is_reordered(reordered) and not model.is_reordered(plain)
    assert np.array_equal(model.with_other_order(plain), reordered)
    assert np.array_equal(model.state_of[plain], model.state_of[reordered])
    loops_first = old_model.with_other_order(alignment)
    for order, expected in (True, reordered), (False, plain):
        convert = AlignmentConverter(old_model, model, tree, reordered=order)
        assert np.array_equal(convert(loops_first), expected)
        assert len(convert(alignment[:0])) == 0


@pytest.mark.parametrize("repeat", [False, True])
def test_fewer_frames(old_model, new_system, alignment, repeat):
    tree, model = new_system
    convert = AlignmentConverter(old_model, model, tree, subsampling=2, repeat_frames=repeat)
    converted = convert(alignment)
    assert len(converted) == (len(alignment) if repeat else (len(alignment) + 1) // 2)
    if not repeat:
        assert model.is_whole(converted)
    old_phones = old_model.phone_of[alignment[old_model.phone_starts(alignment)]]
    runs = model.phone_of[converted]
    assert runs[np.append(True, np.diff(runs) != 0)].tolist() == old_phones.tolist()


def test_truncated_alignments_are_refused(old_model, new_system, alignment):
    tree, model = new_system
    with pytest.raises(UnsuitableAlignment, match="whole phones"):
        AlignmentConverter(old_model, model, tree)(alignment[:-2])


def test_short_phones_borrow_from_the_nearest():
    assert _borrowed(np.array([5, 1, 2, 9]), [3, 3, 2, 3]).tolist() == [3, 3, 2, 9]
    with pytest.raises(UnsuitableAlignment, match="too few frames"):
        _borrowed(np.array([1, 3]), [3, 3])


def test_phone_map(kaldi, trees, run_program, tmp_path):
    (tmp_path / "map").write_text("1 1\n1 2\n")
    result = run_program(
        "convert-ali", f"--phone-map={tmp_path}/map", kaldi / "exp/tri2_ali/final.mdl",
        trees / "100.mdl", trees / "tree.100", "ark:-", "ark:-", check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert b"map: line 2 must be a phone that did not come before" in result.stderr


# --- Programs -------------------------------------------------------------------------------------


def test_drawing(lang, trees, run_program):
    phones = lang / "phones.txt"
    drawn = run_program("draw-tree", phones, trees / "tree.40").stdout.decode()
    assert drawn.startswith("digraph EventMap {\n0[label=")
    assert drawn.count("shape=doublecircle") >= 32
    assert "red" not in drawn
    traced = run_program("draw-tree", "--query=0/SIL/S/IH", phones, trees / "tree.40").stdout
    assert b"color=red" in traced
    result = run_program("draw-tree", "--query=0/S", phones, trees / "tree.40", check=False)
    assert b"expected 3 phones after" in result.stderr


def test_driver_makes_an_alignment_directory(corpus, run_program, tmp_path):
    out = tmp_path / "tree"
    for feats in "delta", "lda":
        run_program(
            "build_tree.py", "--num-leaves", "60", "--tree-feats", feats, corpus.data, corpus.lang,
            corpus.ali, out,
        )  # fmt: skip
    tree = ContextDependency.load(str(out / "tree"))
    model = TransitionModel.load(str(out / "final.mdl"))
    assert tree.context_width == 3 and 20 < tree.num_pdfs <= 60 and tree.num_pdfs == model.num_pdfs
    old_model = TransitionModel.load(str(corpus.ali / "final.mdl"))
    for job in range(1, int((out / "num_jobs").read_text()) + 1):
        pairs = [f"ark:gunzip -c {ali}/ali.{job}.gz |" for ali in (corpus.ali, out)]
        old, new = (dict(sequential_table(pipe, INTEGERS)) for pipe in pairs)
        assert old.keys() == new.keys()
        for key, ids in old.items():
            assert np.array_equal(old_model.phone_of[ids], model.phone_of[new[key]])
