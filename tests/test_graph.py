"""Transducers, lang directories, training and decoding graphs, against Kaldi's."""

import io
import shutil

import kaldifst
import numpy as np
import pytest

from nnet.decoding.alignment import equal_alignment, flat_alignment, forbid_early_end
from nnet.decoding.decoder import Decoder, SearchOptions
from nnet.decoding.fst import ARC, FST, ArrayFst
from nnet.decoding.fst_operations import remove_arcs, state_costs
from nnet.decoding.graph import (
    HmmExpansion,
    TrainingGraphCompiler,
    add_self_loops,
    add_transition_probs,
    add_word_insertion_penalty,
    decoding_graph,
    lexicon_and_grammar,
    push_weights,
)
from nnet.decoding.lexicon import loop_grammar
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.io.integer_lists import read_integers
from nnet.io.streams import InputStream
from nnet.io.tables import INTEGERS, MATRIX, sequential_table, table_writer

FSTS = ["exp/tri2/graph/HCLG.fst", "data/lang/L.fst", "data/lang_test/G.fst"]


@pytest.fixture(scope="module")
def words(kaldi):
    """The transcripts of the training data as word-ids."""
    table = SymbolTable.load(str(kaldi / "data/lang/words.txt"))
    lines = (kaldi / "data/train/text").read_text().splitlines()
    return {key: [table.number(word) for word in text] for key, *text in map(str.split, lines)}


@pytest.fixture(scope="module")
def disambig(kaldi):
    return read_integers(str(kaldi / "data/lang/phones/disambig.int"))


def load(kaldi, name):
    return ArrayFst.load(str(kaldi / name))


def same(a: ArrayFst, b: ArrayFst) -> bool:
    return (
        a.start == b.start
        and (a.finals == b.finals).all()
        and (a.first_arc == b.first_arc).all()
        and (a.arcs == b.arcs).all()
    )


def cost_of(graph: ArrayFst, labels) -> float:
    """The cost of the best path with these input labels; inf if the graph does not accept them."""
    path = kaldifst.compose(
        kaldifst.make_linear_acceptor([int(x) for x in labels]), graph.to_kaldifst()
    )
    if path.start < 0:
        return np.inf
    _, _, _, weight = kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(path))
    return weight.value


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FSTS)
@pytest.mark.parametrize("const", [True, False])
def test_transducers_survive_files_and_kaldifst(kaldi, tmp_path, name, const):
    fst = load(kaldi, name)
    assert len(fst.arcs) > 10
    fst.save(str(tmp_path / "fst"), const)
    assert same(ArrayFst.load(str(tmp_path / "fst")), fst)
    assert same(ArrayFst.from_kaldifst(fst.to_kaldifst()), fst)
    kind = kaldifst.StdConstFst if const else kaldifst.StdVectorFst
    assert same(ArrayFst.from_kaldifst(kind.read(str(tmp_path / "fst"))), fst)


def test_written_bytes_are_openfsts_but_for_properties(kaldi, tmp_path):
    for name, const, properties in (FSTS[0], True, 35), (FSTS[1], False, 36):
        load(kaldi, name).save(str(tmp_path / "fst"), const)
        ours = bytearray((tmp_path / "fst").read_bytes())
        theirs = bytearray((kaldi / name).read_bytes())
        # What is known of the transducer is a hint; ours says only of what type it is.
        ours[properties : properties + 8] = theirs[properties : properties + 8] = bytes(8)
        assert ours == theirs


@pytest.mark.parametrize("options", ["", ",t"])
def test_tables_of_transducers(kaldi, tmp_path, options):
    fsts = {name.replace("/", "-"): load(kaldi, name) for name in FSTS}
    with table_writer(f"ark{options}:{tmp_path}/ark", FST) as table:
        for key, fst in fsts.items():
            table.write(key, fst)
    for key, fst in sequential_table(f"ark:{tmp_path}/ark", FST):
        expected = fsts.pop(key)
        assert fst.arcs["nextstate"].tolist() == expected.arcs["nextstate"].tolist()
        assert fst.arcs["weight"] == pytest.approx(expected.arcs["weight"], abs=1e-4)
    assert not fsts


