"""StackVAE-G as a detector: fit on normal moments, score, explain an alarm."""

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.build.stackvae_g.diagnosis import Explanation, explained, verdicts
from stackwise.build.stackvae_g.graph import without_self
from stackwise.build.stackvae_g.network import StackVAEG
from stackwise.catalog import Knob, learner
from stackwise.errors import DataError
from stackwise.tasks.anomalies.detectors.network import (
    L2,
    Decay,
    DecayEvery,
    LearningRate,
    NetworkDetector,
    Window,
)


@learner(
    "stackvae-g",
    title="A stack of shared autoencoders with a graph of the channels",
    paper="2105.08397",
    verified="tests/build/test_stackvae_g_parity.py",
    cost="one small autoencoder for all channels; a window of each moment goes through it",
    training={"max_epochs": 256, "patience": None, "grad_clip": 12.0},
    presets={
        "quick": {"window": 16, "hidden": 32, "latent": 6, "max_epochs": 10, "n_samples": 20},
        "standard": {},
        "best": {"max_epochs": 512, "lr_decay": 0.9},
    },
)
class StackVAEGDetector(NetworkDetector):
    """Find anomalies in a series with one autoencoder for all its channels, and their graph.

    Fitted attributes besides those of every detector: `adjacency_` (n, n), the learned graph A~.
    """

    def __init__(
        self,
        *,
        window: Window = 100,
        hidden: Annotated[
            int, Knob("units of the hidden layers", ge=1, log=True, search=(32, 256))
        ] = 200,
        latent: Annotated[
            int, Knob("latent numbers of a channel", ge=1, log=True, search=(4, 32))
        ] = 20,
        gamma: Annotated[
            float, Knob("how much of a feature comes from neighbours; 0: no graph", ge=0, le=1)
        ] = 0.5,
        graph_weight: Annotated[
            float, Knob("of the loss that learns the graph", ge=0, search=(0.1, 10.0))
        ] = 1.0,
        neighbours: Annotated[
            int, Knob("largest weights of a row that are kept", ge=1, search=(2, 15))
        ] = 10,
        embedding: Annotated[int, Knob("numbers of a channel's embedding", ge=1)] = 30,
        alpha: Annotated[float, Knob("how steep the graph's tanh is", gt=0)] = 3.0,
        directed: Annotated[bool, Knob("a neighbour need not be one back")] = False,
        self_loops: Annotated[
            bool, Knob("the graph's loss may explain a channel by itself, as in the public code")
        ] = True,
        init_scale: Annotated[
            float, Knob("factor of the first embeddings; 1 begins saturated", gt=0)
        ] = 1.0,
        likelihood: Annotated[
            Literal["mse", "gaussian"], Knob("squared error of a draw, or -log p of the window")
        ] = "mse",
        n_samples: Annotated[
            int, Knob("draws whose mean is decoded at scoring; 0 takes their limit", ge=0)
        ] = 200,
        lr: LearningRate = 1e-3,
        weight_decay: L2 = 1e-3,
        lr_decay: Decay = 0.8,
        decay_every: DecayEvery = 10,
    ) -> None:
        """A detector of this size."""

    def build_network(self, channels: int) -> nn.Module:
        """A `StackVAEG` of this size."""
        if self.neighbours > channels and self.gamma + self.graph_weight > 0:
            said = (
                f"neighbours={self.neighbours} is more than the {channels} channels, all are kept"
            )
            self.notes_.append(said)
            warnings.warn(said, stacklevel=2)
        names = (
            "window", "hidden", "latent", "gamma", "graph_weight", "neighbours", "embedding",
            "alpha", "directed", "self_loops", "init_scale", "likelihood", "n_samples",
        )  # fmt: skip
        made = StackVAEG(channels=channels, **{name: getattr(self, name) for name in names})
        share = made.graph.saturated()
        if made.uses_graph and share > 0.25:
            self.notes_.append(
                f"{share:.0%} of the pairs of channels begin saturated and hardly learn; "
                "an init_scale below 1 begins less so"
            )
        return made

    def network_of(self, arguments: Mapping[str, Any]) -> nn.Module:
        """A `StackVAEG` from its arguments."""
        return StackVAEG(**arguments)

    @property
    def adjacency_(self) -> np.ndarray:
        """(n, n) the learned graph: each row sums to 1, itself counted."""
        check_is_fitted(self, "network_")
        network: Any = self.network_
        with torch.no_grad():
            found = network.graph()
        return np.asarray(found.double().cpu().numpy())

    @property
    def neighbours_(self) -> np.ndarray:
        """(n, n) the graph without the diagonal, its rows normalised again."""
        return np.asarray(without_self(torch.from_numpy(self.adjacency_)).numpy())

    def first_errors(self, window: np.ndarray) -> np.ndarray:
        """(window, n) -> (window - 1, n) errors within the first window, of all but its last."""
        network: Any = self.network_
        with torch.no_grad():
            given = torch.from_numpy(window).T[None].to(network.mean_noise.device)
            found = network.window_errors(given)[0, :, :-1].T
        return np.asarray(found.double().cpu().numpy())

    def verdicts(self, errors: np.ndarray) -> np.ndarray:
        """(L, n) errors -> (L,) `sensor` or `systematic`; see `diagnosis`."""
        return verdicts(errors, self.channel_thresholds_, self.adjacency_)

    def explain(self, X: Any, t: int) -> Explanation:
        """Why moment `t` of a series is strange: channels, neighbours, one sensor or the system.

        Raises:
            DataError: there is no such moment, or no window ends there.
        """
        errors = self.channel_scores(X)
        if not -len(errors) <= t < len(errors):
            raise DataError(f"there is no moment {t} among {len(errors)}")
        return self.explain_errors(errors[t])

    def explain_errors(self, errors: np.ndarray) -> Explanation:
        """The same from a moment's errors (n,), such as those of `update`."""
        if not np.isfinite(errors).all():
            raise DataError(
                f"this moment has no score: it is among the first {self.window - 1}, or in a gap"
            )
        score = float(self.total(errors[None])[0])
        return explained(
            errors, self.channel_thresholds_, self.adjacency_, self.channels_, score=score,
            alarm=score > self.threshold_,
        )  # fmt: skip
