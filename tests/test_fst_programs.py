"""The programs that Kaldi's utils/mkgraph.sh calls, against what Kaldi made with its own."""

import subprocess

import numpy as np
import pytest
from test_graph import assert_same_best_paths, leaving

from nnet.decoding.epsilons import remove_epsilons_locally
from nnet.decoding.fst import FST, ArrayFst
from nnet.decoding.fst_operations import connected, state_costs
from nnet.decoding.fst_text import compile_fst
from nnet.decoding.graph import HmmExpansion
from nnet.decoding.phone_windows import read_windows, write_windows
from nnet.errors import NgtrainError
from nnet.io.tables import sequential_table, table_writer
from nnet.io.tokens import read_object, write_object

MKGRAPH = """
set -e -o pipefail
disambig=$lang/phones/disambig.int
fsttablecompose $lang/L_disambig.fst $lang/G.fst | fstdeterminizestar --use-log=true |
  fstminimizeencoded | fstpushspecial > LG.fst
fstisstochastic LG.fst > LG.sums
fstcomposecontext --context-size=3 --central-position=1 --read-disambig-syms=$disambig \
  --write-disambig-syms=disambig_ilabels.int ilabels LG.fst |
  fstarcsort --sort_type=ilabel > CLG.fst
make-h-transducer --disambig-syms-out=disambig_tid.int --transition-scale=1.0 ilabels \
  $model/tree $model/final.mdl > Ha.fst
fsttablecompose Ha.fst CLG.fst | fstdeterminizestar --use-log=true |
  fstrmsymbols disambig_tid.int | fstrmepslocal | fstminimizeencoded > HCLGa.fst
fstisstochastic HCLGa.fst > HCLGa.sums
add-self-loops --self-loop-scale=0.1 --reorder=true $model/final.mdl HCLGa.fst |
  fstconvert --fst_type=const > HCLG.fst
"""


def fst(*lines: str) -> ArrayFst:
    return ArrayFst.parse("\n".join(lines))


def lines(result: ArrayFst) -> list[list[float]]:
    """The arcs, `from to ilabel olabel cost`, then the final states with their costs."""
    arcs = [
        [int(source), *(a[name].item() for name in ("nextstate", "ilabel", "olabel", "weight"))]
        for source, a in zip(result.source, result.arcs, strict=True)
    ]
    return arcs + [[s, c] for s, c in enumerate(result.finals.tolist()) if c < np.inf]


@pytest.fixture
def run_on(run_program, tmp_path):
    """run_on(program, options, fst) runs a program on a transducer through standard streams."""

    def run(program: str, options: list, source: ArrayFst) -> ArrayFst:
        source.save(str(tmp_path / "in.fst"))
        data = (tmp_path / "in.fst").read_bytes()
        (tmp_path / "out.fst").write_bytes(run_program(program, *options, stdin=data).stdout)
        return ArrayFst.load(str(tmp_path / "out.fst"))

    return run


@pytest.mark.slow
def test_commands_of_mkgraph_make_the_graph_of_kaldi(kaldi, model, tmp_path, environment):
    lang, source = kaldi / "data/lang_test", kaldi / "exp/tri2_ali"
    script = f"lang={lang} model={source}\n{MKGRAPH}"
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    for name in "LG", "CLG":
        made = "CLG_3_1" if name == "CLG" else name
        theirs = ArrayFst.load(str(lang / f"tmp/{made}.fst"))
        ours = ArrayFst.load(str(tmp_path / f"{name}.fst"))
        for field in "ilabel", "olabel", "nextstate":
            assert (ours.arcs[field] == theirs.arcs[field]).all()
        assert ours.arcs["weight"] == pytest.approx(theirs.arcs["weight"], abs=2e-3)
    same = [("ilabels", lang / "tmp/ilabels_3_1")]
    same += [("disambig_ilabels.int", lang / "tmp/disambig_ilabels_3_1.int")]
    same += [("disambig_tid.int", kaldi / "exp/tri2/graph/disambig_tid.int")]
    for name, theirs in same:
        assert (tmp_path / name).read_bytes() == theirs.read_bytes()
    ours = ArrayFst.load(str(tmp_path / "HCLG.fst"))
    theirs = ArrayFst.load(str(kaldi / "exp/tri2/graph/HCLG.fst"))
    assert (ours.num_states, len(ours.arcs)) == (theirs.num_states, len(theirs.arcs))
    assert_same_best_paths(model, ours, theirs)


# What follows is in comments of Kaldi's programs, as examples of what they do.


