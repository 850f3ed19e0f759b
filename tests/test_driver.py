"""What drivers share: options in Kaldi's scripts' form, commands through --cmd."""

import os
import re
import runpy
import select
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import nullcontext
from pathlib import Path

import pytest
from imports import SLOW, click_imports, imported

from nnet.drivers.driver import Background, Driver, output_of, require_files, run, threads_per_job
from nnet.errors import NgtrainError
from nnet.launch.jobs import complaint, reason_of_failure
from nnet.launch.launcher import exit_status, footer, header

ROOT = Path(__file__).parent.parent
DRIVERS = [
    path
    for directory in ("steps", "utils")
    for path in sorted((ROOT / directory).glob("*.py"))
    if os.access(path, os.X_OK)
]

DEMO = '''#!/usr/bin/env python3
"""Show what the command line gave."""

from nnet.drivers.driver import argument, cmd_option, driver, log, option, run


@driver("Usage:  demo.py [options] <data>\\n e.g.: demo.py data/train")
@argument("data")
@option("--nj", type=int, default=4, help="Jobs")
@option("--cleanup", type=bool, default=True, help="Clean up")
@option("--egs-opts", default="", help="Options")
@option("--num-threads", type=int, default=1, help="Threads of each job")
@cmd_option
def main(data, nj, cleanup, egs_opts, num_threads, cmd):
    log.info("%s %s %s [%s]", data, nj, cleanup, egs_opts)
    if data == "run":
        run(cmd, "log/x.JOB.log", "sleep", 60, jobs=nj, num_threads=num_threads)


if __name__ == "__main__":
    main()
'''


@pytest.fixture
def demo(tmp_path, environment):
    (tmp_path / "steps").mkdir()
    path = tmp_path / "steps" / "demo.py"
    path.write_text(DEMO)
    path.chmod(0o755)

    def execute(*args):
        return subprocess.run(
            [path, "--print-args", "false", *args], capture_output=True, text=True, check=False
        )

    execute.path = path
    return execute


@pytest.mark.parametrize(
    "args, shown",
    [
        ([], "4 True []"),
        (["--nj", "2", "--cleanup", "false"], "2 False []"),
        (["--nj=2", "--cleanup=false"], "2 False []"),
        (["--egs_opts", "--frames=2"], "4 True [--frames=2]"),
        (["--egs-opts", "--frames 2 --x"], "4 True [--frames 2 --x]"),
        (["--egs-opts", ""], "4 True []"),
    ],
)
def test_options(demo, args, shown):
    assert demo(*args, "train").stderr == f"steps/demo.py: train {shown}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "args, message",
    [
        (["--nj", "two", "train"], "Invalid value for '--nj'"),
        (["--jn", "2", "train"], "there is no option --jn (is it --nj?)"),
        (["--jn", "2", "--cleanup", "true", "train"], "there is no option --jn (is it --nj?)"),
        (["--nj", "2", "--mix-up=4000", "train"], "there is no option --mix-up"),
        (["-n", "2", "train"], "there is no option -n"),
        (["train", "--nj", "2"], "option --nj stands after an argument"),
        (["--cmd", "", "train"], "--cmd '': expected a launcher, such as run.py"),
        (["--cmd", " ", "train"], "--cmd '': expected a launcher"),
        (["--cmd", "run.py '", "train"], "--cmd 'run.py '': expected a launcher"),
        (["--cmd", "no-such-launcher", "run"], "cannot run --cmd 'no-such-launcher'"),
    ],
)
def test_errors(demo, args, message):
    result = demo(*args)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"steps/demo.py: error: {message}")


def test_words_reach_the_command(tmp_path, monkeypatch, environment):
    monkeypatch.chdir(tmp_path)
    words = ["it's", "a;b", "", "$HOME", "<Nnet>", "two words", "*", 3]
    show = ["printf", "[%s]", *words, "JOB", "|", "tr", "a", "A", "2>&1"]
    run("run.py", "x.JOB.log", *show, jobs=2, max_jobs_run=1, mem="1G")
    shown = (tmp_path / "x.2.log").read_text().splitlines()[4]
    assert shown.startswith("[it's][A;b][][$HOME][<Nnet>][two words][*][3][2]")


