#!/usr/bin/env python3
"""Real schedulers for the tests: Slurm with two nodes, or GridEngine with one, on this machine.

Usage:  tests/support/schedulers.py slurm|gridengine <command> [<argument> ...]
 e.g.:  tests/support/schedulers.py slurm bash -c 'sinfo; slurm.py x.log hostname; cat x.log'

Starts the scheduler with all its files in a temporary folder and on free ports, runs the command
where that scheduler is the one to submit to, and stops it.  It needs the Debian packages named in
PACKAGES, and no rights: the daemons run as the user who starts them.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    "slurm": "slurmctld slurmd slurm-client munge",
    "gridengine": "gridengine-master gridengine-exec gridengine-client",
}

PROGRAMS = {
    "slurm": ("munged", "slurmctld", "slurmd", "sbatch"),
    "gridengine": ("sge_qmaster", "sge_execd", "qsub"),
}

START_S = 120
"""How long a daemon may take until it answers."""


class DidNotStart(Exception):
    """A scheduler does not work here; the message says why."""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run Slurm with nodes n1 and n2 of two processors each; yields the variables to submit there.

    Raises DidNotStart.
    """
    controller, *nodes = free_ports(3)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(
        f"""\
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=0
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={nodes[0]} CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={nodes[1]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munged = [
        *["munged", "--foreground", "--force", f"--key-file={key}"],
        *[f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"],
        *[f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"],
    ]
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    with daemons(folder, variables) as start:
        start(munged, (folder / "munge.socket").exists)
        start(["slurmctld", "-D"], lambda: says(variables, "scontrol", "ping") is not None)
        for node in "n1", "n2":
            start(["slurmd", "-D", "-N", node])
        wait_until(
            lambda: says(variables, "sinfo", "--noheader", "--format=%T %D") == "idle 2\n", folder
        )
        yield variables


@contextmanager
def gridengine(folder: Path) -> Iterator[dict[str, str]]:
    """Run GridEngine with a queue of four slots here; yields the variables to submit there.

    Raises DidNotStart.
    """
    master, execution = free_ports(2)
    root, programs = folder / "root", Path("/usr/lib/gridengine")
    resources = Path("/usr/share/gridengine/util/resources")
    variables = {
        "SGE_ROOT": str(root),
        "SGE_CELL": "default",
        "SGE_QMASTER_PORT": str(master),
        "SGE_EXECD_PORT": str(execution),
    }
    common = root / "default" / "common"
    for made in common, folder / "qmaster" / "job_scripts", folder / "execd", folder / "common":
        made.mkdir(parents=True)
    for name in "bin", "lib", "util", "utilbin":
        (root / name).symlink_to(f"/var/lib/gridengine/{name}")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    spooling = f"{folder}/common;{folder}/qmaster"
    (common / "bootstrap").write_text(
        f"""\
admin_user {user}
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {spooling}
binary_path /usr/sbin
qmaster_spool_dir {folder}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
    )
    (common / "host_aliases").write_text(f"localhost {platform.node()}\n")
    (common / "act_qmaster").write_text("localhost\n")
    settings = Path("/usr/share/gridengine/default-configuration").read_text()
    settings = with_values(
        settings, execd_spool_dir=folder / "execd", min_uid=0, min_gid=0, load_report_time="0:0:5"
    )
    (folder / "configuration").write_text(settings)

    def tell(*command: str | Path) -> str:
        said = says(variables, *command)
        if said is None:
            raise DidNotStart(f"{' '.join(map(str, command))} failed")
        return said

    tell(programs / "spoolinit", "classic", "libspoolc", spooling, "init")
    tell(programs / "spooldefaults", "configuration", folder / "configuration")
    tell(programs / "spooldefaults", "complexes", resources / "centry")
    tell(programs / "spooldefaults", "usersets", resources / "usersets")
    tell(programs / "spooldefaults", "managers", user)
    with daemons(folder, {**variables, "SGE_ND": "1"}) as start:  # ND: not as daemons
        start(["sge_qmaster"], lambda: says(variables, "qconf", "-sh") is not None)
        tell("qconf", "-as", "localhost")
        tell("qconf", "-Ap", resources / "pe" / "smp")
        schedule = folder / "schedule"
        schedule.write_text(
            with_values(
                tell("qconf", "-ssconf"),
                schedule_interval="0:0:1",
                flush_submit_sec=1,
                flush_finish_sec=1,
            )
        )
        tell("qconf", "-Msconf", schedule)
        start(["sge_execd"], lambda: "localhost" in (says(variables, "qconf", "-sel") or ""))
        queue = folder / "queue"
        queue.write_text(
            with_values(
                tell("qconf", "-sq"),
                qname="all.q",
                hostlist="localhost",
                slots=4,
                load_thresholds="NONE",
                pe_list="smp",
                shell="/bin/bash",
            )
        )
        tell("qconf", "-Aq", queue)
        wait_until(lambda: re.search(r"lx-\S+ *$", tell("qstat", "-f"), re.MULTILINE), folder)
        yield variables


SCHEDULERS = {"slurm": slurm, "gridengine": gridengine}


def missing(name: str) -> list[str]:
    """Programs of a scheduler that are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS[name] if not shutil.which(program, path=path)]


@contextmanager
def daemons(folder: Path, variables: dict[str, str]) -> Iterator[Callable]:
    """Yields start(command, is_ready), for programs that stop when the block ends."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = {**os.environ, **variables, "PATH": path}
    running: list[subprocess.Popen] = []

    def start(command: list[str], is_ready: Callable[[], object] = lambda: True) -> None:
        with open(folder / f"{command[0]}.out", "ab") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],  # it ends with us, however we end
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        running.append(process)
        wait_until(is_ready, folder, process)

    try:
        yield start
    finally:
        for process in reversed(running):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until(
    is_ready: Callable[[], object], folder: Path, process: subprocess.Popen | None = None
) -> None:
    """Raises DidNotStart, with what is in the logs, if that does not come or `process` ends."""
    deadline = time.monotonic() + START_S
    while not is_ready():
        if time.monotonic() > deadline or (process and process.poll() is not None):
            logs = [*folder.glob("*.out"), *folder.glob("*.log"), *folder.glob("*/messages")]
            said = {file.name: file.read_text(errors="replace")[-1000:] for file in logs}
            raise DidNotStart(f"not ready after {START_S} s: {said}")
        time.sleep(0.1)


def says(variables: dict[str, str], *command: str | Path) -> str | None:
    """What a command prints; None if it fails."""
    result = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )
    return result.stdout if result.returncode == 0 else None


def with_values(settings: str, **values: object) -> str:
    """A file of lines "name value" with other values."""
    for name, value in values.items():
        settings, count = re.subn(rf"^{name}\s.*$", f"{name} {value}", settings, flags=re.MULTILINE)
        if count != 1:
            raise DidNotStart(f"{count} lines for {name}")
    return settings


def free_ports(count: int) -> list[int]:
    """Ports that no one listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main(name: str, *command: str) -> int:
    if lacking := missing(name):
        sys.exit(f"{name}: not installed: {', '.join(lacking)} (Debian: {PACKAGES[name]})")
    with (
        tempfile.TemporaryDirectory(prefix=f"{name}-") as folder,
        SCHEDULERS[name](Path(folder)) as variables,
    ):
        return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in SCHEDULERS:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