def test_symbols_are_erased_removed_or_penalized(run_on, tmp_path):
    (tmp_path / "syms").write_text("3\n4 5\n")
    given = fst("0 0 1 1", "0 0 3 2", "0")
    syms = tmp_path / "syms"
    assert lines(run_on("fstrmsymbols", [syms], given)) == [
        [0, 0, 1, 1, 0],
        [0, 0, 0, 2, 0],
        [0, 0],
    ]
    removed = run_on("fstrmsymbols", ["--remove-arcs=true", syms], given)
    assert lines(removed) == [[0, 0, 1, 1, 0], [0, 0]]
    dearer = run_on("fstrmsymbols", ["--penalty=2", syms], given)
    assert lines(dearer) == [[0, 0, 1, 1, 0], [0, 0, 3, 2, 2], [0, 0]]
    (tmp_path / "syms").write_text("2\n3\n")
    for option in "--apply-to-output", "--remove-from-output=true":
        erased = run_on("fstrmsymbols", [option, syms], given)
        assert lines(erased) == [[0, 0, 1, 1, 0], [0, 0, 3, 0, 0], [0, 0]]


def test_projection_to_one_side(run_on):
    given = fst("0 1 1 2 0.5", "1 0 3 0", "1")
    for options, labels in ([], (1, 3)), (["--project_output=true"], (2, 0)):
        first, second = labels
        assert lines(run_on("fstproject", options, given)) == [
            [0, 1, first, first, 0.5],
            [1, 0, second, second, 0],
            [1, 0],
        ]


def test_two_ways_to_treat_symbols_are_one_too_many(run_program, tmp_path):
    options = ["--remove-arcs", "--penalty=1", tmp_path / "syms"]
    result = run_program("fstrmsymbols", *options, check=False)
    assert result.returncode == 1 and b"mutually exclusive" in result.stderr


def test_local_removal_of_epsilons(run_on):
    joined = run_on("fstrmepslocal", [], fst("0 1 1 0", "1 2 0 2", "2 0"))
    assert lines(joined) == [[0, 1, 1, 2, 0], [1, 0]]
    two_ends = fst("0 1 0 0", "0 0", "1 0")
    assert lines(run_on("fstrmepslocal", [], two_ends)) == [[0, 0]]
    in_log = run_on("fstrmepslocal", ["--use-log=true"], two_ends)
    assert lines(in_log) == [[0, pytest.approx(-np.log(2))]]


def random_fst(rng) -> ArrayFst:
    """A stochastic transducer without cycles, many of whose labels are epsilon."""
    is_arc = np.triu(rng.random((12, 12)) < 0.25, 1)
    is_arc[0, 1:4] = is_arc[1:4, 11] = True
    source, to = np.nonzero(is_arc)
    arcs = [
        (*rng.choice([0, 0, 1, 2], 2), cost, s)
        for s, cost in zip(to, rng.uniform(0.1, 3, len(to)), strict=True)
    ]
    finals = np.where(rng.random(12) < 0.3, 1.0, np.inf)
    finals[11] = 0
    graph = ArrayFst.from_arcs(0, finals, source, arcs)
    sums = np.where(np.isfinite(state_costs(graph, True)), state_costs(graph, True), 0)
    graph.arcs["weight"] -= sums[graph.source].astype(np.float32)
    graph.finals -= sums.astype(np.float32)
    return graph


def paths(graph: ArrayFst) -> dict[tuple, float]:
    """The cost of the best path with each pair of strings, of a graph without cycles."""
    best: dict[tuple, float] = {}
    stack = [(graph.start, (), (), 0.0)]
    while stack:
        state, ins, outs, cost = stack.pop()
        total = cost + graph.finals[state]
        if total < best.get((ins, outs), np.inf):
            best[ins, outs] = total
        for a in graph.arcs[graph.first_arc[state] : graph.first_arc[state + 1]].tolist():
            longer = ins + (a[0],) * (a[0] > 0), outs + (a[1],) * (a[1] > 0)
            stack.append((a[3], *longer, cost + a[2]))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_local_removal_keeps_paths_and_sums(seed):
    graph = connected(random_fst(np.random.default_rng(seed)))
    smaller = remove_epsilons_locally(graph)
    assert len(smaller.arcs) <= len(graph.arcs) and smaller.num_states <= graph.num_states
    expected = paths(graph)
    ours = paths(smaller)
    assert ours.keys() == expected.keys()
    assert [ours[k] for k in expected] == pytest.approx(list(expected.values()), abs=1e-4)


