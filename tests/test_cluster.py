"""utils/slurm.py and utils/queue.py: their configuration, and jobs through real schedulers."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nnet.launch import cluster
from nnet.launch.cluster import read_config, scheduler_log, valid_name
from nnet.launch.gridengine import GridEngine
from nnet.launch.jobs import run
from nnet.launch.launcher import Error, exit_status, footer, header, host_of, parse
from nnet.launch.slurm import Slurm

# Configuration ------------------------------------------------------------------------------------

QUEUE_CONF = """\
# A cluster
command qsub -cwd -S /bin/bash -j y -l arch=*64*
option mem=* -l mem_free=$0,ram_free=$0
option mem=0          # nothing
option num_threads=* -pe smp $0
option num_threads=1
option max_jobs_run=* -tc $0
default gpu=0
option gpu=0 -q all.q
option gpu=* -l gpu=$0 -q 'g*.q' -v "A=b c"
option account=* -A ${ACCOUNT}.$0
option verbose=* -verbose
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """conf(text) is a configuration file, also where a launcher looks for it."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        Path("conf").mkdir(exist_ok=True)
        Path("conf/queue.conf").write_text(text)
        return "conf/queue.conf"

    return write


@pytest.mark.parametrize(
    "options, expected",
    [
        ("", "-q all.q"),
        ("--mem 2G --gpu 0", "-q all.q -l mem_free=2G,ram_free=2G"),
        ("--mem 0", "-q all.q"),
        ("--num-threads 4", "-q all.q -pe smp 4"),
        ("--num-threads 1", "-q all.q"),
        ("--gpu 2", "-l gpu=2 -q g*.q -v A=b c"),
        ("--max-jobs-run 5 JOB=1:9", "-q all.q -tc 5"),
        ("--max-jobs-run 5 -tc 3 JOB=1:9", "-q all.q -tc 3"),
        ("--max-jobs-run 5", "-q all.q"),  # of one job
        ("--account x --verbose 1 -p -3 -pe smp 2", "-q all.q -A us.x -verbose -p -3 -pe smp 2"),
    ],
)
def test_what_options_become(conf, monkeypatch, options, expected):
    monkeypatch.setenv("ACCOUNT", "us")
    conf(QUEUE_CONF)
    call = parse([*options.split(), "log.JOB", "true"])
    command = "qsub -cwd -S /bin/bash -j y -l arch=*64*"
    assert shlex.join(read_config(GridEngine(), call)).replace("'", "") == f"{command} {expected}"


def test_the_default_configuration_is_for_where_there_is_no_file(conf):
    call = parse(["--mem", "2G", "--num-threads", "3", "--gpu", "1", "JOB=1:2", "x.JOB", "true"])
    command = "sbatch --ntasks=1 --mem-per-cpu=2G --cpus-per-task=3 --gres=gpu:1"
    assert sorted(read_config(Slurm(), call)) == sorted(command.split())
    conf("command elsewhere\n")
    assert read_config(GridEngine(), parse(["x", "true"])) == ["elsewhere"]


@pytest.mark.parametrize(
    "text, options, message",
    [
        (QUEUE_CONF, ["--time", "1:0"], "conf/queue.conf does not say what --time 1:0 becomes"),
        ("option mem=0\n", [], "conf/queue.conf: there is no line 'command ...'"),
        ("command qsub\nmem=* -l\n", [], "conf/queue.conf: cannot understand 'mem=* -l'"),
        ("command qsub 'a\n", [], "cannot understand 'qsub 'a': No closing quotation"),
        ("command qsub\n", ["--config", "no.conf"], "cannot read no.conf: No such file"),
        ("command no-such-qsub\n", [], "cannot run no-such-qsub: No such file"),
        ("command false\n", [], "cannot submit: false failed"),
        ("command echo not today;\n", ["JOB=1:2"], "cannot submit: not today; -t 1-2 -sync y -N x"),
    ],
)
def test_what_cannot_be_submitted(conf, run_program, tmp_path, text, options, message):
    conf(text)
    result = run_program("queue.py", *options, "x.JOB.log", "true", cwd=tmp_path, check=False)
    assert result.returncode == 1
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("queue.py: ") and message in line


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = parse(["JOB=1:2", "exp/log/align.JOB.log", "true"])
    assert scheduler_log(call) == tmp_path / "exp/q/align.log"
    assert scheduler_log(parse(["exp/x.1.log", "true"])) == tmp_path / "exp/q/x.1.log"
    assert scheduler_log(parse(["JOB=1:2", "JOB.log", "true"])) == tmp_path / "q/job.log"
    assert [valid_name(name) for name in ("align", "3.1", "a:b c")] == ["align", "j3.1", "a_b_c"]


# Logs that come late, or never --------------------------------------------------------------------


@pytest.fixture
def late_cluster(tmp_path, monkeypatch):
    """A stand-in for Slurm on a file system that shows files late: late_cluster(what to write)."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=":")

    def make(command, said="N/A COMPLETED n1"):
        status_file = r"sed -n 's/.*--status-file \([^ ]*\).*/\1/p' ${@: -1}"
        status = f"sed -n 's/.*code \\([0-9]*\\).*/\\1/p' x.log > $({status_file})"
        for name, script in {
            "sbatch": f"echo 7; ({command}; {status}) > /dev/null 2>&1 &",
            "squeue": f'[[ "$*" != *--states=all* ]] || echo {said}',
        }.items():
            (programs / name).write_text(f"#!/bin/bash\n{script}\n")
            (programs / name).chmod(0o755)

    return make


