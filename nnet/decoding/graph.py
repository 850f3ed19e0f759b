"""Training and decoding graphs: H o C o L o G, from transition-ids to words.

kaldifst composes, determinizes and minimizes.  Here is what depends on the HMMs: the H transducer,
self-loops, transition probabilities.  After Kaldi's hmm/hmm-utils.cc,
decoder/training-graph-compiler.cc, fstext/push-special.cc and egs/wsj/s5/utils/mkgraph.sh; see
Mohri, Pereira, Riley, "Speech recognition with weighted finite-state transducers" (2008).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnet.decoding.epsilons import remove_epsilons_locally
from nnet.decoding.fst import ARC, EPSILON, ArrayFst
from nnet.decoding.fst_operations import erase_symbols
from nnet.decoding.phone_windows import compose_context, is_disambiguation
from nnet.errors import NgtrainError
from nnet.hmm.transition_model import TransitionModel
from nnet.hmm.tree import ContextDependency

log = logging.getLogger("ngtrain")


@dataclass(frozen=True)
class HmmExpansion:
    """The way from phones to transition-ids, H o C, with the probabilities of a model.

    transition_scale, self_loop_scale: of the log-probabilities of transitions; 0 when alignment is
    to add them (`add_transition_probs`).
    reorder: self-loops come after the transition that leaves their state, see `add_self_loops`.
    """

    tree: ContextDependency
    model: TransitionModel
    disambig_phones: Sequence[int]
    transition_scale: float
    self_loop_scale: float
    reorder: bool = True

    def expand(self, lg) -> ArrayFst:
        """Make H o C o `lg`, determinized and minimized, with self-loops.

        lg: `kaldifst.StdVectorFst` from phones to words; it is changed (the end of the utterance
        gets a symbol of its own when the context reaches to the right).

        The `start` of the graph is -1 when it accepts nothing.  Raises NgtrainError if tree,
        transition model and phones of `lg` do not match.
        """
        import kaldifst

        context, phone_windows = compose_context(
            lg, self.disambig_phones, self.tree.context_width, self.tree.central_position
        )
        h, disambig = self.h_transducer(phone_windows)
        h = h.to_kaldifst()
        kaldifst.arcsort(h, "olabel")
        kaldifst.arcsort(context, "ilabel")
        graph = kaldifst.compose(h, context)
        if graph.start < 0:
            return ArrayFst.from_kaldifst(graph)
        kaldifst.determinize_star(graph, use_log=True)
        if disambig:
            arrays = erase_symbols(ArrayFst.from_kaldifst(graph), disambig)
            graph = remove_epsilons_locally(arrays).to_kaldifst()
        kaldifst.minimize_encoded(graph)
        arrays = ArrayFst.from_kaldifst(graph)
        return add_self_loops(arrays, self.model, self.self_loop_scale, reorder=self.reorder)

    def h_transducer(self, phone_windows: Sequence[Sequence[int]]) -> tuple[ArrayFst, list[int]]:
        """Make H, from transition-ids, without self-loops, to phones in context (GetHTransducer).

        State 0 is start and end; a phone in context is a loop through the states of its HMM.
        Windows whose central phones are equal and have the same pdfs share their loop.

        phone_windows: what each output label stands for, see nnet/decoding/phone_windows.py.

        Returns, with the transducer, the labels that stand for the disambiguation symbols on its
        input: the numbers that follow the last transition-id.
        """
        arcs: list[tuple[int, tuple]] = []  # source, and the fields of ARC
        num_states = 1
        first_state: dict[tuple, int] = {}
        disambig: list[int] = []
        for label, window in enumerate(phone_windows[1:], start=1):
            if is_disambiguation(window):
                disambig.append(self.model.num_transition_ids + 1 + len(disambig))
                arcs.append((0, (disambig[-1], label, 0.0, 0)))
                continue
            physical = self._physical_phone(window)
            if physical not in first_state:
                first_state[physical] = num_states
                arcs += self._hmm_arcs(*physical, num_states)
                num_states += len(self.model.topology.states(physical[0])) - 1
            arcs.append((0, (EPSILON, label, 0.0, first_state[physical])))
        finals = np.full(num_states, np.inf)
        finals[0] = 0
        sources, rows = [source for source, _ in arcs], [row for _, row in arcs]
        return ArrayFst.from_arcs(0, finals, sources, rows), disambig

    def _physical_phone(self, window: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Find the central phone of a window, and the pdf-ids of its pdf-classes."""
        if len(window) != self.tree.context_width:
            width = self.tree.context_width
            raise NgtrainError(f"the tree is for windows of {width} phones, not for {list(window)}")
        phone = window[self.tree.central_position]
        topology = self.model.topology
        if phone not in topology.entry_of_phone:
            raise NgtrainError(f"the topology does not cover phone {phone} of the lexicon")
        pdfs = tuple(self.tree.compute(window, c) for c in range(topology.num_pdf_classes(phone)))
        if None in pdfs:
            where = f"phone {phone} in the context {list(window)}"
            raise NgtrainError(f"the tree has no pdf for {where}")
        return phone, pdfs

    def _hmm_arcs(
        self, phone: int, pdfs: tuple[int, ...], first_state: int
    ) -> list[tuple[int, tuple]]:
        """Make the HMM of a phone without self-loops, as arcs from `first_state` on, to state 0.

        Probabilities are those given that the state is left (GetHmmAsFsa).
        """
        states = self.model.topology.states(phone)
        log_probs = self.model.log_probs_ignoring_self_loops
        arcs = []
        for number, state in enumerate(states):
            if state.emitting:
                pair = pdfs[state.forward_pdf_class], pdfs[state.self_loop_pdf_class]
                try:
                    transition_state = self.model.transition_state(phone, number, *pair)
                except KeyError:
                    raise NgtrainError(
                        f"the transition model has no pdf {pair[0]} for state {number} of phone "
                        f"{phone}: it belongs to another tree"
                    ) from None
            for index, (destination, probability) in enumerate(state.transitions):
                if destination == number:
                    continue
                label, log_prob = EPSILON, np.log(probability)
                if state.emitting:
                    label = int(self.model.first_id[transition_state]) + index
                    log_prob = log_probs[label]
                next_state = 0 if destination == len(states) - 1 else first_state + destination
                cost = -self.transition_scale * float(log_prob)
                arcs.append((first_state + number, (label, EPSILON, cost, next_state)))
        return arcs


