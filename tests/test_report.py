"""Reports on trainings: what is on the page is what the logs say, for Kaldi's trainings too."""

from __future__ import annotations

import csv
import os
import re
import shutil
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nnet.errors import NgtrainError
from nnet.report.history import IterationLog, JobLog, Score, Span, Times
from nnet.report.page import write_report
from nnet.report.tensorboard import scalars, write_scalars
from nnet.report.training_logs import objective, read_training


@pytest.fixture(scope="module")
def whole(reference):
    """For tests of what is only said of a training that has its final model."""
    return reference("kaldi/exp/nnet_ms/final.mdl").parent


@pytest.fixture
def copy(kaldi_training, tmp_path):
    """A copy of it, without its models but for an empty final.mdl, to be changed."""
    dir = tmp_path / "exp"
    for name in "log", "info":
        shutil.copytree(kaldi_training / name, dir / name, copy_function=shutil.copyfile)
    (dir / "final.mdl").touch()
    return dir


class Page(HTMLParser):
    """What is on a page: its text; rows of the tables, by the heading above; ids and references."""

    def __init__(self, source: str):
        super().__init__()
        self.source, self.text, self.tag, self.heading = source, "", None, None
        self.tables, self.ids, self.references = {}, [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        if tag == "wbr":  # only where a line may end
            return
        self.tag = tag
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "srcset", "data"):
                self.references.append(value)
            self.references += re.findall(r"url\((.*?)\)", value or "")
        match tag:
            case "h2" | "summary":
                self.heading = ""
            case "table":
                self.rows = self.tables[self.heading] = []
            case "tr":
                self.rows.append([])
            case "td" | "th":
                self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.tag = None

    def handle_data(self, data):
        if self.tag in ("h2", "summary"):
            self.heading += data
        if self.tag in ("td", "th"):
            self.rows[-1][-1] += data
        if self.tag != "style":
            self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """report(dir, ...) is the page about trainings."""

    def write(*dirs) -> Page:
        path = tmp_path_factory.mktemp("page") / "page.html"
        write_report(dirs, str(path))
        return Page(path.read_text())

    return write


@pytest.fixture(scope="module")
def page(report, kaldi_training):
    return report(kaldi_training)


def edit(file: Path, pattern: str, replacement: str) -> None:
    """Change what must be there."""
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert count
    file.write_text(text)


def said(file: Path, pattern: str) -> str:
    """The last that a log says of something."""
    return re.findall(pattern, file.read_text())[-1]


# The numbers of a training ------------------------------------------------------------------------


@pytest.mark.slow
def test_scores_are_those_of_the_logs(page, whole):
    rows = page.tables["Models"][1:]
    assert [row[0] for row in rows] == [*map(str, range(16)), "final"]
    for model, *_, valid, valid_accuracy, train, train_accuracy in rows:
        logs = [whole / "log" / f"compute_prob_{s}.{model}.log" for s in ("valid", "train")]
        pattern = r"average probability is (\S+) and accuracy is (\S+) with"
        assert [(valid, valid_accuracy), (train, train_accuracy)] == [
            said(log, pattern) for log in logs
        ]
    assert "-1.338" in page.text and "83.2% right; final model" in page.text


def test_jobs_are_those_of_the_logs(page, kaldi_training):
    rows = page.tables["Iterations"][1:]
    assert len(rows) == 16
    for row in rows:
        x, num_jobs, rate, minibatch, samples, log_probs, merged, *_ = row
        logs = sorted((kaldi_training / "log").glob(f"train.{x}.*.log"))
        assert int(num_jobs) == len(logs)
        assert rate == f"{float(said(logs[0], r'--learning-rate=([0-9.]+)')):g}"
        assert minibatch == said(logs[0], r"--minibatch-size=(\d+)")
        assert int(samples) == sum(int(said(log, r"Did backprop on (\d+)")) for log in logs)
        assert log_probs.split() == [said(log, r"log-prob-per-frame=(\S+)") for log in logs]
        all_jobs = " ".join(str(n + 1) for n in range(len(logs)))
        assert merged == ("–" if x in "024" else f"average of {all_jobs}")


