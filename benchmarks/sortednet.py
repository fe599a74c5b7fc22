"""Sorted training against training each size alone, and drafts against greedy decoding.

- all sizes: one sorted training for 16 sub-models of a residual MLP, against one plain training
  each of the four sizes on its diagonal; the same steps each;
- a step: through a drawn sub-model against a plain step of the whole network;
- memory: what is kept to have four sizes: one network against four;
- decoding: drafts of the first exit against one pass a token with a cache, and against
  transformers' own `generate`; a Llama of bytes that learned its exits for a few steps.
"""

import torch
from torch import Tensor, nn

from side_by_side import alternate, line, seconds_of
from stackwise.evidence.byte_models import byte_model, held_out_windows
from stackwise.evidence.sortednet import greedy
from stackwise.learning.outputs import batch_loss
from stackwise.train.sortednet import (
    Axes,
    Choice,
    Drawing,
    PictureMLP,
    SelfSpeculation,
    SortedRule,
    extract,
)
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train
from stackwise.training.rules import Backprop

SIZES = {"width 64, batch 64": (64, 64), "width 128, batch 128": (128, 128),
         "width 256, batch 256": (256, 256)}  # fmt: skip
STEPS, REPEATS = 30, 5
DECODERS = {"6 blocks": (6, 2), "12 blocks": (12, 3), "18 blocks": (18, 4)}
LEARNED, TOKENS = 40, 48
SMALL = "a pass through a few narrow blocks takes little less time than one through all"


def data(batch: int) -> ArrayBatches:
    """Rows for STEPS steps."""
    generator = torch.Generator().manual_seed(0)
    count = STEPS * batch
    return ArrayBatches(
        {
            "pixels": torch.randn(count, 1, 28, 28, generator=generator),
            "target": torch.randint(0, 10, (count,), generator=generator),
            "weight": torch.ones(count),
        },
        batch,
    )


def network(width: int, depth: int = 4) -> nn.Module:
    """A residual MLP on digits."""
    return PictureMLP(shape=[1, 28, 28], n_outputs=10, width=width, depth=depth, hidden=width)


def fit(model: nn.Module, batches: ArrayBatches, *, is_sorted: bool) -> None:
    """One epoch."""
    rule: object = Backprop(batch_loss)
    if is_sorted:
        rule = SortedRule(Backprop(batch_loss), Choice([0.125, 0.25, 0.5, 1.0]), Drawing())
    train(model, rule, batches, max_epochs=1, precision="float32", device="cpu")  # type: ignore[arg-type]


def training(threads: int) -> None:
    """One sorted training against one a size, and a step against a step."""
    for case, (width, batch) in SIZES.items():
        batches = data(batch)
        whole = network(width)
        alone = [network(width // 2**cut, depth) for cut, depth in ((3, 1), (2, 2), (1, 3), (0, 4))]

        def ours(whole: nn.Module = whole, batches: ArrayBatches = batches) -> None:
            fit(whole, batches, is_sorted=True)

        def each(alone: list[nn.Module] = alone, batches: ArrayBatches = batches) -> None:
            for one in alone:
                fit(one, batches, is_sorted=False)

        def plain(whole: nn.Module = whole, batches: ArrayBatches = batches) -> None:
            fit(whole, batches, is_sorted=False)

        found = alternate(ours, each, REPEATS)
        line(f"16 sizes, {STEPS} steps, {case}", *found, "four of the sizes, each trained alone",
             "s", "float32", threads)  # fmt: skip
        found = alternate(ours, plain, REPEATS)
        why = f"opening and closing a sub-model takes {opening(whole):.2f} ms of a step"
        line(f"{STEPS} steps, {case}", *found, "steps of the whole network", "s", "float32",
             threads, why)  # fmt: skip
        sizes = [weights(whole), sum(weights(one) for one in alone)]
        line(f"weights of four sizes, width {width}", *sizes, "four networks", "MiB", "float32",
             threads)  # fmt: skip


def opening(model: nn.Module) -> float:
    """Milliseconds that it takes to open and close a sub-model."""
    axes = Axes.of(model)
    sizes = axes.checked({"width": 0.5, "depth": 2})

    def run() -> None:
        for _ in range(100):
            with axes.cut_to(sizes):
                pass

    run()
    return seconds_of(run) * 10


def weights(model: nn.Module) -> float:
    """MiB of its parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20


def pass_of_a_cut(threads: int) -> None:
    """An extracted network against the same slice run in place."""
    model = network(256).eval()
    axes = Axes.of(model)
    for share in (0.125, 0.25, 0.5):
        sizes = axes.checked({"width": share, "depth": 2})
        small = extract(model, sizes)
        pixels = torch.randn(64, 1, 28, 28)

        def ours(small: nn.Module = small, pixels: Tensor = pixels) -> None:
            for _ in range(50):
                small(pixels)

        def whole(pixels: Tensor = pixels) -> None:
            for _ in range(50):
                model(pixels)

        with torch.no_grad():
            found = alternate(ours, whole, REPEATS)
        line(f"50 passes, width {sizes['width']} and depth 2 cut from 256 and 4", *found,
             "the whole network", "s", "float32", threads)  # fmt: skip


def decoding(threads: int) -> None:
    """Drafts against a pass a token."""
    for case, (depth, first) in DECODERS.items():
        exits = sorted({first, depth // 2, depth})

        def through(inner: Backprop, exits: list[int] = exits) -> SortedRule:
            return SortedRule(inner, Choice(depths=exits), Drawing("all"))

        model = byte_model(depth, 0, LEARNED, 64, through=through)
        drafting = SelfSpeculation(model, first, draft_tokens=4)
        ids = held_out_windows(1, length=32)[0]
        drafted = drafting.generate(ids, max_new_tokens=TOKENS)
        assert torch.equal(drafted, greedy(model, ids, TOKENS))

        def ours(drafting: SelfSpeculation = drafting, ids: Tensor = ids) -> None:
            drafting.generate(ids, max_new_tokens=TOKENS)

        def bare(model: nn.Module = model, ids: Tensor = ids) -> None:
            with torch.no_grad():
                greedy(model, ids, TOKENS)

        def theirs(model: nn.Module = model, ids: Tensor = ids) -> None:
            model.generate(  # type: ignore[operator]
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip

        kept = drafting.accepted / max(drafting.drafted, 1)
        about = f"{TOKENS} tokens, {case}, {kept:.0%} of drafts kept"
        length = drafting.drafted / max(drafting.checks, 1)
        reason = f"{kept:.0%} of the drafts were kept, at {length:.1f} a check; {SMALL}"
        line(about, *alternate(ours, bare, REPEATS), "a pass a token", "s", "float32", threads,
             reason)  # fmt: skip
        line(about, *alternate(ours, theirs, REPEATS), "generate of transformers", "s", "float32",
             threads, reason)  # fmt: skip


def main() -> None:
    """Print a line a case."""
    threads = torch.get_num_threads()
    training(threads)
    pass_of_a_cut(threads)
    decoding(threads)


if __name__ == "__main__":
    main()
