"""Ctrl-C and SIGTERM: one sentence as the last line, exit code 130, nothing left running."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SENTENCE = "Error: Interrupted; repeat the command to begin again"
PROGRAM = """
import subprocess, sys, time
from stackwise.cli import entry, stopping
stopping.GRACE, stopping.TWICE = {grace}, 0.1
def ready():
    print("ready", flush=True)
def command(stopping):
{body}
entry._command = command
entry.main()
"""
SLOW_MODULE = """
import time
print("ready", flush=True)
end = time.monotonic() + 0.5
try:
    while time.monotonic() < end:
        time.sleep(0.01)
except BaseException:
    from pathlib import Path
    Path("part-is-missing").touch()
"""


def begun(tmp_path: Path, body: str, grace: float = 10.0) -> subprocess.Popen:
    """A command that does `body`, once it has said that it is ready to be interrupted."""
    lines = "\n".join("    " + line for line in body.splitlines())
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=lines, grace=grace)], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    return program


def ended(program: subprocess.Popen) -> tuple[int, list[str]]:
    """Its exit code and the lines of its stderr."""
    said = program.communicate(timeout=20)[1]
    return program.returncode, said.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_with_one_sentence(tmp_path, number):
    program = begun(tmp_path, "ready(); time.sleep(60)")
    program.send_signal(number)
    assert ended(program) == (130, [SENTENCE])


def test_an_import_is_not_broken_off(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW_MODULE)
    program = begun(tmp_path, "sys.path.insert(0, '.')\nimport slow\ntime.sleep(60)")
    program.send_signal(signal.SIGINT)
    assert ended(program) == (130, [SENTENCE])
    assert not (tmp_path / "part-is-missing").exists()


def test_what_takes_the_exception_for_another_error_is_interrupted_all_the_same(tmp_path):
    body = """ready()
try:
    time.sleep(60)
except BaseException:
    raise ImportError("a part is missing")"""
    program = begun(tmp_path, body)
    program.send_signal(signal.SIGTERM)
    assert ended(program) == (130, [SENTENCE])


def test_an_exception_that_python_could_not_raise_is_raised_again(tmp_path):
    body = """class Loose:
    def __del__(self):
        ready()
        time.sleep(60)
Loose()
time.sleep(60)"""
    program = begun(tmp_path, body)
    program.send_signal(signal.SIGTERM)
    assert ended(program) == (130, [SENTENCE])


DEAF = """try:
    ready()
    time.sleep(60)
except KeyboardInterrupt:
    ready()
    time.sleep(60)"""


def test_what_does_not_stop_by_itself_ends_where_it_stands(tmp_path):
    program = begun(tmp_path, DEAF, grace=0.3)
    program.send_signal(signal.SIGTERM)
    assert ended(program) == (130, [SENTENCE])


def test_a_second_signal_does_not_wait(tmp_path):
    program = begun(tmp_path, DEAF, grace=60.0)
    program.send_signal(signal.SIGINT)
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    assert ended(program) == (130, [SENTENCE])


def test_what_the_command_started_ends_before_it(tmp_path):
    body = f"""child = subprocess.Popen([{sys.executable!r}, "-c", "import time; time.sleep(60)"])
open("pid", "w").write(str(child.pid))
ready()
time.sleep(60)"""
    program = begun(tmp_path, body)
    program.send_signal(signal.SIGTERM)
    assert ended(program) == (130, [SENTENCE])
    child = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 3  # a kill that was sent takes a moment
    while lives(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not lives(child)


def lives(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        return psutil.Process(pid).status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def test_the_sentence_names_resume_where_the_command_has_it(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n % 7},{n * n}\n" for n in range(60)))
    program = subprocess.Popen(
        [sys.executable, "-c", WAITING, "fit", "linear", "t.csv", "--target", "y"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None and program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    wanted = "Error: Interrupted; repeat the command with --resume to go on"
    assert ended(program) == (130, [wanted])


WAITING = """
import time
from stackwise import runs
from stackwise.cli import main
def wait(*given, **settings):
    print("ready", flush=True)
    time.sleep(60)
runs.fit_run = wait
main()
"""
