"""What NoProp is compared with: the same stack by back-propagation, one block by cross-entropy, and
the forward-forward algorithm. Used by the evidence and the benchmarks.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.train.noprop.network import NoPropStack
from stackwise.train.noprop.rule import inputs_of


class BackpropChain(nn.Module):
    """The paper's baseline: the same blocks, trained end to end (eq. 17-19).

        z_0 ~ N(0, I),   z_t = (1 - a_t) z_{t-1} + a_t uhat_t(z_{t-1}, x),   a_t = tanh(w_t)

    with cross-entropy on a linear readout of z_T. w_t begins at 1; the paper does not say.
    """

    def __init__(self, stack: NoPropStack) -> None:
        super().__init__()
        self.stack = stack
        self.gates = nn.Parameter(torch.ones(len(stack.blocks)))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Inputs and (B, d) z_0 -> (B, m) logits."""
        blocks: Any = self.stack.blocks
        for gate, block in zip(self.gates.tanh(), blocks, strict=True):
            estimate = block.logits(z, x).softmax(-1) @ self.stack.embedding
            z = (1 - gate) * z + gate * estimate
        logits: Tensor = self.stack.readout(z)
        return logits


class OneBlock(nn.Module):
    """One of the stack's blocks as a plain classifier of x. What its path for the latent gives is
    left out: a constant latent would leave its batch norms without a deviation.
    """

    def __init__(self, stack: NoPropStack) -> None:
        super().__init__()
        self.block = stack.blocks[0]

    def forward(self, x: Tensor) -> Tensor:
        """Inputs -> (B, m) logits."""
        block: Any = self.block
        seen = block.tower(x)
        logits: Tensor = block.last(torch.cat([seen, torch.zeros_like(seen)], 1))
        return logits


class ForwardForward(nn.Module):
    """Layers that tell right labels from wrong ones, each by itself (arXiv 2212.13345).

        h = ReLU(W norm(h_before)),   goodness g = mean(h^2)
        loss = softplus(theta - g) for x with its label, softplus(g - theta) with a wrong one

    The label is one-hot numbers beside the pixels, as large as the pixels' norm (the paper writes
    it over the first ten pixels). The answer is the label of the largest goodness over all layers
    (the paper leaves the first out, which was worse here on validation rows).
    """

    def __init__(self, inputs: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.classes = classes
        sizes = [inputs + classes, *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))

    def labelled(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, inputs + classes), of unit mean square."""
        flat = x.flatten(1)
        hot = functional.one_hot(y, self.classes) * flat.norm(dim=1, keepdim=True)
        return _normed(torch.cat([flat, hot], 1))

    def losses(self, x: Tensor, y: Tensor, wrong: Tensor, threshold: float = 2.0) -> Tensor:
        """(depth,) the loss of each layer; none reaches another's weights."""
        right, false = self.labelled(x, y), self.labelled(x, wrong)
        found = []
        for layer in self.layers:
            right, false = layer(right).relu(), layer(false).relu()
            good, bad = right.square().mean(1), false.square().mean(1)
            loss = functional.softplus(threshold - good) + functional.softplus(bad - threshold)
            found.append(loss.mean())
            right, false = _normed(right.detach()), _normed(false.detach())
        return torch.stack(found)

    def goodness(self, x: Tensor) -> Tensor:
        """(B, classes) of each label, summed over the layers."""
        scores = []
        for place in range(self.classes):
            h = self.labelled(x, torch.full((len(x),), place))
            total = torch.zeros(len(x))
            for layer in self.layers:
                h = layer(h).relu()
                total = total + h.square().mean(1)
                h = _normed(h)
            scores.append(total)
        return torch.stack(scores, 1)


def chain_loss(chain: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Cross-entropy of a `BackpropChain`, from fresh noise."""
    assert isinstance(chain, BackpropChain)
    x = inputs_of(chain.stack, batch)
    noise = torch.randn(len(x), chain.stack.embedding.shape[1], device=x.device)
    return functional.cross_entropy(chain(x, noise), batch["target"])


def plain_loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """Cross-entropy of a `OneBlock` on pictures."""
    return functional.cross_entropy(model(batch["pixels"]), batch["target"])


def contrast_loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
    """The sum of a `ForwardForward`'s layers' losses, against wrong labels drawn at random."""
    assert isinstance(model, ForwardForward)
    y = batch["target"]
    wrong = (y + torch.randint(1, model.classes, y.shape)) % model.classes
    return model.losses(batch["pixels"], y, wrong).sum()


def _normed(h: Tensor) -> Tensor:
    return h / (h.square().mean(1, keepdim=True).sqrt() + 1e-6)


def saved_bytes(step: Any) -> int:
    """The most bytes of activations that are kept for a backward pass at a time, while `step()`
    runs: of storages that autograd saves, parameters aside.
    """
    alive: dict[int, list[int]] = {}
    now, most = [0], [0]

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            storage = tensor.untyped_storage()
            self.key = storage.data_ptr()
            count = alive.setdefault(self.key, [0, storage.nbytes()])
            if count[0] == 0:
                now[0] += count[1]
                most[0] = max(most[0], now[0])
            count[0] += 1

        def __del__(self) -> None:
            count = alive[self.key]
            count[0] -= 1
            if count[0] == 0:
                now[0] -= count[1]
                del alive[self.key]

    def pack(tensor: Tensor) -> Any:
        return tensor if isinstance(tensor, nn.Parameter) else Kept(tensor)

    def unpack(kept: Any) -> Tensor:
        return kept.tensor if isinstance(kept, Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        step()
    return most[0]
