"""Experiment trackers that the user switches on: TensorBoard and MLflow.

A tracker is told what `metrics.jsonl` is told, a line an epoch, and the knobs and final scores of
the run. Its step is the number of that line, so that phases and fits follow each other. A resumed
run goes on in the same place: lines that its checkpoint knows are there once, never twice. Nothing
of a tracker is imported before one is switched on.
"""

import contextlib
import importlib.util
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stackwise.errors import KnobError, NotInstalled, RunError, nearest
from stackwise.files import read_json, write_json

VARIABLE = "STACKWISE_TRACK"
NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
EXPERIMENT = "stackwise"


class Tracker(Protocol):
    """What a session tells."""

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """These lines are what is known when a fit begins or goes on; drop all others."""
        ...

    def log(self, line: dict[str, Any]) -> None:
        """One more epoch."""
        ...

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """The end: `scores` by part of a finished run, or None; `status` as in run.json."""
        ...


def chosen(track: str | None) -> tuple[str, ...]:
    """The trackers that are switched on: `track`, or the environment's STACKWISE_TRACK.

    Args:
        track: tensorboard, mlflow, both with a comma between, or none.

    Raises:
        KnobError: there is no such tracker. NotInstalled: its package is missing.
    """
    words = (track if track is not None else os.environ.get(VARIABLE, "")).split(",")
    names = tuple(dict.fromkeys(word.strip().lower() for word in words if word.strip()))
    if names in ((), ("none",)):
        return ()
    for name in names:
        if name not in NEEDS:
            raise KnobError(
                f"track takes tensorboard, mlflow or none, got {name!r}.{nearest(name, NEEDS)}"
            )
        missing = [part for part in NEEDS[name] if importlib.util.find_spec(part) is None]
        if missing:
            raise NotInstalled(
                f"tracking with {name} needs {' and '.join(missing)}: "
                'pip install "stackwise[track]"'
            )
    return names


@contextlib.contextmanager
def tracked(names: tuple[str, ...], out: Path, record: dict[str, Any]) -> Iterator[list[Tracker]]:
    """Open the trackers of a run, and close them with the scores that `record` holds at the end.

    Args:
        names: from `chosen`.
        out: the run's folder.
        record: the content of run.json, which the run goes on filling.
    """
    opened: list[Tracker] = []
    status = "failed"
    try:
        for name in names:
            opened.append(_Forgiving(name, _open(name, out, record)))
        yield opened
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    except Exception as error:
        status = "interrupted" if type(error).__name__ == "Interrupted" else "failed"
        raise
    finally:
        for tracker in opened:
            tracker.close(record.get("scores") if status == "finished" else None, status)


def _open(name: str, out: Path, record: Mapping[str, Any]) -> Tracker:
    try:
        return TensorBoard(out, record) if name == "tensorboard" else MLflow(out, record)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(f"the tracker {name} cannot be opened: {why}") from error


def settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters: the method, the seed, the preset, the data and each knob."""
    about = {name: record.get(name) for name in ("slug", "seed", "preset", "threads")}
    data = record.get("data")
    if isinstance(data, Mapping):
        about["data"] = data.get("name")
    knobs = {f"knob/{name}": value for name, value in (record.get("knobs") or {}).items()}
    return {name: value for name, value in (about | knobs).items() if value is not None}


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The scalars of an epoch: `train/loss`, `validation/rmse`, ... and `seconds`."""
    found = {
        name.replace("_", "/", 1): float(value)
        for name, value in (line.get("metrics") or {}).items()
        if value is not None
    }
    return found | {"seconds": float(line.get("seconds") or 0.0)}


def final(scores: Mapping[str, Mapping[str, float]] | None) -> dict[str, float]:
    """The scores of a finished run: `final/test/rmse`, ..."""
    return {
        f"final/{part}/{name}": float(value)
        for part, values in (scores or {}).items()
        for name, value in values.items()
        if value is not None
    }


