"""utils/run.py: the interface of run.pl."""

import re
import signal
import subprocess
import time

import pytest


@pytest.fixture
def run_py(run_program, tmp_path):
    def run(*args, check=True):
        return run_program("run.py", *args, cwd=tmp_path, check=check)

    return run


def test_a_log_per_job(run_py, tmp_path):
    run_py("JOB=1:3", "log/x.JOB.log", "echo", "a  b", "JOB", r"|", "tr", "a-z", "A-Z")
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    end = rf"# Ended \(code 0\) at {date}, elapsed time \d+ seconds"
    for job in 1, 2, 3:
        log = (tmp_path / f"log/x.{job}.log").read_text()
        expected = (
            rf'# echo "a  b" {job} \| tr a-z A-Z\n# Started at {date}\n#\nA  B {job}\n'
            rf"# Accounting: time=\d+ threads=1\n{end}\n"
        )
        assert re.fullmatch(expected, log)


def test_standard_error_and_one_job_without_a_name(run_py, tmp_path):
    run_py("--mem", "2G", "-l", "x=y", "--num-threads", "3", "x.log", "echo", "JOB", ">&2")
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert lines[3] == "JOB"
    assert lines[4].endswith("threads=3")


def test_any_name_and_options_after_it(run_py, tmp_path):
    run_py("n=4:5", "--max-jobs-run", "1", "n.log", "echo", "number n")
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["4.log", "5.log"]
    assert "5umber 5" in (tmp_path / "5.log").read_text()


@pytest.mark.parametrize(
    "words, line",
    [
        (["x.log", "false"], "run.py: job failed, log is in x.log"),
        (["x.log", "false", "|", "cat"], "run.py: job failed, log is in x.log"),
        (["x.log", "no-such-program"], "run.py: job failed, log is in x.log"),
        (["JOB=2", "x.JOB.log", "false"], "run.py: job failed, log is in x.2.log"),
        (
            ["JOB=1:3", "x.JOB.log", "test", "JOB", "=", "2"],
            "run.py: 2 / 3 failed, log is in x.*.log",
        ),
        (["x.JOB.log", "false"], "no JOB=1:<n> stands before it"),
        (["JOB=1:2", "x.log", "true"], "must have JOB in it"),
        (["JOB=2:1", "x.JOB.log", "true"], "invalid job range JOB=2:1"),
        (["JOB=0:1", "x.JOB.log", "true"], "invalid job range JOB=0:1"),
        (["--max-jobs-run", "0", "x.log", "true"], "option --max-jobs-run needs a number"),
        (["--gpu", "one", "x.log", "true"], "option --gpu needs a number"),
        (["/dev/null/x.log", "true"], "cannot write the log /dev/null/x.log"),
        (["x.log"], "usage: run.py"),
    ],
)
def test_failures(run_py, words, line):
    result = run_py(*words, check=False)
    assert result.returncode == 1
    assert line in result.stderr.decode()


def test_log_of_a_failed_job(run_py, tmp_path):
    run_py("x.log", "exit", "7", check=False)
    assert "# Ended (code 7) at" in (tmp_path / "x.log").read_text()
    run_py("y.log", "kill", "-9", "$$", check=False)
    assert "# Ended (code 0; signal 9) at" in (tmp_path / "y.log").read_text()


def test_how_many_run_at_the_same_time(run_py, tmp_path):
    count = "ls running | wc -l >> counts"
    job = f"mkdir -p running; touch running/JOB; sleep 0.2; {count}; rm running/JOB"
    run_py("--max-jobs-run", "2", "JOB=1:5", "log.JOB", "eval", job)
    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 5
    assert max(counts) == 2


def test_every_job_has_gpus_of_its_own(run_py, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a,5,6")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    each = "${CUDA_VISIBLE_DEVICES/,/ }"
    job = f"set -e; echo $CUDA_VISIBLE_DEVICES; mkdir {each}; sleep 0.2; rmdir {each}\n"
    (tmp_path / "job").write_text(job)  # mkdir fails if another job has the GPU
    run_py("--gpu", "2", "JOB=1:4", "log.JOB", "bash", "job", "JOB")
    held = {(tmp_path / f"log.{job}").read_text().splitlines()[3] for job in range(1, 5)}
    assert held <= {"3,GPU-a", "5,6", "3,5", "3,6", "GPU-a,5", "GPU-a,6"}
    result = run_py("--gpu", "5", "log", "true", check=False)
    assert result.returncode == 1
    assert b"--gpu 5: this machine shows 4 GPUs" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_jobs_and_what_they_started(environment, tmp_path, number):
    command = "touch started.JOB; (sleep 1; touch survived.JOB) | cat"
    process = subprocess.Popen(
        ["run.py", "--max-jobs-run", "2", "JOB=1:3", "log.JOB", "eval", command], cwd=tmp_path
    )
    while len(list(tmp_path.glob("started.*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    time.sleep(1)
    assert sorted(path.name for path in tmp_path.glob("*.[0-9]")) == [
        "log.1",
        "log.2",
        "started.1",
        "started.2",
    ]
