"""Rich representations: n members at once against n members one after another.

- a step of eight networks stacked into one (`StackedNetworks`, each with its own rows and its own
  clipping) against eight steps of eight networks in plain torch, at three sizes; and of networks
  with convolutions, for which members are trained apart;
- a whole fit of eight members on a table against eight fits of the same learner;
- a whole fit of four members on pictures in two processes against one;
- the features of four networks by `concat` against their trunks called one by one.
"""

import copy

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F

from side_by_side import alternate, line, seconds_of
from stackwise.combine.rich_representations import RichRepresentation, StackedNetworks, concat
from stackwise.combine.rich_representations.together import SideBySide
from stackwise.learning.outputs import batch_loss
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN, ResidualCNNClassifier
from stackwise.tasks.table.baselines.mlp import MLP, MLPClassifier
from stackwise.training.rules import Backprop

SIZES = {
    "64-32-32-5, batch 128": (64, 32, 128, 60),
    "64-128-128-5, batch 128": (64, 128, 128, 40),
    "784-256-256-5, batch 128": (784, 256, 128, 15),
}
MEMBERS = 8


class Steps:
    """What a rule asks of the loop: backward, and nothing to average."""

    step = place = epoch = 0
    total_steps = schedule_steps = epoch_steps = 1

    def __init__(self, optimizers) -> None:
        self.optimizers = optimizers

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def average_gradients(self, optimizer) -> None:
        pass


def networks(make) -> list[nn.Module]:
    found = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        found.append(make().train())
    return found


def at_once(members: list[nn.Module], batches: list[dict[str, torch.Tensor]]):
    """A step of all, stacked."""
    stacked = StackedNetworks(copy.deepcopy(members)).train()
    rules = [Backprop(batch_loss, lr=1e-3) for _ in members]
    rule = SideBySide(rules, members[0], None)
    loop = Steps(rule.optimizers(stacked))

    def run() -> None:  # stacking the members' rows is part of a step
        rule.step(loop, stacked, {k: torch.stack([b[k] for b in batches]) for k in batches[0]})

    return run


def in_turn(members: list[nn.Module], batches: list[dict[str, torch.Tensor]]):
    """A step of each, as plain torch has it."""
    members = copy.deepcopy(members)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3, fused=True) for m in members]

    def run() -> None:
        for member, optimizer, batch in zip(members, optimizers, batches, strict=True):
            given = {k: v for k, v in batch.items() if k not in ("target", "weight")}
            F.cross_entropy(member(**given), batch["target"]).backward()
            nn.utils.clip_grad_norm_(member.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return run


def steps() -> None:
    for name, (inputs, width, rows, repeats) in SIZES.items():
        members = networks(
            lambda i=inputs, w=width: MLP(
                n_numeric=i, cardinalities=[], n_outputs=5, width=w, n_blocks=2, dropout=0.0
            )
        )
        batches = [
            {"numeric": torch.randn(rows, inputs), "categorical": torch.zeros(rows, 0).long(),
             "target": torch.arange(rows) % 5, "weight": torch.ones(rows)}
            for _ in members
        ]  # fmt: skip
        own, peer = alternate(at_once(members, batches), in_turn(members, batches), repeats)
        line(f"a step of {MEMBERS} members, {name}", own, peer, "plain torch, one after another",
             "s", "float32", 1, "the products are large enough to fill the core, and rows are "
             "stacked; auto trains such members apart")  # fmt: skip
    members = networks(lambda: ResidualCNN(channels=1, n_outputs=5, width=8, n_blocks=1))
    batches = [
        {"pixels": torch.randn(64, 1, 14, 14), "target": torch.arange(64) % 5,
         "weight": torch.ones(64)}
        for _ in members
    ]  # fmt: skip
    own, peer = alternate(at_once(members, batches), in_turn(members, batches), 10)
    line(f"a step of {MEMBERS} members, convolutions on 14 x 14", own, peer,
         "plain torch, one after another", "s", "float32", 1, "convolutions become grouped ones, "
         "for which a CPU has slower kernels; auto trains such members apart")  # fmt: skip


def fits() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(1200) % 5
    X = rng.normal(size=(1200, 32)) + y[:, None]
    base = MLPClassifier(
        width=32, n_blocks=2, dropout=0.0, max_epochs=30, patience=None, threads=1,
        weight_decay=0.0, preprocess="standard",
    )  # fmt: skip

    def ours() -> None:
        RichRepresentation(base, MEMBERS, threads=1).fit(X, y)

    def peer() -> None:
        for seed in range(MEMBERS):
            clone(base).set_params(random_state=seed).fit(X, y)

    own, other = alternate(ours, peer, 2)
    line(f"a fit of {MEMBERS} members on 1,200 rows of a table, its probe included", own, other,
         "the learner fitted eight times", "s", "float32", 1)  # fmt: skip


def processes() -> None:
    rng = np.random.default_rng(0)
    pictures, y = rng.integers(0, 255, (1200, 28, 28), dtype=np.uint8), np.arange(1200) % 5
    base = ResidualCNNClassifier(
        width=8, n_blocks=1, max_epochs=5, augment="none", threads=1, validation=0.0
    )

    def fit(workers: int) -> float:
        rich = RichRepresentation(base, 4, threads=1, workers=workers, validation=0.0)
        return seconds_of(lambda: rich.fit(pictures, y))

    one, two = fit(1), fit(2)
    line("a fit of 4 members on 1,200 pictures of 28 x 28", two, one,
         "one process; ours in two", "s", "float32", 1,
         "processes start for some seconds, and other work had the second core")  # fmt: skip


def features() -> None:
    members = [m.eval() for m in networks(
        lambda: ResidualCNN(channels=1, n_outputs=5, width=8, n_blocks=1)
    )[:4]]  # fmt: skip
    x, cat = torch.randn(256, 1, 14, 14), concat(members)
    trunks = copy.deepcopy(members)
    for trunk in trunks:
        trunk.head = nn.Identity()

    def peer() -> None:
        with torch.no_grad():
            torch.cat([trunk(x) for trunk in trunks], 1)

    own, other = alternate(lambda: cat(x), peer, 30)
    line("features of 4 networks, 256 pictures of 14 x 14", own, other,
         "the trunks one by one, without heads", "s", "float32", 1)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    steps()
    features()
    fits()
    processes()
