"""N-gram language models: their estimation, the ARPA format, and grammars made of them."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from nnet.decoding.arpa import LanguageModel
from nnet.decoding.fst import ArrayFst
from nnet.decoding.ngram import UNUSUAL_DISCOUNTS, discounts, estimate
from nnet.decoding.symbols import SymbolTable
from nnet.errors import NgtrainError

NAMES = ["<eps>", "<unk>", "a", "b", "c", "d", "e", "#0", "<s>", "</s>"]
WORDS = SymbolTable(((name, n) for n, name in enumerate(NAMES)), "words.txt")
VOCABULARY = [WORDS.number(word) for word in ["<unk>", "a", "b", "c", "d", "e"]]
BEGIN, END, BACKOFF = (WORDS.number(word) for word in ("<s>", "</s>", "#0"))


def ids(text: str) -> list[int]:
    return [WORDS.number(word) for word in text.split()]


def random_sentences(number: int, seed: int = 0) -> list[list[int]]:
    """Sentences of a Markov chain over a, b, c and d."""
    rng = np.random.default_rng(seed)
    chain = rng.dirichlet(np.full(4, 0.4), size=4)
    sentences = []
    for _ in range(number):
        sentence = [int(rng.integers(4))]
        while rng.random() < 0.8:
            sentence.append(int(rng.choice(4, p=chain[sentence[-1]])))
        sentences.append([w + WORDS.number("a") for w in sentence])
    return sentences


@pytest.mark.parametrize(
    "order, min_counts", [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (3, [1, 2, 3])]
)
def test_probabilities_after_every_history_sum_to_one(order, min_counts):
    model = estimate(random_sentences(200), WORDS, VOCABULARY, order, min_counts)
    histories = {ngram[:-1] for ngram in model.entries} | {(BEGIN,), (VOCABULARY[0],)}
    for history in histories:
        total = sum(model.probability(history, word) for word in [*VOCABULARY, END])
        assert total == pytest.approx(1, abs=1e-12)


def test_bigram_probabilities_are_those_of_the_formula():
    """Three sentences, by hand."""
    model = estimate([ids("a b"), ids("a b"), ids("a c")], WORDS, VOCABULARY, 2, [1, 1])
    d1, d2, _ = UNUSUAL_DISCOUNTS  # no unigram has three
    # Different words before: a <s>; b a; c a; </s> b, c.  Five of them; 7 words are possible.
    unigram = {"a": 1 - d1, "b": 1 - d1, "c": 1 - d1, "</s>": 2 - d2}
    gamma = (3 * d1 + d2) / 5
    unigram = {word: p / 5 + gamma / 7 for word, p in unigram.items()}
    assert model.probability((), WORDS.number("a")) == pytest.approx(unigram["a"])
    assert model.probability((), WORDS.number("e")) == pytest.approx(gamma / 7)
    a, b, c = ids("a b c")
    # Bigrams: a b and b </s> come twice, a c and c </s> once, <s> a three times: y = 1/3.
    d1, d2, d3 = 1 - 2 / 3, 2 - 3 / 3 / 2, 3.0
    left_over = (d1 + d2) / 3
    assert model.probability((a,), b) == pytest.approx((2 - d2) / 3 + left_over * unigram["b"])
    assert model.probability((a,), c) == pytest.approx((1 - d1) / 3 + left_over * unigram["c"])
    assert model.probability((a,), END) == pytest.approx(left_over * unigram["</s>"])
    assert model.probability((BEGIN,), a) == pytest.approx((3 - d3) / 3 + d3 / 3 * unigram["a"])


def test_discounts_are_those_of_the_counts_of_counts():
    adjusted = np.repeat([0, 1, 2, 3, 4, 7], [5, 100, 40, 20, 12, 9])
    y = 100 / 180
    assert discounts(adjusted) == pytest.approx((1 - 2 * y * 0.4, 2 - 3 * y * 0.5, 3 - 4 * y * 0.6))


def test_rare_ngrams_are_left_out_and_their_probability_goes_to_the_lower_order():
    sentences = random_sentences(200)
    model = estimate(sentences, WORDS, VOCABULARY, 3, [1, 1, 3])
    counts = Counter(
        tuple(padded[i : i + 3])
        for sentence in sentences
        for padded in [[BEGIN, *sentence, END]]
        for i in range(len(padded) - 2)
    )
    kept = {tuple(ngram) for ngram in model.orders[2].words.tolist()}
    assert kept == {ngram for ngram, count in counts.items() if count >= 3}
    assert 0 < len(kept) < len(counts)


def test_a_higher_order_predicts_a_chain_better():
    train, test = random_sentences(2000), random_sentences(2100)[2000:]
    perplexities = [
        estimate(train, WORDS, VOCABULARY, order, [1] * order).perplexity(test) for order in (1, 2)
    ]
    assert perplexities[1] < 0.8 * perplexities[0] < 0.8 * len(VOCABULARY)


def test_arpa_files_are_read_as_they_were_written(tmp_path):
    model = estimate(random_sentences(100), WORDS, VOCABULARY, 3, [1, 1, 1])
    model.save(str(tmp_path / "lm.arpa"))
    again = LanguageModel.load(str(tmp_path / "lm.arpa"), WORDS)
    assert again.entries.keys() == model.entries.keys()
    for ngram, values in model.entries.items():
        assert again.entries[ngram] == pytest.approx(values, rel=2e-5)


ARPA = """
\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-1\t<unk>
-1\t</s>
-99\t<s>\t-0.3
-0.5\ta\t-0.2
-0.6\tb