@pytest.mark.parametrize(
    "command, reason",
    [
        (["echo", "ERROR (x) no key", ";", "echo", "ERROR (y) so what", ";", "false"], "no key"),
        (["echo", "the last thing said", ";", "test", "JOB", "=", "1"], "the last thing said"),
        (["test", "JOB", "=", "1"], "it ended without a word"),
        (
            ["echo", "WARNING (x) cannot open a.wav", ";", "echo", "LOG (x) Done 0", ";", "false"],
            r"WARNING \(x\) cannot open a\.wav",
        ),
        (["echo", "WARNING (x) two", ";", "no-such-program"], "no-such-program: command not found"),
        (["echo", "x.py: error: no key", ";", "echo", "WARNING so what", ";", "false"], "no key"),
        (["echo", "WARNING (x) too slow", ";", "eval", "kill -9 $$"], "killed by SIGKILL"),
    ],
)
def test_the_reason_of_a_failure_comes_from_the_log(tmp_path, environment, command, reason):
    with pytest.raises(NgtrainError, match=reason) as failure:
        run("run.py", f"{tmp_path}/x.JOB.log", *command, jobs=2)
    assert f"{tmp_path}/x." in str(failure.value)


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    log = tmp_path / "x.log"
    with open(log, "w") as file:
        file.writelines(f"WARNING (x) frame {n} has no energy\n" for n in range(1_000_000))
        file.write("ERROR (x) enough\n" + footer(1, 1, 1))
    tracemalloc.start()
    try:
        assert reason_of_failure(str(log)) == "ERROR (x) enough"
        log.write_text("ERROR (x) " + 1000 * "long " + "\n" + footer(1, 1, 1))
        assert len(reason_of_failure(str(log))) < 600
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_a_complaint_in_the_log_of_a_job_that_succeeded(tmp_path):
    log = tmp_path / "x.log"
    log.write_text(header("x", "n1") + "WARNING (x) no a.wav\nLOG (x) Done 1\n" + footer(0, 1, 1))
    assert complaint(log) == "WARNING (x) no a.wav"
    log.write_text(header("x", "n1") + "LOG (x) Done 2\n" + footer(0, 1, 1))
    assert complaint(log) is None and complaint(tmp_path / "absent.log") is None


def test_how_many_jobs_failed_is_said(tmp_path, environment):
    with pytest.raises(NgtrainError, match=r"^2 of 3 jobs failed: .*/x\.1\.log: "):
        run("run.py", f"{tmp_path}/x.JOB.log", "test", "JOB", "=", "2", jobs=3)


def test_a_bad_option_of_the_launcher(tmp_path):
    with pytest.raises(NgtrainError, match=r"run\.py: option --max-jobs-run needs a number"):
        run("run.py --max-jobs-run many", tmp_path / "x.log", "true")


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr("nnet.drivers.driver.num_cores", lambda: 8)
    assert [threads_per_job("run.py --mem 2G", n) for n in (1, 3, 8, 9)] == [8, 2, 1, 1]
    assert threads_per_job("queue.pl --mem 2G", 1) == 1


def test_background_commands_run_together_and_are_all_waited_for(tmp_path, environment):
    """The first can only end when the second has begun."""
    with Background() as background:
        wait = f"until test -e {tmp_path}/begun; do sleep 0.02; done; touch {tmp_path}/ended"
        background.start("run.py", tmp_path / "1.log", "eval", wait)
        background.start("run.py", tmp_path / "2.log", "touch", tmp_path / "begun")
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("retries, started", [(0, 1), (1, 2), (3, 3)])
def test_a_job_that_fails_is_started_again(tmp_path, environment, retries, started, caplog):
    """Only that job of an array, and as often as --cmd says; logs of failures are kept."""
    count = f"echo JOB >> {tmp_path}/count; test JOB = 1 || test $(grep -c 2 {tmp_path}/count) = 3"
    command = "run.py --max-jobs-run 1", f"{tmp_path}/x.JOB.log", "eval", count
    failure = pytest.raises(NgtrainError, match=r"1 of 2 jobs failed: .*/x\.2\.log: it ended")
    with failure if started < 3 else nullcontext():
        run(f"{command[0]} --max-retries {retries}", *command[1:], jobs=2)
    assert (tmp_path / "count").read_text().split() == ["1", *["2"] * started]
    failed = sorted(path.name for path in tmp_path.glob("*.failed*.log"))
    assert failed == [f"x.2.failed{n}.log" for n in range(1, started)]
    assert caplog.text.count("starting it again") == started - 1


