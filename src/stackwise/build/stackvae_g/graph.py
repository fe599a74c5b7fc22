"""The graph of the channels: who is whose neighbour, and how much.

    e = tanh(alpha (E M + b))                   an embedding of each channel
    A = ReLU(alpha tanh(e e'))                  (n, n) in [0, alpha), symmetric
    A~ = rows of (the k largest of each row of A, + 1 on the diagonal), each over its sum

Directed, with two embeddings (Wu et al. 2020): A = ReLU(alpha tanh(e1 e2' - e2 e1')), where at most
one of two channels is the other's neighbour.

The choice of the k largest is hard: what is not chosen gets no gradient. With embeddings drawn from
N(0, 1) the tanh begins saturated, so that the first choice is among near ties, and about half of
the pairs hardly learn; `init_scale` below 1 begins in its linear part.
"""

import torch
from torch import Tensor, nn

SATURATED = 0.99


class ChannelGraph(nn.Module):
    """A~ of n channels.

    Args:
        neighbours: k, at most n. embedding: numbers of a channel's embedding.
    """

    def __init__(
        self,
        channels: int,
        *,
        neighbours: int = 10,
        embedding: int = 30,
        alpha: float = 3.0,
        directed: bool = False,
        init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.neighbours, self.alpha = min(neighbours, channels), alpha
        sides = 2 if directed else 1
        self.embeddings = nn.ModuleList(nn.Embedding(channels, embedding) for _ in range(sides))
        self.maps = nn.ModuleList(nn.Linear(embedding, embedding) for _ in range(sides))
        with torch.no_grad():
            for weight in self.embeddings.parameters():
                weight.mul_(init_scale)

    def similarity(self) -> Tensor:
        """(n, n) e e', or e1 e2' - e2 e1' where the graph is directed."""
        first, *second = (
            torch.tanh(self.alpha * layer(table.weight))
            for layer, table in zip(self.maps, self.embeddings, strict=True)
        )
        if not second:
            return first @ first.T
        forward: Tensor = first @ second[0].T
        return forward - forward.T

    def weights(self) -> Tensor:
        """(n, n) A, before the choice of neighbours."""
        return torch.relu(self.alpha * torch.tanh(self.similarity()))

    def forward(self) -> Tensor:
        """(n, n) A~: at most k + 1 numbers a row, all at least 0, which sum to 1."""
        weights = self.weights()
        chosen = torch.zeros_like(weights).scatter(
            1, weights.detach().topk(self.neighbours, dim=1).indices, 1.0
        )
        whole = weights * chosen + torch.eye(len(weights), device=weights.device)
        return whole / whole.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def saturated(self) -> float:
        """The share of pairs of channels whose tanh is above 0.99 in size: these hardly learn."""
        size = torch.tanh(self.similarity()).abs()
        pairs = ~torch.eye(len(size), dtype=torch.bool)
        return float((size.cpu()[pairs] > SATURATED).float().mean()) if len(size) > 1 else 0.0


def without_self(adjacency: Tensor) -> Tensor:
    """A~ with the diagonal removed and the rows normalised again; a row of a channel without
    neighbours is all zero.
    """
    bare = adjacency * (1 - torch.eye(len(adjacency), device=adjacency.device))
    return bare / bare.sum(dim=1, keepdim=True).clamp(min=1e-12)