\\2-grams:
-0.2\t<s> a\t-0.1
-0.3\ta b
-0.4\ta </s>
-0.5\tb </s>

\\3-grams:
-0.1\t<s> a b

\\end\\
"""


def read(tmp_path, text: str) -> LanguageModel:
    (tmp_path / "lm.arpa").write_text(text)
    return LanguageModel.load(str(tmp_path / "lm.arpa"), WORDS)


def sentence_cost(fst: ArrayFst, words: list[int]) -> float:
    """The least cost of a sentence over all paths, #0 reading nothing."""
    costs = {fst.start: 0.0}

    def back_off(costs):
        for _ in range(3):
            for state, cost in list(costs.items()):
                for arc in fst.arcs[fst.first_arc[state] : fst.first_arc[state + 1]]:
                    if arc["ilabel"] == BACKOFF:
                        following = int(arc["nextstate"])
                        new = cost + float(arc["weight"])
                        costs[following] = min(costs.get(following, math.inf), new)
        return costs

    for word in words:
        following: dict[int, float] = {}
        for state, cost in back_off(costs).items():
            for arc in fst.arcs[fst.first_arc[state] : fst.first_arc[state + 1]]:
                if arc["ilabel"] == word:
                    new = cost + float(arc["weight"])
                    there = int(arc["nextstate"])
                    following[there] = min(following.get(there, math.inf), new)
        costs = following
    ends = back_off(costs).items()
    return min((cost + float(fst.finals[state]) for state, cost in ends), default=math.inf)


@pytest.mark.parametrize(
    "sentence, logs",
    [
        ("a b", [-0.2, -0.1, -0.5]),
        ("a", [-0.2, -0.1 - 0.4]),
        ("b a b", [-0.3 - 0.6, -0.5, -0.3, -0.5]),  # b has no words after it but </s>
        ("a a", [-0.2, -0.1 - 0.2 - 0.5, -0.4]),
    ],
)
def test_grammar_has_the_costs_of_the_model(tmp_path, sentence, logs):
    """Costs worked out by hand, as Kaldi's arpa2fst has them."""
    cost = sentence_cost(read(tmp_path, ARPA).grammar(), ids(sentence))
    assert cost == pytest.approx(-sum(logs) * math.log(10), rel=1e-5)


def test_grammar_agrees_with_the_model_it_was_made_of():
    """The best path may back off where the model would not, but only if that is no worse."""
    model = estimate(random_sentences(300), WORDS, VOCABULARY, 3, [1, 1, 2])
    grammar = model.grammar()
    for sentence in random_sentences(20, seed=1):
        expected, history = 0.0, (BEGIN,)
        for word in [*sentence, END]:
            expected -= math.log(model.probability(history, word))
            history = (*history, word)
        assert sentence_cost(grammar, sentence) <= expected + 1e-4


def test_ngrams_with_other_words_are_left_out(tmp_path, caplog):
    model = read(tmp_path, ARPA.replace("a b\n", "a zebra\n"))
    assert len(model.orders[1].words) == 3
    assert "left out 1 of 4 2-grams" in caplog.text


@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("\\data\\", "data", "truncated"),
        ("ngram 2=4", "ngram 3=4", "line 4"),
        ("ngram 1=5", "ngram 1=999999999", "line 13"),
        ("-0.5\ta", "zero\ta", "line 11"),
        ("-0.3\ta b", "0.3\ta b", "line 16"),
        ("\\3-grams:", "\\4-grams:", "line 20"),
        ("\\end\\", "", "truncated"),
    ],
)
def test_damaged_arpa_file_is_an_error_of_one_line(tmp_path, old, new, reason):
    with pytest.raises(NgtrainError, match=r"lm\.arpa") as error:
        read(tmp_path, ARPA.replace(old, new))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_ngrams_without_their_history_are_left_out(tmp_path, caplog):
    model = read(tmp_path, ARPA.replace("-0.6\tb\n", "-0.6\tc\n"))
    assert tuple(ids("b </s>")) not in model.entries
    assert "left out 1 of 4 2-grams, whose history, the words but the last" in caplog.text
    assert "such as 'b </s>' on line 18" in caplog.text


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("a </s>", "</s> a", "left out 1 of 4 2-grams, with <s> or </s> in the wrong place"),
        ("a </s>", "a b", "left out 1 of 4 2-grams, which were there before, such as 'a b'"),
        ("ngram 2=4", "ngram 2=5", "line 19: the 2-grams end, of which there are 5"),
        ("-0.3\ta b", "-0.3\ta #0", "line 16: #0 and <eps> cannot be words"),
        ("-99\t<s>", "-99\te", "has no <s>"),
        ("-1\t</s>", "-1\te", "has no </s>"),
    ],
)
def test_models_that_make_no_sense(tmp_path, caplog, old, new, said):
    try:
        read(tmp_path, ARPA.replace(old, new))
    except NgtrainError as error:
        assert said in str(error)
    else:
        assert said in caplog.text