def test_changes_are_those_of_the_logs(page, kaldi_training):
    header, *rows = page.tables["Changes: relative (absolute; of the log-probability)"]
    assert header == ["iteration", "layer 1", "layer 2", "layer 3", "output layer"]
    assert [int(row[0]) for row in rows] == [0, 1, 3, *range(5, 15)]  # 2 and 4 add layers
    for x, *cells in rows:
        log = kaldi_training / "log" / f"progress.{int(x) + 1}.log"
        relative, absolute, objectives = (
            said(log, rf" {name} \S+ \S+ are  \[ (.*?) \]").split()
            if name != "objf change"
            else said(log, r"objf change per component is  \[ (.*?) \]").split()
            for name in ("Relative parameter differences", "Parameter differences", "objf change")
        )
        expected = [
            f"{r} ({a}; {o})" for r, a, o in zip(relative, absolute, objectives, strict=True)
        ]
        assert [cell for cell in cells if cell != "–"] == expected
        assert cells[-1] == expected[-1]  # new layers come before the last


def test_epochs_samples_and_time_add_up(page, whole):
    training = read_training(whole)
    last = training.positions[-1]
    assert last.epochs == pytest.approx(8.0)  # as the training was asked for
    logs = (whole / "log").glob("train.*.log")
    assert last.samples == sum(int(said(log, r"Did backprop on (\d+)")) for log in logs)
    started = datetime(2026, 11, 20, 18, 23, 43)
    assert training.iterations[0].start == started
    assert 0.9 < last.seconds / (training.last_sign - started).total_seconds() <= 1.0
    assert page.tables["Models"][-1][1:4] == [str(last.samples), "8.00", "1:26"]


def test_word_errors_and_model(page, kaldi_training):
    row = page.tables["Word error rates"][1]
    assert row[:7] == ["8.30 %", "83", "1000", "19", "0", "64", "wer_17_1.0"]
    components = page.tables["Model 15"][1:]
    expected = re.findall(
        r"^component (\d+) : (\w+), (.*?) ?$",
        (kaldi_training / "log" / "progress.15.log").read_text(),
        flags=re.MULTILINE,
    )
    assert [tuple(row) for row in components] == expected and len(expected) == 15


def test_results_of_decoding(copy):
    for name, file, errors in [
        ("decode_a", "best_wer", 80),
        ("decode_a", "tuned_wer", 90),
        ("decode_a", "wer_7_0.0", 95),
        ("decode_b", "wer_9_0.5", 70),
        ("decode_b", "wer_10_0.5", 60),
        ("decode_c", "scoring_kaldi/best_wer", 50),
    ]:
        path = copy / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        line = f"%WER {errors / 10:.2f} [ {errors} / 1000, 1 ins, 2 del, {errors - 3} sub ]"
        path.write_text(f"compute-wer ...\n{line} exp/x/wer_8_0.0\n%SER 1.0 [ 1 / 2 ]\n")
    found = [(line.file, line.errors) for line in read_training(copy).word_errors]
    assert found == [
        ("decode_a/tuned_wer", 90),
        ("decode_a/best_wer", 80),
        ("decode_b/wer_10_0.5", 60),
        ("decode_c/scoring_kaldi/best_wer", 50),
    ]


def test_time_of_an_iteration():
    def second(n: int) -> datetime:
        return datetime(2026, 1, 1, 12, 0, n)

    spans = [Span(second(0), second(10)), Span(second(4), second(20))]
    jobs = [JobLog(n, span, "code 0", *[None] * 5) for n, span in enumerate(spans, start=1)]
    iteration = IterationLog(0, jobs, True, [1, 2], Span(second(21), second(23)), None)
    assert iteration.times == Times(training=13.0, waiting=7.0, averaging=3.0)


# What did not go as it should ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_that_is_running(copy, report):
    """Iteration 7 of 16: job 1 has ended, job 2 is writing a line, job 3 has not started."""
    (copy / "final.mdl").unlink()
    for file in (copy / "log").glob("*.log"):
        model = re.search(r"\.(\d+|final)\.", file.name)
        if model and (model[1] == "final" or int(model[1]) > 7):
            file.unlink()
    for name in "average.7", "train.7.3", "compute_prob_valid.7":
        (copy / "log" / f"{name}.log").unlink()
    edit(copy / "log" / "train.7.2.log", r"(log-prob-per-frame=-0\.).*", r"\1")
    edit(copy / "log" / "compute_prob_train.7.log", r"(is -0\.\d\d).*", r"\1")
    training = read_training(copy)
    assert not training.finished and training.num_models == 7
    assert [job.log_prob is None for job in training.iterations[-1].jobs] == [False, True]
    assert training.iterations[-1].times is None
    assert max(training.scores["valid"]) == max(training.scores["train"]) == 6
    assert objective(copy, "train", 7) is None
    page = report(copy)
    assert "Not finished: in iteration 7, job 2 not ended" in page.text
    assert "final model" not in page.text and "model 6" in page.text
    assert page.tables["Iterations"][-1][7:10] == ["–", "–", "–"]


