"""The command line. Each command is a thin layer over a function of the library.

Answers go to stdout, progress to stderr. With `--json` stdout holds one JSON document and nothing
else. An error is one sentence and exit code 2; an interruption exits with 130 and says how to go
on. Nothing heavy is imported before a command needs it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from stackwise.errors import Interrupted, KnobError, StackwiseError

app = typer.Typer(
    help="Published ideas for networks built as stacks, on your own data and models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Source = Annotated[str, typer.Argument(help="A file, a folder, or a data set's name.")]
ModelArgument = Annotated[
    str, typer.Argument(help="A run, a model folder, a packaged model's name, or a hub id.")
]
Target = Annotated[str | None, typer.Option(help="The column to predict.")]
Sep = Annotated[str | None, typer.Option(help="What parts the columns (found by itself).")]
Encoding = Annotated[str | None, typer.Option(help="The text encoding (utf-8).")]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; repeat.")]
Keep = Annotated[list[str] | None, typer.Option(help="Use it though it looks like an id; repeat.")]
Group = Annotated[str | None, typer.Option(help="Rows with equal values stay in one part.")]
Time = Annotated[str | None, typer.Option(help="Split by time: the latest rows are the test.")]
Split = Annotated[str | None, typer.Option(help="A column that says train, validation or test.")]
Validation = Annotated[str | None, typer.Option(help="Share of the rows (0.2), or a file.")]
Test = Annotated[str | None, typer.Option(help="Share of the rows (0.2), or a file.")]
Metric = Annotated[str | None, typer.Option(help="What better means: rmse, mae, auc, ...")]
Problem = Annotated[str | None, typer.Option(help="regression, binary or multiclass.")]
MaxRows = Annotated[int | None, typer.Option(help="Train on at most this many rows.")]
Out = Annotated[Path | None, typer.Option(help="The folder to write.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="knob=value; repeat.")]
Preset = Annotated[str | None, typer.Option(help="quick, standard or best.")]
Seed = Annotated[int, typer.Option(help="The seed.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where this command stopped.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps (found by itself).")]
Threads = Annotated[int | None, typer.Option(help="Threads of the CPU; part of the record.")]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds of training.")]
Bag = Annotated[int | None, typer.Option(help="Fit so many times, over folds, and average.", min=2)]
Track = Annotated[str | None, typer.Option(help="tensorboard or mlflow (STACKWISE_TRACK).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, run nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print(text: str = "") -> None:
    typer.echo(text)


def _emit(document: Any) -> None:
    from stackwise.files import plain

    typer.echo(json.dumps(plain(document), indent=1))


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    first, *rest = columns
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(first, no_wrap=True, overflow="fold")
    for name in rest:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # a pipe has no width of its own: do not break lines there
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


def _sets(given: list[str] | None) -> dict[str, str]:
    """Read `--set name=value`, each name once."""
    values: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name:
            raise KnobError(f"--set takes knob=value, got {item!r}")
        values[name.strip()] = text.strip()
    return values


def _data_options(**given: Any) -> dict[str, Any]:
    """The options of the data that were given; a share of the rows is a number, else a file."""
    options = {name: value for name, value in given.items() if value not in (None, [], ())}
    for part in ("validation", "test"):
        if part in options:
            try:
                options[part] = float(options[part])
            except ValueError:
                continue
    return options


def _command() -> str:
    import shlex

    return shlex.join(["stackwise", *sys.argv[1:]])


def _default_out(kind: str, slug: str, source: str) -> Path:
    stem = Path(source).stem or "data"
    return Path("probes" if kind == "probe" else "runs") / f"{slug}-{stem}"


def _open_table(source: str, target: str | None, options: dict[str, Any]) -> Any:
    from stackwise.tasks.table.task import TableTask

    return TableTask.load(source, target=target, **options)


def _files(folder: Path, names: Iterable[str]) -> list[str]:
    return [str(folder / name) for name in names if (folder / name).exists()]


def _ends(document: dict[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """End a command: its files and the next useful command, or one JSON document."""
    if as_json:
        _emit(document)
        return
    for line in lines:
        _print(line)
    if document.get("files"):
        _print("Wrote " + ", ".join(document["files"]))
    if document.get("next"):
        _print("Next: " + document["next"])


@app.command("list")
def list_methods(
    verb: Annotated[str | None, typer.Option(help="Only methods of this verb.")] = None,
    task: Annotated[str | None, typer.Option(help="Only methods that serve this task.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The catalog of methods."""
    from stackwise.catalog import VERBS, cards
    from stackwise.errors import UnknownName, nearest

    known = cards(baselines=False)
    if verb is not None and verb not in VERBS:
        raise UnknownName(f"there is no verb {verb!r}.{nearest(verb, VERBS)}")
    tasks = {name for of in known.values() for name in of.tasks}
    if task is not None and task not in tasks:
        raise UnknownName(f"no method serves the task {task!r}.{nearest(task, tasks)}")
    picked = [
        of
        for of in known.values()
        if (verb is None or of.verb == verb) and (task is None or task in of.tasks)
    ]
    if as_json:
        _emit(
            [
                {
                    "slug": of.slug,
                    "verb": of.verb,
                    "kinds": of.kinds,
                    "tasks": list(of.tasks),
                    "verified": bool(of.verified),
                    "title": of.title,
                    "paper": of.paper,
                    "summary": of.summary,
                }
                for of in picked
            ]
        )
        return
    _table(
        ("method", "verb", "kind", "tasks", "verified", "what it does"),
        [
            (of.slug, of.verb, ", ".join(of.kinds), ", ".join(of.tasks) or "any model",
             "yes" if of.verified else "no", of.title)
            for of in picked
        ],
    )  # fmt: skip
    _print("Next: stackwise show METHOD")