def add_self_loops(
    graph: ArrayFst,
    transition_model: TransitionModel,
    self_loop_scale: float,
    disambig: Sequence[int] = (),
    reorder: bool = True,
) -> ArrayFst:
    """Let every HMM state be repeated (AddSelfLoops).

    disambig: labels that are not transition-ids, but disambiguation symbols.
    reorder: the self-loop of an HMM state comes after the transition that leaves the state, on the
        graph state where its arc ends, which is faster to search; else before it, where its arc
        begins.

    Raises NgtrainError if other labels are not, or the graph has self-loops.
    """
    transition_ids = _transition_ids(erase_symbols(graph, disambig), transition_model)
    if transition_model.is_self_loop[transition_ids].any():
        raise NgtrainError("the graph already has self-loops")
    transition_states = transition_model.state_of[transition_ids].astype(np.int64)
    split = _one_transition_state_into_each if reorder else _one_transition_state_out_of_each
    graph, loop_states = split(graph, transition_states)

    loop_id = transition_model.self_loop_of[loop_states]
    looping = np.flatnonzero(loop_id)
    loops = np.zeros(len(looping), ARC)
    loops["ilabel"] = loop_id[looping]
    loops["weight"] = -self_loop_scale * transition_model.log_probs[loop_id[looping]]
    loops["nextstate"] = looping

    # Leaving the state costs its probability, so that the arcs out of a state still sum to one.
    leave = -self_loop_scale * transition_model.non_self_loop_log_probs[loop_states]
    leave = leave.astype(np.float32)
    leaving, source = graph.arcs.copy(), graph.source
    leaving["weight"] += leave[source]
    return ArrayFst.from_arcs(
        graph.start,
        graph.finals + leave,
        np.append(source, looping),
        np.append(leaving, loops),
    )


