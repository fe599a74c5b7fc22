"""What the terminal shows while something runs, drawn on a console that records."""

import io
import time
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from rich.console import Console

from stackwise.progress import live, live_study, part_of, spoken
from stackwise.report import compare, compare_tables
from stackwise.studies.jobs import Shared
from stackwise.studies.schedule import Schedule
from stackwise.tasks.table.task import TableTask
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop
from stackwise.training.session import session

EPOCH = {"phase": "train", "epoch": 3, "max_epochs": 10, "step": 30, "steps": 100, "seconds": 4.0,
         "metrics": {"train_loss": 0.25}}  # fmt: skip


def terminal() -> Console:
    """A terminal of 140 columns that nobody looks at."""
    return Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=140)


def log_file() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def drawn(take, width: int = 140) -> list[str]:
    """The lines that renew themselves, as they stand."""
    console = Console(file=io.StringIO(), record=True, width=width)
    console.print(take.board.get_renderable())
    return [line.rstrip() for line in console.export_text().splitlines()]


def written(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


@pytest.fixture
def sources(sales: pd.DataFrame, tmp_path) -> list[str]:
    for name in ("first", "second"):
        sales.to_csv(tmp_path / f"{name}.csv", index=False)
    return [f"{tmp_path / name}.csv:price" for name in ("first", "second")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"), (600, "10 min"),
        (22_248, "6 h 11 min"), (3600, "1 h"), (86_000, "23 h 53 min"), (90_000, "1 day 1 h"),
        (700_000, "8 days 2 h"),
    ],
)  # fmt: skip
def test_a_span_of_time_is_said_in_words(seconds: float, words: str):
    assert spoken(seconds) == words


def test_a_run_shows_where_it_is_and_the_time_left_where_that_is_known():
    with live(quiet=False, console=terminal()) as take:
        assert drawn(take)[0].endswith("0 s gone")  # before the first epoch it says that it lives
        take(EPOCH | {"seconds_left": None})
        (line,) = drawn(take)
        assert "train epoch 3/10  train_loss 0.25" in line and "left" not in line
        take(EPOCH | {"seconds_left": 200.0})
        assert drawn(take)[0].endswith(" about 3 min 20 s left")
        take(EPOCH | {"seconds_left": 60.0, "at_most": True})
        assert drawn(take)[0].endswith(" at most 1 min left")
        take({"state": "concluding", "note": "scoring the held-out rows"})
        assert "scoring the held-out rows" in drawn(take)[0] and "left" not in drawn(take)[0]


def test_between_epochs_the_last_ones_metrics_stay():
    with live(quiet=False, console=terminal()) as take:
        take(EPOCH)
        take({name: value for name, value in EPOCH.items() if name != "metrics"} | {"epoch": 4})
        assert "train epoch 4/10  train_loss 0.25" in drawn(take)[0]
        take({"phase": "deep", "epoch": 0, "max_epochs": 5})
        assert "train_loss" not in drawn(take)[0]


def test_a_narrow_terminal_cuts_what_runs_and_never_the_time():
    narrow = Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=60)
    with live(quiet=False, console=narrow) as take:
        take(EPOCH | {"seconds_left": 200.0, "metrics": {"validation_log_loss": 0.125}})
        (line,) = drawn(take, width=60)
    assert "train epoch 3/10  va…" in line and line.endswith("about 3 min 20 s left")


def test_names_in_brackets_are_shown_as_they_are():
    with live(quiet=False, console=terminal()) as take:
        take(EPOCH | {"phase": "[bold]train"})
        assert "[bold]train epoch 3/10" in drawn(take)[0]


def test_what_runs_once_for_all_folds_counts_those_to_come():
    event = part_of(EPOCH | {"seconds_left": 6.0}, 1, 4, "fold")
    assert event["phase"] == "fold 2 of 4"
    assert event["seconds_left"] == 6.0 + 2 * (4.0 + 6.0)
    assert event["done"] == pytest.approx((1 + 0.3) / 4)
    assert part_of(EPOCH | {"seconds_left": None}, 1, 4, "fold")["seconds_left"] is None