def test_local_removal_keeps_a_transducer_stochastic():
    """Where one arc of a state can be joined and another cannot, the rest is made dearer."""
    half = 0.693147
    graph = fst("0 1 1 0 0", f"1 2 0 5 {half}", f"1 2 2 6 {half}", "2 0")
    smaller = remove_epsilons_locally(graph)
    assert len(smaller.arcs) == 3
    assert state_costs(smaller, use_log=True) == pytest.approx(0, abs=1e-5)
    assert paths(smaller) == pytest.approx(paths(graph), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "options", "status", "printed"),
    [
        (["0 0"], [], 0, "0 0"),
        (["0 1"], [], 1, "1 1"),
        (["0 0 0 0 0.693147", "0 1 0 0 0.693147", "1 0"], ["--test-in-log=false"], 1, "0 0.693147"),
        (["0 0 0 0 0", "0 1 0 0 0", "1 0"], ["--test-in-log=false"], 0, "0 0"),
        (["0 0 0 0 0.7", "0 1 0 0 0.7", "1 0"], [], 0, "0.00685281 0"),
        (["0 0 0 0 0.7", "0 1 0 0 0.7", "1 0"], ["--test-in-log=false", "--delta=1"], 0, "0 0.7"),
    ],
)
def test_is_stochastic(run_program, tmp_path, text, options, status, printed):
    fst(*text).save(str(tmp_path / "fst"))
    result = run_program("fstisstochastic", *options, tmp_path / "fst", check=False)
    assert (result.returncode, result.stdout.decode().strip()) == (status, printed)


# Tables and bad input -----------------------------------------------------------------------------


def test_composition_of_tables(run_program, tmp_path):
    for name, keys in ("a", "xyz"), ("b", "xy"):
        with table_writer(f"ark:{tmp_path}/{name}", FST) as table:
            for key in keys:
                table.write(
                    key, fst("0 1 1 1 1", "1 0") if key != "y" else fst(f"0 1 {ord(name)} 3")
                )
    fst("0 1 7 1 2", "1 0").save(str(tmp_path / "one"))
    both = run_program("fsttablecompose", f"ark:{tmp_path}/a", f"ark:{tmp_path}/b", "ark,t:-")
    assert both.stdout == b"x \n0\t1\t1\t1\t2\n1\n\n"
    assert b"nothing came of 2 FSTs, such as the result for y is empty" in both.stderr
    run_program("fsttablecompose", tmp_path / "one", f"ark:{tmp_path}/a", f"ark:{tmp_path}/c")
    made = dict(sequential_table(f"ark:{tmp_path}/c", FST))
    assert list(made) == ["x", "y", "z"] and lines(made["z"]) == [[0, 1, 7, 1, 3], [1, 0]]
    mixed = run_program("fsttablecompose", f"ark:{tmp_path}/a", tmp_path / "one", check=False)
    assert mixed.returncode == 1 and b"one must be one" in mixed.stderr


def test_composition_sorts_and_says_so(run_program, tmp_path):
    fst("0 1 1 2", "0 1 1 1", "1 0").save(str(tmp_path / "left"))
    fst("0 1 2 5", "0 1 1 4", "1 0").save(str(tmp_path / "right"))
    result = run_program("fsttablecompose", tmp_path / "left", tmp_path / "right", tmp_path / "out")
    assert result.stderr.count(b"is not olabel sorted") == 1
    assert result.stderr.count(b"is not ilabel sorted") == 1
    assert len(ArrayFst.load(str(tmp_path / "out")).arcs) == 2


def test_what_cannot_be_determinized(run_program, tmp_path):
    fst("0 0 1 2", "0 1 1 3", "1 1 1 2", "1 0").save(str(tmp_path / "twins"))
    options = ["--max-states=50", tmp_path / "twins", tmp_path / "out"]
    result = run_program("fstdeterminizestar", *options, check=False)
    assert result.returncode == 1 and b"max-states" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("binary", [True, False])
def test_windows_of_phones(tmp_path, binary):
    windows = [[], [0, 3, 4], [-7]]
    write_object(str(tmp_path / "windows"), lambda writer: write_windows(writer, windows), binary)
    assert read_object(str(tmp_path / "windows"), read_windows) == windows
    whole = (tmp_path / "windows").read_bytes()
    (tmp_path / "windows").write_bytes(whole[:-3])
    with pytest.raises(NgtrainError, match=r"truncated|expected"):
        read_object(str(tmp_path / "windows"), read_windows)


def test_windows_of_another_width_are_refused(tree, model):
    with pytest.raises(NgtrainError, match="windows of 3 phones"):
        HmmExpansion(tree, model, [], 1.0, 0.0).h_transducer([[], [1, 2]])