def test_a_log_that_comes_late(late_cluster):
    late_cluster("sleep 1; echo '# Ended (code 0) at Mon' > x.log")
    Path("x.log").write_text("# Ended (code 1) at Mon\n")
    assert Slurm().launch(parse(["x.log", "true"])) == []
    late_cluster("sleep 1; echo '# Ended (code 3) at Mon' > x.log")
    assert Slurm().launch(parse(["x.log", "true"])) == [1]


def test_a_log_of_before_does_not_count(late_cluster, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.5)
    late_cluster("true")
    Path("x.log").write_text("# Ended (code 0) at Mon\n")
    assert Slurm().launch(parse(["x.log", "true"])) == [1]
    said = capsys.readouterr().err
    assert "slurm.py: job 1: its log does not say how it ended, log is in x.log" in said


@pytest.fixture
def small_slurm(tmp_path, monkeypatch):
    """A stand-in for Slurm that runs the jobs of an array one after the other, on this machine."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    tasks = r"""$(seq $(sed 's/.*--array=\([0-9]*\)-\([0-9]*\).*/\1 \2/' <<< "$*"))"""
    run_all = (
        f"for n in {tasks}; do SLURM_ARRAY_TASK_ID=$n SLURMD_NODENAME=n$n bash ${{@: -1}}; done"
    )
    for name, script in {"sbatch": f"echo 7; {run_all}; exit 0", "squeue": "exit 0"}.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)


IMITATION = header("sort", "n7") + footer(0, 1, 1)


@pytest.mark.parametrize("end", ["exit JOB", "kill -KILL $PPID"])
def test_the_log_of_another_job_in_a_log_is_not_believed(small_slurm, monkeypatch, end, capsys):
    """Neither while the job runs nor where it ended without a word."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.5)
    Path("other.log").write_text(IMITATION)
    command = f"cat other.log; sleep 0.5; test JOB = 1 || {end}"
    assert Slurm().launch(parse(["JOB=1:2", "x.JOB.log", "eval", command])) == [2]
    assert IMITATION in Path("x.1.log").read_text()
    said = capsys.readouterr().err
    assert ("job 2: its log does not say how it ended" in said) == ("KILL" in end)
    assert sorted(path.name for path in Path("q").iterdir()) == ["x.sh"]


def test_calls_for_the_same_log_at_the_same_time(small_slurm, monkeypatch):
    """As when two jobs of an array are started again; Slurm may read what it was given late."""
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.5)
    sbatch = Path("programs/sbatch")
    sbatch.write_text(sbatch.read_text().replace("echo 7;", "echo 7; sleep 0.5;"))
    calls = [parse([f"JOB={job}:{job}", "x.JOB.log", "echo", "JOB"]) for job in (1, 2)]
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(Slurm().launch, calls)) == [[], []]
    assert sorted(path.name for path in Path("q").iterdir()) == ["x.sh"]


