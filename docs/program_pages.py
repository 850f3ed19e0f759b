"""Sphinx extension: a page for every program, made of what the program says of itself.

The pages are written into docs/programs when a build begins.  They are no part of the repository,
so that they cannot be out of date.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nnet.cli import Program, help_row

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "programs"

SUBJECTS = {
    "Training": """
        steps/train_multisplice.py steps/get_lda.py steps/get_egs2.py steps/relabel_egs2.py
        steps/report.py steps/simulate_training.py nnet-report nnet-train-simple nnet-train-parallel
        nnet-train-ensemble nnet-average nnet-am-average nnet-am-block-momentum
        nnet-combine-fast nnet-combine
        nnet-adjust-priors nnet-train-transitions
    """,
    "Sequence training": """
        steps/make_denlats.py steps/get_egs_discriminative2.py steps/train_discriminative2.py
        nnet-get-egs-discriminative nnet-copy-egs-discriminative nnet-shuffle-egs-discriminative
        nnet-combine-egs-discriminative nnet-compare-hash-discriminative
        nnet-train-discriminative-simple nnet-train-discriminative-parallel
    """,
    "Diagnostics of a training": """
        nnet-compute-prob nnet-show-progress nnet-am-info am-info gmm-info raw-nnet-info
        nnet-file-info
    """,
    "Making and changing networks": """
        nnet-init nnet-am-init nnet-insert nnet-replace-last-layers nnet-am-reinitialize
        nnet-am-switch-preconditioning nnet-am-copy raw-nnet-copy nnet-to-raw-nnet nnet-am-fix
        nnet-normalize-stddev nnet-am-mixup nnet-am-widen nnet-modify-learning-rates
        nnet-get-feature-transform
        nnet-get-feature-transform-multi raw-nnet-init raw-nnet-concat nnet1-to-raw-nnet
    """,
    "Examples": """
        nnet-get-egs nnet-get-weighted-egs nnet-copy-egs nnet-shuffle-egs nnet-subset-egs
        nnet-relabel-egs nnet-egs-info utils/validate_egs_dir.py
    """,
    "Computing with a network": """
        nnet-compute nnet-am-compute nnet-compute-from-egs nnet-to-onnx nnet-from-onnx
    """,
    "Alignment": """
        steps/flat_start.py steps/train_flat.py steps/align.py steps/copy_alignments.py
        utils/validate_ali_dir.py
        init-mono compile-train-graphs align-equal-compiled nnet-align-compiled ali-to-pdf
        ali-to-phones ali-to-post post-to-tacc weight-silence-post weight-post
        post-to-weights scale-post show-alignments
        show-transitions copy-transition-model
    """,
    "Decision trees": """
        steps/build_tree.py acc-tree-stats sum-tree-stats cluster-phones compile-questions
        build-tree convert-ali tree-info copy-tree draw-tree
    """,
    "Decoding and scoring": """
        steps/decode.py steps/recognize.py steps/score.py steps/score_nist.py steps/get_ctm_conf.py
        utils/convert_ctm.py utils/mkgraph.py
        nnet-decode-faster compute-wer compute-wer-bootci align-text
    """,
    "Lattices": """
        nnet-latgen-faster nnet-latgen-faster-parallel
        gmm-latgen-faster gmm-latgen-faster-parallel
        lattice-copy lattice-scale lattice-add-penalty lattice-best-path lattice-1best
        lattice-to-nbest lattice-prune lattice-push lattice-minimize lattice-depth
        lattice-depth-per-frame lattice-to-post lattice-to-phone-lattice
        lattice-determinize-pruned lattice-determinize-phone-pruned lattice-oracle
        lattice-mbr-decode lattice-to-ctm-conf lattice-align-words lattice-align-words-lexicon
        lattice-lmrescore lattice-lmrescore-const-arpa lattice-lmrescore-pruned
        arpa-to-const-arpa lattice-compose lattice-determinize lattice-combine lattice-interp
        lattice-union lattice-copy-backoff lattice-project lattice-add-trans-probs
        nbest-to-ctm nbest-to-prons nbest-to-linear linear-to-nbest
    """,
    "Decoding graphs by Kaldi's utils/mkgraph.sh": """
        fsttablecompose fstdeterminizestar fstminimizeencoded fstpushspecial fstcomposecontext
        make-h-transducer fstrmsymbols fstrmepslocal add-self-loops fstisstochastic fstarcsort
        fstconvert fstcompile fstproject
    """,
    "Other operations on transducers": """
        fstprint fstinfo fstcompose fstrmepsilon fstinvert fsttopsort fstrandgen fstaddselfloops
    """,
    "Dictionary and language model": """
        utils/make_dict.py utils/prepare_lang.py utils/make_loop_grammar.py
        utils/make_ngram_grammar.py utils/train_ngram_lm.py arpa2fst
    """,
    "Recordings and features": """
        steps/make_mfcc.py steps/make_fbank.py steps/compute_cmvn_stats.py compute-mfcc-feats
        compute-fbank-feats compute-plp-feats compute-cmvn-stats apply-cmvn add-deltas splice-feats
        transform-feats paste-feats subsample-feats copy-feats feat-to-dim feat-to-len
        acc-lda sum-lda-accs est-lda wav-copy wav-augment wav-to-duration
        extract-segments
    """,
    "Online decoding": """
        steps/prepare_online_decoding.py steps/decode_online.py online2-wav-nnet2-latgen-faster
        apply-cmvn-online
    """,
    "Gaussian mixtures and i-vectors": """
        steps/train_diag_ubm.py steps/train_ivector_extractor.py steps/extract_ivectors_online.py
        ivector-extract-online2 ivector-extract ivector-extractor-init
        ivector-extractor-acc-stats ivector-extractor-sum-accs ivector-extractor-est
        ivector-extractor-copy gmm-global-init-from-feats gmm-gselect gmm-global-acc-stats
        gmm-global-sum-accs gmm-global-est gmm-global-get-post gmm-global-to-fgmm
        gmm-global-copy ivector-randomize
    """,
    "Matrices and vectors": """
        copy-matrix matrix-sum matrix-sum-rows copy-vector vector-sum copy-int-vector
    """,
    "Data directories": """
        utils/make_data_dir.py utils/validate_data_dir.py utils/fix_data_dir.py
        utils/copy_data_dir.py utils/combine_data.py utils/subset_data_dir.py utils/split_data.py
        utils/augment_data_dir.py utils/perturb_data_dir_speed.py utils/remove_dup_utts.py
        utils/filter_scp.py utils/subset_scp.py utils/split_scp.py utils/sym2int.py
        utils/int2sym.py utils/spk2utt_to_utt2spk.py utils/utt2spk_to_spk2utt.py
    """,
    "Jobs and the environment": """
        utils/run.py utils/queue.py utils/slurm.py utils/ssh.py utils/setup_env.sh cuda-compiled
    """,
}
"""Programs by subject, in the order of the index.  What is not named here comes last."""

STANDARD = """
## Standard options