class TensorBoard:
    """Event files in `<run>/tracking/tensorboard`.

    Event files can only grow, so a resumed run writes them anew from the lines that it keeps.
    """

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        self.folder = out / "tracking" / "tensorboard"
        self.knobs = settings(record)
        self.step = 0
        self.writer = self._begun()

    def _begun(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self.folder, ignore_errors=True)
        writer = SummaryWriter(str(self.folder))
        # the table of hyper-parameters is written with the scores; this is there from the start
        text = "\n".join(f"- {name}: {value}" for name, value in self.knobs.items())
        writer.add_text("knobs", text)
        return writer

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """Begin the files again where they do not hold just these lines."""
        if self.step != len(lines):
            self.writer.close()
            self.writer, self.step = self._begun(), 0
            for line in lines:
                self.log(line)

    def log(self, line: dict[str, Any]) -> None:
        """One more step of each scalar, on the disk at once."""
        self.step += 1
        for name, value in scalars(line).items():
            self.writer.add_scalar(name, value, self.step)
        self.writer.flush()

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """Write the table of hyper-parameters where the run has scores."""
        if scores:
            simple = (bool, int, float, str)
            knobs = {n: v if isinstance(v, simple) else str(v) for n, v in self.knobs.items()}
            self.writer.add_hparams(knobs, final(scores), run_name=".", global_step=self.step)
        self.writer.close()


class MLflow:
    """A run of the experiment `stackwise` at MLFLOW_TRACKING_URI, else in `mlflow.db` beside `out`.

    `<run>/tracking/mlflow.json` says which MLflow run it is, so that a resumed run finds it.
    Metrics there cannot be taken back: what a step has already is not written again. A repeated
    epoch has the same values, so nothing is lost.
    """

    def __init__(self, out: Path, record: Mapping[str, Any]) -> None:
        # its usage reports would ask the network; a user's own setting stands
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # a server that does not answer is said within seconds, not after minutes of asking again
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from mlflow import MlflowClient

        logging.getLogger("mlflow.store").setLevel(logging.WARNING)
        local = f"sqlite:///{(out.resolve().parent / 'mlflow.db')}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        self.client = MlflowClient(tracking_uri=uri)
        self.place = out / "tracking" / "mlflow.json"
        self.step = 0
        self.run = self._found(uri) or self._made(uri, out.name, settings(record))
        metrics = self.client.get_run(self.run).data.metrics
        self.there = {
            (name, item.step)
            for name in metrics
            for item in self.client.get_metric_history(self.run, name)
        }

    def _found(self, uri: str) -> str | None:
        """The MLflow run of an earlier process, if the store still has it."""
        from mlflow.exceptions import MlflowException

        if not self.place.is_file():
            return None
        kept = read_json(self.place)
        if kept.get("uri") != uri:
            return None
        try:
            self.client.update_run(kept["run"], status="RUNNING")
        except MlflowException:
            return None
        return str(kept["run"])

    def _made(self, uri: str, name: str, knobs: Mapping[str, Any]) -> str:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            with contextlib.suppress(MlflowException):  # another process may be faster
                self.client.create_experiment(EXPERIMENT)
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        made = str(self.client.create_run(experiment.experiment_id, run_name=name).info.run_id)
        params = [Param(key, str(value)[:6000]) for key, value in knobs.items()]
        self.client.log_batch(made, params=params)
        write_json(self.place, {"uri": uri, "experiment": EXPERIMENT, "run": made})
        return made

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """Go on behind these lines; those that the store lacks are written."""
        self.step = 0
        for line in lines:
            self.log(line)

    def log(self, line: dict[str, Any]) -> None:
        """One more step of each scalar."""
        self.step += 1
        self._write(scalars(line))

    def _write(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        new = [name for name in values if (name, self.step) not in self.there]
        now = int(time.time() * 1000)
        if new:
            metrics = [Metric(name, values[name], now, self.step) for name in new]
            self.client.log_batch(self.run, metrics=metrics)
            self.there |= {(name, self.step) for name in new}

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """Write the final scores and end the MLflow run."""
        self._write(final(scores))
        ended = {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self.client.set_terminated(self.run, ended)


class _Forgiving:
    """A tracker that fails while the run goes on is left out with a warning: the run counts."""

    def __init__(self, name: str, inner: Tracker) -> None:
        self.name = name
        self.inner: Tracker | None = inner

    def _tell(self, method: str, *words: Any) -> None:
        if self.inner is None:
            return
        try:
            getattr(self.inner, method)(*words)
        except Exception as error:
            self.inner = None
            why = " ".join(str(error).split())[:300]
            warnings.warn(f"tracking with {self.name} has ended: {why}", stacklevel=4)

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        self._tell("rewind", lines)

    def log(self, line: dict[str, Any]) -> None:
        self._tell("log", line)

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        self._tell("close", scores, status)