@pytest.mark.parametrize("name", FSTS[:2])
def test_damaged_transducers_are_clear_errors(kaldi, name):
    data = (kaldi / name).read_bytes()

    def read(data):
        return ArrayFst.read(InputStream(io.BytesIO(data), "file"))

    for size in 0, 3, 20, 60, len(data) - 1:
        with pytest.raises(NgtrainError, match="file: truncated"):
            read(data[:size])
    with pytest.raises(NgtrainError, match="expected a transducer"):
        read(b"text" + data[4:])
    with pytest.raises(NgtrainError, match="does not have"):
        read(data[:-4] + b"\xff\xff\xff\x7f")  # the last arc leads to nowhere
    with pytest.raises(NgtrainError):
        read(data[:16] + b"log" + data[19:])


# --- Lang directories -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dictionary(kaldi, tmp_path_factory):
    """The dictionary directory that Kaldi's lang directory was made of."""
    directory = tmp_path_factory.mktemp("dict")
    phones = kaldi / "data/lang/phones"
    lexicon = dict(
        line.split(" ", 1)
        for line in (
            line.split(" ", 1)[1]
            for line in (phones / "align_lexicon.txt").read_text().splitlines()
            if not line.startswith("<eps>")
        )
    )
    # The states of L.fst tell the order that the words had.
    table = SymbolTable.load(str(kaldi / "data/lang/words.txt"))
    lexicon_fst = load(kaldi, "data/lang/L.fst")
    first_state = dict(zip(lexicon_fst.arcs["olabel"], lexicon_fst.arcs["nextstate"], strict=True))
    order = sorted(lexicon, key=lambda word: first_state[table.number(word)])
    (directory / "lexicon.txt").write_text("".join(f"{w} {lexicon[w]}\n" for w in order))
    for name in "silence", "nonsilence":
        shutil.copyfile(phones / f"{name}.txt", directory / f"{name}_phones.txt")
    shutil.copyfile(phones / "optional_silence.txt", directory / "optional_silence.txt")
    return directory


def test_lang_directory_is_kaldis(run_program, kaldi, dictionary, tmp_path):
    run_program(
        "prepare_lang.py",
        "--position-dependent-phones=false",
        *(dictionary, "!SIL", tmp_path / "tmp", tmp_path / "lang"),
    )
    theirs = kaldi / "data/lang"
    files = [f.relative_to(theirs) for f in theirs.rglob("*") if f.is_file()]
    assert sorted(files) == sorted(
        f.relative_to(tmp_path / "lang") for f in (tmp_path / "lang").rglob("*") if f.is_file()
    )
    for file in files:
        ours = tmp_path / "lang" / file
        if file.suffix == ".fst":
            assert same(ArrayFst.load(str(ours)), load(kaldi, f"data/lang/{file}")), file
        elif file.name == "topo":
            assert ours.read_text().split() == (theirs / file).read_text().split()
        else:
            assert ours.read_bytes() == (theirs / file).read_bytes(), file


