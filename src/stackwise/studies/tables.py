"""Compare methods over several tables: ranks, their intervals, and which differences are real.

    compare_tables(["a.csv:price", "b.csv:label"], out="bench")

Each table is a study of its own below `out`. A method's rank on a table is its place by mean test
score; ties share. Over tables: the mean rank, its 95 % interval by drawing tables with replacement,
Friedman's test that all methods are alike, and Nemenyi's critical difference (Demsar, 2006):

    CD = q_alpha(k) sqrt(k (k + 1) / (6 N))         k methods, N tables

Methods whose mean ranks are closer than CD are not told apart by so few tables.
"""

import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackwise import runs
from stackwise.catalog import TaskCard
from stackwise.errors import DataError, KnobError, RunError, StackwiseError, StorageError
from stackwise.files import read_json, write_json
from stackwise.places import inside
from stackwise.shapes import SCORE
from stackwise.studies.compare import compare, with_role
from stackwise.studies.jobs import OnEvent
from stackwise.studies.study import Study
from stackwise.tasks import choose_task, open_task

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 2000
PLAN = {"tables": [str], "command": (str, None)}
RECORD = {
    "tables": [str],
    "methods": [{"method": str, "rank": SCORE, "low": SCORE, "high": SCORE, "wins": int}],
    "left_out": [str],
    "critical_difference": SCORE,
    "friedman_p": SCORE,
    "scores": [{"table": str, "metric": str, "method": str, "mean": SCORE}],
    "failures": {"*": str},
}
"""What benchmark.json says."""
MAY_CHANGE = ("workers", "on", "threads", "device", "track")
"""Settings with which a benchmark may be resumed although it was begun with others."""


@dataclass(frozen=True)
class TableSource:
    """One source of a benchmark: where it is, what to predict, and options of its task's `load`."""

    name: str
    source: str
    target: str | None
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's folder, read when it is asked."""

    folder: Path

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(read_json(self.folder / "plan.json", PLAN))

    @property
    def record(self) -> dict[str, Any]:
        """Mean ranks, critical difference and the scores on each table."""
        return dict(read_json(self.folder / "benchmark.json", RECORD, newest=1))

    @property
    def studies(self) -> dict[str, Study]:
        """The finished study of each table, by its name; not those that cannot be read."""
        found = {name: Study(inside(self.folder, name)) for name in self.plan["tables"]}
        return {name: study for name, study in found.items() if study.problem is None}


def read_sources(
    sources: Sequence[str], target: str | None, options: Mapping[str, Any]
) -> list[TableSource]:
    """Read `file:target` words, or a TOML file with a list of tables.

    The TOML file holds `[[table]]` entries with `source`, and where wanted `target`, `name` and
    any option of the task's `load`. Its paths are relative to the file, and stay within its
    folder: who is handed such a file can tell what it reads.

    Raises:
        DataError: the file cannot be read, or two tables have one name.
    """
    if len(sources) == 1 and Path(sources[0]).suffix == ".toml":
        found = _read_toml(Path(sources[0]), options)
    else:
        found = []
        for word in sources:
            source, asked = _word(word)
            found.append(TableSource(Path(source).stem, source, asked or target, options))
    names = [item.name for item in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"two tables are called {repeated[0]!r}; give them names in a TOML file: "
            "[[table]] name=... source=... target=..."
        )
    return found


def _word(word: str) -> tuple[str, str | None]:
    """`file:target` as its two parts; a name that is itself a file, or a hub id, has no target."""
    if Path(word).exists() or ":" not in word.removeprefix("hf://"):
        return word, None
    source, _, target = word.rpartition(":")
    return source, target


def _read_toml(path: Path, options: Mapping[str, Any]) -> list[TableSource]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} is no list of tables: {error}") from error
    entries = content.get("table")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} holds no [[table]] entry with a source")
    found = []
    for entry in entries:
        if "source" not in entry:
            raise DataError(f"{path}: the table {entry} names no source")
        own = {k: v for k, v in entry.items() if k not in ("source", "target", "name")}
        for option, value in own.items():
            if isinstance(value, str) and _is_path(path.parent, value):
                own[option] = _source_of(path, value)  # a file, such as test rows of their own
        source = _source_of(path, entry["source"])
        name = entry.get("name") or Path(source).stem
        found.append(TableSource(name, source, entry.get("target"), {**options, **own}))
    return found