@pytest.mark.parametrize(
    ("label", "reason"), [(100000, b"not transition-ids"), (2, b"already has self-loops")]
)
def test_self_loops_are_not_added_to_every_graph(
    run_program, kaldi, model, tmp_path, label, reason
):
    label = int(model.self_loop_of[1]) if label == 2 else label
    fst(f"0 1 {label} 0", "1 0").save(str(tmp_path / "fst"))
    arguments = [kaldi / "exp/tri2_ali/final.mdl", tmp_path / "fst", tmp_path / "out"]
    result = run_program("add-self-loops", *arguments, check=False)
    assert result.returncode == 1 and reason in result.stderr
    if label == 100000:
        (tmp_path / "syms").write_text("100000\n")
        run_program("add-self-loops", f"--disambig-syms={tmp_path}/syms", *arguments)
        assert lines(ArrayFst.load(str(tmp_path / "out")))[0][:3] == [0, 1, 100000]


def test_self_loops_come_first_without_reorder(run_program, kaldi, model, tmp_path):
    leave, loop = leaving(model, 1), int(model.self_loop_of[1])
    fst(f"0 1 {leave} 7", "1 0").save(str(tmp_path / "fst"))
    for reorder, place in ("true", 1), ("false", 0):
        arguments = [kaldi / "exp/tri2_ali/final.mdl", tmp_path / "fst", tmp_path / "out"]
        run_program("add-self-loops", f"--reorder={reorder}", *arguments)
        made = lines(ArrayFst.load(str(tmp_path / "out")))
        assert [place, place, loop, 0] in [line[:4] for line in made]


def test_a_central_position_outside_of_the_window(run_program, kaldi, tmp_path):
    arguments = ["--central-position=3", tmp_path / "ilabels", kaldi / "data/lang_test/tmp/LG.fst"]
    result = run_program("fstcomposecontext", *arguments, tmp_path / "out", check=False)
    assert result.returncode == 1 and b"no central position 3" in result.stderr
    assert b"Disambiguation symbols list is empty" in result.stderr


def test_self_loops_pass_symbols_through(run_on, tmp_path, run_program):
    for name, numbers in ("in", (8, 9)), ("out", (3, 4)), ("short", (3,)):
        (tmp_path / name).write_text("".join(f"{n}\n" for n in numbers))
    pair = [tmp_path / "in", tmp_path / "out"]
    looped = run_on("fstaddselfloops", pair, fst("0 1 1 0", "1 2 1 2", "2 0.5"))
    assert lines(looped) == [
        [0, 1, 1, 0, 0], [1, 2, 1, 2, 0], [1, 1, 8, 3, 0], [1, 1, 9, 4, 0],
        [2, 2, 8, 3, 0], [2, 2, 9, 4, 0], [2, 0.5],
    ]  # fmt: skip
    result = run_program("fstaddselfloops", tmp_path / "in", tmp_path / "short", check=False)
    assert result.returncode == 1 and b"they must be pairs" in result.stderr


def test_operations_of_openfst(run_on, tmp_path):
    given = fst("2 1 1 5 0.5", "2 0 2 0", "1 0 0 0 1", "0 0.25")
    assert [2, 1, 5, 1, 0.5] in lines(run_on("fstinvert", [], given))
    assert lines(run_on("fstrmepsilon", [], fst("0 1 1 1 2", "1 2 0 0 1", "2 0.25"))) == [
        [0, 1, 1, 1, 2], [1, 1.25],
    ]  # fmt: skip
    after = run_on("fsttopsort", [], given)
    assert after.start == 0 and (after.arcs["nextstate"] > after.source).all()
    assert sorted(arc[2:] for arc in lines(after)[:3]) == sorted(
        arc[2:] for arc in lines(given)[:3]
    )
    circle = fst("0 1 1 1", "1 0 1 1", "1")
    assert lines(run_on("fsttopsort", [], circle)) == lines(circle)
    fst("0 0 5 7 0.5", "0 0.5").save(str(tmp_path / "right"))
    composed = run_on("fstcompose", ["-", tmp_path / "right"], fst("0 1 1 5 1", "1"))
    assert lines(composed) == [[0, 1, 1, 7, 1.5], [1, 0.5]]