def test_lang_directory_with_positions(run_program, dictionary, tmp_path):
    with open(dictionary / "lexicon.txt") as file:
        lexicon = file.read()
    shutil.copytree(dictionary, tmp_path / "dict")
    # Two words that sound alike, and one that begins another.
    (tmp_path / "dict/lexicon.txt").write_text(lexicon + "ate EY T\nfie F AY\n")
    lang = tmp_path / "lang"
    run_program("prepare_lang.py", tmp_path / "dict", "!SIL", tmp_path / "tmp", lang)
    disambiguated = (tmp_path / "tmp/lexiconp_disambig.txt").read_text().splitlines()
    assert "eight\t1.0\tEY_B T_E #1" in disambiguated
    assert "ate\t1.0\tEY_B T_E #2" in disambiguated
    assert "fie\t1.0\tF_B AY_E" in disambiguated  # F_B AY_I V_E does not begin with it
    assert (lang / "phones/sets.txt").read_text().startswith("SIL SIL_B SIL_E SIL_I SIL_S\nAH_B")
    assert (lang / "phones/disambig.txt").read_text() == "#0\n#1\n#2\n#3\n"
    boundaries = (lang / "phones/word_boundary.txt").read_text().splitlines()
    assert {"SIL nonword", "SIL_S singleton", "AH_B begin", "Z_I internal"} <= set(boundaries)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "lexicon.txt",
            "one W AH X\n!SIL SIL\n",
            "phone X, which is neither in silence_phones.txt",
        ),
        (
            "lexicon.txt",
            "one W AH N\n!SIL SIL\none W AH AH\none  W AH\tN\n!SIL SIL\n",
            "lexicon.txt: lines 1 and 4 are the same pronunciation, 'one W AH N' (2 lines come",
        ),
        ("lexicon.txt", "one W AH N\n", "!SIL"),
        ("lexicon.txt", "one\n!SIL SIL\n", "line 1"),
        ("lexicon.txt", "<s> AH\n!SIL SIL\n", "<s>"),
        ("optional_silence.txt", "AH\n", "AH is not in silence_phones"),
        ("silence_phones.txt", "SIL\nAH\n", "each once"),
        ("optional_silence.txt", "", "optional_silence.txt has 0 phones; there must be just one"),
        ("optional_silence.txt", "SIL\nSIL\n", "optional_silence.txt has 2 phones"),
        ("extra_questions.txt", "AH FOO\n", "extra_questions.txt: FOO is neither in"),
        ("lexiconp.txt", "one 1.0 W AH N\n!SIL 1.5 SIL\n", "line 2: 1.5 is no probability"),
        ("lexiconp.txt", "one inf W AH N\n", "line 1: inf is no probability"),
        ("lexiconp.txt", "one 1.0 W AH N\none 0.5 W AH N\n", "lines 1 and 2 are the same"),
        (
            "lexiconp.txt",
            "!SIL 1.0 SIL\n",
            "entries that lexiconp.txt has not, such as 'eight",
        ),
    ],
)
def test_bad_dictionary_is_a_clear_error(run_program, dictionary, tmp_path, file, content, reason):
    shutil.copytree(dictionary, tmp_path / "dict")
    (tmp_path / "dict" / file).write_text(content)
    result = run_program(
        "prepare_lang.py",
        *("--position-dependent-phones=false", tmp_path / "dict"),
        *("!SIL", tmp_path / "tmp", tmp_path / "lang"),
        check=False,
    )
    assert result.returncode != 0
    assert reason in result.stderr.decode().splitlines()[-1]
    assert not (tmp_path / "lang").exists()


def test_all_that_is_wrong_with_a_dictionary_is_said_at_once(run_program, dictionary, tmp_path):
    shutil.copytree(dictionary, tmp_path / "dict")
    with open(tmp_path / "dict/lexicon.txt", "a") as file:
        file.write("eleven XX YY\n")
    (tmp_path / "dict/extra_questions.txt").write_text("ZZ\n")
    (tmp_path / "dict/lexiconp_silprob.txt").write_text("")
    with open(tmp_path / "dict/nonsilence_phones.txt", "a") as file:
        file.write("AH_B\n")
    args = tmp_path / "dict", "<unk>", tmp_path / "tmp", tmp_path / "lang"
    result = run_program("prepare_lang.py", *args, check=False)
    assert result.returncode == 1
    said = result.stderr.decode()
    for problem in (
        "warning: ", "lexiconp_silprob.txt is not used", "AH_B cannot be the name of a phone",
        "extra_questions.txt: ZZ is neither", "eleven has the phone XX", "eleven has the phone YY",
        "<unk>, has no pronunciation",
    ):  # fmt: skip
        assert problem in said
    assert not (tmp_path / "lang").exists()


def test_probabilities_of_pronunciations_for_the_same_lexicon(run_program, dictionary, tmp_path):
    shutil.copytree(dictionary, tmp_path / "dict")
    lines = (dictionary / "lexicon.txt").read_text().splitlines()
    with_probabilities = [line.replace(" ", " 0.5 ", 1) for line in lines]
    (tmp_path / "dict/lexiconp.txt").write_text("\n".join(with_probabilities) + "\n")
    args = tmp_path / "dict", "!SIL", tmp_path / "tmp", tmp_path / "lang"
    result = run_program("prepare_lang.py", *args)
    assert f"{len(lines)} pronunciations are read from" in result.stderr.decode()
    assert "\t0.5\t" in (tmp_path / "tmp/lexiconp.txt").read_text()


@pytest.mark.slow
def test_a_grammar_for_other_words_does_not_stay(run_program, dictionary, tmp_path):
    shutil.copytree(dictionary, tmp_path / "dict")
    args = tmp_path / "dict", "!SIL", tmp_path / "tmp", tmp_path / "lang"
    run_program("prepare_lang.py", *args)
    run_program("make_loop_grammar.py", tmp_path / "lang")
    run_program("prepare_lang.py", *args)
    assert (tmp_path / "lang/G.fst").exists()
    with open(tmp_path / "dict/lexicon.txt", "a") as file:
        file.write("ate EY T\n")
    result = run_program("prepare_lang.py", *args)
    assert b"G.fst was made for other words" in result.stderr
    assert not (tmp_path / "lang/G.fst").exists()


