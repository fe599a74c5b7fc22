"""The stacked autoencoder as a transformer of scikit-learn, for any table of numbers.

coder = StackedAutoencoder(code_dim=2).fit(X)
Z = coder.transform(X)                        (n, 2)
coder.inverse_transform(Z)                    (n, features), as the last stage gives them back
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from stackwise.build.remote_sensing_sae.knobs import a_stage, autoencoder_knobs, widths_of
from stackwise.build.remote_sensing_sae.network import StackedEncoder
from stackwise.build.remote_sensing_sae.rule import phases_of
from stackwise.catalog import Knob
from stackwise.catalog.registering import write_init
from stackwise.errors import DataError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.network import NetworkLearner
from stackwise.tasks.rasters.estimators.pixel_network import Applied, through

DEAD = 0.01
"""Standard deviation of a number of the code, beside the largest, at which it tells nothing."""


class StackedAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetworkLearner):
    """Compress rows of numbers by autoencoders that are trained one after the other.

    Fitted attributes: `network_`, `history_`, `feature_min_` and `feature_max_` (what becomes 0
    and 1).
    """

    shared_knobs: ClassVar[tuple[Any, ...]] = (autoencoder_knobs,)
    budget: ClassVar[str | None] = "epochs"

    network_: StackedEncoder

    def __init__(
        self, *, scale: Annotated[bool, Knob("bring each feature to 0 to 1 first")] = True
    ) -> None: ...

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn to give rows back.

        Args:
            X: (n, features) finite numbers; with `scale=False` 0 to 1. y: not used.
        """
        self._begin()
        stages = widths_of(self.stages)
        epochs = a_stage("epochs", self.epochs, len(stages))
        sizes = a_stage("batch_size", self.batch_size, len(stages))
        rows = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        if not self.scale and (rows.min() < 0 or rows.max() > 1):
            raise DataError(
                f"scale=False takes numbers of 0 to 1, got {rows.min():g} to {rows.max():g}"
            )
        self.feature_min_ = rows.min(0) if self.scale else np.zeros(rows.shape[1])
        self.feature_max_ = rows.max(0) if self.scale else np.ones(rows.shape[1])
        x = torch.from_numpy(np.ascontiguousarray(self._scaled(rows)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            network = StackedEncoder(
                features=rows.shape[1], stages=stages, code_dim=self.code_dim,
                scale_stages=self.scale_stages,
            )  # fmt: skip
        phases = phases_of(
            network, x, epochs=epochs, batch_size=sizes, joint_epochs=self.joint_epochs,
            activity_l1=self.activity_l1, lr=self.lr, seed=self.seed_,
        )  # fmt: skip
        trained = self.train(network, phases)
        self.network_ = cast(StackedEncoder, trained.model).cpu().learning(None).eval()
        self._look(through(self.network_, x.numpy()[:10_000]))
        return self

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        """(n, features) float32; a constant feature becomes 0."""
        span = self.feature_max_ - self.feature_min_
        found = (rows - self.feature_min_) / np.where(span > 0, span, np.inf)
        return np.asarray(found, dtype=np.float32)

    def _look(self, codes: np.ndarray) -> None:
        """Say which numbers of the code died of the penalty."""
        spread = codes.std(0)
        dead = [str(place + 1) for place in np.flatnonzero(spread <= DEAD * spread.max())]
        if dead:
            self.notes_.append(
                f"number {', '.join(dead)} of the code is nearly constant: less activity_l1, or "
                "another seed, may keep it alive"
            )

    def transform(self, X: Any) -> np.ndarray:
        """(n, code_dim) codes of rows."""
        check_is_fitted(self, "network_")
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return through(self.network_, self._scaled(rows)).astype(rows.dtype)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """(n, features) what the last stage gives back for codes (n, code_dim)."""
        check_is_fitted(self, "network_")
        codes = np.asarray(X, dtype=np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.code_dim:
            raise DataError(f"codes are (n, {self.code_dim}), got {codes.shape}")
        scaled = through(Applied(self.network_.decode), codes)
        return self.feature_min_ + (self.feature_max_ - self.feature_min_) * scaled

    @property
    def _n_features_out(self) -> int:
        return self.code_dim

    def _write(self, folder: Path) -> dict[str, Any]:
        write_tensors(folder / "model.safetensors", self.network_.state_dict())
        names = getattr(self, "feature_names_in_", None)
        return {
            "arguments": self.network_.arguments, "history": self.history_,
            "low": self.feature_min_.tolist(), "high": self.feature_max_.tolist(),
            "names": None if names is None else [str(name) for name in names],
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.network_ = StackedEncoder(**record["arguments"])
        self.network_.load_state_dict(read_tensors(folder / "model.safetensors"))
        self.network_.eval()
        self.history_ = record["history"]
        self.feature_min_, self.feature_max_ = np.array(record["low"]), np.array(record["high"])
        self.n_features_in_ = self.network_.features
        if record["names"] is not None:
            self.feature_names_in_ = np.array(record["names"], dtype=object)


write_init(StackedAutoencoder, {})