def test_programs_of_the_scheduler_that_are_not_there(tmp_path, monkeypatch, environment):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qsub").write_text("#!/bin/bash\necho 'Your job 1 (\"x\") has been submitted'\n")
    (tmp_path / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if shutil.which("qstat"):
        pytest.skip("GridEngine is installed, and so is qstat")
    with pytest.raises(Error, match=r"^cannot run qstat: No such file"):
        GridEngine().launch(parse(["x.log", "true"]))


def test_no_log_is_expected_of_a_job_that_the_scheduler_knows_to_have_failed(late_cluster, capsys):
    late_cluster("true", "N/A NODE_FAIL n1")
    assert Slurm().launch(parse(["x.log", "true"])) == [1]
    assert "slurm.py: job 1: NODE_FAIL on n1, log is in x.log" in capsys.readouterr().err


# Real schedulers ----------------------------------------------------------------------------------


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.cluster) for name in ("slurm.py", "queue.py")]
)
def launcher(request):
    request.getfixturevalue({"slurm.py": "slurm", "queue.py": "gridengine"}[request.param])
    return request.param


def test_a_log_per_job(launcher, run_program, tmp_path):
    run_program(
        launcher,
        *["--num-threads", "2", "--max-jobs-run", "2", "JOB=2:4", "log/x.JOB.log"],
        *["printf", "[%s]", "a  b", "'$HOME'", "JOB", r"|", "tr", "a-z", "A-Z"],
        cwd=tmp_path,
    )
    assert sorted(log.name for log in tmp_path.glob("log/*")) == ["x.2.log", "x.3.log", "x.4.log"]
    date = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
    for job in 2, 3, 4:
        expected = (
            rf'# printf \[%s\] "a  b" \'\$HOME\' {job} \| tr a-z A-Z\n# Started at {date}\n'
            rf"# Running on (n1|n2|localhost), (Slurm|GridEngine) job \d+[._]{job}\n#\n"
            rf"\[A  B\]\[\$HOME\]\[{job}\]# Accounting: time=\d+ threads=2\n"
            rf"# Ended \(code 0\) at {date}, elapsed time \d+ seconds\n"
        )
        assert re.fullmatch(expected, (tmp_path / f"log/x.{job}.log").read_text())


def test_jobs_that_fail(launcher, run_program, tmp_path):
    """With another status, and without a word, as when their node goes down."""
    command = "case JOB in 1) exit 7;; 2) kill -KILL $PPID;; esac"
    result = run_program(
        launcher, "JOB=1:3", "x.JOB.log", "eval", command, cwd=tmp_path, check=False
    )
    assert result.returncode == 1
    *lost, last = result.stderr.decode().splitlines()
    assert last == f"{launcher}: 2 / 3 failed, log is in x.*.log"
    assert len(lost) == 1 and re.match(
        rf"{launcher}: job 2: (FAILED on n\d|exited because of signal SIGKILL), log is in x.2.log",
        lost[0],
    )
    assert [exit_status(tmp_path / f"x.{job}.log") for job in (1, 2, 3)] == [7, None, 0]


def test_nodes_that_are_not_wanted(launcher, run_program, tmp_path):
    """They are used all the same where there are no others."""
    everywhere = "n1,n2" if launcher == "slurm.py" else "localhost"
    result = run_program(launcher, "--exclude-hosts", everywhere, "x.log", "true", cwd=tmp_path)
    assert f"{launcher}: cannot do without" in result.stderr.decode()
    assert host_of(tmp_path / "x.log") in everywhere.split(",")
    if launcher == "slurm.py":
        run_program(launcher, "--exclude-hosts", "n1", "x.log", "true", cwd=tmp_path)
        assert host_of(tmp_path / "x.log") == "n2"