def test_symbols_and_numbers(run_program, kaldi, tmp_path):
    table = kaldi / "data/lang/words.txt"
    (tmp_path / "text").write_text("u1 one two\nu2 eleven\nu3\n")
    numbers = run_program("sym2int.py", "--map-oov", "!SIL", "-f", "2-", table, tmp_path / "text")
    assert numbers.stdout == b"u1 6 10\nu2 1\nu3\n"
    symbols = run_program("int2sym.py", "-f", "2-", table, stdin=numbers.stdout)
    assert symbols.stdout == b"u1 one two\nu2 !SIL\nu3\n"
    failed = run_program("sym2int.py", "-f", "2-", table, tmp_path / "text", check=False)
    assert failed.returncode != 0 and b"eleven" in failed.stderr


# --- Decoding graphs ------------------------------------------------------------------------------


def test_lexicon_and_grammar_is_kaldis(kaldi):
    lg = lexicon_and_grammar(load(kaldi, "data/lang/L_disambig.fst"), load(kaldi, FSTS[2]))
    expected = load(kaldi, "data/lang_test/tmp/LG.fst")
    assert (lg.num_states, len(lg.arcs)) == (expected.num_states, len(expected.arcs))
    for ours, theirs in (lg.arcs["weight"], expected.arcs["weight"]), (lg.finals, expected.finals):
        finite = np.isfinite(ours)
        assert np.sort(ours[finite]) == pytest.approx(
            np.sort(theirs[np.isfinite(theirs)]), abs=2e-3
        )


def test_pushing_makes_states_sum_to_the_same_and_keeps_paths():
    graph = loop_grammar([1, 2, 3], 0.5)
    graph.arcs["weight"][1] += 2  # a grammar whose states do not sum to one
    pushed = push_weights(graph)
    sums = np.bincount(pushed.source, np.exp(-pushed.arcs["weight"].astype(float)))
    sums += np.exp(-pushed.finals.astype(float))
    assert sums == pytest.approx(np.full(2, sums.mean()), rel=1e-3)
    for sentence in [1], [2], [2, 2], [3, 1, 2]:
        assert cost_of(pushed, sentence) == pytest.approx(cost_of(graph, sentence), abs=1e-4)


def assert_same_best_paths(model, *graphs) -> None:
    """Check that searches in two graphs find the same words in random likelihoods."""
    decoders = [Decoder(graph, model, SearchOptions(beam=1e4)) for graph in graphs]
    rng = np.random.default_rng(1)
    for frames in 12, 30, 60:
        log_likelihoods = rng.normal(size=(frames, model.num_pdfs)).astype(np.float32) * 3
        path, expected = [decoder.decode(log_likelihoods, 0.3) for decoder in decoders]
        assert path.words == expected.words
        assert path.log_likelihood == pytest.approx(expected.log_likelihood, abs=0.02)


def test_decoding_graph_finds_the_paths_of_kaldis(kaldi, tree, model, disambig):
    lexicon, grammar = load(kaldi, "data/lang/L_disambig.fst"), load(kaldi, FSTS[2])
    ours = decoding_graph(lexicon, grammar, tree, model, disambig)
    theirs = load(kaldi, FSTS[0])
    assert (ours.num_states, len(ours.arcs)) == (theirs.num_states, len(theirs.arcs)) == (188, 423)
    assert_same_best_paths(model, ours, theirs)


def test_graphs_with_self_loops_first_say_the_same(kaldi, tree, model, disambig):
    lg = lexicon_and_grammar(load(kaldi, "data/lang/L_disambig.fst"), load(kaldi, FSTS[2]))
    graphs = [
        HmmExpansion(tree, model, disambig, 1.0, 0.1, reorder).expand(lg.to_kaldifst())
        for reorder in (True, False)
    ]
    assert_same_best_paths(model, *graphs)
    rng = np.random.default_rng(2)
    log_likelihoods = rng.normal(size=(80, model.num_pdfs)).astype(np.float32)
    reordered, plain = [
        np.array(
            Decoder(graph, model, SearchOptions(beam=1e4)).decode(log_likelihoods, 1.0).alignment
        )
        for graph in graphs
    ]
    assert model.is_reordered(reordered) and not model.is_reordered(plain)
    assert np.array_equal(model.with_other_order(plain), reordered)