def test_a_log_gets_a_line_where_a_phase_begins_and_after_a_silence(monkeypatch):
    console = log_file()
    with live(quiet=False, console=console) as take:
        for epoch in range(1, 200):
            take(EPOCH | {"epoch": epoch, "max_epochs": 200, "seconds_left": None})
        monkeypatch.setattr("stackwise.progress.run.SILENCE", 0.0)
        take(EPOCH | {"epoch": 200, "max_epochs": 200, "seconds_left": 90.0})
        monkeypatch.undo()
        take({"state": "concluding", "note": "scoring the held-out rows"})
    assert written(console) == [
        "train epoch 1/200  train_loss 0.25  4 s gone",
        "train epoch 200/200  train_loss 0.25  4 s gone, about 1 min 30 s left",
        "scoring the held-out rows",
    ]


@pytest.mark.parametrize("show", [live, live_study])
def test_quiet_takes_no_event(show, capsys):
    with show(quiet=True) as take:
        assert take is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("show", [live, live_study])
def test_of_several_processes_the_first_alone_shows_anything(show, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with show(quiet=False, console=terminal()) as take:
        assert take is None


def test_progress_goes_to_stderr(capsys):
    with live(quiet=False) as take:
        take(EPOCH)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("train epoch 3/10")


def planned(*runs: str) -> dict:
    jobs = [{"run": name, "slug": name.partition("-")[0], "weight": 1.0} for name in runs]
    return {"state": "planned", "runs": jobs}


def test_a_study_shows_how_many_runs_are_done_and_what_runs_now():
    console = terminal()
    with live_study(quiet=False, console=console) as take:
        take(planned("mlp-seed0", "tabm-seed0", "mlp-seed1"))
        assert "0 of 3 runs done" in drawn(take)[0]
        take({"state": "started", "run": "mlp-seed0"})
        take({"state": "started", "run": "tabm-seed0"})
        take(EPOCH | {"state": "training", "run": "tabm-seed0"})
        over_all, first, second = drawn(take)
        assert "mlp-seed0 started" in first
        assert "tabm-seed0 train epoch 3/10  train_loss 0.25" in second
        take({"state": "failed", "run": "mlp-seed0", "problem": "no [such] thing"})
        take({"state": "finished", "run": "tabm-seed0"})
        (over_all,) = drawn(take)
        assert "2 of 3 runs done, 1 failed" in over_all
        take({"state": "concluding", "note": "writing the page"})
        assert "writing the page" in drawn(take)[1]
    assert "mlp-seed0: failed: no [such] thing" in console.file.getvalue()


def test_the_time_left_of_a_study_is_said_once_each_method_was_measured(monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr("stackwise.progress.study.time.monotonic", lambda: now)
    with live_study(quiet=False, console=terminal()) as take:
        take(planned("mlp-seed0", "tabm-seed0", "mlp-seed1", "tabm-seed1"))
        for name, seconds in (("mlp-seed0", 10.0), ("tabm-seed0", 100.0)):
            take({"state": "started", "run": name})
            assert "left" not in drawn(take)[0]
            now += seconds
            take({"state": "finished", "run": name})
        assert "about 1 min 50 s left" in drawn(take)[0]
        take({"state": "started", "run": "mlp-seed1"})
        now += 5.0
        take({"state": "started", "run": "tabm-seed1"})  # two side by side
        assert "about 52 s left" in drawn(take)[0]


def test_runs_that_had_finished_before_say_nothing_of_the_time_left():
    with live_study(quiet=False, console=terminal()) as take:
        take(planned("mlp-seed0", "mlp-seed1"))
        take({"state": "started", "run": "mlp-seed0"})
        take({"state": "finished", "run": "mlp-seed0"})
        assert "1 of 2 runs done" in drawn(take)[0] and "left" not in drawn(take)[0]


def counts(lines: list[str]) -> list[int]:
    """The runs that each line says are done."""
    found = [line.partition(" of ")[0].split("(")[-1] for line in lines if "runs done" in line]
    return [int(text.split()[-1]) for text in found]


def test_a_comparison_in_a_log_counts_up_and_names_what_follows_its_runs(sales, tmp_path):
    console = log_file()
    with live_study(quiet=False, console=console) as take:
        compare(
            sales, target="price", out=tmp_path / "cmp", methods=["linear"], seeds=2,
            tune=1, stack=True, on_event=take,
        )  # fmt: skip
    lines = written(console)
    done = counts(lines)
    assert done == list(range(1, 6))  # a search, two fits, two with the knobs that were found
    assert all(" of 5 runs done" in line for line in lines if "runs done" in line)
    last = max(place for place, line in enumerate(lines) if ": finished" in line)
    assert lines[last + 1 :] == [
        "joining the runs into an ensemble", "ranking, and the winner's feature importance",
        "writing the page",
    ]  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A job that leaves a file."""

    name: str
    slug: str = "mlp"
    seed: int = 0
    weight: float = 1.0

    def do(self, shared: Shared, seconds: float | None, on_event: object) -> None:
        (shared.out / self.name).write_text("done")


def test_runs_of_other_processes_begin_and_end_in_the_display(sales, tmp_path):
    console, told = log_file(), []
    jobs = [Written(f"mlp-seed{seed}") for seed in range(4)]
    task = TableTask.load(sales, target="price")
    with live_study(quiet=False, console=console) as take:
        Schedule(workers=2).run(jobs, Shared(task, tmp_path), on_event=lambda event: (
            told.append((event["run"], event["state"])), take(event),
        ))  # fmt: skip
    assert all((tmp_path / job.name).is_file() for job in jobs)
    assert len(told) == 8 and [state for _, state in told[:2]] == ["started", "started"]
    for job in jobs:
        assert told.index((job.name, "started")) < told.index((job.name, "finished"))
    assert counts(written(console)) == [1, 2, 3, 4]


def test_several_tables_are_one_count(sources, tmp_path):
    console = log_file()
    with live_study(quiet=False, console=console) as take:
        compare_tables(sources, out=tmp_path / "both", methods=["linear"], seeds=1, on_event=take)
    lines = written(console)
    assert [line for line in lines if "runs done" in line and "finished" not in line] == [
        "table 1 of 2, 0 of 1 runs done", "table 2 of 2, 0 of 1 runs done",
    ]  # fmt: skip
    assert lines[-2:] == ["ranking over all of them", "writing the pages"]


def seconds_left(patience: int | None, limit: float | None) -> list[dict]:
    events: list[dict] = []
    x = torch.randn(64, 1)
    batches = ArrayBatches({"x": x, "y": 2 * x}, 32)

    def loss(model, batch):
        time.sleep(0.005)
        return (model(batch["x"]) - batch["y"]).square().mean()

    with session(on_event=events.append, time_limit=limit):
        train(torch.nn.Linear(1, 1), Backprop(loss), batches, max_epochs=6, patience=patience)
    return events


def test_a_fit_without_patience_knows_when_it_ends(monkeypatch):
    monkeypatch.setattr("stackwise.training.loop.PACE_AFTER", 0.0)
    events = seconds_left(None, None)
    assert [event["at_most"] for event in events] == [False] * len(events)
    assert events[0]["seconds_left"] > events[-2]["seconds_left"] > events[-1]["seconds_left"] == 0


def test_a_fit_with_patience_says_a_time_only_where_a_limit_gives_one(monkeypatch):
    monkeypatch.setattr("stackwise.training.loop.PACE_AFTER", 0.0)
    assert {event["seconds_left"] for event in seconds_left(5, None)[:-1]} == {None}
    limited = seconds_left(5, 30.0)[:-1]
    assert all(0 < event["seconds_left"] <= 30 and event["at_most"] for event in limited)


def test_no_time_left_is_said_in_the_first_second():
    assert {event["seconds_left"] for event in seconds_left(None, None)[:-1]} == {None}
