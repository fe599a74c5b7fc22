"""Does a network that chooses its activation families beat one family, chance and an MLP?

Seven functions that differ in which family suits them, with some hundred rows to learn from and
400 that choose, and two real tables. Every model takes as many steps on as many rows and keeps the
weights that do best on the same validation rows; the test rows are used once a model. Errors are
in deviations of the target. "Best family" tries every family as a network of its own and keeps the
best on validation rows: the honest rival, at as many times the cost. The race that chooses inside
S-KAN takes further steps: its candidates are trained and thrown away. What is claimed of pictures
is in `skan_pictures`.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import j0

from stackwise.build.skan import OutsideRange, SKANClassifier, SKANRegressor
from stackwise.evidence import skan_pictures
from stackwise.evidence.claims import Claim, Scale, judge
from stackwise.evidence.pictures import dots, numbers_of
from stackwise.tasks.table.baselines import MLPClassifier, MLPRegressor
from stackwise.tasks.table.task import TableTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FUNCTIONS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "waves": (1, lambda x: np.sin(20 * x[0])),
    "kinks": (1, lambda x: np.abs(x[0]) + 0.5 * np.abs(x[0] - 0.3)),
    "steps": (1, lambda x: np.sign(np.sin(6 * x[0]))),
    "bessel": (1, lambda x: j0(20 * x[0])),
    "exponential": (2, lambda x: np.exp(np.sin(np.pi * x[0]) + x[1] ** 2)),
    "product": (2, lambda x: x[0] * x[1]),
    "ten inputs": (10, lambda x: np.exp(0.1 * (np.sin(np.pi * x / 2) ** 2).sum(0))),
}
POOL = ("bspline", "rbf", "cheby", "wavelet", "relu")
PRUNED: tuple[Any, ...] = ("gate", "contribution", "taylor", "validation", "random")
SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"functions": ("product",), "rows": 100, "seeds": (0,), "epochs": 4, "tables": (),
              "table_epochs": 3, "table_rows": None},
    "cpu": {"functions": tuple(FUNCTIONS), "rows": 500, "seeds": (0, 1, 2), "epochs": 200,
            "tables": ("hedonic", "phoneme"), "table_epochs": 40, "table_rows": 1500},
    "gpu": {"functions": tuple(FUNCTIONS), "rows": 2000, "seeds": (0, 1, 2, 3, 4), "epochs": 1500,
            "tables": ("hedonic", "phoneme", "wages", "computers", "magic"), "table_epochs": 100,
            "table_rows": None},
}  # fmt: skip
LEFT_OUT = {
    "smoke": "One function and one seed: this only shows that the measurement runs.",
    "cpu": "Networks of one hidden layer of 5, 200 steps on all 500 rows at once at one learning "
    "rate, and no image data.",
    "gpu": "Networks of one hidden layer of 5, at one learning rate, and no image data.",
}


class Bench:
    """Fits every model on every function and seed; keeps test errors, losses and sizes."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.test: dict[str, dict[str, list[float]]] = {}
        self.size: dict[str, dict[str, list[int]]] = {}
        self.winners: dict[str, list[str]] = {}

    def measure(self) -> None:
        """All functions and seeds."""
        for name in self.settings["functions"]:
            for seed in self.settings["seeds"]:
                self._function(name, seed)

    def _function(self, name: str, seed: int) -> None:
        inputs, function = FUNCTIONS[name]
        rows = self.settings["rows"]
        generator = np.random.default_rng(seed)
        X = generator.uniform(-1, 1, (rows + 400 + 1000, inputs))
        y = function(X.T)
        train, held, test = slice(rows), slice(rows, rows + 400), slice(rows + 400, None)
        deviation = float(y[train].std())

        def fit(what: str, model: Any) -> tuple[float, Any]:
            model.fit(X[train], y[train], validation=(X[held], y[held]))
            validation = _rmse(model, X[held], y[held])
            error = _rmse(model, X[test], y[test]) / deviation
            self.test.setdefault(what, {}).setdefault(name, []).append(error)
            count = sum(p.numel() for p in model.network_.parameters())
            self.size.setdefault(what, {}).setdefault(name, []).append(count)
            return validation, model

        shared = {"max_epochs": self.settings["epochs"], "batch_size": rows, "lr": 1e-2,
                  "schedule": "cosine", "preprocess": "standard", "patience": None,
                  "random_state": seed}  # fmt: skip
        kan = shared | {"hidden": [5], "pool": list(POOL)}
        single = [fit(f, SKANRegressor(**kan | {"pool": [f]})) for f in POOL]
        best = POOL[int(np.argmin([validation for validation, _ in single]))]
        self.test.setdefault("best family", {}).setdefault(name, []).append(
            self.test[best][name][-1]
        )
        _, whole = fit("all kept", SKANRegressor(**kan, keep="all"))
        for score in PRUNED:
            fit(f"by {score}", SKANRegressor(**kan, keep=1, select_by=score))
        _, model = fit("default", SKANRegressor(**kan))
        self.winners.setdefault(name, []).append(model.network_.arguments["selection"]["score"])
        final = self.size["by validation"][name][-1]
        for what, count in (("mlp, final size", final), ("mlp, peak size", _count(whole))):
            width = _width(inputs, count)
            fit(what, MLPRegressor(**shared, width=width, n_blocks=2, dropout=0.0))

    def errors(self, what: str) -> np.ndarray:
        """(functions, seeds) test errors."""
        return np.array([self.test[what][name] for name in self.settings["functions"]])

    def ranks(self, names: list[str]) -> np.ndarray:
        """(names, seeds): the rank of each among these, mean over functions; 1 is best."""
        errors = np.stack([self.errors(name) for name in names])
        return np.asarray((errors.argsort(0).argsort(0) + 1.0).mean(1))