Every program has `--config=<file>` (options from a file, one `--name=value` on each line, may be
repeated; the command line goes over it), `--help`, `--print-args` (the command line is echoed on
standard error) and `--verbose` (the higher, the more is logged, and where an error was raised).
Those of `bin/` also have `--num-threads`, for the matrix library, and `--no-pipes`, which refuses
names of files that are commands.

Programs of `bin/` take options as `--name=value`; those of `steps/` and `utils/` also as
`--name value`. Options come before arguments. A bare `--name` is true. Names may be written with
underscores and in capitals.
"""


def programs() -> Iterator[Path]:
    """Every program, by directory and name."""
    for directory in "steps", "utils", "bin":
        for file in sorted((ROOT / directory).iterdir()):
            if file.is_file() and os.access(file, os.X_OK):
                yield file


def name_of(file: Path) -> str:
    """What one calls it by; a driver with its directory."""
    return file.name if file.parent.name == "bin" else f"{file.parent.name}/{file.name}"


def page_of(name: str) -> str:
    """Where its page is, in docs/programs, without the suffix."""
    return Path(name).stem if name.endswith(".py") else Path(name).name


PAGES_OF_PROGRAMS = {name_of(file): page_of(name_of(file)) for file in programs()}

# A page ------------------------------------------------------------------------------------------


def page(file: Path) -> tuple[str, str]:
    """The page of a program, and the first sentence of what it says."""
    name = name_of(file)
    title = f"# {name}\n\n"
    if file.is_symlink():
        target = name_of(file.resolve())
        return f"{title}Another name of {mark(target)}.\n", f"See {target}."
    if file.suffix == ".sh":
        said = leading_comment(file)
        return f"{title}{literal(said)}", first_sentence(said)
    module = runpy.run_path(str(file))
    match module.get("main"):
        case Program() as program:
            return title + page_body(name, program), first_sentence(program.help)
    command = [sys.executable, file, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return title + prose(said), first_sentence(said)


def page_body(name: str, program: Program) -> str:
    """What a program does, its usage, and its options."""
    own = [o for o in program.options.values() if o not in program.standard_options]
    parts = [prose(program.help), literal(program.usage)]
    if own:
        parts += ["## Options\n", f"```{{program}} {name}\n```\n", *map(option, own)]
    parts.append("The [standard options](index.md#standard-options) are not repeated here.\n")
    return "\n".join(parts)


def option(option_) -> str:
    syntax, text = help_row(option_)
    text, default = re.fullmatch(r"(.*) \(default = (.*)\)", text, flags=re.DOTALL).groups()
    default = "" if default == "none" else f" Default: `{default}`."
    return f"```{{option}} {syntax}\n{inline(sentence(text))}{default}\n```\n"


def sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def leading_comment(script: Path) -> str:
    lines = script.read_text().splitlines()[1:]
    end = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:end])


def first_sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<!e\.g)(?<!i\.e)\. |:$", paragraph)[0].rstrip(".") + "."


def literal(text: str) -> str:
    return f"```text\n{text}\n```\n"


def prose(text: str) -> str:
    """Plain text as Markdown: paragraphs and lists as they are, indented and usage lines listed."""
    blocks: list[tuple[bool, list[str]]] = []
    in_list = False
    for line in text.splitlines():
        in_list = line.startswith(" - ") or (in_list and line.startswith("   "))
        listing = not in_list and line.startswith(("  ", "Usage:", " e.g.:"))
        if not blocks or blocks[-1][0] != listing:
            blocks.append((listing, []))
        blocks[-1][1].append(line if listing else inline(line))
    return (
        "\n\n".join(
            literal("\n".join(lines)) if listing else "\n".join(lines) for listing, lines in blocks
        ).replace(":\n -", ":\n\n -")
        + "\n"
    )


def inline(text: str) -> str:
    """A line of plain text as Markdown: programs are links; options, arguments and files code."""
    names = "|".join(sorted(map(re.escape, PAGES_OF_PROGRAMS), reverse=True))
    special = (
        rf"`[^`]*`|(?<![\w/-])(?:bin/)?(?:{names})(?![\w-])"
        r"|--[a-z][\w-]*(?:=\S*[\w>])?|<[^<>\s]+>|[\w./<>-]*\.(?:py|sh|scp|ark|mdl|txt)\b"
    )
    pieces = re.split(f"({special})", text)
    return "".join(escape(piece) if n % 2 == 0 else mark(piece) for n, piece in enumerate(pieces))


def mark(word: str) -> str:
    """A link to the page of a program, or code."""
    if page := PAGES_OF_PROGRAMS.get(word.removeprefix("bin/")):
        return f"[{word}]({page}.md)"
    return word if word.startswith("`") else f"`{word}`"


def escape(text: str) -> str:
    return re.sub(r"([\\*_$<\[\]{}|#])", r"\\\1", text)


# All pages ---------------------------------------------------------------------------------------


def index(summaries: dict[str, str]) -> str:
    """The list of programs, by subject."""
    left = dict(summaries)
    parts = ["# Programs\n"]
    for subject, names in [*SUBJECTS.items(), ("Others", " ".join(summaries))]:
        rows = [
            f"{mark(name)}\n: {inline(left.pop(name))}\n" for name in names.split() if name in left
        ]
        if rows:
            parts += [f"## {subject}\n", *rows]
    parts.append(STANDARD)
    names = "\n".join(sorted(PAGES_OF_PROGRAMS.values()))
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```\n")
    return "\n".join(parts)


def write_pages(app) -> None:
    """Write the pages of all programs and their index, and remove those of programs gone."""
    made = {name_of(file): page(file) for file in programs()}
    texts = {PAGES_OF_PROGRAMS[name]: text for name, (text, _) in made.items()}
    texts["index"] = index({name: summary for name, (_, summary) in made.items()})
    PAGES.mkdir(exist_ok=True)
    for old in PAGES.glob("*.md"):
        if old.stem not in texts:
            old.unlink()
    for name, text in texts.items():
        file = PAGES / f"{name}.md"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def setup(app) -> dict:
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