@app.command()
def show(
    slug: Annotated[str, typer.Argument(help="The method.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A method's card: what it does, its knobs and its evidence."""
    from stackwise.catalog import card
    from stackwise.evidence import committed

    of = card(slug)
    evidence = committed(slug)
    if as_json:
        _emit(of.as_dict() | {"verified": bool(of.verified), "evidence": evidence})
        return
    _print(f"{of.slug}: {of.title}")
    _print(of.summary)
    if of.paper:
        _print(f"Source: arXiv {of.paper}")
    knobs = {name: spec for entry in of.entries for name, spec in entry.knobs.items()}
    _table(
        ("knob", "default", "takes", "what it is"),
        [
            (name, "required" if spec.required else spec.default, spec.describe(), spec.knob.help)
            for name, spec in knobs.items()
        ],
    )
    for name, values in of.presets.items():
        words = ", ".join(f"{knob}={value}" for knob, value in values.items())
        _print(f"preset {name}: {words or 'the defaults'}")
    if evidence:
        _print(f"evidence at scale {evidence['scale']} (commit {evidence['commit']}):")
        _table(
            ("claim", "verdict"),
            [(claim["statement"], claim["verdict"]) for claim in evidence["claims"]],
        )
    kind = of.kinds[0]
    first = {
        "learner": f"stackwise fit {slug} DATA --target COLUMN",
        "transform": f"stackwise apply {slug} MODEL",
        "probe": f"stackwise probe {slug} MODEL",
    }[kind]
    _print(f"Next: {first}")


@app.command()
def fit(
    slug: Annotated[str, typer.Argument(help="The method; 'stackwise list' shows them.")],
    source: Source,
    target: Target = None,
    sep: Sep = None,
    encoding: Encoding = None,
    drop: Drop = None,
    keep: Keep = None,
    group: Group = None,
    time: Time = None,
    split: Split = None,
    validation: Validation = None,
    test: Test = None,
    metric: Metric = None,
    problem: Problem = None,
    max_rows: MaxRows = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    bag: Bag = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit one method on your data: a run."""
    from stackwise import runs
    from stackwise.catalog import card
    from stackwise.progress import live

    of = card(slug)
    of.entry("learner")
    folder = out or _default_out("fit", slug, source)
    options = _data_options(
        sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
        validation=validation, test=test, metric=metric, problem=problem, max_rows=max_rows,
    )  # fmt: skip
    task = _open_table(source, target, options)
    knobs = _sets(sets)
    entry = of.entry("learner", task.problem)
    values = runs.chosen_knobs(of, entry, preset, knobs)
    if dry_run:
        _say_dry_run(as_json, {"method": slug, "knobs": values, "out": str(folder)}, task)
        return
    with live(quiet=as_json) as on_event:
        run = runs.fit_run(
            slug, task, out=folder, knobs=knobs, preset=preset, seed=seed, resume=resume,
            device=device, threads=threads, time_limit=time_limit, bag=bag, on_event=on_event,
            command=_command(), track=track,
        )  # fmt: skip
    _end_of_run(run, as_json, f"stackwise predict {folder} NEW.csv -o predictions.csv")


def _say_dry_run(as_json: bool, document: dict[str, Any], task: Any) -> None:
    if as_json:
        _emit(document | {"data": task.describe(), "columns": task.columns})
        return
    _print(f"Would write {document['out']}; nothing was run.")
    for note in task.notes:
        _print(f"  {note}")
    _table(
        ("column", "kind", "what is done"),
        [(item["column"], item["kind"], item["done"]) for item in task.columns],
    )


def _end_of_run(run: Any, as_json: bool, following: str) -> None:
    record = run.record
    names = ("run.json", "model.json", "model.safetensors", "metrics.jsonl", "model")
    document = {
        "folder": str(run.folder),
        "slug": record["slug"],
        "scores": record.get("scores"),
        "seconds": record.get("seconds"),
        "files": _files(run.folder, names),
        "next": following,
    }
    lines = []
    for part, scores in (record.get("scores") or {}).items():
        words = ", ".join(
            f"{name} {value:.5g}" for name, value in scores.items() if value is not None
        )
        lines.append(f"{part}: {words}")
    _ends(document, lines, as_json)


@app.command()
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A file, a folder or a data set's name; several as FILE:TARGET, or a TOML list."
        ),
    ],
    target: Target = None,
    sep: Sep = None,
    encoding: Encoding = None,
    drop: Drop = None,
    keep: Keep = None,
    group: Group = None,
    time: Time = None,
    split: Split = None,
    validation: Validation = None,
    test: Test = None,
    metric: Metric = None,
    problem: Problem = None,
    max_rows: MaxRows = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method; repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 3,
    out: Out = None,
    preset: Preset = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="method.knob=value; repeat.")
    ] = None,
    tune: Annotated[
        int | None, typer.Option(help="Search each method's knobs with so many fits.", min=1)
    ] = None,
    bag: Bag = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Join all runs into one stacked ensemble.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", help="Run on a Ray cluster: ray, or ray://host:port.")
    ] = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    workers: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 1,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Every method that serves your data, and baselines: who wins, how much, at what cost."""
    from stackwise import studies
    from stackwise.progress import live_study

    knobs: dict[str, dict[str, Any]] = {}
    for name, text in _sets(sets).items():
        slug, dot, knob = name.partition(".")
        if not dot:
            raise KnobError(f"in compare, --set names the method too: tabm.{name}={text}")
        knobs.setdefault(slug, {})[knob] = text
    options = _data_options(
        sep=sep, encoding=encoding, drop=drop, keep=keep, group=group, time=time, split=split,
        validation=validation, test=test, metric=metric, problem=problem, max_rows=max_rows,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "methods": methods, "seeds": seeds, "preset": preset, "knobs": knobs, "tune": tune,
        "bag": bag, "stack": stack, "on": on, "device": device, "threads": threads,
        "workers": workers, "track": track,
    }  # fmt: skip
    several = len(sources) > 1 or Path(sources[0]).suffix == ".toml"
    folder = out or _default_out("compare", "compare", "tables" if several else sources[0])
    if dry_run or not several:
        first = studies.read_sources(sources, target, options)[0]
        task = _open_table(first.source, first.target, dict(first.options))
    if dry_run:
        chosen = studies.plan(task, methods, preset, knobs)
        _say_dry_run(as_json, {"methods": chosen, "seeds": seeds, "out": str(folder)}, task)
        return
    limits: dict[str, Any] = {"resume": resume, "time_limit": time_limit, "command": _command()}
    with live_study(quiet=as_json) as on_event:
        if several:
            bench = studies.compare_tables(
                sources, out=folder, target=target, data_options=options, on_event=on_event,
                **limits, **settings,
            )  # fmt: skip
            _end_of_benchmark(bench, as_json)
            return
        study = studies.compare(task, out=folder, on_event=on_event, **limits, **settings)
    _end_of_study(study, as_json)


def _end_of_study(study: Any, as_json: bool) -> None:
    record, folder = study.record, study.folder
    name = record["metric"]["name"]
    document = {
        "folder": str(folder),
        "metric": record["metric"],
        "ranking": record["ranking"],
        "winner": record["winner"],
        "failures": record["failures"],
        "files": _files(folder, ("report.html", "study.json", "plan.json")),
        "next": f"stackwise predict {study.winner.folder} NEW.csv -o predictions.csv",
    }
    if not as_json:
        _table(
            ("method", f"test {name}", "95 % interval", "rank", "fit s", "ms per 1000", "MB"),
            [
                (row["method"], f"{row['mean']:.5g}", _interval(row), f"{row['rank']:.1f}",
                 f"{row['fit_seconds']:.1f}", f"{row['predict_ms']:.1f}", f"{row['size_mb']:.2f}")
                for row in record["ranking"]
            ],
        )  # fmt: skip
    failures = [f"failed: {run}: {why}" for run, why in record["failures"].items()]
    _ends(document, [*failures, f"Keep: {study.winner.folder}"], as_json)


def _end_of_benchmark(bench: Any, as_json: bool) -> None:
    record = bench.record
    document = {"folder": str(bench.folder)} | record
    document["winners"] = {name: str(study.winner.folder) for name, study in bench.studies.items()}
    document["files"] = _files(bench.folder, ("report.html", "benchmark.json", "plan.json"))
    document["next"] = f"stackwise predict {bench.folder}/TABLE NEW.csv -o predictions.csv"
    if not as_json:
        _table(
            ("method", "mean rank", "95 % interval", "best on"),
            [
                (row["method"], f"{row['rank']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}",
                 row["wins"])
                for row in record["methods"]
            ],
        )  # fmt: skip
    lines = [f"failed: {name}: {why}" for name, why in record["failures"].items()]
    if record["critical_difference"] is not None:
        lines.append(
            f"Mean ranks closer than {record['critical_difference']:.2f} are not told apart by "
            f"{len(record['tables'])} tables."
        )
    _ends(document, lines, as_json)


def _interval(row: dict[str, Any]) -> str:
    return "one seed" if row["low"] is None else f"{row['low']:.5g} to {row['high']:.5g}"


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A finished run of a learner, or a study.")],
    source: Source,
    output: Annotated[
        Path, typer.Option("-o", "--output", "--out", help="The file to write.")
    ] = Path("predictions.csv"),
    sep: Sep = None,
    encoding: Encoding = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict new rows with a run: a column `prediction`, and one a class with probabilities."""
    from stackwise import runs
    from stackwise.errors import RunError
    from stackwise.tasks.table.task import write_predictions

    learner = runs.load(run)
    if not hasattr(learner, "predict"):
        raise RunError(f"{run} holds a {type(learner).__name__}, which does not predict rows")
    rows = write_predictions(output, learner, source, sep=sep, encoding=encoding)
    _ends({"rows": rows, "files": [str(output)]}, [f"{rows} rows"], as_json)


@app.command()
def apply(
    slug: Annotated[str, typer.Argument(help="A transform; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to train or score on.")] = None,
    target: Target = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    track: Track = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Transform a run or a model; what comes out is a run."""
    run = _on_model(
        "transform", slug, model, data, target, out or _default_out("apply", slug, model), preset,
        sets, dry_run=dry_run, as_json=as_json, seed=seed, resume=resume, device=device,
        threads=threads, time_limit=time_limit, track=track,
    )  # fmt: skip
    if run is not None:
        _end_of_run(run, as_json, f"stackwise report {run.folder}")


@app.command()
def probe(
    slug: Annotated[str, typer.Argument(help="A probe; 'stackwise list' shows them.")],
    model: ModelArgument,
    data: Annotated[str | None, typer.Option(help="Data to probe with.")] = None,
    target: Target = None,
    out: Out = None,
    seed: Seed = 0,
    preset: Preset = None,
    sets: Sets = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look into a run or a model: tables and figures."""
    from stackwise.findings import Findings

    folder = out or _default_out("probe", slug, model)
    run = _on_model(
        "probe", slug, model, data, target, folder, preset, sets, dry_run=dry_run,
        as_json=as_json, seed=seed, resume=resume, device=device, threads=threads,
        time_limit=time_limit,
    )  # fmt: skip
    if run is None:
        return
    summary = Findings.load(folder).summary
    files = _files(folder, ("findings.json", "figures"))
    files += [str(path) for path in sorted(folder.glob("*.csv"))]
    document = {"folder": str(folder), "summary": summary, "files": files}
    document["next"] = f"stackwise report {folder}"
    _ends(document, [f"{name}: {value}" for name, value in summary.items()], as_json)


def _on_model(
    kind: Literal["transform", "probe"],
    slug: str,
    model: str,
    data: str | None,
    target: str | None,
    folder: Path,
    preset: str | None,
    sets: list[str] | None,
    *,
    dry_run: bool,
    as_json: bool,
    **settings: Any,
) -> Any:
    """Run a transform or a probe, or with `dry_run` only check what was asked; then None."""
    from stackwise import runs
    from stackwise.catalog import card
    from stackwise.progress import live

    of = card(slug)
    knobs = _sets(sets)
    values = runs.chosen_knobs(of, of.entry(kind), preset, knobs)
    opened = _data_for(model, data, target)
    if dry_run:
        _ends({"method": slug, "knobs": values, "out": str(folder)}, ["Nothing was run."], as_json)
        return None
    with live(quiet=as_json) as on_event:
        return runs.derive_run(
            kind, slug, model, out=folder, data=opened, knobs=knobs, preset=preset,
            on_event=on_event, command=_command(), **settings,
        )  # fmt: skip


def _data_for(model: str, data: str | None, target: str | None) -> Any:
    """The data of a transform or probe: read as the run's task where the model is a run."""
    from stackwise.runs import Run

    files = [Path(model) / name for name in ("run.json", "model.json")]
    if data is None or not all(file.is_file() for file in files):
        return data  # not a run of a learner: what the model takes, such as a file of text
    recorded = Run(Path(model)).record.get("data") or {}
    options = dict(recorded.get("options") or {})
    return _open_table(data, target or recorded.get("target"), options)


@app.command()
def evidence(
    slugs: Annotated[list[str] | None, typer.Argument(help="Methods; all by default.")] = None,
    scale: Annotated[str, typer.Option(help="smoke, cpu or gpu.")] = "smoke",
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the claims of a method again, here."""
    from stackwise import evidence as measuring
    from stackwise.catalog import card, cards

    chosen = [card(slug).slug for slug in slugs] if slugs else list(cards(baselines=False))
    documents = []
    for slug in chosen:
        path = measuring.run(slug, scale, out=out or Path("results") / "evidence")
        document = json.loads(path.read_text(encoding="utf-8"))
        documents.append(document | {"file": str(path)})
        if not as_json:
            _print(f"{slug} at scale {scale}, {document['seconds']:.0f} s")
            _table(
                ("claim", "verdict"),
                [(claim["statement"], claim["verdict"]) for claim in document["claims"]],
            )
    if as_json:
        _emit(documents)
    else:
        _print("Wrote " + ", ".join(document["file"] for document in documents))


@app.command("runs")
def list_runs(
    root: Annotated[Path, typer.Argument(help="Where to look.")] = Path(),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The runs below a folder."""
    from stackwise import runs

    records = []
    for run in runs.find(root):
        record = run.record
        records.append({"folder": str(run.folder)} | {
            key: record.get(key) for key in ("slug", "kind", "status", "seed", "scores", "seconds")
        })  # fmt: skip
    if as_json:
        _emit(records)
        return
    if not records:
        _print(f"No runs below {root}. Next: stackwise fit METHOD DATA --target COLUMN")
        return
    _table(
        ("folder", "method", "kind", "status", "seed", "test"),
        [
            (item["folder"], item["slug"], item["kind"], item["status"], item["seed"],
             _first_score(item["scores"]))
            for item in records
        ],
    )  # fmt: skip
    _print("Next: stackwise report RUN...")


def _first_score(scores: Any) -> str:
    test = (scores or {}).get("test") or {}
    return ", ".join(f"{name} {value:.4g}" for name, value in list(test.items())[:1])


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Runs, studies or probes.")],
    out: Out = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One self-contained page about runs, studies and probes."""
    from stackwise.report import build

    path = build(folders, out or Path("report.html"))
    _ends({"files": [str(path)]}, [], as_json)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A finished run of a learner.")],
    output: Annotated[Path, typer.Argument(help="The file to write, ending in .onnx.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a run's model as ONNX, with what is left to the caller beside it."""
    from stackwise import runs
    from stackwise.tasks.table.export import export as write

    files = write(runs.load(run), output)
    _ends({"files": [str(path) for path in files]}, [], as_json)


@app.command("data")
def list_data(as_json: Json = False, debug: Debug = False) -> None:
    """Data sets and models that packages carry, and whether they are here."""
    from stackwise import data

    entries = [entry.as_dict() for entry in data.names()]
    if as_json:
        _emit(entries)
        return
    _table(
        ("name", "kind", "size", "licence", "from", "here"),
        [
            (item["name"], item["kind"], item["size"], item["licence"], item["source"],
             "yes" if item["here"] else item["install"])
            for item in entries
        ],
    )  # fmt: skip


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """What this installation can do: versions, devices, optional parts, data."""
    from stackwise import machine

    document = machine.doctor()
    if as_json:
        _emit(document)
        return
    _table(("part", "state"), document.items())


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted."""
    from typer.main import get_command

    debug = "--debug" in sys.argv
    sys.exit(_guarded(lambda: get_command(app).main(standalone_mode=False), debug))


def _guarded(work: Callable[[], Any], debug: bool) -> int:
    """Run `work`; turn an error of the caller's into one sentence."""
    try:
        done = work()
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt) as error:
        sentence = str(error) or "Interrupted"
        return _fail(f"{sentence}; repeat the command with --resume to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _fail(usage(), 2)
        if type(error).__name__ == "Abort":
            return _fail("Interrupted; repeat the command with --resume to go on", 130)
        if isinstance(error, (StackwiseError, OSError)):
            return _fail(str(error), 2)
        return _fail(
            f"{type(error).__name__}: {error} (a fault in stackwise or a plug-in; "
            "repeat with --debug to see where)",
            1,
        )
    return done if isinstance(done, int) else 0


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write("Error: " + " ".join(sentence.split()) + "\n")
    return code


if __name__ == "__main__":
    main()