def leaving(model, state: int) -> int:
    """A transition-id that leaves a transition-state."""
    return int(np.flatnonzero((model.state_of == state) & ~model.is_self_loop)[0])


def test_self_loops_first_where_states_are_left_in_several_ways(model):
    """Each arc of a mixed state gets a state of its own, and sums of a state stay what they are."""
    first, second = leaving(model, 1), leaving(model, 2)
    graph = ArrayFst.parse(f"0 1 {first} 5 0.5\n0 1 {second} 6 1\n0 0.25\n1 2 {first} 7\n2 0")
    made = add_self_loops(graph, model, 1.0, reorder=False)
    assert made.num_states == 3 + 2
    loops = made.arcs[made.arcs["nextstate"] == made.source]
    assert loops["ilabel"].tolist() == model.self_loop_of[[1, 1, 2]].tolist()
    expected = [*state_costs(graph, True)[:1], 0, 0, 0, 0]
    assert state_costs(made, True) == pytest.approx(expected, abs=1e-5)
    loop = int(model.self_loop_of[2])
    assert cost_of(made, [loop, second, first]) < np.inf == cost_of(made, [second, loop, first])


def test_labels_and_states_may_be_many(model):
    """The product of the numbers of states and of transition-states does not fit into 32 bits."""
    labels = [leaving(model, state) for state in (5, model.num_transition_states)]
    num_states = 2**31 // model.num_transition_states + 10
    arcs = np.zeros(2, ARC)
    arcs["ilabel"], arcs["nextstate"] = labels, num_states - 1
    finals = np.full(num_states, np.inf)
    finals[-1] = 0
    made = add_self_loops(ArrayFst.from_arcs(0, finals, [0, 0], arcs), model, 0.1)
    assert made.num_states == num_states + 2


@pytest.mark.slow
def test_mkgraph(run_program, kaldi, tmp_path):
    lang, source = kaldi / "data/lang_test", kaldi / "exp/tri2_ali"
    run_program("mkgraph.py", lang, source, tmp_path / "graph")
    graph = ArrayFst.load(str(tmp_path / "graph/HCLG.fst"))
    assert graph.num_states == 188
    assert (tmp_path / "graph/num_pdfs").read_text() == "128\n"
    names = ["words.txt", "phones.txt", "phones/silence.csl", "phones/disambig.int"]
    for name in names:
        assert (tmp_path / "graph" / name).read_bytes() == (lang / name).read_bytes()
    again = run_program("mkgraph.py", lang, source, tmp_path / "graph")
    assert b"up to date" in again.stderr
    shutil.copytree(lang, tmp_path / "lang")
    words = (lang / "words.txt").read_text().splitlines(keepends=True)
    (tmp_path / "lang/words.txt").write_text("".join(words[:5]))
    other = run_program("mkgraph.py", tmp_path / "lang", source, tmp_path / "other", check=False)
    assert b"G.fst has" in other.stderr and b"it was made for other words" in other.stderr
    assert not (tmp_path / "other").exists()


def test_graph_of_another_model_is_refused(kaldi, tree, disambig, run_program, tmp_path):
    run_program("init-mono", kaldi / "data/lang/topo", tmp_path / "tree", tmp_path / "mono.mdl")
    mono = TransitionModel.load(str(tmp_path / "mono.mdl"))
    lexicon, grammar = load(kaldi, "data/lang/L_disambig.fst"), load(kaldi, FSTS[2])
    with pytest.raises(NgtrainError, match="another tree"):
        decoding_graph(lexicon, grammar, tree, mono, disambig)
    with pytest.raises(NgtrainError, match="made for another"):
        Decoder(load(kaldi, FSTS[0]), mono, SearchOptions())


def test_grammar_loop(run_program, kaldi, tmp_path):
    shutil.copytree(kaldi / "data/lang", tmp_path / "lang")
    (tmp_path / "lang").chmod(0o755)
    run_program("make_loop_grammar.py", "--end-prob=0.5", tmp_path / "lang")
    grammar = ArrayFst.load(str(tmp_path / "lang/G.fst"))
    assert cost_of(grammar, [2]) == pytest.approx(np.log(10 * 2))
    assert cost_of(grammar, [2, 11, 5]) == pytest.approx(3 * np.log(10 * 2))
    assert cost_of(grammar, [1]) == np.inf  # !SIL
    assert cost_of(grammar, []) == np.inf


