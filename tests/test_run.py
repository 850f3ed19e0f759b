"""utils/run.py: the interface of run.pl."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nnet.launch.gpus import open_lock, take_part, visible_gpus
from nnet.launch.launcher import exit_status, footer, host_of


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
            rf'# echo "a  b" {job} \| tr a-z A-Z\n# Started at {date}\n# Running on \S+\n#\n'
            rf"A  B {job}\n"
            rf"# Accounting: time=\d+ threads=1\n{end}\n"
        )
        assert re.fullmatch(expected, log)


def test_standard_error_and_one_job_without_a_name(run_py, tmp_path):
    run_py("--mem", "2G", "-l", "x=y", "--num-threads", "3", "x.log", "echo", "JOB", ">&2")
    lines = (tmp_path / "x.log").read_text().splitlines()
    assert lines[4] == "JOB"
    assert lines[5].endswith("threads=3")


def test_any_name_and_options_after_it(run_py, tmp_path):
    run_py("n=4:5", "--max-jobs-run", "1", "n.log", "echo", "number n")
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["4.log", "5.log"]
    assert "5umber 5" in (tmp_path / "5.log").read_text()


@pytest.mark.slow
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
        (["JOB=1:100001", "x.JOB.log", "true"], "numbers go up to 100000"),
        ([f"JOB=1:{'9' * 5000}", "x.JOB.log", "true"], "numbers go up to 100000"),
        (["--max-jobs-run", "9" * 5000, "x.log", "true"], "option --max-jobs-run needs a number"),
        (["--max-jobs-run", "0", "x.log", "true"], "option --max-jobs-run needs a number"),
        (["--gpu", "one", "x.log", "true"], "option --gpu needs a number"),
        (["/dev/null/x.log", "true"], "cannot write the log /dev/null/x.log"),
        (["x.log"], "run.py: usage: [options] [JOB=1:<n>] <log-file>"),
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
    monkeypatch.setenv("NGTRAIN_GPU_LOCKS", str(tmp_path / "locks"))
    each = "${CUDA_VISIBLE_DEVICES/,/ }"
    job = f"set -e; echo $CUDA_VISIBLE_DEVICES; mkdir {each}; sleep 0.2; rmdir {each}\n"
    (tmp_path / "job").write_text(job)  # mkdir fails if another job has the GPU
    run_py("--gpu", "2", "JOB=1:4", "log.JOB", "bash", "job", "JOB")
    held = {(tmp_path / f"log.{job}").read_text().splitlines()[4] for job in range(1, 5)}
    assert held <= {"3,GPU-a", "5,6", "3,5", "3,6", "GPU-a,5", "GPU-a,6"}
    result = run_py("--gpu", "5", "log", "true", check=False)
    assert result.returncode == 1
    assert b"--gpu 5: this machine shows 4 GPUs" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_jobs_and_what_they_started(environment, tmp_path, number):
    survive = "while [ ! -e go ]; do sleep 0.05; done; touch survived.JOB"
    command = f"touch started.JOB; ({survive}) | cat"
    process = subprocess.Popen(
        ["run.py", "--max-jobs-run", "2", "JOB=1:3", "log.JOB", "eval", command], cwd=tmp_path
    )
    while len(list(tmp_path.glob("started.*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    (tmp_path / "go").touch()
    time.sleep(1)
    assert sorted(path.name for path in tmp_path.glob("*.[0-9]")) == [
        "log.1",
        "log.2",
        "started.1",
        "started.2",
    ]


@pytest.mark.slow
def test_jobs_that_share_a_gpu(run_py, tmp_path, monkeypatch):
    """Two on each of two GPUs, with bounded memory; who wants a GPU for itself waits for them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    monkeypatch.setenv("NGTRAIN_GPU_LOCKS", str(tmp_path / "locks"))
    show = "echo $CUDA_VISIBLE_DEVICES $CUPY_GPU_MEMORY_LIMIT; touch started.JOB"
    wait = "while [ ! -e go ]; do sleep 0.05; done; touch ended.JOB"
    options = ["--gpu", "1", "--jobs-per-gpu", "2"]
    shared = subprocess.Popen(
        ["run.py", *options, "JOB=1:4", "log.JOB", "eval", f"{show}; {wait}"], cwd=tmp_path
    )
    while len(list(tmp_path.glob("started.*"))) < 4:
        assert shared.poll() is None
        time.sleep(0.02)
    held = sorted((tmp_path / f"log.{job}").read_text().splitlines()[4] for job in range(1, 5))
    assert held == ["GPU-a 45.0%"] * 2 + ["GPU-b 45.0%"] * 2
    alone = subprocess.Popen(["run.py", "--gpu", "1", "alone.log", "ls"], cwd=tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        alone.wait(timeout=0.5)
    (tmp_path / "go").touch()
    assert shared.wait(timeout=60) == alone.wait(timeout=60) == 0
    assert "ended." in (tmp_path / "alone.log").read_text()


def test_a_gpu_is_free_again_when_its_job_is_gone(run_py, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("NGTRAIN_GPU_LOCKS", str(tmp_path / "locks"))
    process = subprocess.Popen(
        ["run.py", "--gpu", "1", "x.log", "eval", "touch started; sleep 60"], cwd=tmp_path
    )
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    gpu = tmp_path / "locks" / "0"
    assert gpu.stat().st_mode & 0o777 == 0o666  # for all users
    lock = open_lock(gpu)
    try:
        assert not take_part(lock, 0, 1)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 60
        while not (free := take_part(lock, 0, 1)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert free
    finally:
        os.close(lock)


def test_jobs_do_not_survive_a_run_py_that_is_killed(environment, tmp_path):
    survive = "while [ ! -e go ]; do sleep 0.05; done; touch survived.JOB"
    command = f"sleep 60 & touch started.JOB; {survive}; wait"
    process = subprocess.Popen(["run.py", "JOB=1:2", "log.JOB", "eval", command], cwd=tmp_path)
    while len(list(tmp_path.glob("started.*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(1)  # its watchers see that it is gone
    (tmp_path / "go").touch()
    time.sleep(1)
    assert not list(tmp_path.glob("survived.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals", [["KILL"], ["TERM", "KILL"], ["INT", "KILL"], ["INT", "INT", "INT"]], ids="-".join
)
def test_jobs_that_are_slow_to_end_do_not_stay(environment, tmp_path, signals):
    """They ignore SIGTERM, and the launcher is killed before it kills them."""
    job = "trap '' TERM; echo $BASHPID > pid.JOB; sleep 60; touch survived.JOB"
    process = subprocess.Popen(
        ["run.py", "--max-jobs-run", "2", "JOB=1:2", "log.JOB", "eval", f"({job})"],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    pids = [tmp_path / "pid.1", tmp_path / "pid.2"]
    while not all(pid.exists() and pid.read_text().endswith("\n") for pid in pids):
        assert process.poll() is None
        time.sleep(0.02)
    for name in signals:
        process.send_signal(getattr(signal, f"SIG{name}"))
        time.sleep(0.3)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if "KILL" in signals else 128 + signal.SIGINT)
    assert b"Traceback" not in err
    deadline = time.monotonic() + 60
    jobs = [Path("/proc") / pid.read_text().strip() for pid in pids]
    while any(job.exists() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(job.exists() for job in jobs)


def test_what_a_killed_job_had_started_is_killed_too(run_py, tmp_path):
    command = "(while [ ! -e go ]; do sleep 0.05; done; touch survived) & kill -9 $$"
    run_py("x.log", "eval", command, check=False)
    assert "# Ended (code 0; signal 9) at" in (tmp_path / "x.log").read_text()
    (tmp_path / "go").touch()
    time.sleep(1)
    assert not (tmp_path / "survived").exists()


def test_a_job_may_wait_for_what_it_has_started(run_py, tmp_path):
    """And not for the watcher that is beside it."""
    run_py("x.log", "eval", "(echo first; exit 3) & wait; echo then")
    assert (tmp_path / "x.log").read_text().splitlines()[4:6] == ["first", "then"]


def test_gpus_have_the_names_that_nvidia_smi_gives_them(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf 'GPU %s: A100 (UUID: GPU-%s)\\n' 0 aa11 1 bb22\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["GPU-aa11", "GPU-bb22"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-aa,MIG-c")
    assert visible_gpus() == ["GPU-bb22", "GPU-aa11", "MIG-c"]


def test_a_log_of_before_is_not_believed(run_py, tmp_path):
    """Nor mixed with what a job writes that still runs."""
    log = tmp_path / "x.log"
    log.write_text(footer(0, 1, 1))
    assert exit_status(log) == 0
    with open(log, "a") as old:
        run_py("x.log", "exit", "3", check=False)
        old.write("# Ended (code 0) at\n")
    assert exit_status(log) == 3 and host_of(log) == os.uname().nodename
    run_py("/dev/null", "true")
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    "text, status",
    [
        ("# Ended (code 7) at Mon, elapsed time 1 seconds\n", 7),
        ("# Ended (code 0; signal 15) at Mon, elapsed time 1 seconds\nlate output\n", 143),
        ("# Finished at Mon Jan  1 with status 1\n", 1),
        ("# Ended (code 1) at Mon\n# nnet\n# Ended (code 0) at Mon\n", 0),
        ("# Ended (code 0", None),
        ("said # Ended (code 0) at Mon\n", None),
    ],
)
def test_exit_status_of_a_log(tmp_path, text, status):
    (tmp_path / "x.log").write_text(text)
    assert exit_status(tmp_path / "x.log") == status
    assert exit_status(tmp_path / "absent.log") is None
