"""The tab key completes options, their values and files."""

import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def completed(*words: str) -> list[str]:
    """What bash offers for the last of its words; it divides --name=value into three."""
    script = f"""
    . {ROOT}/utils/completion.sh
    function=$(complete -p {words[0].rpartition("/")[2]} | sed 's/.*-F //; s/ .*//')
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    "$function" "$1" 2>&1
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "--norc", "-c", script, "bash", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["nnet-am-copy", "--remove-"], ["--remove-dropout=", "--remove-preconditioning="]),
        (["bin/nnet-train-simple", "--use-gpu", "=", "o"], ["optional"]),
        (["nnet-am-copy", "--binary", "="], ["true", "false"]),
        (["steps/align.py", "--use-gpu", "w"], ["wait"]),
        (["align.py", "--cm"], ["--cmd="]),
        (["run.py", "--max"], ["--max-jobs-run"]),
        (["nnet-am-copy", "--config", "=", "co"], []),
        (["nnet-am-copy", "fina"], []),
    ],
    ids=" ".join,
)
def test_options_and_values(words, found):
    assert [name for name in found if name not in completed(*words)] == []
    if not found:
        assert completed(*words) == []  # so that files are completed


def test_every_program_is_completed():
    script = f". {ROOT}/utils/completion.sh; complete -p"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    named = {line.split()[-1] for line in result.stdout.splitlines()}
    programs = {
        file.name
        for folder in ("bin", "steps", "utils")
        for file in (ROOT / folder).iterdir()
        if os.access(file, os.X_OK) and file.is_file() and file.suffix != ".sh"
    }
    assert programs <= named


@pytest.mark.slow
def test_the_tab_key_in_a_shell(tmp_path):
    """path.sh is all that one types."""
    primary, terminal = pty.openpty()
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(["bash", "--norc", "-i"], start_new_session=True, **streams) as shell:
        os.close(terminal)
        os.write(primary, f". {ROOT}/path.sh\nnnet-am-copy --remove-dr\t".encode())
        seen = b""
        try:
            while b"--remove-dropout=" not in seen and select.select([primary], [], [], 60)[0]:
                seen += os.read(primary, 1000)
        finally:
            shell.kill()
    os.close(primary)
    assert b"--remove-dropout=" in seen