def _is_path(folder: Path, value: str) -> bool:
    """Whether the value of an option is the path of a file, seen from here or from `folder`."""
    return Path(value).name != value and (Path(value).exists() or (folder / value).exists())


def _source_of(path: Path, source: Any) -> str:
    """A file beside the TOML file, or the name of a data set, which is no path."""
    if not isinstance(source, str):
        raise DataError(f"{path}: a source is a text, not {source!r}")
    try:
        beside = inside(path.parent, source)
    except RunError as error:
        raise DataError(
            f"{path} names the source {source!r}, which lies outside of its folder; put both into "
            "one folder, or name the file on the command line as file:target"
        ) from error
    if beside.exists():
        return str(beside)
    if source.startswith("hf://") or not Path(source).exists():
        return source
    raise DataError(f"{path} names the source {source!r}, and no such file lies beside it")


def compare_tables(
    sources: Sequence[str],
    *,
    out: Path | str,
    target: str | None = None,
    task: str | None = None,
    data_options: Mapping[str, Any] | None = None,
    resume: bool = False,
    time_limit: float | None = None,
    on_event: OnEvent | None = None,
    command: str | None = None,
    **settings: Any,
) -> Benchmark:
    """Compare methods on each of several tables, and rank them over all.

    Args:
        sources: `file:target` words, names of data sets, or one TOML file.
        time_limit: seconds for all tables together, shared equally.
        settings: as `compare` takes them.

    Raises:
        DataError: a table cannot be read; nothing is fitted then.
    """
    tables = read_sources(sources, target, data_options or {})
    if len(tables) < 2:
        raise KnobError(f"a benchmark needs at least 2 tables, got {len(tables)}")
    kind = one_kind(tables, task)
    tasks = {}
    for item in tables:
        if inside(out, item.name).name != item.name:
            raise DataError(f"a table cannot be called {item.name!r}: its name is that of a folder")
        try:
            options = with_role(kind, item.options, item.target)
            tasks[item.name] = open_task(kind.name, item.source, options)
        except StackwiseError as error:
            raise DataError(f"{kind.name} {item.name!r}: {error}") from error
    seeds = settings.get("seeds", 3)
    plain = {
        n: v
        for n, v in settings.items()
        if n not in ("workers", "on", "threads", "device", "track")
    }
    asked = {
        "kind": "benchmark",
        "tables": [item.name for item in tables],
        "data": [opened.data_hash for opened in tasks.values()],
        "settings": plain | {"seeds": seeds if isinstance(seeds, int) else list(seeds)},
    }
    out = Path(out)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    failures = {}
    with runs.opened(out, asked, resume=resume) as held:
        held.say("plan.json", asked | {"command": command})
        for place, (name, opened) in enumerate(tasks.items()):
            if Study(out / name).problem is None:
                runs.tidy(out / name)
                continue
            share = None
            if deadline is not None:
                share = max(deadline - time.monotonic(), 1.0) / (len(tasks) - place)
            try:
                compare(
                    opened, out=out / name, resume=True, time_limit=share,
                    on_event=_of_table(on_event, place, len(tasks)), command=command, **settings,
                )  # fmt: skip
            except StorageError:
                raise
            except StackwiseError as error:
                failures[name] = str(error)
        bench = Benchmark(out)
        if not bench.studies:
            raise StackwiseError(f"no table could be compared: {next(iter(failures.values()))}")
        if on_event is not None:
            on_event({"state": "concluding", "note": "ranking over all of them"})
        write_json(out / "benchmark.json", conclude(bench.studies) | {"failures": failures})
    return bench


def one_kind(sources: Sequence[TableSource], asked: str | None) -> TaskCard:
    """The task that all sources are.

    Raises:
        KnobError: they are of several.
    """
    kinds = {
        item.name: choose_task(
            item.source, item.options, asked=asked, named=item.target is not None
        )
        for item in sources
    }
    first, *others = dict.fromkeys(of.name for of in kinds.values())
    if others:
        at = next(name for name, of in kinds.items() if of.name == others[0])
        raise KnobError(
            f"sources of one comparison are of one task: {at!r} is a {others[0]}, the first a "
            f"{first}; say which with --task"
        )
    return next(iter(kinds.values()))


