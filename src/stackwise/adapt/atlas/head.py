"""Learn the head on what the composed model makes of the data, the mix frozen (as LP++ does).

LP++ adds to the zero-shot classifier's logits, each class by a scale of its own, those of a linear
probe, (V + diag(alpha) T) f. For a head that is a matrix this is one matrix, and it begins with T:
the head itself is what is learned here, so that what comes out stays a plain model. The paper
learns it after the coefficients, on frozen features. (arXiv 2407.02880, with arXiv 2404.02285.)
"""

import copy
from typing import Any

from torch import Tensor, nn

from stackwise.adapt.atlas.blocks import head_of
from stackwise.adapt.atlas.objectives import no_better
from stackwise.errors import ModelError
from stackwise.learning.trainable import Trainable
from stackwise.training import train
from stackwise.training.rules import Backprop


class HeadAlone(nn.Module):
    """A network of which nothing but the head learns; checkpoints hold the head alone.

    Args:
        network: is learned in place, in evaluation mode.

    Raises:
        ModelError: it has no head of its own.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        names = head_of(network)
        parameters = dict(network.named_parameters())
        if not names:
            raise ModelError(
                f"a {type(network).__name__} has no head of its own that could be learned: leave "
                "out head_epochs"
            )
        self._flags = {name: weight.requires_grad for name, weight in parameters.items()}
        for name, weight in parameters.items():
            weight.requires_grad_(name in names)
        self.head = nn.ParameterList(parameters[name] for name in names)
        self.__dict__["network"] = network.eval()

    network: nn.Module

    def _apply(self, fn: Any, recurse: bool = True) -> "HeadAlone":
        """The network goes along to another device; the head is a part of it."""
        self.network._apply(fn)
        parameters = dict(self.network.named_parameters())
        self.head = nn.ParameterList(parameters[name] for name in head_of(self.network))
        return self

    def release(self) -> nn.Module:
        """The plain network, as it may learn again."""
        for name, weight in self.network.named_parameters():
            weight.requires_grad_(self._flags[name])
        return self.network


def with_head_learned(
    network: nn.Module, joined: Trainable, *, epochs: int, lr: float, seed: int, device: str,
    time_limit: float | None, chooses: bool,
) -> tuple[nn.Module, dict[str, Any]]:  # fmt: skip
    """The network with its head learned, in place, and the scores before and after; where none is
    better on held-out data, the head as it was.

    Args:
        chooses: the best epoch is kept by the held-out score; else the last.
    """
    alone = HeadAlone(network)
    watched: dict[str, Any] = {}
    if chooses and joined.validate is not None:
        judge = joined.validate
        watched = {"validate": lambda model: judge(model.network), "monitor": joined.monitor,
                   "mode": joined.mode}  # fmt: skip
    rule = Backprop(_of_network(joined), lr=lr, schedule="cosine", **watched)
    before, kept = dict(rule.validate(alone)), copy.deepcopy(alone.state_dict())
    trained = train(
        alone, rule, joined.batches, max_epochs=epochs, seed=seed, device=device,
        time_limit=time_limit, name="head",
    )  # fmt: skip
    alone = trained.model  # type: ignore[assignment]
    after = dict(rule.validate(alone))
    monitor = rule.monitor
    if monitor is not None and no_better(after[monitor], before[monitor], rule.mode):
        alone.load_state_dict(kept)
        after = before
    return alone.release(), {f"{name} with its head": value for name, value in after.items()}


def _of_network(joined: Trainable) -> Any:
    def loss(alone: HeadAlone, batch: Any) -> Tensor:
        return joined.loss(alone.network, batch)

    return loss
