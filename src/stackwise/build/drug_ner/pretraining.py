"""The rules by which layers learn before the network does: one layer, those below it fixed."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from stackwise.build.drug_ner.layers.autoencoder import Values, denoising_loss
from stackwise.build.drug_ner.layers.rbm import Visible, contrastive_divergence
from stackwise.build.drug_ner.networks import TagNetwork
from stackwise.training.batches import Batches
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop, Loop

MACHINE_RATE, ENCODER_RATE = 1e-2, 1e-3
"""Learning rates where none is given."""


class ContrastiveDivergence:
    """CD-1 on a layer, whose weights and biases are a restricted Boltzmann machine's.

    Args:
        layer: its number, from 0; the first sees numbers, the others bits. visible: its inputs.
    """

    monitor: str | None = None
    mode: Literal["min", "max"] = "min"
    settled = True

    def __init__(self, layer: int, visible: int, *, lr: float) -> None:
        self.layer, self.lr = layer, lr
        self.kind: Visible = "bernoulli" if layer else "gaussian"
        self.visible = nn.Parameter(torch.zeros(visible))

    def optimizers(self, model: nn.Module) -> list[Optimizer]:
        """Plain steps along the divergence."""
        block = self._block(model)
        with torch.no_grad():
            self.visible = nn.Parameter(self.visible.to(block.weight.device))
        return [SGD([block.weight, block.bias, self.visible], lr=self.lr)]

    @torch.no_grad()
    def step(self, loop: Loop, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Learn from one batch; the loss is how far the reconstruction is off."""
        block = self._block(model)
        v0 = _network(model).below(self.layer, batch["vectors"], batch["mask"])
        found = contrastive_divergence(v0, block.weight.T, self.visible, block.bias, self.kind)
        block.weight.grad, block.bias.grad = -found.weight.T.contiguous(), -found.hidden
        self.visible.grad = -found.visible
        optimizer = loop.optimizers[0]
        loop.average_gradients(optimizer)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": found.error}

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        """Nothing is watched."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """The biases of the inputs, which no layer of the network has."""
        return {"visible": self.visible.detach()}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        with torch.no_grad():
            self.visible.copy_(state["visible"])

    def _block(self, model: nn.Module) -> Any:
        return _network(model).blocks[self.layer]


class Denoising(Backprop):
    """A layer as a denoising auto-encoder, whose decoder has its weights.

    Args:
        layer: its number, from 0; the first sees numbers, the others what lies in [0, 1].
        visible: its inputs. noise: share of them that is put out.
    """

    def __init__(self, layer: int, visible: int, *, noise: float, lr: float) -> None:
        super().__init__(self._loss, lr=lr)
        self.layer, self.noise = layer, noise
        self.values: Values = "bits" if layer else "numbers"
        self.visible = nn.Parameter(torch.zeros(visible))

    def named(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """The layer's weights and biases, and the biases of its inputs."""
        block: Any = _network(model).blocks[self.layer]
        with torch.no_grad():
            self.visible = nn.Parameter(self.visible.to(block.weight.device))
        return [("weight", block.weight), ("bias", block.bias), ("visible", self.visible)]

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        network = _network(model)
        block: Any = network.blocks[self.layer]
        with torch.no_grad():
            x = network.below(self.layer, batch["vectors"], batch["mask"])
        return denoising_loss(
            x, block.weight, block.bias, self.visible, noise=self.noise, values=self.values
        )

    def state(self) -> dict[str, Tensor]:
        """The biases of the inputs."""
        return {"visible": self.visible.detach()}

    def load_state(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        with torch.no_grad():
            self.visible.copy_(state["visible"])


def layer_phases(
    network: TagNetwork, batches: Batches, *, machines: bool, epochs: int, lr: float | None,
    noise: float,
) -> list[Phase]:  # fmt: skip
    """A phase for each layer, the lowest first.

    Args:
        machines: layers are restricted Boltzmann machines, else auto-encoders.
        lr: learning rate; None for what suits them. noise: of auto-encoders.
    """
    made = []
    for number, block in enumerate(network.blocks):
        visible = int(cast(nn.Linear, block).in_features)
        rule: Any
        if machines:
            rule = ContrastiveDivergence(number, visible, lr=lr or MACHINE_RATE)
        else:
            rule = Denoising(number, visible, noise=noise, lr=lr or ENCODER_RATE)
        made.append(Phase(f"layer {number + 1}", rule, batches, epochs, keep="last"))
    return made


def _network(model: nn.Module) -> TagNetwork:
    assert isinstance(model, TagNetwork)
    return model