def test_model_in_other_letters_is_refused_with_the_reason(tmp_path):
    text = ARPA
    for word in "\ta", "\tb", " a", " b", "<unk>":
        text = text.replace(word, word.upper())
    with pytest.raises(NgtrainError, match=r"none of its words is in words.txt; 3 of .*capitals"):
        read(tmp_path, text)


def random_arpa(rng: random.Random, order: int) -> str:
    """A model with n-grams without history or back-off, with other words, with <s> everywhere."""
    words = ["<unk>", "a", "b", "c", "d", "</s>"]
    ngrams = [[("<s>",), ("</s>",), ("a",), *((w,) for w in words[:5] if rng.random() < 0.8)]]
    ngrams[0] = list(dict.fromkeys(ngrams[0]))
    for n in range(2, order + 1):
        found = set()
        for _ in range(rng.randint(1, 12 * n)):
            history = tuple(rng.choice([*words, "<s>"]) for _ in range(n - 1))
            if ngrams[-1] and rng.random() < 0.8:
                history = rng.choice(ngrams[-1])
            found.add((*history, "zebra" if rng.random() < 0.05 else rng.choice(words)))
        ngrams.append(rng.sample(sorted(found), len(found)))
    lines = ["\\data\\", *(f"ngram {n}={len(part)}" for n, part in enumerate(ngrams, 1))]
    for n, part in enumerate(ngrams, 1):
        lines += ["", f"\\{n}-grams:"]
        for ngram in part:
            backoff = f"\t{-rng.random():.4f}" if n < order and rng.random() < 0.6 else ""
            lines.append(f"{-3 * rng.random():.4f}\t{' '.join(ngram)}{backoff}")
    return "\n".join([*lines, "", "\\end\\", ""])


def test_grammars_have_the_costs_of_those_of_kaldilm(tmp_path):
    """That package has the code of Kaldi's arpa2fst."""
    kaldilm = pytest.importorskip("kaldilm", reason="needs the package kaldilm")
    table = tmp_path / "words.txt"
    table.write_text("".join(f"{w} {n}\n" for n, w in enumerate(NAMES)))
    for seed in range(40):
        rng = random.Random(seed)
        model = read(tmp_path, random_arpa(rng, rng.randint(1, 4)))
        kaldilm.arpa2fst(
            str(tmp_path / "lm.arpa"), str(tmp_path / "G.fst"),
            disambig_symbol="#0", read_symbol_table=str(table),
        )  # fmt: skip
        ours, theirs = model.grammar(), ArrayFst.load(str(tmp_path / "G.fst"))
        for _ in range(20):
            sentence = [rng.randint(1, 5) for _ in range(rng.randint(0, 5))]
            expected = sentence_cost(theirs, sentence)
            assert sentence_cost(ours, sentence) == pytest.approx(expected, abs=1e-3), seed


@pytest.mark.parametrize("min_counts", [[1, 1], [1, 2, 1]])
def test_senseless_minimum_counts_are_refused(min_counts):
    with pytest.raises(NgtrainError, match="minimum counts"):
        estimate(random_sentences(5), WORDS, VOCABULARY, 3, min_counts)


def test_programs_make_a_grammar_from_transcripts(run_program, tmp_path):
    (tmp_path / "words.txt").write_text("".join(f"{w} {n}\n" for n, w in enumerate(NAMES)))
    (tmp_path / "oov.int").write_text("1\n")
    (tmp_path / "text").write_text("u1 a b c\nu2 a b zebra\nu3\n")
    arpa = tmp_path / "lm" / "lm.arpa.gz"
    done = run_program("train_ngram_lm.py", "--heldout", tmp_path / "text", tmp_path / "text",
                       tmp_path, arpa)  # fmt: skip
    assert "perplexity" in done.stderr.decode()
    run_program("make_ngram_grammar.py", arpa, tmp_path)
    grammar = ArrayFst.load(str(tmp_path / "G.fst"))
    assert sentence_cost(grammar, ids("a b <unk>")) < sentence_cost(grammar, ids("e e e"))
    assert np.isfinite(sentence_cost(grammar, []))
    symbols = f"--read-symbol-table={tmp_path}/words.txt"
    run_program("arpa2fst", "--disambig-symbol=#0", symbols, f"gunzip -c {arpa} |", tmp_path / "G")
    assert (tmp_path / "G").read_bytes() == (tmp_path / "G.fst").read_bytes()
    for options, reason in (
        ([symbols, "--disambig-symbol=#1"], b"has no symbol #1"),
        ([], b"Please give --read-symbol-table"),
    ):
        result = run_program("arpa2fst", *options, f"gunzip -c {arpa} |", check=False)
        assert result.returncode == 1 and reason in result.stderr