def _rmse(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRange)
        return float(np.sqrt(np.square(model.predict(X) - y).mean()))


def _count(model: Any) -> int:
    return sum(p.numel() for p in model.network_.parameters())


def _width(inputs: int, parameters: int, outputs: int = 1) -> int:
    """The width of an MLP of two hidden layers with about as many parameters."""
    sizes = np.arange(1, 400)
    counts = sizes * (inputs + 1) + sizes * (sizes + 1) + (sizes + 1) * outputs
    return int(sizes[np.abs(counts - parameters).argmin()])


def measure(scale: Scale) -> list[Claim]:
    """The claims of S-KAN."""
    return [claim for part in PARTS.values() for claim in part(scale)]


def measure_tables(scale: Scale) -> list[Claim]:
    """The claims about functions and tables."""
    bench = Bench(scale)
    bench.measure()
    seeds = list(bench.settings["seeds"])
    functions = list(bench.settings["functions"])
    means = {
        what: {name: float(f"{np.mean(values):.4g}") for name, values in found.items()}
        for what, found in bench.test.items()
    }

    def ranked(id: str, statement: str, what: str) -> Claim:
        ranks = bench.ranks([*POOL, what])
        gains = ranks[:-1].min(0) - ranks[-1]
        return Claim(
            id, statement, judge(gains.tolist()),
            {"mean_rank_by_seed": dict(zip([*POOL, what], _rounded(ranks), strict=True)),
             "test_error": {w: means[w] for w in (*POOL, what)}},
            seeds, f"{LEFT_OUT[scale]} Ranks are among the five families and this.",
        )  # fmt: skip

    def counted(id: str, statement: str, what: str, over: str, least: int, factor: float) -> Claim:
        wins = (bench.errors(what) < factor * bench.errors(over)).sum(0)
        needed = min(least, len(functions))
        return Claim(
            id, statement, judge((wins - needed + 0.5).tolist()),
            {"wins_by_seed": wins.tolist(), "functions": len(functions), "needed": needed,
             "test_error": means[what], f"test_error_{over.replace(', ', '_').replace(' ', '_')}":
             means[over],
             "parameters": {w: {n: round(float(np.mean(c))) for n, c in bench.size[w].items()}
                            for w in (what, over) if w in bench.size}},
            seeds, LEFT_OUT[scale],
        )  # fmt: skip

    claims = [
        ranked("all-families-beat-one", "With all families kept the mean rank over the functions "
               "is better than that of every single family.", "all kept"),
        ranked("default-beats-one-family", "By default, where validation rows decide what stays, "
               "the mean rank is better than that of every single family.", "default"),
        ranked("pruned-beats-one-family", "Pruned to one family a node by validation rows, the "
               "mean rank is better than that of every single family.", "by validation"),
        counted("near-the-best-family", "Pruned by validation rows, the error is at most 1.2 times "
                "that of the best family, itself chosen on validation rows, on every function.",
                "by validation", "best family", len(functions), 1.2),
    ]  # fmt: skip
    for score in PRUNED[:-1]:
        claims.append(
            counted(f"{score}-beats-chance", f"Chosen by {score}, the pruned network is better "
                    "than one of families drawn at random on at least 5 of 7 functions.",
                    f"by {score}", "by random", 5, 1.0)
        )  # fmt: skip
    claims += [
        counted("beats-mlp-of-equal-size", "Pruned by validation rows, it is better than an MLP of "
                "as many parameters on at least 5 of 7 functions.",
                "by validation", "mlp, final size", 5, 1.0),
        counted("default-beats-mlp-of-peak-size", "By default it is better than an MLP of as many "
                "parameters as all families have on at least 5 of 7 functions.",
                "default", "mlp, peak size", 5, 1.0),
        _choosing(bench, seeds, scale, means),
    ]  # fmt: skip
    return [*claims, *_tables(bench.settings, scale)]