@pytest.mark.parametrize("by", ["signal", "end of the driver"])
def test_jobs_are_cancelled(launcher, by, environment, tmp_path):
    command = "echo $$ > started.JOB; sleep 60"
    program = [launcher, "JOB=1:2", "JOB.log", "eval", command]
    if by == "end of the driver":
        call = f"run({launcher!r}, 'JOB.log', 'eval', {command!r}, jobs=2)"
        program = [sys.executable, "-c", f"from nnet.launch.jobs import run; {call}"]
    process = subprocess.Popen(program, cwd=tmp_path)
    started = [tmp_path / f"started.{job}" for job in (1, 2)]
    while not all(file.exists() and file.read_text().strip() for file in started):
        assert process.poll() is None
        time.sleep(0.05)
    if by == "signal":
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    else:
        process.kill()
        process.wait()
    jobs = [Path(f"/proc/{file.read_text().strip()}") for file in started]
    deadline = time.monotonic() + 120
    while (left := [job for job in jobs if job.exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.mark.cluster
def test_a_node_that_goes_down(slurm, environment, tmp_path, monkeypatch, caplog):
    """Its jobs start again on the other one, and the log says so."""
    monkeypatch.chdir(tmp_path)
    nodes = {}

    def take_n2_away():
        try:
            wait_until(lambda: len(list(tmp_path.glob("started.*"))) == 4)
            nodes.update({job: host_of(f"{job}.log") for job in range(1, 5)})
            down = ["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=x"]
            subprocess.run(down, check=True)
            lost = [job for job in nodes if nodes[job] == "n2"]
            wait_until(lambda: all(exit_status(f"{job}.log") for job in lost))
        finally:
            Path("go").touch()

    command = "touch started.JOB; until [ -e go ]; do sleep 0.1; done"
    with ThreadPoolExecutor() as threads:
        taken = threads.submit(take_n2_away)
        run("slurm.py --max-retries 2", "JOB.log", "eval", command, jobs=4)
        taken.result()
    lost = [job for job in nodes if nodes[job] == "n2"]
    assert len(lost) == 2 and {host_of(f"{job}.log") for job in nodes} == {"n1"}
    for job in lost:
        assert host_of(f"{job}.failed1.log") == "n2"
        assert f"{job}.failed1.log (on n2): " in caplog.text
    states = ["sinfo", "--noheader", "--format=%T %D"]
    subprocess.run(["scontrol", "update", "NodeName=n2", "State=RESUME"], check=False)
    wait_until(lambda: subprocess.check_output(states, text=True) == "idle 2\n")


def wait_until(is_so, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.cluster
def test_the_same_training_everywhere(slurm, gridengine, corpus, run_program, tmp_path):
    """Byte for byte, for a given number of threads; the beginning is the same for all."""

    def train(directory, *options):
        run_program(
            "train_multisplice.py",
            *["--num-threads", "1", "--combine-num-threads", "1", "--minibatch-size", "64"],
            *["--pnorm-input-dim", "20", "--pnorm-output-dim", "10", "--num-hidden-layers", "1"],
            *["--splice-indexes", "layer0/-1:0:1", "--add-layers-period", "1"],
            *["--frames-per-eg", "2", "--num-epochs", "3", "--samples-per-iter", "1500"],
            *["--num-jobs-initial", "1", "--num-jobs-final", "2", "--num-jobs-compute-prior", "2"],
            *["--egs-opts", "--num-utts-subset 5", "--cleanup", "false", *options],
            *[corpus.data, corpus.lang, corpus.ali, directory],
        )

    here = tmp_path / "here"
    train(here)
    for cmd, nodes in ("slurm.py", {"n1", "n2"}), ("queue.py", {"localhost"}):
        there = tmp_path / cmd
        shutil.copytree(here, there, ignore=shutil.ignore_patterns("[34].mdl", "[cf]*.mdl"))
        train(there, "--cmd", cmd)
        assert (there / "final.mdl").read_bytes() == (here / "final.mdl").read_bytes()
        assert {host_of(there / f"log/train.{x}.{n}.log") for x in (2, 3) for n in (1, 2)} <= nodes