def test_logs_of_an_earlier_run_do_not_count(copy):
    for file in (copy / "log").glob("train.9.*.log"):
        edit(file, r"at Fri Nov 20", "at Thu Nov 19")
    assert len(read_training(copy).iterations) == 9


@pytest.mark.slow
def test_jobs_left_out_and_failed(copy, report):
    edit(copy / "log" / "average.6.log", r"exp/ms1/7\.2\.mdl ", "")
    edit(copy / "log" / "train.6.2.log", r"\(code 0\)", "(code 1; signal 9)")
    (copy / "left_out").write_text("6 2 train.6.2.log: it was killed\n")
    page = report(copy)
    assert "The average of iteration 6 is without job 2." in page.text
    assert "Job 2 of iteration 6 failed (code 1; signal 9)" in page.text
    assert "Job 2 of iteration 6 did not count: train.6.2.log: it was killed" in page.text
    assert page.tables["Iterations"][7][6] == "average of 1 3"
    assert "averages is of all jobs" not in page.text


@pytest.mark.slow
def test_numbers_that_are_none(copy, report):
    """A training that diverged still has a report."""
    for file in (copy / "log").glob("progress.*.log"):
        file.write_text(re.sub(r"are  \[ \S+", "are  [ nan", file.read_text()))
    for file in (copy / "log").glob("compute_prob_*.log"):
        file.write_text(re.sub(r"probability is \S+", "probability is -nan", file.read_text()))
    assert set(read_training(copy).final_scores) == {"valid", "train"}
    assert report(copy).tables["Models"][1][4] == "nan"
    edit(copy / "log" / "progress.7.log", r"are  \[ nan", "are  [ n;n")
    edit(copy / "log" / "compute_prob_valid.5.log", r"probability is -nan", "probability is -n")
    edit(copy / "log" / "progress.9.log", r"(component is  \[ \S+) \S+", r"\1")
    training = read_training(copy)
    assert training.iterations[6].change is training.iterations[8].change is None
    assert 5 not in training.scores["valid"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda dir: None, "there is no such directory"),
        (lambda dir: dir.mkdir(), "no iteration of a training has begun"),
    ],
)
def test_directories_without_a_training(run_program, tmp_path, make, reason):
    make(tmp_path / "exp")
    for command in (
        ["nnet-report", tmp_path / "exp", tmp_path / "x.html"],
        ["report.py", tmp_path / "exp"],
    ):
        result = run_program(*command, check=False)
        assert result.returncode == 1
        last = result.stderr.decode().splitlines()[-1]
        assert f"{tmp_path}/exp: {reason}" in last
    assert not list(tmp_path.rglob("*.html"))


