import threading
import time

import psutil
import pytest

from stackwise.errors import StudyError
from stackwise.studies import compare
from stackwise.studies.jobs import FitJob, Shared
from stackwise.studies.schedule import Schedule, memory_of, side_by_side
from stackwise.tasks.table.task import TableTask

LONG = {"mlp": {"max_epochs": 25, "patience": None, "batch_size": 32}}


@pytest.fixture(scope="module")
def task():
    return TableTask.load("magic", max_rows=2500)


def scores(study):
    return {run.folder.name: run.record["scores"] for run in study.runs}


def test_a_pool_gives_the_numbers_of_one_process(task, tmp_path):
    asked = {"methods": ["mlp", "lightgbm"], "seeds": 2, "threads": 1,
             "knobs": {"mlp": {"max_epochs": 3}, "lightgbm": {"max_trees": 20}}}  # fmt: skip
    serial = compare(task, out=tmp_path / "serial", **asked)
    pool = compare(task, out=tmp_path / "pool", workers=2, **asked)
    assert scores(serial) == scores(pool)


def test_time_is_shared_by_the_weights_of_what_is_left():
    jobs = [FitJob("mlp", 0), FitJob("tabm", 0, weight=3.0)]
    schedule = Schedule(deadline=time.monotonic() + 40)
    assert schedule.share(jobs, 0) == pytest.approx(10, abs=0.5)
    assert schedule.share(jobs, 1) == pytest.approx(40, abs=0.5)
    assert schedule.share(jobs, 0, workers=2) == pytest.approx(20, abs=0.5)
    assert Schedule().share(jobs, 0) is None
    assert Schedule(deadline=time.monotonic() - 5).share(jobs, 0) == 1.0


def test_fewer_workers_run_than_would_exhaust_the_memory(task, tmp_path, monkeypatch):
    class Memory:
        available = int(2.6 * memory_of(task))

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert side_by_side(task) == 2
    said = []
    Schedule(workers=9, threads=1).run(
        [FitJob("linear", seed) for seed in range(3)], Shared(task, tmp_path), said.append
    )
    assert said[0]["note"].startswith("2 of 9 workers")


def test_a_failing_method_is_named_and_the_others_go_on(task, tmp_path):
    study = compare(
        task, out=tmp_path / "s", methods=["linear", "mlp"], seeds=1, preset="quick", threads=1,
        knobs={"mlp": {"lr": 1e30}}, workers=2,
    )  # fmt: skip
    assert list(study.record["failures"]) == ["mlp-seed0"]
    assert "the loss is nan" in study.record["failures"]["mlp-seed0"]
    assert study.winner.folder.name == "linear-seed0"


@pytest.mark.xdist_group("ray")
def test_a_cluster_that_is_not_there_is_one_clear_sentence(task, tmp_path, dead_cluster):
    with pytest.raises(StudyError, match=f"no Ray cluster to connect to at {dead_cluster}, which"):
        compare(task, out=tmp_path / "s", methods=["linear"], seeds=1, on="ray")
    with pytest.raises(StudyError, match="which --on names; start one with 'ray start --head'"):
        compare(task, out=tmp_path / "s", methods=["linear"], seeds=1, on=f"ray://{dead_cluster}")
    with pytest.raises(StudyError, match="not on 'dask'"):
        compare(task, out=tmp_path / "s", methods=["linear"], seeds=1, on="dask")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def cluster():
    """A Ray cluster of two nodes with one CPU each, on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "memory": 4 * 2**30}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.second = made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def working():
    """The processes of the cluster that do a job."""
    return [p for p in psutil.process_iter(["name"]) if p.info["name"].startswith("ray::_placed")]


def until(found, seconds=60):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_worker_and_a_node_die_in_mid_run_and_nothing_is_lost(task, tmp_path, cluster):
    asked = {"methods": ["mlp"], "seeds": 3, "threads": 1, "knobs": LONG}
    serial = compare(task, out=tmp_path / "serial", **asked)
    out, made = tmp_path / "ray", []
    events = []
    study = threading.Thread(
        target=lambda: made.append(
            compare(task, out=out, on="ray", on_event=events.append, **asked)
        )
    )
    study.start()
    until(lambda: list(out.glob("runs/*/checkpoint/*.safetensors")))
    until(working)[0].kill()
    until(lambda: any(event["state"] == "finished" for event in events))
    finished = {path.parent.name: path.stat().st_mtime_ns for path in done(out)}
    cluster.remove_node(cluster.second, allow_graceful=False)
    study.join(120)
    assert made, "the comparison did not come to its end"
    assert scores(made[0]) == scores(serial)
    for name, written in finished.items():  # a finished run is not done again
        assert (out / "runs" / name / "test_predictions.parquet").stat().st_mtime_ns == written
    weights = [run.folder / "model.safetensors" for run in serial.runs]
    for path in weights:
        assert path.read_bytes() == (out / "runs" / path.parent.name / path.name).read_bytes()


def done(out):
    from stackwise.runs import Run

    return [run.folder / "test_predictions.parquet" for run in map(Run, out.glob("runs/*"))
            if run.finished]  # fmt: skip


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_run_that_no_node_holds_is_refused_beforehand(task, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("stackwise.studies.schedule.PROCESS_BYTES", 2**45)
    with pytest.raises(StudyError, match="largest node of the cluster has"):
        compare(task, out=tmp_path / "s", methods=["linear"], seeds=1, on="ray")