def _one_transition_state_into_each(
    graph: ArrayFst, transition_states: np.ndarray
) -> tuple[ArrayFst, np.ndarray]:
    """Lead arcs into a graph state that others enter, too, through a new state and an epsilon arc.

    transition_states: int64 (arcs,): what each arc leaves, 0 for none; those into a state that
        have the same one enter it together.

    Returns also the one of the arcs into each graph state: int64 (states,).

    Source: MakePrecedingInputSymbolsSameClass in fstext/fstext-utils-inl.h.
    """
    arcs, num_states = graph.arcs.copy(), graph.num_states
    entered = arcs["nextstate"].astype(np.int64)
    is_mixed = _has_several(
        np.append(entered, graph.start), np.append(transition_states, 0), num_states
    )
    detour = is_mixed[entered] & (transition_states > 0)
    width = transition_states.max(initial=0) + 1
    added, place = np.unique((entered * width + transition_states)[detour], return_inverse=True)
    arcs["nextstate"][detour] = num_states + place
    bridges = np.zeros(len(added), ARC)
    bridges["nextstate"] = added // width
    grown = ArrayFst.from_arcs(
        graph.start,
        np.append(graph.finals, np.full(len(added), np.inf)),
        np.append(graph.source, num_states + np.arange(len(added))),
        np.append(arcs, bridges),
    )
    into = np.zeros(grown.num_states, np.int64)
    into[arcs["nextstate"]] = transition_states
    return grown, into


def _one_transition_state_out_of_each(
    graph: ArrayFst, transition_states: np.ndarray
) -> tuple[ArrayFst, np.ndarray]:
    """Lead arcs out of a graph state that others leave, too, through a new state behind an epsilon.

    A state of its own for each arc keeps what the arcs of a state sum to.

    transition_states: int64 (arcs,): what each arc leaves, 0 for none.

    Returns also the one of the arcs out of each graph state: int64 (states,).

    Source: MakeFollowingInputSymbolsSameClass in fstext/fstext-utils-inl.h.
    """
    arcs, source, num_states = graph.arcs.copy(), graph.source, graph.num_states
    ends = np.flatnonzero(np.isfinite(graph.finals))
    is_mixed = _has_several(
        np.append(source, ends), np.append(transition_states, np.zeros_like(ends)), num_states
    )
    detour = np.flatnonzero(is_mixed[source] & (transition_states > 0))
    added = num_states + np.arange(len(detour))
    beyond = arcs[detour]
    beyond["olabel"], beyond["weight"] = EPSILON, 0
    arcs["ilabel"][detour], arcs["nextstate"][detour] = EPSILON, added
    grown = ArrayFst.from_arcs(
        graph.start,
        np.append(graph.finals, np.full(len(added), np.inf)),
        np.append(source, added),
        np.append(arcs, beyond),
    )
    out_of = np.zeros(grown.num_states, np.int64)
    out_of[source] = np.where(is_mixed[source], 0, transition_states)
    out_of[added] = transition_states[detour]
    return grown, out_of


