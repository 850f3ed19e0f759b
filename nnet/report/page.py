"""The web page about a training, or about several to compare: one file, without anything beside it.

Its numbers come from nnet.report.training_logs, and are put into tables and pictures here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from nnet.cli.progress import clock
from nnet.io.streams import open_output
from nnet.report import numbers, plots
from nnet.report.error_files import WordErrorFiles
from nnet.report.history import Position, TrainingLog, number
from nnet.report.markup import captioned, details, escape, key, page, section, table
from nnet.report.numbers import SCORES, TIMES, names_of
from nnet.report.plots import Curve, bar_plot, line_plot
from nnet.report.training_logs import SUBSETS, read_training
from nnet.report.words import (
    NOTHING,
    OUTPUT,
    SUBSET_NAMES,
    best_word_errors,
    latest_score,
    layer_names,
    plural,
    thousands,
    time,
)

log = logging.getLogger("ngtrain")

MOST_CONFUSIONS, MOST_UTTERANCES = 15, 30
"""Rows and utterances that a page shows; the files have all."""


def write_report(dirs: Sequence[str | Path], wxfilename: str) -> None:
    """Write the page about the training in a directory, or the comparison of several.

    A page PLACE.html gets tables PLACE.NAME.csv beside it.

    Raises:
        NgtrainError: a directory has no training.
    """
    trainings = [read_training(dir) for dir in dirs]
    if plots.MISSING:
        log.warning("%s", plots.MISSING)
    text = training_page(trainings[0]) if len(trainings) == 1 else comparison_page(trainings)
    with open_output(wxfilename) as file:
        file.write(text.encode(errors="backslashreplace"))
    stem, suffix = os.path.splitext(wxfilename)
    if suffix == ".html":
        log.info("its numbers: %s", " ".join(numbers.write_csv(trainings, stem)))


def training_page(training: TrainingLog) -> str:
    """Make the page about one training."""
    return page(
        str(training.dir),
        [
            status(training),
            without_pictures(),
            facts(training),
            curves([training]),
            changes(training),
            time_spent(training),
            jobs_of_note(training),
            section("Word error rates", word_error_table([training])),
            section("Errors word by word", "".join(map(errors_of, training.details))),
            model_section(training),
            configuration(training),
            numbers_section(training),
        ],
    )


def comparison_page(trainings: list[TrainingLog]) -> str:
    """Make the page that compares trainings."""
    return page(
        f"Comparison of {len(trainings)} trainings",
        [
            without_pictures(),
            section("Results", summary_table(trainings)),
            curves(trainings),
            section("Word error rates", word_error_table(trainings)),
            section("Options that differ", differing_options(trainings)),
        ],
    )


# Parts of a page --------------------------------------------------------------------------------


def status(training: TrainingLog) -> str:
    """Say in a line whether the training has ended, and when it ran."""
    first, last = training.iterations[0].start, training.last_sign
    if training.finished:
        when = f", from {time(first)} to {time(last)}" if first and last else ""
        count = len(training.iterations)
        return f'<p><span class="good">Finished</span> after {count} iterations{when}.</p>'
    iteration = training.iterations[-1]
    running = [job.number for job in iteration.jobs if job.code is None]
    jobs = f", {plural('job', running)} not ended" if running else ""
    when = f"; last sign in the logs: {time(last)}" if last else ""
    where = f"in iteration {iteration.number}{jobs}{when}"
    return f'<p><span class="bad">Not finished</span>: {where}.</p>'


def without_pictures() -> str:
    """Say why there are no pictures, if so."""
    return plots.MISSING and f'<p class="bad">{escape(plots.MISSING.capitalize())}.</p>'


def facts(training: TrainingLog) -> str:
    """List the numbers that one looks for first."""
    end = training.positions[-1]
    wanted = number(training.options.get("num_epochs"))
    jobs = [len(iteration.jobs) for iteration in training.iterations]
    rows = []
    for subset in SUBSETS:
        found, of = latest_score(training, subset)
        if found:
            name = f"{SUBSET_NAMES[subset]} log-prob"
            rows.append((name, f"{found.log_prob:.3f}", f"{found.accuracy:.1%} right; {of}"))
    if best := best_word_errors(training):
        rows.append(("word error rate", f"{best.rate:.2f} %", best.file.replace("/", " / ")))
    if end.epochs is not None:
        of = f"of {wanted:g}" if wanted else "passes over the data"
        rows.append(("epochs", f"{end.epochs:.1f}", of))
    rows.append(("samples", thousands(end.samples), "frames"))
    rows.append(("time", clock(end.seconds), "of the iterations"))
    rows.append(("jobs", "–".join(map(str, sorted({jobs[0], jobs[-1]}))), "at a time"))
    if training.limited is not None:
        rows.append(("limited steps", f"{training.limited:.1%}", "of layers, too long without"))
    if training.model and (size := training.model.sizes.get("parameter-dim")):
        rows.append(("parameters", thousands(int(size)), f"of model {training.model.number}"))
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in rows
    )
    return f'<dl class="facts">{items}</dl>'


AXES: dict[str, tuple[str, Callable[[Position], float | None]]] = {
    "epochs": ("epochs", lambda position: position.epochs),
    "samples": ("samples (millions)", lambda position: position.samples / 1e6),
    "time": ("time (minutes)", lambda position: position.seconds / 60),
}


def curves(trainings: list[TrainingLog]) -> str:
    """Plot scores and learning rates against an axis that the reader chooses.

    Of one training, held-out and training data have a colour each; of several, each has one.
    """
    names = names_of(trainings)
    known = {
        axis: (label, of)
        for axis, (label, of) in AXES.items()
        if all(of(position) is not None for t in trainings for position in t.positions)
    }
    if plots.MISSING:
        return ""
    choices, panels = [], []
    for axis, (label, of) in known.items():
        checked = "" if choices else " checked"
        choices.append(
            f'<input type="radio" name="axis" id="by-{axis}"{checked}>'
            f'<label for="by-{axis}">{label.partition(" (")[0]}</label>'
        )
        figures = [
            score_figure("Log-probability per frame", trainings, names, "log_prob", label, of),
            score_figure("Accuracy", trainings, names, "accuracy", label, of),
            rate_figure(trainings, names, label, of),
        ]
        panels.append(f'<div class="plots by by-{axis}">{"".join(figures)}</div>')
    content = f"<span>Against</span> {''.join([*choices, *panels])}"
    return section("Training", f'<div class="chosen">{content}</div>')


def score_figure(
    title: str, trainings: list[TrainingLog], names: list[str], field: str, label: str, of
) -> str:
    """Plot a field of the scores of all models."""
    lines = []
    for n, training in enumerate(trainings, start=1):
        for m, subset in enumerate(SUBSETS, start=1):
            models = training.scores[subset]
            x = [of(training.positions[x]) for x in models]
            y = [getattr(found, field) for found in models.values()]
            dashed = subset == "train"
            if len(trainings) == 1:
                lines.append(Curve(SUBSET_NAMES[subset], x, y, color=m, dashed=dashed))
            else:
                lines.append(Curve("" if dashed else names[n - 1], x, y, color=n, dashed=dashed))
    if len(trainings) > 1:
        title = f"{title} (dashed: training data)"
    return figure(title, lines, line_plot(lines, label))


def rate_figure(trainings: list[TrainingLog], names: list[str], label: str, of) -> str:
    """Plot effective learning rates, those of jobs over their number; of one training both."""
    lines = []
    for n, training in enumerate(trainings, start=1):
        known = [i for i in training.iterations if i.learning_rate is not None]
        x = [of(training.positions[i.number]) for i in known]
        effective = [i.learning_rate / len(i.jobs) for i in known]
        lines.append(Curve(names[n - 1], x, effective, color=n))
    title = "Effective learning rate"
    if len(trainings) == 1:
        title, lines[0].label = "Learning rate", "effective"
        of_job = [i.learning_rate for i in known]
        lines.append(Curve("of a job", x, of_job, color=2, dashed=True))
    return figure(title, lines, line_plot(lines, label, log_scale=True))


def figure(title: str, curves: Sequence[Curve], svg: str) -> str:
    keys = [key(c.label, c.color, "dashed" if c.dashed else "") for c in curves if c.label]
    return captioned(title, keys, svg)


def changes(training: TrainingLog) -> str:
    """Plot the changes that iterations made, by layer."""
    rows = numbers.changes(training).rows
    if plots.MISSING or not rows:
        return ""
    layers = sorted({row[1] for row in rows}, key=lambda name: (name == OUTPUT, len(name), name))
    figures = []
    for title, column, log_scale in (
        ("Relative change of the parameters", 2, True),
        ("Change of the log-probability per frame", 4, False),
    ):
        lines = []
        for n, layer in enumerate(layers, start=1):
            own = [row for row in rows if row[1] == layer]
            x, y = [row[0] for row in own], [row[column] for row in own]
            lines.append(Curve(layer, x, y, color=n))
        figures.append(figure(title, lines, line_plot(lines, "iteration", log_scale)))
    note = (
        "By layer that is trained. Iterations that added a layer are left out, "
        "and so are layers whose parameters were all zero before."
    )
    return section(
        "What iterations changed",
        f'<p class="soft">{note}</p><div class="plots">{"".join(figures)}</div>',
    )


def time_spent(training: TrainingLog) -> str:
    """Break down the time of the iterations."""
    known = [(i, i.times) for i in training.iterations if i.times]
    if not known:
        return ""
    x = [i.number for i, _ in known]
    parts = [[getattr(times, name) for _, times in known] for name in TIMES]
    jobs = [len(i.jobs) for i, _ in known]
    totals = [sum(part) for part in parts]
    shares = ", ".join(
        f"{name} {total / (sum(totals) or 1):.0%}"
        for name, total in zip(TIMES, totals, strict=True)
    )
    steps = [i.steps_s for i, _ in known]
    of_steps = ""
    if None not in steps:
        of_steps = f" Gradient steps alone took {sum(steps):.1f} s of the {totals[0]:.0f} s."
    keys = [key(name, n, "filled") for n, name in enumerate(TIMES, start=1)]
    figures = [
        captioned("Seconds per iteration", keys, bar_plot(x, parts, "iteration")),
        captioned("Jobs at a time", [], bar_plot(x, [jobs], "iteration")),
    ]
    return section(
        "Where the time went",
        f"<p>Of {clock(sum(totals))}: {shares}.{of_steps}</p>"
        '<p class="soft">Of an iteration: the time of a job, on average; what a job waits for '
        "the others and in a queue; what it then takes until there is one model. Launchers note "
        "whole seconds.</p>"
        f'<div class="plots">{"".join(figures)}</div>',
    )


def jobs_of_note(training: TrainingLog) -> str:
    """List jobs that failed or were left out, and iterations that did not average."""
    lines = []
    for iteration in training.iterations:
        x = iteration.number
        for job in iteration.failed:
            log_file = f"{training.dir}/log/train.{x}.{job.number}.log"
            lines.append(f"Job {job.number} of iteration {x} failed ({job.code}): {log_file}")
        if iteration.left_out:
            without = plural("job", iteration.left_out)
            lines.append(f"The average of iteration {x} is without {without}.")
        for n, reason in iteration.reasons.items():
            lines.append(f"Job {n} of iteration {x} did not count: {reason}")
    lines = [f'<p class="bad">{escape(line)}</p>' for line in lines]
    averaged = [i for i in training.iterations if i.averages]
    if averaged and not any(i.left_out for i in averaged):
        lines.append(
            f"<p>Each of the {len(averaged)} averages is of all jobs of its iteration.</p>"
        )
    others = [i for i in training.iterations if not i.averages and i.number < training.num_models]
    if others:
        kept = ", ".join(
            f"{i.number} ({f'job {i.merged[0]}' if i.merged else 'not logged which'})"
            for i in others
        )
        lines.append(f"<p>Iterations that kept the model of one job, the best: {kept}.</p>")
    return section("Jobs and averages", "".join(lines))


def word_error_table(trainings: list[TrainingLog]) -> str:
    """Tabulate all word error rates."""
    tables = [numbers.word_errors(training) for training in trainings]
    rows = [row for table in tables for row in table.rows]
    formats = {"WER": "{:.2f} %".format}
    return table(tables[0].header, rows, text=["file"], formats=formats) if rows else ""


def errors_of(errors: WordErrorFiles) -> str:
    """Show which words were confused most, and the utterances with most errors."""
    wrong = sorted((u for u in errors.utterances if u.errors), key=lambda u: -u.errors)
    count = sum(confusion.times for confusion in errors.confused)
    said = f"wrong words: {count}, in {len(wrong)} of {len(errors.utterances)} utterances"
    summary = f"<p>{escape(f'{errors.folder}, {said}.')}</p>"
    if not wrong:
        return summary
    header = ["times", "error", "word → recognised as"]
    rows = [[c.times, c.kind, f"{c.word} → {c.recognised}"] for c in errors.confused]
    shown = wrong[:MOST_UTTERANCES]
    text = "\n\n".join("\n".join(utterance.lines) for utterance in shown)
    return (
        summary
        + table(header, rows[:MOST_CONFUSIONS], text=header[1:])
        + details(
            f"Utterances with most errors: {len(shown)} of {len(wrong)}",
            f'<div class="scroll"><pre class="aligned">{escape(text)}</pre></div>',
        )
    )


def model_section(training: TrainingLog) -> str:
    """Describe the last model."""
    model = training.model
    if not model:
        return ""
    sizes = ", ".join(f"{name} {size}" for name, size in model.sizes.items())
    rows = [[c.number, c.type, c.details] for c in model.components]
    return section(
        f"Model {model.number}",
        f'<p class="soft">{escape(sizes)}</p>'
        + table(["", "component", "details"], rows, text=["component", "details"]),
    )


def configuration(training: TrainingLog) -> str:
    """Show the options, the facts about the examples, and the small files."""
    text = ["name", "value"]
    parts = []
    if training.options:
        given = [(name, value) for name, value in training.options.items() if value]
        parts.append(details("Options", table(text, given, text=text)))
    if training.info:
        parts.append(details("Examples", table(text, training.info.items(), text=text)))
    parts += [
        details(name, f'<div class="scroll"><pre>{escape(content)}</pre></div>')
        for name, content in training.texts.items()
        if content.strip()
    ]
    return section("Configuration", "".join(parts))


def numbers_section(training: TrainingLog) -> str:
    """Tabulate the numbers behind the pictures, as they stand in the logs."""
    formats = {**dict.fromkeys(TIMES, "{:.1f}".format), "limited steps": "{:.1%}".format}
    parts = [
        details("Models", table(*numbers.models(training), formats=POSITION)),
        details("Iterations", table(*numbers.iterations(training), formats=formats)),
        changes_table(training),
    ]
    return section("Numbers", "".join(parts))


POSITION = {"epochs": "{:.2f}".format, "time": clock}
"""Formats of epochs and seconds in tables."""


def changes_table(training: TrainingLog) -> str:
    """Tabulate the changes of iterations, with a column for each layer."""
    cells: dict[int, dict[str, str]] = {}
    for x, layer, *values in numbers.changes(training).rows:
        relative, absolute, objective = map("{:g}".format, values)
        cells.setdefault(x, {})[layer] = f"{relative} ({absolute}; {objective})"
    if not cells:
        return ""
    layers = layer_names(max(map(len, cells.values())))
    rows = [[x, *(found.get(layer) for layer in layers)] for x, found in cells.items()]
    title = "Changes: relative (absolute; of the log-probability)"
    return details(title, table(["iteration", *layers], rows))


def summary_table(trainings: list[TrainingLog]) -> str:
    """Compare results, progress and times."""
    rows = []
    for training, name in zip(trainings, names_of(trainings), strict=True):
        found = [latest_score(training, subset)[0] for subset in SUBSETS]
        best = best_word_errors(training)
        times = [i.times for i in training.iterations if i.times]
        rows.append(
            [
                name if training.finished else f"{name} (not finished)",
                best and best.rate,
                *(value for score in found for value in score or numbers.UNKNOWN),
                training.limited,
                *training.positions[-1],
                *(sum(part) / len(times) for part in zip(*times, strict=True)),
                *([None] * len(TIMES) if not times else []),
            ]
        )
    per_iteration = [f"{name}, s/iter." for name in TIMES]
    header = ["training", "WER", *SCORES, "limited", "samples", "epochs", "time", *per_iteration]
    formats = {
        "WER": "{:.2f} %".format,
        "limited": "{:.1%}".format,
        **POSITION,
        **dict.fromkeys(per_iteration, "{:.1f}".format),
    }
    return table(header, rows, text=["training"], formats=formats)


def differing_options(trainings: list[TrainingLog]) -> str:
    """Tabulate the options that trainings do not have in common."""
    known = [training for training in trainings if training.options]
    rows = []
    for name in sorted({name for training in known for name in training.options}):
        values = [training.options.get(name, NOTHING) for training in known]
        if len(set(values)) > 1:
            rows.append([name, *values])
    header = ["option", *names_of(known)] if rows else []
    return table(header, rows, text=header) if rows else ""