def test_random_paths_are_paths(run_on):
    given = fst("0 1 1 5 0.5", "0 2 2 6", "1 1 3 7", "0 3 4 8", "1 0.25", "2")
    drawn = [lines(run_on("fstrandgen", [f"--seed={seed}"], given)) for seed in range(8)]
    for path in drawn:
        *arcs, (last, cost) = path
        assert last == len(arcs) and cost == 0
        assert [arc[2:] for arc in arcs] in (
            [[2, 6, 0]], *([[1, 5, 0], *[[3, 7, 0]] * n] for n in range(20)),
        )  # fmt: skip
    assert len({str(path) for path in drawn}) > 1
    assert run_on("fstrandgen", [], fst("0 1 1 1")).num_states == 0


def test_what_scripts_ask_of_fstinfo(run_program, tmp_path):
    for name, text, sorted_, cyclic in (
        ("a", ["0 1 1 1", "1 0 2 2", "1"], b"y", b"y"),
        ("b", ["0 1 2 1", "0 1 1 1", "1"], b"n", b"n"),
    ):
        fst(*text).save(str(tmp_path / name))
        told = dict(line.rsplit(None, 1) for line in run_program(
            "fstinfo", tmp_path / name).stdout.splitlines())  # fmt: skip
        assert told[b"input label sorted"] == sorted_ and told[b"cyclic"] == cyclic
        assert told[b"# of states"] == b"2"


def test_text_is_printed_as_it_is_compiled(run_program, tmp_path):
    (tmp_path / "symbols").write_text(SYMBOLS)
    text = b"1\t0\tone\ttwo\t0.693147182\n1\t2\t<eps>\tone\n0\t0.25\n2\n"
    symbols = [f"--{side}symbols={tmp_path}/symbols" for side in "io"]
    compiled = ["fstcompile", "--keep-state-numbering=true", *symbols, "-", tmp_path / "fst"]
    run_program(*compiled, stdin=text)
    assert run_program("fstprint", *symbols, tmp_path / "fst").stdout == text
    acceptor = run_program("fstprint", "--acceptor", "--show-weight-one", tmp_path / "fst").stdout
    assert acceptor == b"1\t0\t1\t0.693147182\n1\t2\t0\t0\n0\t0.25\n2\t0\n"
    kept = run_program("fstcompile", "--keep_isymbols=true", check=False)
    assert kept.returncode == 1 and b"symbols are not kept in an FST" in kept.stderr
    fst("0 1 3 3", "1").save(str(tmp_path / "fst"))
    result = run_program("fstprint", *symbols, tmp_path / "fst", check=False)
    assert b"symbols has no symbol with the number 3" in result.stderr


# Text ---------------------------------------------------------------------------------------------

TEXT = "4 7 one two 0.5\n4 2 <eps> one\n7 2 two two -1\n\n2 0.25\n7\n"
SYMBOLS = "<eps> 0\none 1\ntwo 2\n"


@pytest.mark.parametrize("keep", [False, True])
def test_text_is_compiled_as_by_openfst(run_program, tmp_path, keep):
    import kaldifst

    (tmp_path / "symbols").write_text(SYMBOLS)
    for name, options, text in [
        ("symbols", {"isymbols": f"{tmp_path}/symbols", "osymbols": f"{tmp_path}/symbols"}, TEXT),
        ("numbers", {}, "3 1 5 6\n1 0 0 7 2.5\n0 1\n"),
        ("acceptor", {"acceptor": True}, "3 1 5 0.5\n1 0 7\n0 1\n"),
    ]:
        given = {**options, "keep_state_numbering": keep}
        arguments = [f"--{key}={str(value).lower()}" for key, value in given.items()]
        run_program("fstcompile", *arguments, "-", f"{tmp_path}/{name}.fst", stdin=text.encode())
        for side in "isymbols", "osymbols":
            if side in given:
                given[side] = kaldifst.SymbolTable.read_text(given[side])
        theirs = ArrayFst.from_kaldifst(kaldifst.compile(text, **given))
        assert lines(ArrayFst.load(f"{tmp_path}/{name}.fst")) == lines(theirs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 1 one one\n1 1 one\n", "line 2 is neither an arc nor a final state: 1 1 one"),
        ("0 1 one one 0.5 0.5\n", "neither an arc nor"),
        ("-1 1 one one\n", "line 1 is neither"),
        ("0 1 one three\n", "symbols has no symbol three"),
        ("0 1 one one x\n", "could not convert"),
    ],
)
def test_text_that_is_no_transducer(tmp_path, text, reason):
    (tmp_path / "symbols").write_text(SYMBOLS)
    (tmp_path / "text").write_text(text)
    with pytest.raises(NgtrainError, match=reason):
        compile_fst(f"{tmp_path}/text", *[f"{tmp_path}/symbols"] * 2)
