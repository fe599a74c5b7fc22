"""A step of the search beside one-shot training of the same supernet, and beside bare torch.

    python benchmarks/bossnas.py

One step of each of two blocks (four paths, two views each, the teacher beside them) against two
steps of a supernet that is trained whole, with labels, on four paths (arXiv 1904.00420): both leave
every block one update further. And a block's step against the same one in bare torch, without the
training loop. Rating comes beside: all paths of both blocks, against as many whole networks that
are rated by the one-shot supernet.
"""

import copy

import torch
from torch.nn import functional as F

from side_by_side import alternate, line
from stackwise.train.bossnas import SlimSpace
from stackwise.train.bossnas.outcomes.peers import OneShotRule, SuperNetwork, one_shot_ratings
from stackwise.train.bossnas.search.bootstrapping import Pair, Prefix, Stem, tau_at
from stackwise.train.bossnas.search.rating import center_and_ratings
from stackwise.train.bossnas.search.rule import BootstrapRule
from stackwise.train.bossnas.search.sampling import candidates, paths_of_a_step
from stackwise.training.batches import ListBatches
from stackwise.training.loop import train

SIZES = {"8 x 8": (8, 64, 5), "14 x 14": (14, 64, 4), "28 x 28": (28, 64, 3)}
WIDTHS, HIDDEN, SIZE = (4, 8, 12, 16), 128, 64


def blocks(space: SlimSpace) -> list[Pair]:
    """Both blocks' networks, the second behind a path of the first."""
    torch.manual_seed(0)
    first = Pair(space, 0, Stem(space, 0, None), None, range(4), HIDDEN, SIZE)
    layers = first.online.block.cut((1, 2), space.start)
    source, teachers = (
        copy.deepcopy(Prefix(first.online.source.stem, layers, fixed=True)) for _ in (0, 1)
    )
    return [first, Pair(space, 1, source, teachers, range(4), HIDDEN, SIZE)]


def ours(space: SlimSpace, pairs: list[Pair], views: torch.Tensor):
    """A step of each block through the library's loop."""
    every = [candidates(space, 0, [3], None, 0), candidates(space, 1, [2], None, 0)]

    def run() -> None:
        for block, pair in enumerate(pairs):
            rule = BootstrapRule(
                lambda epoch, place, b=block: paths_of_a_step(
                    space, b, every[b], "fair", 4, 0, epoch, place
                ),
                ["pixels"], together=True, own=True, ema=0.99, grad_clip=None,
            )  # fmt: skip
            train(pair, rule, ListBatches([{"pixels": views}]), max_epochs=1)

    return run


def written_out(space: SlimSpace, pair: Pair, views: torch.Tensor):
    """The first block's step in bare torch."""
    every = candidates(space, 0, [3], None, 0)
    learned = [p for p in pair.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, fused=True)

    def run() -> None:
        chosen = paths_of_a_step(space, 0, every, "fair", 4, 0, 0, 0)
        seen = [[{"pixels": views[:, 2 * p + s]} for s in (0, 1)] for p in range(4)]
        with torch.no_grad():
            targets = [
                torch.stack([F.normalize(pair.teacher(seen[p][s], chosen[p][1], 3), dim=1)
                             for p in range(4)]).mean(0)
                for s in (0, 1)
            ]  # fmt: skip
        for p in range(4):
            loss = sum(
                2 - 2 * F.cosine_similarity(
                    pair.answers(seen[p][s], chosen[p][1], 3), targets[1 - s], dim=1
                )
                for s in (0, 1)
            )  # fmt: skip
            (loss.mean() / 4).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        pair.follow(tau_at(1, 1, 0.99))

    return run


def through_the_loop(space: SlimSpace, pair: Pair, views: torch.Tensor, steps: int):
    """The first block's steps through the loop."""
    every = candidates(space, 0, [3], None, 0)
    rule = BootstrapRule(
        lambda epoch, place: paths_of_a_step(space, 0, every, "fair", 4, 0, 0, 0), ["pixels"],
        together=True, own=True, ema=0.99, grad_clip=None,
    )  # fmt: skip
    batches = ListBatches([{"pixels": views}] * steps)
    return lambda: train(pair, rule, batches, max_epochs=1)


def one_shot(network: SuperNetwork, batch: dict[str, torch.Tensor]):
    """Two steps of the whole supernet."""
    return lambda: train(
        network, OneShotRule(["pixels"], 4, 0, grad_clip=None), ListBatches([batch, batch]),
        max_epochs=1,
    )  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for name, (side, rows, repeats) in SIZES.items():
        space = SlimSpace(channels=1, size=(side, side), widths=WIDTHS, depths=(2, 2))
        views = torch.randn(rows, 8, 1, side, side)
        batch = {"pixels": views[:, 0], "target": torch.arange(rows) % 10}
        pairs, network = blocks(space), SuperNetwork(space, 10)
        own, peer = alternate(ours(space, pairs, views), one_shot(network, batch), repeats)
        line(f"a step of both blocks, {name}", own, peer, "one-shot training with labels", "s",
             "float32", 1, "two views of a path where labels need one, and the teacher's passes; "
             "the second block runs its prefix for each view")  # fmt: skip
        bare = written_out(space, copy.deepcopy(pairs[0]), views)

        def three_bare(bare=bare) -> None:
            for _ in range(3):
                bare()

        looped = through_the_loop(space, copy.deepcopy(pairs[0]), views, 3)
        own, peer = alternate(looped, three_bare, repeats)
        line(f"three steps of a block, {name}", own, peer, "written out in torch", "s", "float32",
             1, "the loop begins and ends within these three steps")  # fmt: skip
        seen = {"pixels": views[:, :2]}
        every = [candidates(space, 0, [3], None, 0), candidates(space, 1, [2], None, 0)]

        def rate(pairs=pairs, every=every, seen=seen, batch=batch) -> None:
            for pair, paths in zip(pairs, every, strict=True):
                center_and_ratings(pair, paths, {"pixels": batch["pixels"]}, seen)

        wholes = [space.drawn(torch.Generator().manual_seed(i)) for i in range(32)]
        pixels = {"pixels": batch["pixels"]}
        own, peer = alternate(
            rate,
            lambda n=network, p=pixels, t=batch["target"], w=wholes: one_shot_ratings(
                n, w, p, p, t
            ),
            repeats,
        )
        line(f"rating: all 32 paths of 256 networks, {name}", own, peer,
             "one-shot, 32 of the 256 networks", "s", "float32", 1,
             "two views, and the teacher for the center")  # fmt: skip


if __name__ == "__main__":
    main()