def test_without_matplotlib(kaldi_training, tmp_path, monkeypatch, run_program, page):
    """The tables are all there, and the page says that pictures are not."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    said = run_program("nnet-report", kaldi_training, tmp_path / "page.html").stderr.decode()
    assert "WARNING (nnet-report" in said and "utils/setup_env.sh plots" in said
    bare = Page((tmp_path / "page.html").read_text())
    assert "Pictures are left out, because they need matplotlib" in bare.text
    assert "<svg" not in bare.source and "<figure" not in bare.source
    assert bare.tables == page.tables


# Errors word by word, CSV, TensorBoard ----------------------------------------------------------


def with_word_errors(dir: Path, folder: str = "decode_test") -> Path:
    """Add what scoring leaves of two utterances, with more errors in the second."""
    details = dir / folder / "wer_details"
    details.mkdir(parents=True)
    (details / "ops").write_text("correct a a 7\ninsertion *** b 1\nsubstitution a <b> 2\n")
    (details / "per_utt").write_text(
        "u1 ref  a  ***\nu1 hyp  a    b\nu1 op   C    I\nu1 #csid 1 0 1 0\n"
        "u2 ref    a    a\nu2 hyp  <b>  <b>\nu2 op     S    S\nu2 #csid 0 2 0 0\n"
        "u3 ref  a\nu3 hyp  a\nu3 op   C\nu3 #csid 1 0 0 0\n"
    )
    return details


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["decode_test", "decode_test/scoring_kaldi"])
def test_errors_are_shown_word_by_word(copy, report, folder):
    with_word_errors(copy, folder)
    page = report(copy)
    assert f"{folder}, wrong words: 3, in 2 of 3 utterances." in page.text
    rows = page.tables["Errors word by word"][1:]
    assert rows == [["2", "substitution", "a → <b>"], ["1", "insertion", "*** → b"]]
    shown = page.text.partition("Utterances with most errors: 2 of 2")[2]
    assert 0 < shown.index("u2 hyp  <b>  <b>") < shown.index("u1 hyp  a    b")
    assert "u3 ref" not in shown


def test_word_errors_that_no_scoring_made(copy):
    (with_word_errors(copy) / "ops").write_text("substitution a b\n")
    with pytest.raises(NgtrainError, match="wer_details: ops or per_utt is not as scoring makes"):
        read_training(copy)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_numbers_are_in_csv_files_beside_the_page(copy, tmp_path):
    with_word_errors(copy)
    (copy / "best_wer").write_text("%WER 8.30 [ 83 / 1000, 19 ins, 0 del, 64 sub ] x/wer_17_1.0\n")
    write_report([copy], str(tmp_path / "page.html"))
    first, *_, final = rows_of(tmp_path / "page.models.csv")
    assert (first["training"], first["model"], first["epochs"]) == ("exp", "0", "0.0")
    assert (final["model"], final["held-out log-prob"]) == ("final", "-1.33816")
    assert float(final["time"]) == read_training(copy).positions[-1].seconds
    assert [row["iteration"] for row in rows_of(tmp_path / "page.iterations.csv")] == [
        *map(str, range(16))
    ]
    [result] = rows_of(tmp_path / "page.word_errors.csv")
    assert (result["WER"], result["sub"], result["setting"]) == ("8.3", "64", "wer_17_1.0")
    assert [row["times"] for row in rows_of(tmp_path / "page.confusions.csv")] == ["2", "1"]
    assert rows_of(tmp_path / "page.utterances.csv")[1] == {
        **{"training": "exp", "folder": "decode_test", "utterance": "u2"},
        **{"correct": "0", "substitutions": "2", "insertions": "0", "deletions": "0"},
    }
    layers = {row["layer"] for row in rows_of(tmp_path / "page.changes.csv")}
    assert layers == {"layer 1", "layer 2", "layer 3", "output layer"}


def test_scalars_for_tensorboard(kaldi_training):
    found = {(tag, x): value for tag, x, value in scalars(read_training(kaldi_training))}
    log = kaldi_training / "log" / "compute_prob_valid.5.log"
    assert found["models/held-out_log-prob", 5] == float(said(log, r"probability is (\S+) and"))
    assert found["iterations/jobs", 15] == 4
    assert {"changes/layer_1", "changes/output_layer"} <= {tag for tag, _ in found}


def test_files_of_tensorboard(copy, tmp_path):
    """A second run replaces what it made, and nothing else."""
    pytest.importorskip("tensorboardX", reason="utils/setup_env.sh tensorboard")
    (tmp_path / "runs" / "exp").mkdir(parents=True)
    (tmp_path / "runs" / "exp" / "events.out.tfevents.1.other").touch()
    for _ in range(2):
        write_scalars([copy], tmp_path / "runs")
        [ours] = (tmp_path / "runs" / "exp").glob("*.ngtrain")
        assert b"models/held-out_log-prob" in ours.read_bytes()
    assert (tmp_path / "runs" / "exp" / "events.out.tfevents.1.other").exists()


# The page -----------------------------------------------------------------------------------------


def test_the_page_needs_nothing_beside_it(page):
    assert page.references and all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert not re.search(r"https?:|//|<script|<link|@import|<\?xml", page.source)


def test_colors_are_those_of_the_page(page):
    """Of the pictures, too: all that is drawn follows the dark or light style."""
    pytest.importorskip("matplotlib")
    drawings = re.findall(r"<svg.*?</svg>", page.source, flags=re.DOTALL)
    assert len(drawings) == 3 * 3 + 2 + 2
    assert not any(re.search(r"#[0-9a-fA-F]{3,8}\b(?=[;\" ])", svg) for svg in drawings)
    style = re.search(r"<style>.*?</style>", page.source, flags=re.DOTALL)[0]
    dark = style.split("prefers-color-scheme: dark")[1]
    for name in set(re.findall(r"var\((--\w+)\)", page.source)) - {"--color"}:
        assert f"{name}:" in style.split("@media")[0] and f"{name}:" in dark


@pytest.mark.slow
def test_names_are_escaped(copy, report):
    odd = copy.rename(copy.with_name("a<b>&c"))
    page = report(odd)
    assert str(odd) in page.text and "<b>&c" not in page.source


@pytest.mark.slow
def test_the_same_input_gives_the_same_page(page, report, kaldi_training):
    assert report(kaldi_training).source == page.source


@pytest.mark.slow
def test_several_are_compared(copy, run_program, tmp_path):
    for dir, rate in ("one", 0.01), ("two", 0.02):
        shutil.copytree(copy, copy.parent / dir)
        (copy.parent / dir / "train_options").write_text(f"alpha 4.0\nlrate {rate}\ndata \n")
    edit(copy.parent / "two/log/compute_prob_valid.final.log", r"is -1\.33816", "is -1.25")
    (copy.parent / "two" / "final.mdl").unlink()
    run_program("nnet-report", copy.parent / "one", copy.parent / "two", tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert "Comparison of 2 trainings" in page.text
    rows = page.tables["Results"][1:]
    assert [row[0] for row in rows] == ["one", "two (not finished)"]
    score = read_training(copy).scores["valid"][15]
    assert isinstance(score, Score)
    assert [row[2] for row in rows] == ["-1.33816", f"{score.log_prob:g}"]
    assert page.tables["Options that differ"][1:] == [["lrate", "0.01", "0.02"]]


@pytest.mark.slow
def test_the_driver_writes_into_the_directory(copy, run_program, page, whole):
    said = run_program("report.py", copy).stderr.decode()
    assert f"wrote {copy}/report.html" in said
    assert Page((copy / "report.html").read_text()).tables["Models"] == page.tables["Models"]


# Interruptions and clocks -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_that_was_interrupted_and_counts(copy, report):
    """It was told to end when its model was whole: the average has it, and nothing failed."""
    for x, merged in (5, True), (2, False):
        edit(copy / f"log/train.{x}.2.log", r"^# Ended \(code 0\)", "# Ended (code 130)")
        training = read_training(copy)
        assert (2 in training.iterations[x].merged) == merged
        assert [job.number for job in training.iterations[x].failed] == ([] if merged else [2])
    text = report(copy).text
    assert "Job 2 of iteration 2 failed (code 130)" in text
    assert "iteration 5 failed" not in text


def set_back(file: Path, words: str) -> None:
    """Make times in a log an hour earlier."""
    pattern = rf"^(# (?:{words}) .*?at \w+ \w+ +\d+ )(\d+)"
    text, count = re.subn(
        pattern,
        lambda match: f"{match[1]}{int(match[2]) - 1:02}",
        file.read_text(),
        flags=re.MULTILINE,
    )
    assert count
    file.write_text(text)


def test_a_clock_that_is_set_back(copy, kaldi_training):
    """As at the end of summer: no iteration is lost, and none takes an hour or less than none."""
    (copy / "train_options").write_text("num_epochs 8\n")
    expected = read_training(copy)
    for log in (copy / "log").iterdir():
        x = int(log.name.split(".")[1]) if log.name.startswith(("train.", "average.")) else 0
        if x == 7 and log.name.startswith("train."):
            set_back(log, "Ended")
        elif x >= 7:
            set_back(log, "Started|Ended")
    training = read_training(copy)
    assert len(training.iterations) == len(expected.iterations) == 16
    for iteration, before in zip(training.iterations, expected.iterations, strict=True):
        assert iteration.times == pytest.approx(before.times, abs=2.0)
        assert min(iteration.times) >= 0.0
    seconds = expected.positions[-1].seconds
    assert training.positions[-1].seconds == pytest.approx(seconds, abs=3.0)
    (copy / "train_options").unlink()  # of Kaldi's scripts, which leave logs of earlier runs
    assert len(read_training(copy).iterations) < 16