def test_what_runs_beside_is_started_again_when_it_is_looked_at(tmp_path, environment):
    command = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; false; }}"
    with Background() as background:
        background.start("run.py --max-retries 1", f"{tmp_path}/x.log", "eval", command)
        while background.running():
            time.sleep(0.02)
        assert exit_status(tmp_path / "x.log") == 0
        assert background.wait() == []


def test_it_is_started_again_on_another_node(tmp_path, environment, monkeypatch):
    """The launcher is told where it failed; one of Kaldi's would not understand."""
    for name in "queue.py", "queue.pl":
        launcher = tmp_path / name
        launcher.write_text(
            f"""#!/bin/bash
            echo "$@" >> {tmp_path}/calls
            printf '# Running on n%d\n# Ended (code 1) at now\n' $(wc -l < {tmp_path}/calls) > x.log
            exit 1"""
        )
        launcher.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in "queue.py", "queue.pl":
        (tmp_path / "calls").unlink(missing_ok=True)
        with pytest.raises(NgtrainError, match="it ended without a word"):
            run(f"{name} --mem 1G --max-retries 2", "x.log", "true")
        hosts = ["", "--exclude-hosts n1 ", "--exclude-hosts n1,n2 "]
        expected = [f"--mem 1G {h if name == 'queue.py' else ''}x.log true" for h in hosts]
        assert (tmp_path / "calls").read_text().splitlines() == expected


@pytest.mark.slow
def test_a_job_that_does_not_start(tmp_path, environment, monkeypatch):
    (tmp_path / "launcher").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "launcher").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with (
        pytest.raises(NgtrainError, match=r"x\.log: it had not started after 5 seconds"),
        Background(start_timeout=5) as background,
    ):
        background.start("launcher", tmp_path / "x.log", "true")
        background.start("run.py", tmp_path / "y.log", "sleep", "6")  # it takes longer, but starts
    assert "code 0" in (tmp_path / "y.log").read_text()


