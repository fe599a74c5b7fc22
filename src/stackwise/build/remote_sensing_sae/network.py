"""The networks: a symmetric autoencoder, and a stack of them with skips."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.layers.arguments import keeps_arguments


def _through(layer: nn.Module, x: Tensor) -> Tensor:
    """(inputs, B) -> (outputs, B)."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    return torch.addmm(bias[:, None], weight, x)


class Autoencoder(nn.Module):
    """A symmetric network, `inputs -> hidden -> code -> hidden reversed -> inputs`: SELU on every
    layer but the output, which has a sigmoid. Weights are Glorot-uniform, biases 0.

    Rows lie in columns here: products with layers of so few units are five times faster so, and
    what comes out of a row does not depend on its place.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], code: int) -> None:
        super().__init__()
        widths = [inputs, *hidden, code]
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths[::-1]))
        for layer in (*self.encoder, *self.decoder):
            nn.init.xavier_uniform_(cast(Tensor, layer.weight))
            nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(inputs, B) -> the reconstruction (inputs, B), and what every layer gives, the code and
        the reconstruction among them.
        """
        layers = []
        for layer in (*self.encoder, *self.decoder[:-1]):
            x = functional.selu(_through(layer, x))
            layers.append(x)
        x = torch.sigmoid(_through(self.decoder[-1], x))
        return x, [*layers, x]

    def encode(self, x: Tensor) -> Tensor:
        """(inputs, B) -> (code, B)."""
        return functional.selu(_through(self.encoder[-1], self.hidden(x)))

    def hidden(self, x: Tensor) -> Tensor:
        """(inputs, B) -> (units, B): the last layer before the code."""
        for layer in self.encoder[:-1]:
            x = functional.selu(_through(layer, x))
        return x

    def decode(self, code: Tensor) -> Tensor:
        """(code, B) -> (inputs, B)."""
        for layer in self.decoder[:-1]:
            code = functional.selu(_through(layer, code))
        return torch.sigmoid(_through(self.decoder[-1], code))


@keeps_arguments
class StackedEncoder(nn.Module):
    """Autoencoders of which each reads what the one before made of its input, and that input.
    Outside rows are rows; between the stages they lie in columns.

    Args:
        features: numbers of a row. stages: widths of each encoder's hidden layers.
        code_dim: numbers of every code. scale_stages: bring what a later stage reads to 0 to 1.
    """

    def __init__(
        self, *, features: int, stages: Sequence[Sequence[int]], code_dim: int,
        scale_stages: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.features, self.scale_stages = features, scale_stages
        self.stages = nn.ModuleList()
        inputs = features
        for place, hidden in enumerate(stages):
            if place:
                # the reconstruction of the first stage, of a later one its last hidden layer
                inputs += features if place == 1 else stages[place - 1][-1]
                self.register_buffer(f"low{place}", torch.zeros(inputs))
                self.register_buffer(f"span{place}", torch.ones(inputs))
            self.stages.append(Autoencoder(inputs, hidden, code_dim))

    def stage(self, place: int) -> Autoencoder:
        """The autoencoder at a place, from 0."""
        return cast(Autoencoder, self.stages[place])

    def inputs_of(self, place: int, x: Tensor) -> Tensor:
        """(inputs, B) what a stage reads of (features, B), from 0: X, [AE1(X), X],
        [h2, AE1(X), X], ...
        """
        for before in range(place):
            x = self.next_inputs(before, x)
        return x

    def next_inputs(self, place: int, x: Tensor) -> Tensor:
        """What the stage behind a place reads, from what the stage at that place reads."""
        return self._scaled(place + 1, self.joined(place, x))

    def joined(self, place: int, x: Tensor) -> Tensor:
        """What a stage makes of its input, before that input, not yet scaled."""
        stage = self.stage(place)
        made = stage.hidden(x) if place else stage.decode(stage.encode(x))
        return torch.cat([made, x])

    def _scaled(self, place: int, x: Tensor) -> Tensor:
        if not self.scale_stages:
            return x
        low, span = self._range(place)
        return (x - low) / span

    def _range(self, place: int) -> tuple[Tensor, Tensor]:
        """(inputs, 1) what becomes 0, and how far 1 is from it."""
        low, span = self.get_buffer(f"low{place}"), self.get_buffer(f"span{place}")
        return low[:, None], span[:, None]

    @torch.no_grad()
    def fit_scale(self, place: int, x: Tensor) -> None:
        """Find what brings the input of a stage to 0 to 1 on (features, n), where that is wanted;
        the stages before it have learned.
        """
        if place == 0 or not self.scale_stages:
            return
        read = self.joined(place - 1, self.inputs_of(place - 1, x))
        span = read.amax(1) - read.amin(1)
        self.get_buffer(f"low{place}").copy_(read.amin(1))
        self.get_buffer(f"span{place}").copy_(torch.where(span > 0, span, 1.0))

    def learning(self, place: int | None) -> "StackedEncoder":
        """Itself, of which one stage alone learns from now on; None: all do."""
        for number, stage in enumerate(self.stages):
            stage.requires_grad_(place in (None, number))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(B, features), 0 to 1 -> (B, code_dim): the code of the last stage."""
        last = len(self.stages) - 1
        return self.stage(last).encode(self.inputs_of(last, x.T.contiguous())).T

    def decode(self, z: Tensor) -> Tensor:
        """(B, code_dim) -> (B, features): the row in what the last stage gives back."""
        last = len(self.stages) - 1
        x = self.stage(last).decode(z.T.contiguous())
        for place in range(last, 0, -1):
            if self.scale_stages:
                low, span = self._range(place)
                x = x * span + low
            inputs = cast(nn.Linear, self.stage(place - 1).encoder[0]).in_features
            x = x[-inputs:]
        return x.T