def test_penalty_and_removal_of_words():
    graph = loop_grammar([1, 2])
    dearer = add_word_insertion_penalty(graph, 1.5)
    assert cost_of(dearer, [1, 2, 2]) == pytest.approx(cost_of(graph, [1, 2, 2]) + 4.5)
    assert cost_of(remove_arcs(graph, [2], "olabel"), [1]) == cost_of(graph, [1])
    assert cost_of(remove_arcs(graph, [2], "olabel"), [1, 2]) == np.inf


# --- Training graphs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(kaldi, tree, model, words):
    """From transcripts to their training graphs."""
    compiler = TrainingGraphCompiler(tree, model, load(kaldi, "data/lang/L.fst"))
    transcripts = sorted({tuple(transcript) for transcript in words.values()})
    return {transcript: compiler.compile(transcript) for transcript in transcripts}


@pytest.mark.slow
def test_training_graphs_accept_kaldis_alignments(graphs, words, alignments):
    assert len(graphs) == 10
    for key in sorted(alignments)[::5]:
        for transcript, graph in graphs.items():
            accepted = cost_of(graph, alignments[key]) < np.inf
            assert accepted == (transcript == tuple(words[key])), key


def test_costs_of_transitions_are_added_to_paths(graphs, model, words, alignments):
    scaled = model.scaled_log_probs(1.0, 0.1)
    for key in sorted(alignments)[::200]:
        graph = graphs[tuple(words[key])]
        with_probs = add_transition_probs(graph, model, 1.0, 0.1)
        expected = cost_of(graph, alignments[key]) - scaled[alignments[key]].sum()
        assert cost_of(with_probs, alignments[key]) == pytest.approx(expected, abs=1e-3)


def test_scales_of_the_compiler_are_those_of_the_costs(
    kaldi, tree, model, graphs, words, alignments
):
    compiler = TrainingGraphCompiler(
        tree, model, load(kaldi, "data/lang/L.fst"), transition_scale=1.0, self_loop_scale=0.1
    )
    for key in sorted(alignments)[::500]:
        compiled = compiler.compile(words[key])
        added = add_transition_probs(graphs[tuple(words[key])], model, 1.0, 0.1)
        assert cost_of(compiled, alignments[key]) == pytest.approx(
            cost_of(added, alignments[key]), abs=0.02
        )


def test_transcript_that_the_lexicon_cannot_say_gives_an_empty_graph(kaldi, tree, model):
    compiler = TrainingGraphCompiler(tree, model, load(kaldi, "data/lang/L.fst"))
    assert compiler.compile([12]).start < 0


def test_compile_train_graphs(run_program, kaldi, graphs, words, alignments, tmp_path):
    (tmp_path / "tra").write_text("a 11\nb 12\nc 2 3\n")
    source = kaldi / "exp/tri2_ali"
    result = run_program(
        "compile-train-graphs",
        f"--read-disambig-syms={kaldi}/data/lang/phones/disambig.int",
        *(source / "tree", source / "final.mdl", kaldi / "data/lang/L.fst"),
        *(f"ark:{tmp_path}/tra", f"ark:{tmp_path}/fsts"),
    )
    assert b"succeeded for 2 graphs, failed for 1" in result.stderr
    compiled = dict(sequential_table(f"ark:{tmp_path}/fsts", FST))
    assert list(compiled) == ["a", "c"]
    key = next(key for key in sorted(alignments) if words[key] == [11])
    cost = cost_of(graphs[(11,)], alignments[key])
    assert cost_of(compiled["a"], alignments[key]) == pytest.approx(cost, abs=0.01) != np.inf


def test_training_graphs_with_self_loops_first(kaldi, tree, model, graphs, words, alignments):
    lexicon = load(kaldi, "data/lang/L.fst")
    compiler = TrainingGraphCompiler(tree, model, lexicon, reorder=False)
    for key in sorted(alignments)[::300]:
        compiled, alignment = compiler.compile(words[key]), alignments[key]
        cost = cost_of(graphs[tuple(words[key])], alignment)
        other = model.with_other_order(alignment)
        assert cost_of(compiled, other) == pytest.approx(cost, abs=0.01) != np.inf
        assert cost_of(compiled, alignment) == np.inf


# --- Equal alignment ------------------------------------------------------------------------------


