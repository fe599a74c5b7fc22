"""The networks: an LSTM, or layers of units, over words one after the other or in windows.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b);   g = tanh(W_g x_t + U_g h_{t-1} + b_g)
    c_t = f * c_{t-1} + i * g;                  h_t = o * tanh(c_t)

and on top one linear layer, whose outputs are logits of the classes. An MLP, a deep belief network
and stacked auto-encoders are one network: what sets them apart is how its layers learned before.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from stackwise.build.drug_ner.layers.crf import CRF
from stackwise.build.drug_ner.representation import Distance, with_distance, with_distance_size
from stackwise.layers.arguments import keeps_arguments

Arch = Literal["lstm", "mlp", "dbn", "sae"]
Activation = Literal["sigmoid", "tanh", "relu"]
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


@keeps_arguments
class TagNetwork(nn.Module):
    """Logits of the words of sentences, or of windows of words.

    Args:
        size: numbers of a word's vector. n_outputs: classes.
        window: words of a window; None where sentences go through whole.
        widths: units of each layer. recurrent: they are an LSTM's.
        distance: what is put behind each vector. dropout: before the last layer.
        crf: a chain over the classes of a sentence, which then holds what they follow each other
            by; the logits are its emissions.
    """

    def __init__(
        self,
        *,
        size: int,
        n_outputs: int,
        window: int | None = None,
        widths: list[int],
        recurrent: bool = False,
        bidirectional: bool = False,
        activation: Activation = "sigmoid",
        distance: Distance = "none",
        dropout: float = 0.0,
        crf: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.recurrent, self.distance = window, recurrent, distance
        self.activation = ACTIVATIONS[activation]
        self.two_ways = bidirectional
        inputs = with_distance_size(size, distance)
        if window is not None and not recurrent:
            inputs *= window
        made: list[nn.Module] = []
        for width in widths:
            if recurrent:
                one_way = nn.LSTM(inputs, width, batch_first=True)
                made.append(BothWays(inputs, width) if bidirectional else one_way)
            else:
                made.append(nn.Linear(inputs, width))
            inputs = width * (2 if recurrent and bidirectional else 1)
        self.blocks = nn.ModuleList(made)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, n_outputs)
        self.chain = CRF(n_outputs) if crf else None

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """(B, T, size) and (B, T) bool -> (B, T, C) of sentences; of windows, T words each, (B, C).

        Windows are zeros where the mask is off; sentences are padded at their ends.
        """
        x = self.laid_out(vectors, mask)
        for block in self.blocks:
            if not self.recurrent:
                x = self.activation(block(x))
            else:
                x = block(x, mask) if self.two_ways else block(x)[0]
        if self.recurrent and self.window is not None:
            x = x[:, 0] if self.two_ways else x[:, -1]
        found: Tensor = self.head(self.dropout(x))
        return found

    def laid_out(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """What the first layer sees: (B, T, inputs), or (B, inputs) of windows without an LSTM."""
        x = with_distance(vectors * mask[..., None], mask, self.distance)
        return x.flatten(1) if self.window is not None and not self.recurrent else x

    def below(self, layer: int, vectors: Tensor, mask: Tensor) -> Tensor:
        """(n, inputs of a layer) what it sees of all words, or of all windows."""
        x = self.laid_out(vectors, mask)
        x = x if self.window is not None else x[mask]
        for block in list(self.blocks)[:layer]:
            x = self.activation(block(x))
        return x


class BothWays(nn.Module):
    """An LSTM each way; the way back begins at each sentence's last word.

    What nn.LSTM does with packed sequences, which take several times as long on a CPU.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.forth = nn.LSTM(inputs, width, batch_first=True)
        self.back = nn.LSTM(inputs, width, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, inputs) and (B, T) bool -> (B, T, 2 width)."""
        return torch.cat([self.forth(x)[0], turned(self.back(turned(x, mask))[0], mask)], dim=-1)


def turned(x: Tensor, mask: Tensor) -> Tensor:
    """(B, T, d) with the words of each sentence from the last to the first; padding stays."""
    places = torch.arange(x.shape[1], device=x.device)
    lengths = mask.sum(1, keepdim=True)
    back = torch.where(places < lengths, lengths - 1 - places, places)
    return x.gather(1, back[..., None].expand_as(x))