def _has_several(states: np.ndarray, kinds: np.ndarray, num_states: int) -> np.ndarray:
    """Tell of which states several kinds are listed; bool (num_states,)."""
    width = kinds.max(initial=0) + 1
    pairs = np.unique(states * width + kinds)
    return np.bincount(pairs // width, minlength=num_states) > 1


def add_transition_probs(
    graph: ArrayFst,
    transition_model: TransitionModel,
    transition_scale: float,
    self_loop_scale: float,
) -> ArrayFst:
    """Add the costs of transitions to a graph that was made without them (AddTransitionProbs).

    Raises NgtrainError if the graph has labels that are no transition-ids of the model.
    """
    labels = _transition_ids(graph, transition_model)
    arcs = graph.arcs.copy()
    arcs["weight"] -= transition_model.scaled_log_probs(transition_scale, self_loop_scale)[labels]
    return replace(graph, arcs=arcs)


def _transition_ids(graph: ArrayFst, transition_model: TransitionModel) -> np.ndarray:
    """Return the input labels, which the model must know."""
    labels = graph.arcs["ilabel"]
    if len(labels) and not 0 <= labels.min() <= labels.max() <= transition_model.num_transition_ids:
        raise NgtrainError("the graph has labels that are not transition-ids of the model")
    return labels


def add_word_insertion_penalty(graph: ArrayFst, penalty: float) -> ArrayFst:
    """Make every word cost `penalty` more."""
    arcs = graph.arcs.copy()
    arcs["weight"][arcs["olabel"] != EPSILON] += np.float32(penalty)
    return replace(graph, arcs=arcs)


def push_weights(graph: ArrayFst, delta: float = 1 / 1024) -> ArrayFst:
    """Push weights so that all states sum to the same: PushSpecial of fstext/push-special.cc.

    With p_ij the probability of going from state i to j, and final probabilities leading back to
    the start, the dominant eigenvector v of the matrix P is found by the power method (on
    P + 0.1 I, so that it settles where eigenvalues of P have the same magnitude), and p_ij becomes
    p_ij v_j / v_i.  Paths keep their weights.  `delta` is the largest difference of the logarithms
    of two states' sums at the end.
    """
    if graph.start < 0:
        return graph
    source, destination = graph.source, graph.arcs["nextstate"]
    p = np.exp(-graph.arcs["weight"].astype(np.float64))
    p_final = np.exp(-graph.finals.astype(np.float64))
    v = np.ones(graph.num_states)
    for _ in range(2000):
        p_v = np.bincount(source, p * v[destination], minlength=graph.num_states)
        p_v += p_final * v[graph.start]
        sums = p_v / v
        if np.log(sums.max() / sums.min()) <= delta:
            break
        v = p_v + 0.1 * v
        v /= np.linalg.norm(v)
    else:
        log.warning("Pushing of weights has not converged; the graph is valid but not uniform")
    potential = -np.log(v)
    arcs = graph.arcs.copy()
    arcs["weight"] += (potential[destination] - potential[source]).astype(np.float32)
    finals = graph.finals + (potential[graph.start] - potential).astype(np.float32)
    return ArrayFst(graph.start, finals, graph.first_arc, arcs)


class TrainingGraphCompiler:
    """A compiler of transcripts to the graphs of all transition-id sequences that they allow.

    lexicon: L.fst, phones to words, without disambiguation symbols or (with `disambig_phones`) with
    them.  For the scales and `reorder` see `HmmExpansion`.
    """

    def __init__(
        self,
        tree: ContextDependency,
        transition_model: TransitionModel,
        lexicon: ArrayFst,
        disambig_phones: Sequence[int] = (),
        transition_scale: float = 0.0,
        self_loop_scale: float = 0.0,
        reorder: bool = True,
    ):
        import kaldifst

        common = set(disambig_phones) & set(transition_model.phones)
        if common:
            raise NgtrainError(f"disambiguation symbol {min(common)} is also a phone")
        self.transition_model = transition_model
        costs = transition_scale, self_loop_scale, reorder
        self.hmms = HmmExpansion(tree, transition_model, sorted(disambig_phones), *costs)
        self.lexicon = lexicon.to_kaldifst()
        kaldifst.arcsort(self.lexicon, "olabel")

    def compile(self, words: Sequence[int]) -> ArrayFst:
        """Compile the graph of word-ids; its `start` is -1 if the lexicon cannot say them."""
        import kaldifst

        transcript = kaldifst.make_linear_acceptor(words)
        phones_to_words = kaldifst.compose(self.lexicon, transcript)
        if phones_to_words.start < 0:
            return ArrayFst.from_kaldifst(phones_to_words)
        return self.hmms.expand(phones_to_words)


def lexicon_and_grammar(lexicon: ArrayFst, grammar: ArrayFst) -> ArrayFst:
    """Make L o G, from phones (with disambiguation symbols) to words; minimal and pushed.

    Raises NgtrainError if the lexicon and the grammar have no sentence in common.
    """
    import kaldifst

    lexicon, grammar = lexicon.to_kaldifst(), grammar.to_kaldifst()
    kaldifst.arcsort(lexicon, "olabel")
    kaldifst.arcsort(grammar, "ilabel")
    lg = kaldifst.compose(lexicon, grammar)
    if lg.start < 0:
        raise NgtrainError("the lexicon has none of the sentences of the grammar")
    kaldifst.determinize_star(lg, use_log=True)
    kaldifst.minimize_encoded(lg)
    return push_weights(ArrayFst.from_kaldifst(lg))


def decoding_graph(
    lexicon: ArrayFst,
    grammar: ArrayFst,
    tree: ContextDependency,
    transition_model: TransitionModel,
    disambig_phones: Sequence[int],
    transition_scale: float = 1.0,
    self_loop_scale: float = 0.1,
) -> ArrayFst:
    """Make HCLG as utils/mkgraph.sh does, of L_disambig.fst, G.fst and phones/disambig.int.

    Raises NgtrainError if the graph would be empty, or the parts do not match.
    """
    lg = lexicon_and_grammar(lexicon, grammar).to_kaldifst()
    scales = transition_scale, self_loop_scale
    graph = HmmExpansion(tree, transition_model, disambig_phones, *scales).expand(lg)
    if graph.start < 0:
        raise NgtrainError("the decoding graph is empty")
    return graph
