"""Does regularised meta-learning join many models better than simpler ways, and which stage pays?

Real tables. A library of cheap models is cross-validated on the training rows; every way of joining
it sees the same out-of-fold predictions and is judged on a test part that no stage saw, by the
base models fitted on all training rows. What is compared with the pipeline is tuned as well as it
is: Ridge on all models has the same fifty penalties, hill climbing a hundred rounds.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge, RidgeCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor as ScikitMLP
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from stackwise import data
from stackwise.build.tabm import TabMRegressor
from stackwise.combine.regularized_meta_learning.hill_climbing import hill_climb
from stackwise.combine.regularized_meta_learning.out_of_fold import Reader, out_of_fold
from stackwise.combine.regularized_meta_learning.stacked_predictions import stack_predictions
from stackwise.combine.regularized_meta_learning.stages.blending import inverse_error_weights
from stackwise.combine.regularized_meta_learning.stages.log_odds import log_loss
from stackwise.combine.regularized_meta_learning.stages.meta_models import RIDGE_ALPHAS
from stackwise.errors import DataError
from stackwise.evidence.claims import Claim, Scale, Verdict, judge
from stackwise.evidence.pictures import gain_dots
from stackwise.tasks.labelled.folds import make_folds
from stackwise.tasks.table.baselines import MLPRegressor
from stackwise.tasks.table.features.contract import FeatureContract

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS: dict[str, dict[str, Any]] = {
    "smoke": {"tables": ("hedonic",), "classes": ("wdbc",), "rows": 120, "test": 150,
              "class_rows": 120, "seeds": (0,), "every": 9, "networks": False},
    "cpu": {"tables": ("diamonds", "computers", "flights"),
            "classes": ("wdbc", "vehicle", "satimage"), "rows": 1200, "test": 2000,
            "class_rows": 1000, "seeds": (0, 1, 2), "every": 1, "networks": True},
    "gpu": {"tables": ("diamonds", "computers", "flights", "wages"),
            "classes": ("wdbc", "vehicle", "satimage", "phoneme", "segment"), "rows": 4000,
            "test": 10_000, "class_rows": 3000, "seeds": (0, 1, 2, 3, 4), "every": 1,
            "networks": True},
}  # fmt: skip
MOST_LEVELS = 40
LEFT_OUT = {
    "smoke": "One table of 120 rows, one split and 8 models: only shows that the measurement runs.",
    "cpu": "Three tables and three splits each, 1,200 training rows, 72 untuned models; the paper "
    "has one competition's table, out-of-fold errors and 45 models.",
    "gpu": "Four tables of up to 4,000 training rows.",
}
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "no projection": {"projection": False},
    "no statistics, no interactions": {"statistics": False, "interactions": False},
    "no interactions": {"interactions": False},
}


def regressors(seed: int, networks: bool) -> dict[str, Any]:
    """72 models for a number: cheap and unlike each other, and near-copies among them."""
    found: dict[str, Any] = {f"ridge {a:g}": Ridge(a) for a in np.logspace(-2, 4, 8)}
    found |= {f"lasso {a:g}": Lasso(a) for a in (0.003, 0.01, 0.03, 0.1)}
    found |= {f"elasticnet {a:g}": ElasticNet(a) for a in (0.01, 0.1)}
    found |= {
        f"neighbors {k} {w}": KNeighborsRegressor(k, weights=w)
        for k in (3, 5, 10, 20)
        for w in ("uniform", "distance")
    }
    found |= {
        f"tree {leaf}": DecisionTreeRegressor(min_samples_leaf=leaf, random_state=seed)
        for leaf in (2, 4, 8, 12, 16, 24, 32, 48)
    }
    forests = ((RandomForestRegressor, "forest"), (ExtraTreesRegressor, "extra trees"))
    found |= {
        f"{name} {leaf} {part:g}": cls(
            25, min_samples_leaf=leaf, max_features=part, random_state=seed
        )
        for cls, name in forests
        for leaf in (1, 3, 6)
        for part in (0.3, 0.8)
    }
    found |= {
        f"boosting {lr:g} {leaves}": HistGradientBoostingRegressor(
            learning_rate=lr, max_leaf_nodes=leaves, max_iter=50, random_state=seed
        )
        for lr in (0.03, 0.06, 0.12, 0.2)
        for leaves in (4, 8, 16)
    }
    found |= {f"svr {c:g} {g}": SVR(C=c, gamma=g) for c in (0.3, 1, 3, 10) for g in ("scale", 0.01)}
    found |= {
        f"scikit mlp {width} {alpha:g}": ScikitMLP(
            hidden_layer_sizes=(width,), alpha=alpha, max_iter=60, random_state=seed
        )
        for width in (16, 48)
        for alpha in (1e-4, 1.0, 10.0)
    }
    if networks:
        small: dict[str, Any] = {
            "max_epochs": 12,
            "patience": 4,
            "random_state": seed,
            "threads": 1,
        }
        found |= {f"mlp {w}": MLPRegressor(width=w, lr=3e-3, **small) for w in (32, 96)}
        found |= {f"tabm {w}": TabMRegressor(k=4, width=w, lr=5e-3, **small) for w in (24, 48)}
    else:
        found |= {f"ridge {a:g}": Ridge(a) for a in (1e5, 2e5, 4e5, 8e5)}
    return found


def classifiers(seed: int) -> dict[str, Any]:
    """24 models for classes."""
    found: dict[str, Any] = {
        f"logistic {c:g}": LogisticRegression(C=c, max_iter=500)
        for c in (0.001, 0.01, 0.1, 1, 10, 100)
    }
    found |= {f"neighbors {k}": KNeighborsClassifier(k) for k in (3, 8, 20, 40)}
    found |= {
        f"tree {leaf}": DecisionTreeClassifier(min_samples_leaf=leaf, random_state=seed)
        for leaf in (3, 10, 30)
    }
    for cls, name in ((RandomForestClassifier, "forest"), (ExtraTreesClassifier, "extra trees")):
        found |= {
            f"{name} {leaf}": cls(40, min_samples_leaf=leaf, random_state=seed)
            for leaf in (1, 3, 8)
        }
    found |= {
        f"boosting {lr:g}": HistGradientBoostingClassifier(
            learning_rate=lr, max_iter=40, max_leaf_nodes=12, random_state=seed
        )
        for lr in (0.05, 0.1, 0.2)
    }
    return found | {"naive Bayes": GaussianNB(), "discriminant": LinearDiscriminantAnalysis()}


class Split:
    """The out-of-fold predictions of a library on one split of one table, and those of the test.

    Attributes:
        oof, test: (n, M) or (n, M, C).
        y, truth: (n,) targets; numbers in standard deviations of the training rows.
    """

    def __init__(
        self, table: str, seed: int, *, rows: int, test: int, every: int, networks: bool,
        by_class: bool,
    ) -> None:  # fmt: skip
        frame, name = data.table(table)
        order = np.random.default_rng(seed).permutation(len(frame))
        rows = min(rows, int(0.65 * len(frame)))
        train, held = order[:rows], order[rows : rows + test]
        X, y = frame.drop(columns=name), frame[name].to_numpy()
        contract = FeatureContract().fit(X.iloc[train], numeric="standard", seed=seed)
        known, new = (_matrix(contract, X.iloc[part]) for part in (train, held))
        classes = 0
        if by_class:
            labels, y = np.unique(y.astype(str), return_inverse=True)
            classes = len(labels)
        self.y, self.truth = y[train], y[held]
        if not by_class:
            self.unit = float(np.std(self.y))
            centre = float(np.mean(self.y))
            self.y, self.truth = (self.y - centre) / self.unit, (self.truth - centre) / self.unit
        models = classifiers(seed) if by_class else regressors(seed, networks)
        self.models = {name: models[name] for name in list(models)[::every]}
        self.folds = make_folds(5, self.y, by_class=by_class, seed=seed)
        readers = {
            name: Reader.of(name, model, "auto", by_class) for name, model in self.models.items()
        }
        self.oof, _, _ = out_of_fold(
            self.models, readers, known, self.y, self.folds, classes=classes, weight=None,
            n_jobs=None, keep_models=False,
        )  # fmt: skip
        answers = []
        for name, model in self.models.items():
            fitted = clone(model).fit(known, self.y)
            answers.append(
                readers[name].read(readers[name].ask(fitted, new), np.arange(classes), classes)
            )
        self.test = np.stack(answers, axis=1)
        self.memory = self._memoriser(known, new) if not by_class else None

    def _memoriser(self, known: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, ...]:
        """A nearest neighbour: out of fold, on its own rows, and on new ones."""
        model = KNeighborsRegressor(1)
        oof, _, _ = out_of_fold(
            {"memoriser": model}, {"memoriser": Reader("predict")}, known, self.y, self.folds,
            classes=0, weight=None, n_jobs=None, keep_models=False,
        )  # fmt: skip
        fitted = model.fit(known, self.y)
        return oof[:, 0], fitted.predict(known), fitted.predict(new)

    def rmse(self, prediction: np.ndarray | None) -> float:
        """Root mean squared error on the test part."""
        assert prediction is not None
        return float(np.sqrt(np.square(prediction - self.truth).mean()))


def _matrix(contract: FeatureContract, frame: Any) -> np.ndarray:
    """(n, d) standardised numbers, and one-hot categories of at most `MOST_LEVELS` levels."""
    arrays = contract.transform(frame)
    hot = [
        column[:, None] == np.arange(size)
        for column, size in zip(arrays.categorical.T, contract.cardinalities, strict=True)
        if size <= MOST_LEVELS
    ]
    return np.hstack([arrays.numeric.astype(np.float64), *hot])


def join_numbers(split: Split) -> tuple[dict[str, float], dict[str, Any]]:
    """Test errors of every way to join, and what else is to be told of the split."""
    P, Q, y = split.oof, split.test, split.y
    singles = np.sqrt(np.square(P - y[:, None]).mean(0))
    errors = {
        "average": split.rmse(Q.mean(1)),
        "best single": split.rmse(Q[:, singles.argmin()]),
    }
    started = time.perf_counter()
    climbed = hill_climb(P, y)
    about: dict[str, Any] = {"hill climbing seconds": time.perf_counter() - started}
    errors["hill climbing"] = split.rmse(climbed.predict(Q))
    about["hill climbing models"] = int((climbed.weights > 0).sum())
    folds = make_folds(5, y, by_class=False, seed=0)
    started = time.perf_counter()
    ridge = RidgeCV(RIDGE_ALPHAS, cv=folds, scoring="neg_root_mean_squared_error").fit(P, y)
    about["ridge on all seconds"] = time.perf_counter() - started
    errors["ridge on all"] = split.rmse(ridge.predict(Q))
    errors["ridge on all, standardised"] = split.rmse(_standard_ridge(P, y, Q, folds))
    for name, knobs in ABLATIONS.items():
        started = time.perf_counter()
        found = stack_predictions(P, y, Q, **knobs)
        errors[name] = split.rmse(found.prediction)
        if name == "full":
            pipeline = found.stack.pipeline_
            errors |= _parts_of_the_blend(split, pipeline)
            about |= {
                "seconds": time.perf_counter() - started,
                "condition before": pipeline.condition_[0],
                "condition after": pipeline.condition_[1],
                "kept": len(pipeline.kept_),
                "of": len(pipeline.names),
                "error out of fold": found.score,
                "weights": pipeline.weights_,
            }
            standard = (P - P.mean(0)) / P.std(0)
            kept = pipeline.projection_.kept
            about["least singular value before"] = _least(standard)
            about["least singular value after"] = _least(standard[:, kept])
    errors["best meta-model"] = min(
        errors[name] for name in ("ridge alone", "lasso alone", "elasticnet alone")
    )
    assert split.memory is not None
    fair, seen, new = split.memory
    with_it = stack_predictions(np.column_stack([P, fair]), y, np.column_stack([Q, new]))
    errors["with a memoriser"] = split.rmse(with_it.prediction)
    try:
        stack_predictions(np.column_stack([P, seen]), y)
        about["memoriser on its own rows is refused"] = False
    except DataError:
        about["memoriser on its own rows is refused"] = True
    blind = RidgeCV(RIDGE_ALPHAS, cv=folds).fit(np.column_stack([P, seen]), y)
    errors["ridge with a memoriser on its own rows"] = split.rmse(
        blind.predict(np.column_stack([Q, new]))
    )
    return errors, about


def _parts_of_the_blend(split: Split, pipeline: Any) -> dict[str, float]:
    """Each meta-model alone, and other weights: the same fit, joined otherwise."""
    features = pipeline.transform(split.test)
    each = {name: member.predict(features) for name, member in pipeline.members_.items()}
    own = np.array([pipeline.errors_[name] for name in each])
    stacked = np.stack(list(each.values()), axis=1)
    found = {f"{name} alone": split.rmse(prediction) for name, prediction in each.items()}
    found["uniform blend"] = split.rmse(stacked.mean(1))
    found["nothing left out of the blend"] = split.rmse(stacked @ inverse_error_weights(own))
    return found


def _least(columns: np.ndarray) -> float:
    return float(np.linalg.svd(columns, compute_uv=False)[-1])


def _standard_ridge(P: np.ndarray, y: np.ndarray, Q: np.ndarray, folds: Any) -> np.ndarray:
    scaler = StandardScaler().fit(P)
    model = RidgeCV(RIDGE_ALPHAS, cv=folds, scoring="neg_root_mean_squared_error")
    return np.asarray(model.fit(scaler.transform(P), y).predict(scaler.transform(Q)))


def join_classes(split: Split) -> tuple[dict[str, float], dict[str, Any]]:
    """Test log losses of every way to join."""
    P, Q, y = split.oof, split.test, split.y

    def loss(probabilities: np.ndarray) -> float:
        return log_loss(np.clip(probabilities, 1e-6, 1), split.truth)

    singles = [log_loss(np.clip(P[:, j], 1e-6, 1), y) for j in range(P.shape[1])]
    logit = stack_predictions(P, y, Q)
    plain = stack_predictions(P, y, Q, space="probability")
    assert logit.prediction is not None and plain.prediction is not None
    errors = {
        "average": loss(Q.mean(1)),
        "best single": loss(Q[:, int(np.argmin(singles))]),
        "hill climbing": loss(hill_climb(P, y).predict(Q)),
        "full": loss(logit.prediction),
        "probability space": loss(plain.prediction),
    }
    return errors, {
        "kept": len(logit.stack.kept_),
        "accuracy": float((logit.prediction.argmax(1) == split.truth).mean()),
    }


class Bench:
    """Measures every split, and keeps test errors by name and table."""

    def __init__(self, scale: Scale) -> None:
        self.settings = SETTINGS[scale]
        self.numbers: dict[str, dict[str, list[float]]] = {}
        self.classes: dict[str, dict[str, list[float]]] = {}
        self.about: dict[str, list[dict[str, Any]]] = {}
        self.class_about: dict[str, list[dict[str, Any]]] = {}

    def measure(self) -> None:
        """Fit the libraries and join them."""
        for by_class, tables, rows, kept, about, join in self._kinds():
            for table in tables:
                for seed in self.settings["seeds"]:
                    split = Split(
                        table, seed, rows=rows, test=self.settings["test"], by_class=by_class,
                        every=self.settings["every"], networks=self.settings["networks"],
                    )  # fmt: skip
                    errors, told = join(split)
                    about.setdefault(table, []).append(told)
                    for name, value in errors.items():
                        kept.setdefault(name, {}).setdefault(table, []).append(value)

    def _kinds(self) -> Iterator[tuple[Any, ...]]:
        chosen = self.settings
        numbers: Callable[[Split], Any] = join_numbers
        yield False, chosen["tables"], chosen["rows"], self.numbers, self.about, numbers
        yield (
            True, chosen["classes"], chosen["class_rows"], self.classes, self.class_about,
            join_classes,
        )  # fmt: skip


def gains(
    errors: dict[str, dict[str, list[float]]], name: str, over: str
) -> dict[str, list[float]]:
    """How much smaller, in %, the error of `name` is than that of `over`; by table and split."""
    return {
        table: [100 * (b - a) / b for a, b in zip(errors[name][table], others, strict=True)]
        for table, others in errors[over].items()
    }


def interval(values: list[float]) -> list[float]:
    """Mean, and the ends of its 95 % interval by Student's t over splits."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [round(mean, 3)]
    reach = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return [round(mean, 3), round(mean - reach, 3), round(mean + reach, 3)]


