"""The user's guide: it builds without warnings, and what it says of the programs is so."""

import importlib.util
import io
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from nnet.components import Component
from nnet.egs.record import EXAMPLE
from nnet.io.tables import sequential_table

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = sorted(DOCS.glob("*.md"))
PROGRAMS = [
    file
    for directory in ("bin", "steps", "utils")
    for file in sorted((ROOT / directory).iterdir())
    if file.is_file() and os.access(file, os.X_OK)
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, environment) -> Path:
    """The built pages."""
    for package in "sphinx", "myst_parser", "furo", "latex2mathml":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} (utils/setup_env.sh docs)")
    output = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", DOCS, output]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return output


class Page(HTMLParser):
    """What a page links to, what it loads, and the names in it that one can link to."""

    def __init__(self, file: Path):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {""}
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.update(given[name] for name in ("id", "name") if given.get(name))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given or (tag == "link" and given["rel"] in ("stylesheet", "icon")):
            self.loaded.append(given.get("src") or given["href"])


def test_links_lead_somewhere(pages):
    """Also those that the theme and the generator make; no page needs the network to be seen."""
    read = {file: Page(file) for file in pages.rglob("*.html")}
    assert len(read) > len(PROGRAMS)
    wrong = []
    for file, page in read.items():
        for link in page.links + page.loaded:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                wrong += [(file.name, link)] if link in page.loaded else []
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            anchors = read[target].anchors if target in read else {""}
            if not target.is_file() or unquote(url.fragment) not in anchors:
                wrong.append((file.name, link))
    assert wrong == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda file: file.name)
def test_every_program_has_its_page(pages, program):
    """With the options that it declares."""
    name = program.name.removesuffix(".py")
    assert f'href="{name}.html"' in (pages / "programs" / "index.html").read_text()
    text = re.sub(r"<[^>]+>", "", (pages / "programs" / f"{name}.html").read_text())
    if not program.is_symlink():
        declared = re.findall(r'^@option\(\s*"(--[\w-]+)"', program.read_text(), re.MULTILINE)
        assert set(declared) <= options_in(text)


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def test_options_that_the_guide_names_exist(pages):
    known = {"--help", "--config", "--print-args", "--verbose", "--num-threads"}
    known |= {"--logdir"}  # of TensorBoard
    for file in (DOCS / "programs").glob("*.md"):
        known |= options_in(file.read_text())
    for pattern in "egs/*/run.sh", "egs/*/local/*.sh", "benchmarks/**/*.py", "benchmarks/**/*.sh":
        for script in ROOT.glob(pattern):
            known |= options_in(script.read_text())
    named = {option: file.name for file in GUIDE for option in options_in(file.read_text())}
    assert set(named) > {"--alpha", "--num-jobs-final"}
    assert {o: file for o, file in named.items() if o not in known} == {}


def test_files_that_the_guide_names_exist():
    """Python files by their path; programs of the network by their name."""
    for file in GUIDE:
        text = file.read_text()
        named = re.findall(r"\b(?:steps|utils|nnet|egs|benchmarks)/[\w./-]+\.(?:py|md)\b", text)
        if file.name != "from-kaldi.md":  # which says what is missing
            named += [
                f"bin/{name}" for name in re.findall(r"(?<![\w/-])nnet-[a-z][a-z-]*[a-z]", text)
            ]
        assert [name for name in named if not (ROOT / name).exists()] == [], file.name


def test_tables_of_what_kaldi_has_are_up_to_date():
    """docs/coverage.py writes them; run it where a program or a component is new."""
    coverage = runpy.run_path(str(DOCS / "coverage.py"))
    page = (DOCS / "from-kaldi.md").read_text()
    assert coverage["with_tables"](page) == page
    assert "`LogSoftmaxComponent`" in page and "[nnet-train-simple]" in page


def test_links_of_the_readmes_lead_somewhere():
    for readme in [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("egs/*/README.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", readme.read_text()):
            if not urlsplit(link).scheme:
                assert (readme.parent / urlsplit(link).path).exists(), f"{readme}: {link}"


def test_reader_of_examples_on_the_page(golden):
    """The Python on the page about formats reads what Kaldi wrote."""
    page = (DOCS / "formats.md").read_text()
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    data = (golden / "egs_8frames.ark").read_bytes()
    read = list(names["read_examples"](io.BytesIO(data)))
    expected = list(sequential_table(f"ark:{golden}/egs_8frames.ark", EXAMPLE))
    assert len(read) == len(expected) > 0
    for (key, pdfs, frames, left_context), (known_key, example) in zip(read, expected, strict=True):
        assert (key, left_context) == (known_key, example.left_context)
        assert [[(pdf, 1.0)] for pdf in pdfs.tolist()] == example.labels
        np.testing.assert_allclose(frames, example.input_frames.decompress(), atol=1e-5)


def commands_in(text: str) -> dict[str, set[tuple[str, str]]]:
    """The options of each command NAME.py in shell text with their values, those without "$"."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name, rest in re.findall(r"^ *(\w+\.py)(.*)$", text.replace("\\\n", ""), re.MULTILINE):
        given = re.findall(r"(--[\w-]+)[ =]+(\S+)", rest)
        found.setdefault(name, set()).update(pair for pair in given if "$" not in pair[1])
    return found


def test_commands_of_the_tutorial_are_those_of_its_recipe():
    """So that what the recipe gets, such as its word error rate, a reader gets."""
    recipe = commands_in((ROOT / "egs/yesno/run.sh").read_text())
    guide = commands_in((DOCS / "own-corpus.md").read_text().partition("## What you run")[2])
    for name in "prepare_lang.py", "train_flat.py", "train_multisplice.py", "decode.py":
        assert guide[name] and guide[name] == recipe[name], name


def test_fields_of_components_are_on_the_page():
    page, kinds = (DOCS / "formats.md").read_text(), [Component]
    for kind in kinds:
        kinds += kind.__subclasses__()
    tokens = {field.token for kind in kinds for field in kind.fields}
    assert len(tokens) > 20
    assert {token for token in tokens if token not in page} == set()
