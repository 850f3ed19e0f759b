"""Faults of machines, disks and jobs in a training: what is printed, and what remains."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnet.drivers.divergence import check_divergence
from nnet.drivers.egs_dir import ArchiveChecks
from nnet.drivers.iteration_jobs import IterationJobs
from nnet.errors import NgtrainError
from nnet.launch.late_files import eventually
from nnet.model.acoustic_model import AcousticModel
from nnet.report.training_logs import read_training

OPTIONS = ["--num-jobs-initial", "3", "--num-jobs-final", "3", "--samples-per-iter", "700"]


@pytest.fixture(scope="module")
def train(corpus, environment):
    """train(dir, *options) runs the driver until three jobs of iteration 2 have been averaged, and
    returns the CompletedProcess, whose stdout is all that it said."""

    def run(directory, *options) -> subprocess.CompletedProcess:
        options = [*OPTIONS, "--realign-times", "", "--exit-stage", "3", *map(str, options)]
        return subprocess.run(
            corpus.command(directory, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )

    return run


@pytest.fixture(scope="module")
def begun(train, tmp_path_factory):
    """A training that has come to model 2."""
    directory = tmp_path_factory.mktemp("begun") / "nnet"
    result = train(directory, "--exit-stage", "2")
    assert result.returncode == 0 and (directory / "2.mdl").exists(), result.stdout
    return directory


@pytest.fixture(scope="module")
def undisturbed(train, begun, tmp_path_factory) -> bytes:
    """Model 3 where nothing goes wrong."""
    directory = tmp_path_factory.mktemp("undisturbed") / "nnet"
    shutil.copytree(begun, directory)
    assert train(directory).returncode == 0
    return (directory / "3.mdl").read_bytes()


@pytest.fixture
def nnet(begun, tmp_path):
    """A copy of `begun`."""
    return shutil.copytree(begun, tmp_path / "nnet")


@pytest.fixture
def launcher(tmp_path):
    """launcher(script) makes a launcher, for --cmd, that is run.py but for what `script` does.

    The script, in bash, has $name, that of the log without .log, "${command[@]}", $log, and $again
    if it is called for that log again; launch "${command[@]}" is what run.py would do.
    """

    def make(script: str) -> Path:
        path = tmp_path / "launcher"
        path.write_text(
            f"""#!/bin/bash
            for ((at = 1; at <= $#; at++)); do [[ ${{!at}} == *.log ]] && break; done
            options=("${{@:1:at-1}}") log=${{!at}} command=("${{@:at+1}}")
            name=$(basename "$log" .log) again=
            mkdir {tmp_path}/$name 2> /dev/null || again=1
            launch() {{ run.py "${{options[@]}}" "$log" "$@"; }}
            {script}
            exec run.py "$@"
            """
        )
        path.chmod(0o755)
        return path

    return make


# Jobs -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        ("launch kill -9 '$$'; exit 1", "killed by SIGKILL, as when memory runs out"),
        (
            'launch timeout --preserve-status 0.1 "${command[@]}"; exit 1',
            "ended by SIGTERM, as at the time limit of a scheduler",
        ),
        ("sleep 0.1; exit 1", "it left no log"),
    ],
    ids=["killed", "time limit", "not started"],
)
def test_a_job_that_fails_is_started_again(train, nnet, undisturbed, launcher, sabotage, reason):
    script = f'[ "$name$again" = train.2.3 ] && {{ {sabotage}; }}'
    result = train(nnet, "--cmd", launcher(script))
    assert result.returncode == 0, result.stdout
    line = rf"warning: {nnet}/log/train\.2\.3\..*log.*: .*{re.escape(reason)}.*; starting it again"
    assert re.search(line, result.stdout), result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed
    assert not (nnet / "left_out").exists()


# Plain gradient descent at too high a rate.  Natural gradient, whose changes are limited, hardly
# diverges.
DIVERGE = """
    plain="nnet-am-copy --remove-preconditioning=true ${command[-3]} - |"
    command=("${command[@]:0:${#command[@]}-3}" "$plain" "${command[@]: -2}")
    launch "${command[@]/#--learning-rate=*/--learning-rate=30}"
    exit"""

LEFT_OUT = {
    "killed": ("launch kill -9 '$$'; exit 1", "killed by SIGKILL"),
    "NaN": ('launch "${command[@]}"; cp $NAN_MODEL ${command[-1]}; exit', "has NaN or infinity"),
    "truncated": (
        'launch "${command[@]}"; truncate --size=-1000 ${command[-1]}; exit',
        "3.3.mdl: truncated",
    ),
    "damaged": (
        'launch "${command[@]}"; printf ngtrain | dd of=${command[-1]} bs=1 seek=40000 '
        "conv=notrunc 2> /dev/null; exit",
        r"3\.3\.mdl: it was damaged or replaced: its checksum and size are \w+ \d+, and were \w+",
    ),
    "diverging": (DIVERGE, r"is more than 2\.\d+ below -4\."),
    "never started": ("exec sleep 1000", "it had not started after 10 seconds"),
}


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_a_job_that_does_not_count(
    train, nnet, launcher, undisturbed, fault, tmp_path, monkeypatch
):
    """The other two are averaged, and the logs, the file left_out and the report say so."""
    if fault == "NaN":
        model = AcousticModel.load(str(nnet / "2.mdl"))
        model.network.updatable_components[0].linear_params[0, 0] = float("nan")
        model.save(str(tmp_path / "nan.mdl"))
        monkeypatch.setenv("NAN_MODEL", str(tmp_path / "nan.mdl"))
    sabotage, reason = LEFT_OUT[fault]
    options = ["--start-timeout", 10] if fault == "never started" else []
    result = train(
        nnet, "--cmd", launcher(f"if [ $name = train.2.3 ]; then {sabotage}; fi"),
        "--max-retries", 1, *options,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    print(result.stdout)
    assert re.search(
        rf"warning: iteration 2: job 3 does not count: .*{reason}.*\n"
        r".*warning: iteration 2: going on with 2 of 3 jobs\n",
        result.stdout,
    ), result.stdout
    assert "2 of 3 jobs, train" in result.stdout
    assert re.fullmatch(rf"2 3 .*{reason}.*\n", (nnet / "left_out").read_text())
    assert read_training(nnet).iterations[2].left_out == [3]
    assert (nnet / "3.mdl").read_bytes() != undisturbed
    assert not list(nnet.glob("3.[0-9].mdl"))


def damage(file: Path) -> None:
    """Change a few bytes in the middle."""
    data = bytearray(file.read_bytes())
    middle = slice(len(data) // 2, len(data) // 2 + 7)
    assert data[middle] != b"ngtrain"
    data[middle] = b"ngtrain"
    file.write_bytes(data)


def test_a_model_that_is_damaged_once(train, nnet, launcher, undisturbed):
    """It is made again, and all is as if nothing had been."""
    spoil = "printf ngtrain | dd of=${command[-1]} bs=1 seek=40000 conv=notrunc 2> /dev/null"
    script = f'[ "$name$again" = train.2.3 ] && {{ launch "${{command[@]}}"; {spoil}; exit 0; }}'
    result = train(nnet, "--cmd", launcher(script))
    assert result.returncode == 0, result.stdout
    line = (
        r"warning: iteration 2: job 3: .*3\.3\.mdl: it was damaged or replaced.*starting it again"
    )
    assert re.search(line, result.stdout), result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed
    assert not (nnet / "left_out").exists()


def test_an_average_that_is_damaged(train, nnet, undisturbed):
    """No iteration starts from it; what is said to help does."""
    damage(nnet / "2.mdl")
    result = train(nnet)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert f"error: {nnet}/2.mdl: it was damaged or replaced" in last
    assert f"--stage 1 makes it again, or remove {nnet}/2.mdl.crc32" in last
    assert not list(nnet.glob("log/train.2.*"))
    result = train(nnet, "--stage", "1")
    assert result.returncode == 0 and "iteration 2/" in result.stdout, result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed


def test_damaged_models_are_not_averaged(run_program, nnet, tmp_path):
    """Nor combined; a file without a checksum, and text, can be."""
    models = [tmp_path / f"{n}.mdl" for n in (1, 2)]
    for model in models:
        run_program("nnet-am-average", "--write-checksum=true", nnet / "2.mdl", model)
    assert re.fullmatch(r"[0-9a-f]{8} \d+\n", (tmp_path / "1.mdl.crc32").read_text())
    run_program("nnet-am-average", *models, tmp_path / "average")
    damage(models[1])
    line = f"{models[1]}: it was damaged or replaced".encode()
    result = run_program("nnet-am-average", *models, tmp_path / "average", check=False)
    assert result.returncode == 1 and line in result.stderr
    egs = f"ark:{nnet}/egs/combine.egs"
    result = run_program("nnet-combine-fast", *models, egs, tmp_path / "combined", check=False)
    assert result.returncode == 1 and line in result.stderr
    (tmp_path / "2.mdl.crc32").unlink()
    run_program("nnet-am-average", *models, tmp_path / "average")
    text = ["--binary=false", "--write-checksum=true"]
    run_program("nnet-am-average", *text, models[0], tmp_path / "3.mdl")
    run_program("nnet-am-average", tmp_path / "3.mdl", models[0], tmp_path / "average")


@pytest.mark.slow
def test_a_decision_that_was_made_is_kept(train, nnet, launcher):
    """A driver that is killed when it had decided averages the same jobs when it goes on."""
    fails = "[ $name = train.2.2 ] && { launch false; exit 1; }"
    killed = train(
        nnet, "--cmd", launcher(f"{fails}; [ $name = average.2 ] && {{ kill -9 $PPID; exit; }}"),
        "--max-retries", 0,
    )  # fmt: skip
    assert killed.returncode == -9 and not (nnet / "3.mdl").exists()
    assert (nnet / "3.1.mdl").exists() and (nnet / "left_out").read_text().startswith("2 2 ")
    result = train(nnet)
    assert result.returncode == 0 and "2 of 3 jobs, train" in result.stdout
    command = (nnet / "log/average.2.log").read_text().splitlines()[0]
    assert re.findall(r"3\.\d\.mdl", command) == ["3.1.mdl", "3.3.mdl"]


def test_too_few_jobs(train, nnet, launcher, undisturbed):
    """The iteration fails; when the fault is mended it goes on as if nothing had been."""
    fails = launcher("[ $name = train.2.2 ] && { launch false; exit 1; }")
    result = train(nnet, "--cmd", fails, "--max-retries", 0, "--min-jobs", 3)
    assert result.returncode == 1
    assert (
        f"error: iteration 2: 2 of 3 jobs count, and --min-jobs asks for 3; job 2: {nnet}/log/"
        "train.2.2.log: it ended without a word" in result.stdout.splitlines()[-1]
    )
    assert not (nnet / "left_out").exists()
    logs = [nnet / f"log/train.2.{n}.log" for n in (1, 3)]
    before = [log.stat().st_mtime_ns for log in logs]
    assert train(nnet).returncode == 0
    assert (nnet / "3.mdl").read_bytes() == undisturbed
    assert [log.stat().st_mtime_ns for log in logs] == before  # these were not run again


@pytest.mark.slow
def test_divergence_stops_the_training(train, nnet, launcher):
    """It does so again when it is run again, at once."""
    diverges = launcher(f"if [[ $name = train.2.* ]]; then {DIVERGE}; fi")
    line = (
        r"error: training diverges: log-prob-per-frame in iteration 2 is -\d+\.\d+, and a guess "
        r"among 128 classes would have -4\.852; begin another directory with a lower "
        r"--initial-effective-lrate, or go on all the same with --stop-if-diverging false$"
    )
    for options in ["--cmd", diverges], []:
        result = train(nnet, *options)
        assert result.returncode == 1 and re.search(line, result.stdout.strip()), result.stdout
        assert not (nnet / "3.mdl").exists()
    assert train(nnet, "--stop-if-diverging", "false").returncode == 0


GOOD = [-4.0, -3.0, -2.9, -2.5, -2.4]


@pytest.mark.parametrize(
    ("objectives", "diverges"),
    [
        (GOOD, None),
        ([*GOOD, -3.6], None),  # once
        ([*GOOD, -3.6, -3.5], "iteration 4 had -2.400"),
        ([*GOOD, -3.6, -3.3], None),
        ([-1.0, -1.5, -3.1, -3.0, -2.9], None),  # layers were added
        ([*GOOD, -5.7], None),
        ([*GOOD, -5.9], "a guess among 128 classes would have -4.852"),
        ([-6.0], "iteration 0 is -6.000"),
        ([float("nan"), float("nan")], None),
        ([*GOOD, float("nan"), -3.6, -3.5], "iteration 4 had"),
    ],
)
def test_what_diverges(objectives, diverges):
    if diverges is None:
        check_divergence(objectives, 128, settled=2)
    else:
        with pytest.raises(NgtrainError, match=diverges):
            check_divergence(objectives, 128, settled=2)


@pytest.mark.parametrize(
    ("objectives", "left_out"),
    [
        ([-1.0, -1.9, -2.1], []),
        ([-1.0, -1.1, -2.2], [3]),
        ([-20.0, -10.0, -16.0, -35.0], [4]),
        ([-1.0, -2.1], [2]),
        ([-9.0, -1.0, -9.0, -1.1], [1, 3]),
        ([-1.0], []),
        ([-1.0, None, -1.2], []),
    ],
)
def test_what_is_far_below(objectives, left_out, tmp_path):
    (tmp_path / "log").mkdir()
    iteration = IterationJobs(tmp_path, 7, len(objectives))
    for n, objective in enumerate(objectives, start=1):
        if objective is not None:
            iteration.log(n).write_text(f"log-prob-per-frame={objective}\n")
    iteration.leave_out_far_below()
    assert list(iteration.left_out) == left_out


# Files ------------------------------------------------------------------------------------------


def test_a_file_that_is_shown_late(train, nnet, launcher, undisturbed):
    """As over NFS: the launcher says that a job has ended well, and its model is not there yet."""
    late = "(sleep 3; mv ${command[-1]}.hidden ${command[-1]}) > /dev/null 2>&1 &"
    script = f"""[ $name = train.2.1 ] && {{
        launch "${{command[@]}}" && mv ${{command[-1]}} ${{command[-1]}}.hidden; {late}
        exit 0; }}"""
    result = train(nnet, "--cmd", launcher(script))
    assert result.returncode == 0, result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed


def test_a_file_that_is_never_shown(tmp_path):
    assert not eventually((tmp_path / "x").exists, tmp_path, patience_s=0.3)


def test_a_clock_that_jumps(train, nnet, undisturbed):
    """Files seem to be of the future, or in the wrong order: nothing depends on it."""
    for n, file in enumerate(sorted(nnet.rglob("*"))):
        jump = 10**9 if n % 2 else -(10**9)
        stamp = file.stat().st_mtime + jump - n
        os.utime(file, (stamp, stamp))
    result = train(nnet)
    assert result.returncode == 0 and f"going on from {nnet}/2.mdl" in result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk(train, begun, small_disk, undisturbed):
    """The driver stops and says so, nothing half-written is left; with room again it goes on."""
    nnet = shutil.copytree(begun, small_disk / "nnet")
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(1 << 12))
    with open(filler, "rb+") as file:  # there is room for logs, but not for a model
        file.truncate(filler.stat().st_size - (64 << 10))
    models = {path.name for path in nnet.glob("*.mdl")}
    result = train(nnet)
    print(result.stdout)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].endswith("No space left on device"), result.stdout
    assert {path.name for path in nnet.glob("*.mdl")} == models
    assert not list(nnet.glob(".*.tmp"))
    filler.unlink()
    result = train(nnet)
    assert result.returncode == 0, result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed


def flip(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 4
    archive.write_bytes(data)


def cut(archive: Path) -> None:
    os.truncate(archive, archive.stat().st_size - 1000)


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_archive(train, nnet, undisturbed, damage):
    """No iteration is spent on it; when it is removed all goes on as if nothing had been."""
    archive = nnet / "egs/egs.2.ark"
    damage(archive)
    result = train(nnet)
    print(result.stdout)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert f"error: {archive}: " in last
    assert last.endswith("remove what is damaged, and the examples are made again")
    assert not list(nnet.glob("log/train.2.*"))
    if damage is flip:
        return
    archive.unlink()
    result = train(nnet)
    assert result.returncode == 0, result.stdout
    assert (nnet / "3.mdl").read_bytes() == undisturbed


@pytest.mark.parametrize("name", ["combine.egs", "valid_diagnostic.egs", "train_diagnostic.egs"])
def test_a_damaged_subset(train, nnet, name):
    """What models are judged and combined on is looked at before the iterations."""
    flip(nnet / "egs" / name)
    result = train(nnet)
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert f"error: {nnet}/egs/{name}: " in last and last.endswith("the examples are made again")
    assert not list(nnet.glob("log/train.2.*"))


def test_a_subset_that_is_damaged_meanwhile(nnet):
    """It was read at the beginning, and is read again before the end."""
    subset = nnet / "egs/combine.egs"
    with ArchiveChecks() as checks:
        assert checks.damaged([subset]) == []
        flip(subset)
        assert checks.damaged([subset]) == []
        checks.forget([subset])
        assert len(checks.damaged([subset])) == 1


# Drivers ------------------------------------------------------------------------------------------


def test_two_drivers_in_a_directory(train, nnet):
    """The second says who the first is, and stops; nothing of the first is touched."""
    half_written = nnet / ".3.1.mdl.0123456789abcdef.tmp"
    half_written.touch()
    with open(nnet / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("process 17 on node3", file=lock, flush=True)
        result = train(nnet)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].endswith(
        f"error: {nnet} is in use: process 17 on node3 is working on it"
    )
    assert half_written.exists()
    # A driver that is gone leaves its name, but no lock.
    assert train(nnet, "--exit-stage", 2).returncode == 0
    assert not half_written.exists()


@pytest.mark.slow
def test_killed_at_random_moments(run_program, shared):
    """tests/support/kill_and_resume.py, a few times; by hand it can be run more often."""
    program = Path(__file__).parent / "support/kill_and_resume.py"
    result = run_program(program, "--times", 3, "--shared", shared)
    assert b"3 of 3 end with the undisturbed model's bytes" in result.stderr