def test_equal_alignments_are_valid_and_equal(graphs, model):
    has_silence = 0
    for transcript, graph in graphs.items():
        for utterance in range(10):
            key = f"{transcript}-{utterance}"
            alignment = equal_alignment(graph, 70, key)
            assert len(alignment) == 70
            assert cost_of(graph, alignment) < np.inf
            assert alignment == equal_alignment(graph, 70, key)
            states = model.state_of[alignment]
            ends = np.flatnonzero(np.diff(states) != 0)
            durations = np.diff(np.concatenate(([-1], ends, [len(states) - 1])))
            visits = (~model.is_self_loop[alignment]).sum()
            assert durations.max() <= 2 * np.ceil(70 / visits)  # silence may visit a state twice
            has_silence += int(model.phone_of[alignment[0]] == 1)
    assert 25 < has_silence < 75


@pytest.mark.parametrize("silence_duration", [0.0, 1.0])
def test_flat_alignments_keep_silence_short(graphs, model, silence_duration):
    silence = frozenset([1])
    frames_of_silence, inner_states = [], set()
    for transcript, graph in graphs.items():
        for utterance in range(10):
            key = f"{transcript}-{utterance}"
            arguments = (graph, model, silence, silence_duration, 60, key)
            alignment = flat_alignment(*arguments)
            assert len(alignment) == 60
            assert cost_of(graph, alignment) < np.inf
            assert (alignment == flat_alignment(*arguments)).all()
            is_silence = model.phone_of[alignment] == 1
            durations = np.bincount(np.cumsum(~model.is_self_loop[alignment]))[1:]
            of_speech = durations[~is_silence[~model.is_self_loop[alignment]]]
            assert of_speech.max() - of_speech.min() <= 1
            frames_of_silence.append(is_silence.sum())
            inner_states |= set(model.hmm_state_of[alignment][is_silence])
    assert inner_states == {0, 1, 2, 3, 4}
    if silence_duration == 0:
        assert set(frames_of_silence) == {0, 3, 6}
    else:
        assert max(frames_of_silence) > 12


def test_flat_alignment_of_short_utterances(graphs, model):
    # Seven has five phones: fifteen frames without silence, and none to spare for it.
    alignment = flat_alignment(graphs[(7,)], model, frozenset([1]), 0.0, 15, "utt")
    assert not model.is_self_loop[alignment].any() and (model.phone_of[alignment] != 1).all()
    assert flat_alignment(graphs[(7,)], model, frozenset([1]), 0.0, 14, "utt") is None


def test_utterance_that_is_too_short_has_no_equal_alignment(graphs):
    assert equal_alignment(graphs[(7,)], 5, "utt") is None


def test_align_equal_compiled(run_program, graphs, golden, tmp_path):
    key, features = next(iter(sequential_table(f"ark:{golden}/feats.ark", MATRIX)))
    with table_writer(f"ark:{tmp_path}/fsts", FST) as table:
        table.write("nobody", graphs[(11,)])
        table.write(key, graphs[(11,)])
    result = run_program(
        "align-equal-compiled",
        *(f"ark:{tmp_path}/fsts", f"ark:{golden}/feats.ark", f"ark:{tmp_path}/ali"),
    )
    assert b"Computed 1 alignments; 1 lacked features, 0 had other errors" in result.stderr
    [(aligned, alignment)] = sequential_table(f"ark:{tmp_path}/ali", INTEGERS)
    assert aligned == key and len(alignment) == len(features)


def test_careful_alignment_fails_where_the_utterance_goes_on(graphs, model, alignments, words):
    key = sorted(alignments)[0]
    graph = graphs[tuple(words[key])]
    careful = forbid_early_end(graph)
    alignment = [int(x) for x in alignments[key]]
    assert cost_of(careful, alignment) == pytest.approx(cost_of(graph, alignment), abs=1e-4)
    assert cost_of(careful, alignment + alignment) == np.inf

    def decode(graph, alignment):
        # Likelihoods that leave no choice.
        log_likelihoods = np.full((len(alignment), model.num_pdfs), -20, np.float32)
        log_likelihoods[np.arange(len(alignment)), model.pdf_of[alignment]] = 0
        return Decoder(graph, model, SearchOptions(beam=50.0)).decode(log_likelihoods, 1.0)

    assert decode(careful, alignment) is not None
    assert decode(graph, alignment + alignment) is not None  # badly, but it ends
    assert decode(careful, alignment + alignment) is None
