"""What all tests share: one thread, a small table, a cluster that was killed."""

import socket
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A fit is the same bit for bit only with the same threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Calls a command of the command line in this process; gives (exit code, stdout, stderr)."""
    from stackwise import cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stackwise", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture
def small_cluster() -> Iterator[None]:
    """A Ray cluster of two processors in this process; tests with it share the group `ray`."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False,
             log_to_driver=False)  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture
def dead_cluster(monkeypatch, tmp_path) -> Iterator[str]:
    """The address, named by ray's own file, of a cluster that no longer answers."""
    with socket.socket() as taken:  # bound, and never listening: closed, and nobody else's
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        yield address


@pytest.fixture
def sales() -> pd.DataFrame:
    """A messy table: an identifier, money, dates, gaps, a constant, and a price to predict."""
    generator = np.random.default_rng(0)
    rows = 300
    size = generator.normal(size=rows)
    kind = generator.choice(list("abcd"), rows)
    frame = pd.DataFrame(
        {
            "id": [f"order-{number}" for number in range(rows)],
            "size": size,
            "kind": kind,
            "fee": [f"${value:,.2f}" for value in generator.uniform(10, 9000, rows)],
            "when": pd.date_range("2020-01-01", periods=rows).astype(str),
            "always": 1,
            "price": 3 * size + 2 * (kind == "a") + 0.3 * generator.normal(size=rows),
        }
    )
    frame.loc[generator.choice(rows, 30), "size"] = np.nan
    return frame