def _choosing(bench: Bench, seeds: list[int], scale: Scale, means: dict[str, Any]) -> Claim:
    """Whether the race chooses better than the largest gate."""
    gate, raced = np.log(bench.errors("by gate")), np.log(bench.errors("by validation"))
    gains = (gate - raced).mean(0)
    return Claim(
        "validation-beats-gate",
        "Validation rows choose better than the largest gate: a smaller geometric mean of errors.",
        judge(gains.tolist()),
        {"gain_percent_by_seed": _rounded(100 * (1 - np.exp(-gains))),
         "test_error": {f"by {score}": means[f"by {score}"] for score in PRUNED},
         "default_chose": bench.winners},
        seeds, LEFT_OUT[scale],
    )  # fmt: skip


def _tables(settings: dict[str, Any], scale: Scale) -> list[Claim]:
    """Real tables, against an MLP of equal parameters and one of the usual size."""
    claims = []
    for table in settings["tables"]:
        found: dict[str, list[float]] = {}
        counts = []
        for seed in settings["seeds"]:
            task = TableTask.load(table, split_seed=seed, max_rows=settings["table_rows"])
            regression = task.problem == "regression"
            shared: dict[str, Any] = {"max_epochs": settings["table_epochs"], "random_state": seed}
            own = (SKANRegressor if regression else SKANClassifier)(**shared)
            own.fit(*task.part("train"), validation=task.part("validation"))
            inputs = own.contract_.n_numeric + sum(own.contract_.cardinalities)
            counts.append(_count(own))
            width = _width(inputs, counts[-1], own.n_outputs_)
            mlp = MLPRegressor if regression else MLPClassifier
            plain: dict[str, Any] = {"schedule": "cosine", "dropout": 0.0, "n_blocks": 2}
            raced = [
                mlp(**shared, **plain, lr=lr, width=width, preprocess=how).fit(
                    *task.part("train"), validation=task.part("validation")
                )
                for lr in (1e-2, 3e-3, 1e-3)
                for how in ("standard", "quantile")
            ]
            X, y = task.part("validation")
            others = sorted(raced, key=lambda model: _table_error(task, model, X, y))
            X, y = task.part("test")
            for what, model in (("skan", own), ("mlp", others[0])):
                found.setdefault(what, []).append(_table_error(task, model, X, y))
        gains = [100 * (b - a) / b for a, b in zip(found["skan"], found["mlp"], strict=True)]
        claims.append(Claim(
            f"beats-mlp-on-{table}",
            f"On {table} it has a smaller test error than an MLP of as many parameters, whose "
            "learning rate and scaling are chosen on validation rows.",
            judge(gains),
            {"gain_percent_by_seed": _rounded(np.array(gains)),
             "test_error": _rounded(np.array(found["skan"])),
             "test_error_mlp": _rounded(np.array(found["mlp"])), "parameters": counts},
            list(settings["seeds"]), "S-KAN at its defaults, as many epochs for both.",
        ))  # fmt: skip
    return claims


def _table_error(task: TableTask, model: Any, X: Any, y: np.ndarray) -> float:
    """Root mean squared error, or the share of wrong answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = model.predict(X)
    if task.problem == "regression":
        return float(np.sqrt(np.square(prediction - y).mean()))
    return float((prediction != y).mean())


def _rounded(values: np.ndarray) -> Any:
    return np.round(values, 4).tolist()


PARTS = {"tables": measure_tables, "pictures": skan_pictures.measure}
"""What can be measured alone: `stackwise evidence skan --scale cpu --part pictures`."""
FIGURES = {"pictures": skan_pictures.picture}


def picture(record: dict[str, Any]) -> "Figure":
    """Test error on seven functions (mean of three seeds) of a network pruned to one family a node
    and of an MLP of as many parameters; further left is better.
    """
    numbers = numbers_of(record, "beats-mlp-of-equal-size")
    shown = {
        function: {
            "S-KAN, pruned": [error],
            "MLP of equal size": [numbers["test_error_mlp_final_size"][function]],
        }
        for function, error in numbers["test_error"].items()
    }
    return dots(shown, label="test error", scale="log")
