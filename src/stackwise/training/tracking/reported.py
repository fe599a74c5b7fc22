"""How a tracker of accelerate's is told a run: each step once, in the same place after a resume.

What most trackers have they keep, so `tracking/<name>.json` says how far one was told, and an epoch
that is repeated after a kill, with the same values, is not told again. TensorBoard's files are
written anew instead.
"""

import contextlib
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stackwise.files import read_json, write_json

EXPERIMENT = "stackwise"


def classes() -> Mapping[str, Any]:
    """accelerate's tracker classes by name, with those that were registered with it."""
    from accelerate import tracking

    found: Mapping[str, Any] = tracking.LOGGER_TYPE_TO_CLASS
    return found


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


KEPT = {"steps?": int, "run?": (str, None)}
"""What `tracking/<name>.json` holds."""


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """accelerate's trackers ask which process this is; where no fit has said so yet, the only one.

    What they print goes to stderr: stdout holds a command's answer.
    """
    from accelerate.state import PartialState

    made = not PartialState._shared_state
    if made:
        PartialState(cpu=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if made:  # the loop chooses its own device
            PartialState._reset_state()


class Reported:
    """One of accelerate's trackers, told each step once: `tracking/<name>.json` says how many.

    Attributes:
        told: steps that it has been told, by this process and earlier ones.
        step: the number of the last line that the run knows.
    """

    def __init__(self, name: str, out: Path, record: Mapping[str, Any]) -> None:
        self.name, self.out = name, out
        self.knobs = settings(record)
        self.place = out / "tracking" / f"{name}.json"
        kept = read_json(self.place, KEPT) if self.place.is_file() else {}
        self.step, self.told = 0, int(kept.get("steps", 0))
        self.run = str(kept.get("run") or uuid.uuid4().hex)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.tracker = self._begun(new=not kept)

    def _begun(self, *, new: bool) -> Any:
        """accelerate's tracker, which has been told the knobs where its run is `new`."""
        made = classes()[self.name]
        folder = [str(self.place.parent)] if made.requires_logging_directory else []
        with _telling():
            tracker = made(EXPERIMENT, *folder, **self._same_run())
            tracker.start()
            if new:
                tracker.store_init_configuration(_simple(self.knobs))
        return tracker

    def _same_run(self) -> dict[str, Any]:
        """Arguments by which a resumed run finds itself again.

        Of a tracker that is not named here a resumed run makes a second run, of the later steps.
        """
        name, folder = self.out.name, str(self.place.parent)
        return {
            "wandb": {"id": self.run, "name": name, "dir": folder, "resume": "allow"},
            "swanlab": {"id": self.run, "name": name, "log_dir": folder, "resume": "allow"},
            "trackio": {"name": f"{name}-{self.run[:8]}", "resume": "allow"},
            "comet_ml": {"experiment_key": self.run},
        }.get(self.name, {})

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """Go on behind these lines; those that it was not told yet are told now."""
        self.step = 0
        for line in lines:
            self.log(line)

    def log(self, line: dict[str, Any]) -> None:
        """One more step of each scalar."""
        self.step += 1
        if self.step > self.told:
            self.told = self.step
            self._keep()  # first: a kill in between loses a point and doubles none
            self._write(scalars(line))

    def _keep(self) -> None:
        write_json(self.place, {"run": self.run, "steps": self.told})

    def _write(self, values: Mapping[str, float]) -> None:
        with _telling():
            self.tracker.log(dict(values), step=self.step)

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """Write the final scores and end the tracker's run."""
        if scores:
            self._write(final(scores))
        self._finish(status)

    def _finish(self, status: str) -> None:
        with _telling():
            self.tracker.finish()


class TensorBoard(Reported):
    """Event files in `<run>/tracking/tensorboard`.

    Event files can only grow, so a resumed run writes them anew from the lines that it keeps.
    """

    def _begun(self, *, new: bool) -> Any:
        shutil.rmtree(self.place.with_suffix(""), ignore_errors=True)
        self.step = self.told = 0
        made = classes()[self.name]
        # the table of hyper-parameters is written with the scores; this is there from the start
        text = "\n".join(f"- {name}: {value}" for name, value in self.knobs.items())
        with _telling():
            tracker = made(self.name, str(self.place.parent))
            tracker.start()
            tracker.log({"knobs": text})
        return tracker

    def rewind(self, lines: list[dict[str, Any]]) -> None:
        """Begin the files again where they do not hold just these lines."""
        if self.step != len(lines):
            self._finish("running")
            self.tracker = self._begun(new=True)
            for line in lines:
                self.log(line)

    def _keep(self) -> None:
        """The files say themselves how far they are."""

    def close(self, scores: Mapping[str, Mapping[str, float]] | None, status: str) -> None:
        """Write the table of hyper-parameters where the run has scores."""
        if scores:
            self.tracker.tracker.add_hparams(
                _simple(self.knobs), final(scores), run_name=".", global_step=self.step
            )
        self._finish(status)


class MLflow(Reported):
    """A run of the experiment `stackwise` at MLFLOW_TRACKING_URI, else in `mlflow.db` beside `out`.

    `<run>/tracking/mlflow.json` says which MLflow run it is, so that a resumed run finds it; the
    store itself says how many steps that has.
    """

    def _begun(self, *, new: bool) -> Any:
        # its usage reports would ask the network; a user's own setting stands
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # a server that does not answer is said within seconds, not after minutes of asking again
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        import mlflow

        logging.getLogger("mlflow.store").setLevel(logging.WARNING)
        local = f"sqlite:///{(self.out.resolve().parent / 'mlflow.db')}"
        # None unsets it again, which MLflow's annotations do not say
        self.uri_before: Any = os.environ.get("MLFLOW_TRACKING_URI") or None
        self.uri = self.uri_before or local
        mlflow.set_tracking_uri(self.uri)  # also sets the variable
        try:
            return self._opened(mlflow.MlflowClient())
        except BaseException:
            self._leave()
            raise

    def _opened(self, client: Any) -> Any:
        """accelerate's tracker on the MLflow run of an earlier process, or on a new one."""
        import mlflow

        run = self._found(client)
        if client.get_experiment_by_name(EXPERIMENT) is None:
            with contextlib.suppress(mlflow.MlflowException):  # another process may be faster
                client.create_experiment(EXPERIMENT)
        inside = mlflow.active_run() is not None  # the caller's own run stays open around this one
        with _telling():
            tracker = classes()[self.name](
                EXPERIMENT, run_id=run, run_name=self.out.name, nested_run=inside
            )
            tracker.start()
            self.run = tracker.tracker.info.run_id
            if run is None:
                texts = {name: str(value)[:6000] for name, value in self.knobs.items()}
                tracker.store_init_configuration(texts)
        steps = [m.step for m in client.get_metric_history(self.run, "seconds")]
        self.told = max(steps, default=0)
        self._keep()
        return tracker

    def _found(self, client: Any) -> str | None:
        """The MLflow run of an earlier process, if the store still has it."""
        from mlflow.exceptions import MlflowException

        kept = read_json(self.place, KEPT) if self.place.is_file() else {}
        if kept.get("uri") != self.uri:
            return None
        try:
            client.get_run(kept["run"])
        except MlflowException:
            return None
        return str(kept["run"])

    def _keep(self) -> None:
        kept = {"uri": self.uri, "experiment": EXPERIMENT, "run": self.run}
        write_json(self.place, kept | {"steps": self.told})

    def _finish(self, status: str) -> None:
        import mlflow

        # accelerate's own end would call every run finished
        try:
            mlflow.end_run({"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))
        finally:
            self._leave()

    def _leave(self) -> None:
        import mlflow

        mlflow.set_tracking_uri(self.uri_before)


def _simple(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Values that every tracker takes: lists and dicts as words."""
    simple = (bool, int, float, str)
    return {name: v if isinstance(v, simple) else str(v) for name, v in knobs.items()}
