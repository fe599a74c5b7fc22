"""What the learners share: fit searches, reads the labels off what was found, and keeps ratings.

    model = BossNAS(space="hytra").fit(X)          no labels: ratings_, best_, top, rate, build
    model = BossNAS(space="hytra").fit(X, y)       and answers, by a linear layer on the best paths

The labels that `fit` gets choose nothing (but for `objective="supervised"`): they fit the linear
layer, by which a search can be judged before its best network is trained (`apply bossnas`).
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.errors import DataError, KnobError, ModelError
from stackwise.files import replacing
from stackwise.learning.labelled_network import LabelledNetwork
from stackwise.learning.labelled_rows import LabelledRows
from stackwise.learning.network import told
from stackwise.protocols import Task
from stackwise.train.bossnas.learners.knobs import search_knobs, settings_of
from stackwise.train.bossnas.learners.readout import read_labels_off
from stackwise.train.bossnas.network import build, costs
from stackwise.train.bossnas.search.blocks import CALIBRATED, BlockSearches, Searched, search
from stackwise.train.bossnas.search.rating import settle
from stackwise.train.bossnas.search.ratings import Ratings
from stackwise.train.bossnas.search.settings import Samples
from stackwise.train.bossnas.search.views import Views
from stackwise.train.bossnas.spaces.known import space_of
from stackwise.train.bossnas.spaces.own import check_keepable
from stackwise.train.bossnas.spaces.space import Architecture, Space

if TYPE_CHECKING:
    import pandas as pd

LOOKED_AT = 5000
"""Architectures that `top` looks at, the best first, for some within a budget."""
CARD: dict[str, Any] = {
    "title": "Choose the operation of every layer without labels",
    "paper": "2103.12424",
    "cost": "trains four paths of a supernet at a time, block by block, then the chosen network",
}


class Searching(LabelledNetwork):
    """The search, whatever the samples are.

    Fitted: `space_`, `ratings_` (a frame a block), `best_` (the architecture); in memory alone
    `searched_`, the weights of the search; with labels also `network_`.
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (search_knobs,)
    floor: ClassVar[dict[str, Any]] = {"min_steps": 100}

    space_: Space | None
    kept_ratings_: Ratings
    searched_: Searched

    def build_space(self, features: Any) -> Space:
        """The search space for training samples."""
        raise NotImplementedError

    def usual_views(self, features: Any) -> Views:
        """How a sample is varied where the user does not say."""
        raise NotImplementedError

    # searching

    def _fit_samples(
        self, X: Any, y: Any, sample_weight: Any, *, validation: Any, metric: Any, **given: Any
    ) -> Self:
        if y is not None or isinstance(X, Task):
            return super()._fit_samples(
                X, y, sample_weight, validation=validation, metric=metric, **given
            )
        if sample_weight is not None or validation is not None:
            raise DataError("without y a search takes X alone: no sample_weight and no validation")
        if self.objective == "supervised":
            raise DataError("objective=supervised learns labels: give y")
        self._begin()
        samples = self._read_samples(X, fit=True)
        every = LabelledRows(samples, np.zeros(len(samples)), np.ones(len(samples)))
        order = np.random.default_rng(self.seed_).permutation(len(samples))
        kept = max(round(self.validation * len(samples)), 0)
        train = every.take(np.sort(order[kept:]))
        self._learn_features(train, whole=True, **given)
        self._search(train, every.take(np.sort(order[:kept])) if kept else None, None)
        return self

    def _fit_parts(self, train: LabelledRows, held: LabelledRows | None) -> None:
        self._search(train, held, self.n_outputs_)
        self._read_off(train)

    def _search(
        self, train: LabelledRows, held: LabelledRows | None, n_outputs: int | None
    ) -> None:
        """Search every block; ratings and the best architecture are kept."""
        features = self._features(train.samples)
        space = self.search_space or self.build_space(features)
        if not isinstance(space, Space):
            raise KnobError(f"search_space is a {type(space).__name__}; give a SearchSpace")
        settings = settings_of(self, space)
        tensors = self._search_tensors(features, train, n_outputs)
        by = held if held is not None and len(held.target) > 1 else train
        rated_by = self._features(by.samples, quietly=True)
        samples = Samples(
            tensors=tensors, held=self._search_tensors(rated_by, by, n_outputs),
            names=list(self._inputs(features)), views=self.views or self.usual_views(features),
            n_outputs=n_outputs or 1,
        )  # fmt: skip
        size = self._batch_size(len(train.target))
        steps = max(len(train.target) // size, 1)
        options = self.training_options()
        limit = options.pop("time_limit")
        rule = self.rule_options()
        searches = BlockSearches(
            names=[f"block {place + 1}" for place in range(len(space.depths))], space=space,
            settings=settings, samples=samples, batch_size=size,
            max_epochs=max(int(self.max_epochs), -(-self.min_steps // steps)),
            rule_options=rule, options=options, threads=self.threads, workers=self.workers,
            on=self.on,
        )  # fmt: skip
        with told(self.verbose):
            found = search(searches, limit)
        self.space_, self.kept_ratings_, self.searched_ = space, found.ratings, found
        self.architecture_ = found.best
        self.history_ = [line for fit in found.fits for line in fit.history]
        self.best_epoch_ = 0
        self.notes_.append(f"the best architecture is {space.words(found.best)}")
        late = sum(fit.stopped == "time" for fit in found.fits)
        if late:
            self.notes_.append(
                f"the time limit ended the search of {late} of {len(found.fits)} blocks; more time "
                "may help"
            )
        if by is train:
            self.notes_.append("no samples were held out: paths are rated by training samples")

    def _search_tensors(
        self, features: Any, part: LabelledRows, n_outputs: int | None
    ) -> dict[str, Any]:
        """The inputs, and with labels the target and the weights."""
        if n_outputs is not None:
            return self._tensors(features, part)
        from stackwise.learning.outputs import as_tensors

        return as_tensors(self._inputs(features))

    def _read_off(self, train: LabelledRows) -> None:
        """The best network with the weights of the search, and a linear layer on what it says."""
        space = cast(Space, self.space_)
        found = self.searched_
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network: Any = build(space, found.best, self.n_outputs_)
        network.stem = copy.deepcopy(found.stem).requires_grad_(True)
        network.blocks = nn.ModuleList(copy.deepcopy(found.layers)).requires_grad_(True)
        features = self._features(train.samples, quietly=True)
        inputs = self._search_tensors(features, train, None)
        few = torch.arange(len(train.target))[:CALIBRATED]
        settle(network, {name: tensor[few] for name, tensor in inputs.items()})
        read_labels_off(
            network, self._put_through(_Reads(network), features, _first), train,
            self._standard(train.target), classes=self._by_class,
        )  # fmt: skip
        self.network_ = network.eval()

    # what was found

    @property
    def ratings_(self) -> "list[pd.DataFrame]":
        """A frame a block, the best path first: `path`, `operations`, `entered`, `rating`."""
        check_is_fitted(self, "kept_ratings_")
        return self.kept_ratings_.tables()

    @property
    def best_(self) -> Architecture:
        """The architecture whose ratings sum to the least."""
        check_is_fitted(self, "kept_ratings_")
        return self.kept_ratings_.best

    def rate(self, architecture: Iterable[Iterable[int]]) -> float:
        """The sum of an architecture's ratings; less is better.

        Raises:
            KnobError: the space has no such architecture, or a path of it was not rated.
        """
        check_is_fitted(self, "kept_ratings_")
        return self.kept_ratings_.rate(architecture)

    def top(
        self, n: int = 5, *, max_params: float | None = None, max_macs: float | None = None
    ) -> list[Architecture]:
        """The best n architectures, within a budget of parameters and multiply-adds.

        Raises:
            KnobError: none of the best 5,000 is within it.
        """
        check_is_fitted(self, "kept_ratings_")
        found: list[Architecture] = []
        limited = max_params is not None or max_macs is not None
        for looked, (architecture, _) in enumerate(self.kept_ratings_.in_order()):
            if limited and looked >= LOOKED_AT:
                break
            if limited:
                params, macs = costs(self._space(), architecture, self._heads())
                if params > (max_params or np.inf) or macs > (max_macs or np.inf):
                    continue
            found.append(architecture)
            if len(found) == n:
                break
        if not found:
            raise KnobError(
                f"none of the best {LOOKED_AT:,} architectures has at most max_params={max_params} "
                f"and max_macs={max_macs}"
            )
        return found

    def build(self, architecture: Iterable[Iterable[int]] | None = None) -> nn.Module:
        """A fresh network of an architecture, the best one by default; torch's random state makes
        its weights.
        """
        return build(self._space(), self.best_ if architecture is None else architecture,
                     self._heads())  # fmt: skip

    def _heads(self) -> int:
        return self.n_outputs_ if hasattr(self, "network_") else 1

    def _space(self) -> Space:
        check_is_fitted(self, "kept_ratings_")
        if self.space_ is None:
            raise ModelError("the space of this search was the user's own and is not kept in files")
        return self.space_

    # files

    def _write(self, folder: Path) -> dict[str, Any]:
        check_keepable(self.network_)
        import pandas as pd

        tables = self.ratings_
        every = pd.concat([one.assign(block=k + 1) for k, one in enumerate(tables)])
        with replacing(folder / "ratings.csv") as beside:
            every.assign(path=[" ".join(map(str, p)) for p in every["path"]]).to_csv(
                beside, index=False
            )
        own = self.space_ is None or self.space_.kind == "own"
        return super()._write(folder) | {
            "search": {
                "space": None if own or self.space_ is None else self.space_.spec,
                "ratings": [] if own else self.kept_ratings_.as_json(),
                "architecture": [list(path) for path in self.architecture_],
            }
        }

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        super()._read(folder, record)
        kept = record["search"]
        self.space_ = None
        self.architecture_ = tuple(tuple(int(c) for c in path) for path in kept["architecture"])
        if kept["space"] is not None:
            self.space_ = space_of(kept["space"])
            self.kept_ratings_ = Ratings.of_json(self.space_, kept["ratings"])


class _Reads(nn.Module):
    """What the head of a network reads."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network.features(**inputs)
        return found


def _first(outputs: torch.Tensor) -> np.ndarray:
    return outputs[:, 0].numpy()
