"""Workers of a local pool: they are replaced where they die, and end with their parent."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import psutil
import pytest

from stackwise.errors import StorageError
from stackwise.pool import Died, side_by_side
from stackwise.studies.jobs import Shared
from stackwise.studies.schedule import Schedule


def test_a_worker_that_dies_is_replaced_and_its_work_done_again(tmp_path):
    def dying(place: int) -> int:
        """Kills its process: number 1 the first time, number 2 each time."""
        seen = tmp_path / str(place)
        if place == 2 or (place == 1 and not seen.exists()):
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 10 * place

    begun: list[int] = []
    found = dict(side_by_side(dying, 4, workers=2, threads=1, begins=begun.append))
    given_up = found.pop(2)
    assert found == {0: 0, 1: 10, 3: 30}
    assert isinstance(given_up, Died)
    assert str(given_up).startswith("its process died 3 times (at last of SIGKILL, as the kernel")
    assert [begun.count(place) for place in range(4)] == [1, 2, 3, 1]


@pytest.mark.parametrize(("count", "workers"), [(1, 2), (3, 2), (2, 2)])
def test_a_pool_ends_with_its_last_piece_of_work(count: int, workers: int):
    def ten_times(place: int) -> int:
        return 10 * place

    done = side_by_side(ten_times, count, workers=workers, threads=1, begins=lambda place: None)
    assert dict(done) == {place: 10 * place for place in range(count)}


PARENT = """
import os, time
from stackwise.cli import entry
from stackwise.pool import side_by_side
def wait(place):
    open(str(place), "w").write(str(os.getpid()))
    time.sleep(60)
entry._command = lambda stopping: list(
    side_by_side(wait, 2, workers=2, threads=1, begins=lambda place: None)
)
entry.main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    files = [tmp_path / "0", tmp_path / "1"]
    until(lambda: all(path.exists() and path.read_text() for path in files), 60)
    parent.send_signal(number)
    parent.wait(5)
    until(lambda: not any(runs(int(path.read_text())) for path in files), 5)
    if number == signal.SIGTERM:
        assert parent.stderr is not None
        said = parent.stderr.read().splitlines()
        assert said == ["Error: Interrupted; repeat the command to begin again"]
        assert parent.returncode == 130


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(found, seconds):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@dataclass(frozen=True)
class OnFullDisk:
    """A job that finds no room for what it learned."""

    name: str
    slug: str = "linear"
    seed: int = 0
    weight: float = 1.0

    def do(self, shared, seconds, on_event):
        place = str(shared.out / self.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)


def test_a_full_disk_ends_a_study_of_a_pool_in_one_sentence(tmp_path):
    shared = Shared(SimpleNamespace(size_bytes=0), tmp_path)
    with pytest.raises(StorageError, match="cannot be written: No space left on device"):
        Schedule(workers=2, threads=1).run([OnFullDisk("a"), OnFullDisk("b")], shared)