def measure(scale: Scale) -> list[Claim]:
    """The claims of regularised meta-learning."""
    bench = Bench(scale)
    bench.measure()
    seeds = list(bench.settings["seeds"])
    claims: list[Claim] = []

    def compared(
        id: str, statement: str, over: str, margin: float, why: str = "", *, name: str = "full",
        classes: bool = False, more: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        errors = bench.classes if classes else bench.numbers
        found = gains(errors, name, over)
        numbers: dict[str, Any] = {
            "gain_percent_by_table": {t: round(float(np.mean(v)), 3) for t, v in found.items()},
            "gain_percent_by_seed": _rounded(np.mean(list(found.values()), axis=0), 4),
            "gain_percent_mean_low_high_by_table": {t: interval(v) for t, v in found.items()},
            "test_error": {t: _rounded(v) for t, v in errors[name].items()},
            f"test_error_{over.replace(',', '').replace(' ', '_')}": {
                t: _rounded(v) for t, v in errors[over].items()
            },
            "margin_percent": margin,
        }
        claims.append(
            Claim(id, statement, _verdict(found, margin), numbers | (more or {}), seeds,
                  f"{LEFT_OUT[scale]} {why}".strip())
        )  # fmt: skip

    compared("beats-average", "The pipeline has a smaller test error than the mean of all models.",
             "average", 0.0)  # fmt: skip
    compared("beats-best-single", "The pipeline has a smaller test error than the model with the "
             "smallest out-of-fold error.", "best single", 0.0)  # fmt: skip
    compared("not-worse-than-ridge-on-all", "The pipeline is within 0.5 % of Ridge on all models, "
             "or better.", "ridge on all", -0.5,
             "Ridge has the same 50 penalties and no stage 1 or 2, as in the paper not "
             "standardised; standardised beside it.",
             more={"test_error_ridge_standardised": _all(
                 bench.numbers, "ridge on all, standardised")})  # fmt: skip
    compared("near-hill-climbing", "The pipeline is within 1 % of greedy hill climbing, or better.",
             "hill climbing", -1.0,
             "Ours sums squared errors through a Gram matrix, so that hill climbing is fast here; "
             "the paper's took four times as long as the pipeline.",
             more={name.replace(" ", "_"): _told(bench.about, name) for name in (
                 "seconds", "hill climbing seconds", "ridge on all seconds",
                 "hill climbing models", "kept", "error out of fold")})  # fmt: skip
    claims += [_condition_claim(bench, seeds, scale), _singular_claim(bench, seeds, scale)]
    compared("projection-helps", "Dropping near-copies lowers the test error.", "no projection",
             0.0, "The paper's ablation credits it with 1.2 %.")  # fmt: skip
    compared("statistics-help", "Statistics of the ensemble lower the test error.",
             "no statistics, no interactions", 0.0,
             "The paper's ablation credits statistics and interactions with 2.6 %.")  # fmt: skip
    compared("interactions-help", "Interactions lower the test error.", "no interactions", 0.0)
    compared("blend-beats-best-member", "The blend is better than the best of its meta-models.",
             "best meta-model", 0.0,
             "The best is found on the test part, which favours it. The paper's Theorem 4 says "
             "strictly better; its ablation credits the blend with 1.9 %, its main table with "
             "0.01 %.",
             more={"against_each_meta_model": {
                 other: {t: interval(v) for t, v in gains(bench.numbers, "full", other).items()}
                 for other in ("ridge alone", "lasso alone", "elasticnet alone",
                               "uniform blend", "nothing left out of the blend")},
                 "weights": _told(bench.about, "weights")})  # fmt: skip
    compared("memoriser-does-no-harm", "A model that memorises its own rows does no harm (0.5 %).",
             "full", -0.5,
             "A nearest neighbour, out of fold. Beside it the error of Ridge on all models where "
             "the neighbour's predictions are of its own rows. The pipeline refuses those where "
             "they are nearly perfect, which they are not where equal rows have other targets.",
             name="with a memoriser",
             more={"test_error_ridge_on_its_own_rows": _all(
                 bench.numbers, "ridge with a memoriser on its own rows"),
                 "refused": _told(bench.about, "memoriser on its own rows is refused"),
             })  # fmt: skip
    compared("logits-beat-probabilities", "Stacking log-odds has a smaller log loss than stacking "
             "probabilities.", "probability space", 0.0, classes=True)  # fmt: skip
    compared("classes-beat-average", "Stacking classes has a smaller log loss than the mean of all "
             "probabilities.", "average", 0.0, classes=True,
             more={"test_error_best_single": _all(bench.classes, "best single"),
                   "test_error_hill_climbing": _all(bench.classes, "hill climbing"),
                   "kept": _told(bench.class_about, "kept"),
                   "accuracy": _told(bench.class_about, "accuracy")})  # fmt: skip
    return claims


def _condition_claim(bench: Bench, seeds: list[int], scale: Scale) -> Claim:
    falls = {
        table: [100 * (1 - item["condition after"] / item["condition before"]) for item in found]
        for table, found in bench.about.items()
    }
    return Claim(
        "condition-falls-by-half",
        "Dropping near-copies lowers the condition number by more than half.",
        _verdict(falls, 50.0),
        {
            "fall_percent_by_table": {t: round(float(np.mean(v)), 3) for t, v in falls.items()},
            "before": {t: _rounded([i["condition before"] for i in f], 4)
                       for t, f in bench.about.items()},
            "after": {t: _rounded([i["condition after"] for i in f], 4)
                      for t, f in bench.about.items()},
            "kept": _told(bench.about, "kept"),
            "of": _told(bench.about, "of"),
        },
        seeds,
        f"{LEFT_OUT[scale]} Of the columns' correlation matrix, before stage 2. With exact copies "
        "in the library it is infinite before.",
    )  # fmt: skip


def _singular_claim(bench: Bench, seeds: list[int], scale: Scale) -> Claim:
    rises = {
        table: [
            item["least singular value after"] - item["least singular value before"]
            for item in found
        ]
        for table, found in bench.about.items()
    }
    return Claim(
        "least-singular-value-rises",
        "Dropping near-copies raises the least singular value of the standardised predictions.",
        _verdict(rises, 0.0),
        {
            name.replace(" ", "_"): {
                t: _rounded([i[f"least singular value {name}"] for i in f], 4)
                for t, f in bench.about.items()
            }
            for name in ("before", "after")
        },
        seeds,
        f"{LEFT_OUT[scale]} That it cannot fall is a theorem.",
    )


def _told(about: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[Any]]:
    return {table: [_short(item[name]) for item in found] for table, found in about.items()}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _all(errors: dict[str, dict[str, list[float]]], name: str) -> dict[str, list[float]]:
    return {table: _rounded(values) for table, values in errors[name].items()}


def _verdict(found: dict[str, list[float]], margin: float) -> Verdict:
    """`judge` on the mean of the tables; a table whose own mean falls short makes it in part."""
    verdict = judge([float(v) for v in np.mean(list(found.values()), axis=0)], margin=margin)
    short = any(float(np.mean(values)) <= margin for values in found.values())
    return "holds in part" if verdict == "holds" and short else verdict


def _rounded(values: Any, digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def picture(record: dict[str, Any]) -> "Figure":
    """The pipeline's test error against simpler ways of joining the same models, as a gain in per
    cent, a dot a table (mean of three seeds): right of the line the pipeline is better.
    """
    rows = {
        "beats-average": "the mean of all models",
        "beats-best-single": "the best single model",
        "near-hill-climbing": "hill climbing",
        "not-worse-than-ridge-on-all": "Ridge on all models",
        "projection-helps": "no projection",
        "statistics-help": "no statistics",
    }
    return gain_dots(record, rows, label="smaller test error than this, in %")