def _of_table(on_event: OnEvent | None, place: int, count: int) -> OnEvent | None:
    """What tells of the comparison on table number `place`, from 0."""
    if on_event is None:
        return None
    return lambda event: on_event(event | {"table_index": place, "tables": count})


def conclude(studies: Mapping[str, Study]) -> dict[str, Any]:
    """Mean ranks with intervals, Friedman's test and the critical difference over studies."""
    rows, places = [], {}
    for name, study in studies.items():
        record = study.record
        for row in record["ranking"]:
            rows.append({"table": name, "metric": record["metric"]["name"], **row})
        places[name] = ranks_on({row["method"]: row["mean"] for row in record["ranking"]},
                                record["metric"]["mode"])  # fmt: skip
    everywhere = sorted(set.intersection(*(set(found) for found in places.values())))
    somewhere = sorted({method for found in places.values() for method in found})
    ranks = np.array(
        [list(_ranked({m: found[m] for m in everywhere}).values()) for found in places.values()]
    )
    return {
        "format": 1,
        "tables": list(studies),
        "methods": summary(everywhere, ranks),
        "left_out": sorted(set(somewhere) - set(everywhere)),
        "friedman_p": friedman(ranks),
        "critical_difference": critical_difference(len(everywhere), len(ranks)),
        "scores": rows,
    }


def ranks_on(scores: Mapping[str, float], mode: str) -> dict[str, float]:
    """The place of each method by its score; 1 is best and ties share."""
    sign = 1.0 if mode == "min" else -1.0
    return _ranked({name: sign * value for name, value in scores.items()})


def _ranked(values: Mapping[str, float]) -> dict[str, float]:
    from scipy.stats import rankdata

    return dict(zip(values, (float(r) for r in rankdata(list(values.values()))), strict=True))


def summary(methods: Sequence[str], ranks: np.ndarray) -> list[dict[str, Any]]:
    """Mean rank of each method and its 95 % interval over drawn tables, best first."""
    generator = np.random.default_rng(0)
    drawn = ranks[generator.integers(len(ranks), size=(DRAWS, len(ranks)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    found = [
        {
            "method": method,
            "rank": float(ranks[:, place].mean()),
            "low": float(low[place]),
            "high": float(high[place]),
            "wins": int((ranks[:, place] == ranks.min(axis=1)).sum()),
        }
        for place, method in enumerate(methods)
    ]
    return sorted(found, key=lambda row: (row["rank"], row["method"]))


def friedman(ranks: np.ndarray) -> float | None:
    """The probability of ranks so far apart if all methods were alike; None for fewer than 3."""
    from scipy.stats import friedmanchisquare

    if ranks.shape[1] < 3 or len(ranks) < 2:
        return None
    value = float(friedmanchisquare(*ranks.T).pvalue)
    return value if np.isfinite(value) else None


def critical_difference(methods: int, tables: int, alpha: float = 0.05) -> float | None:
    """Nemenyi's critical difference of mean ranks; None where there is nothing to tell apart."""
    from scipy import stats

    if methods < 2 or tables < 2:
        return None
    quantile = stats.studentized_range.ppf  # type: ignore[attr-defined]
    q = float(quantile(1 - alpha, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * tables)))


def groups_alike(rows: Iterable[Mapping[str, Any]], difference: float) -> list[tuple[float, float]]:
    """The widest spans of mean ranks within the critical difference, as (best, worst)."""
    ranks = sorted(float(row["rank"]) for row in rows)
    spans: list[tuple[float, float]] = []
    for first in ranks:
        last = max(rank for rank in ranks if rank <= first + difference)
        if last > first and not any(low <= first and last <= high for low, high in spans):
            spans.append((first, last))
    return spans


def scores_table(record: Mapping[str, Any]) -> "pd.DataFrame":
    """One row a table, one column a method: mean test scores."""
    import pandas as pd

    frame = pd.DataFrame(record["scores"])
    return frame.pivot(index=["table", "metric"], columns="method", values="mean")