def test_a_driver_ends_with_that_which_started_it(demo, tmp_path):
    """And its jobs with it, even if it was killed."""
    script = (
        "import subprocess, sys; from nnet.launch import lifeline; "
        "subprocess.run(sys.argv[1:], check=False, **lifeline.given())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, demo.path, "--nj", "1", "run"], cwd=tmp_path
    )
    log = tmp_path / "log/x.1.log"
    while not (log.exists() and "# Started" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while not was_terminated(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert was_terminated(log)


def was_terminated(log: Path) -> bool:
    """Whether SIGTERM ended a job: by bash's own doing, or before it came to anything."""
    return re.search(r"# Ended \(code (143|0; signal 15)\)", log.read_text()) is not None


def test_an_exception_stops_background_commands(tmp_path, environment):
    with pytest.raises(KeyError), Background() as background:
        background.start("run.py", tmp_path / "1.log", "sleep", "60")
        while not (tmp_path / "1.log").exists():
            time.sleep(0.02)
        raise KeyError
    assert was_terminated(tmp_path / "1.log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_a_driver_ends_its_jobs(demo, tmp_path, number):
    process = subprocess.Popen(
        [demo.path, "--nj", "1", "run"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    log = tmp_path / "log/x.1.log"
    while not (log.exists() and "# Started" in log.read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "steps/demo.py: warning: interrupted; run it again to go on"
    assert "Traceback" not in err
    assert was_terminated(log)


HOLD = '''#!/usr/bin/env python3
"""Hold a directory."""

import sys
import time
from pathlib import Path

from nnet.drivers.driver import argument, driver, log, option, output_of


@driver("Usage:  hold.py <data> <dir>\\n e.g.: hold.py data dir", writes="dir")
@argument("data")
@argument("dir")
@option("--nested", type=bool, default=False, help="Start another one there")
def main(data, dir, nested):
    log.info("begun")
    if nested:
        output_of(sys.executable, sys.argv[0], data, dir)
    while Path(data).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    main()
'''


@pytest.fixture
def hold(tmp_path, environment):
    """hold(*options) starts a driver that writes tmp_path/dir as long as tmp_path/data is there."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/hold.py").write_text(HOLD)
    (tmp_path / "data").touch()
    processes = []

    def start(*options):
        command = [sys.executable, tmp_path / "steps/hold.py", *options]
        processes.append(
            subprocess.Popen(
                [*command, tmp_path / "data", tmp_path / "dir"], stderr=subprocess.PIPE, text=True
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_directory_is_for_one_driver_at_a_time(hold, tmp_path):
    first = hold()
    assert "steps/hold.py" in first.stderr.readline()  # the command line
    assert first.stderr.readline() == "steps/hold.py: begun\n"
    second = hold()
    assert second.communicate(timeout=60)[1] == (
        f"steps/hold.py: error: {tmp_path}/dir is in use: process {first.pid} on "
        f"{os.uname().nodename} is working on it\n"
    )
    assert second.returncode == 1
    first.kill()
    first.wait()
    (tmp_path / "data").unlink()
    (tmp_path / "dir/.x.1234.tmp").touch()
    third = hold()  # the lock went with the process that held it
    third.communicate(timeout=60)
    assert third.returncode == 0
    assert os.listdir(tmp_path / "dir") == []


def test_what_a_killed_driver_had_started_has_a_moment_to_end(hold):
    first = hold()
    assert "steps/hold.py" in first.stderr.readline()
    assert first.stderr.readline() == "steps/hold.py: begun\n"
    second = hold()
    assert not select.select([second.stderr], [], [], 1)[0]  # it waits
    first.kill()
    assert "steps/hold.py" in second.stderr.readline()
    assert second.stderr.readline() == "steps/hold.py: begun\n"


def test_a_driver_may_start_another_in_its_directory(hold, tmp_path):
    (tmp_path / "data").unlink()
    outer = hold("--nested", "true")
    _, err = outer.communicate(timeout=60)
    assert outer.returncode == 0, err
    assert not (tmp_path / "dir").exists()  # nothing was written


def test_waiting_for_a_directory(tmp_path, environment):
    script = (
        "import sys, time; from pathlib import Path; "
        "from nnet.launch.directory_lock import only_driver_in\n"
        "with only_driver_in(Path(sys.argv[1]), wait=True):\n"
        "    print('in', flush=True); time.sleep(0.5); print('out', flush=True)"
    )
    with open(tmp_path / "said", "w") as said:
        processes = [
            subprocess.Popen([sys.executable, "-c", script, tmp_path / "dir"], stdout=said)
            for _ in range(2)
        ]
        assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert (tmp_path / "said").read_text().split() == ["in", "out"] * 2


def test_every_driver_with_jobs_holds_what_it_writes():
    """All that take --cmd, but for the training, which sees to it by itself."""
    modules = [runpy.run_path(str(path)) for path in DRIVERS]
    drivers = [module["main"] for module in modules if isinstance(module.get("main"), Driver)]
    launching = [driver for driver in drivers if "--cmd" in driver.options]
    assert len(launching) > 8
    for driver in launching:
        assert driver.writes or "train_multisplice" in driver.usage, driver.usage


def test_output_of():
    assert output_of("printf", "%s-%s", "a b", 3) == "a b-3"
    with pytest.raises(NgtrainError, match="bash: the reason"):
        output_of("bash", "-c", "echo first >&2; echo the reason >&2; exit 3")
    with pytest.raises(NgtrainError, match="cannot run no-such-program"):
        output_of("no-such-program")


def test_require_files(tmp_path):
    (tmp_path / "a").touch()
    require_files(tmp_path / "a")
    with pytest.raises(NgtrainError, match=r"no such file: .*/b, .*/c"):
        require_files(tmp_path / "a", tmp_path / "b", tmp_path / "c")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav.scp", "segments", "feats.scp", "utt2spk"])
def test_an_empty_file_is_named(tmp_path, run_program, name):
    data, config = tmp_path / "data", tmp_path / "mfcc.conf"
    data.mkdir()
    config.touch()
    for file in "wav.scp", "segments", "feats.scp", "utt2spk":
        (data / file).write_text("u1 x 0 1\n")
    (data / name).write_text("")
    said = run_program("split_data.py", data, 1, check=False).stderr.decode()
    assert said.splitlines()[-1].endswith(f"error: there is nothing in {data}/{name}")
    if name in ("wav.scp", "segments"):
        if name == "wav.scp":
            (data / "segments").unlink()
        make = run_program("make_mfcc.py", "--mfcc-config", config, data, check=False)
        assert make.stderr.decode().splitlines()[-1].endswith(f"nothing in {data}/{name}")


@pytest.mark.slow
@pytest.mark.parametrize("path", DRIVERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help_of_every_driver(path, environment):
    """It explains with an example, and at once: nothing slow is imported."""
    said, modules = imported(path, "--help")
    assert "Usage:" in said
    assert "e.g." in said
    assert not modules & SLOW
    most = 120 if path.name == "train_multisplice.py" else 100
    assert len(modules - click_imports()) <= most
