"""Sub-models: what of a network they are, how a step draws and learns them, what is copied out."""

import copy
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from scipy.stats import chisquare
from torch import nn
from torch.nn import functional

from stackwise.errors import KnobError, ModelError
from stackwise.tasks.images.baselines.residual_cnn import ResidualCNN
from stackwise.train.sortednet import (
    Axes,
    Choice,
    Drawing,
    InvertedCNN,
    RowMLP,
    SortedRule,
    SortedSpace,
    SortedViT,
    Statistics,
    extract,
    pareto,
    select,
    submodel,
    table_of_submodels,
)
from stackwise.train.sortednet.rule import parts_of
from stackwise.train.sortednet.spaces import Extent
from stackwise.train.sortednet.truncation import Place, Units, cut_down, rules_of
from stackwise.training.rules import Backprop

TOKENS = {"input_ids": torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(0))}
PIXELS = {"pixels": torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(0))}
ROWS = {
    "numeric": torch.randn(6, 5, generator=torch.Generator().manual_seed(0)),
    "categorical": torch.zeros(6, 1, dtype=torch.int64),
}


def rows(**given) -> RowMLP:
    sizes = {"width": 16, "depth": 3, "hidden": 24} | given
    return RowMLP(n_numeric=5, cardinalities=[3], n_outputs=2, **sizes)


def decoder(config: str, model: str, **given) -> nn.Module:
    settings = {
        "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    return getattr(hf, model)(getattr(hf, config)(**settings | given))


def encoder() -> nn.Module:
    config = hf.BertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    return hf.BertForSequenceClassification(config)


def vision() -> nn.Module:
    config = hf.ViTConfig(
        image_size=12, num_channels=1, patch_size=4, hidden_size=16, intermediate_size=32,
        num_hidden_layers=3, num_attention_heads=2, num_labels=3,
    )  # fmt: skip
    return hf.ViTForImageClassification(config)


def gpt2() -> nn.Module:
    config = hf.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=3, n_head=2, n_positions=32, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return hf.GPT2LMHeadModel(config)


NETWORKS = {
    "rows": (rows, ROWS),
    "inverted": (lambda: InvertedCNN(channels=1, n_outputs=3, width=8, hidden=16), PIXELS),
    "group norm": (
        lambda: InvertedCNN(channels=1, n_outputs=3, width=8, hidden=16, norm="group"), PIXELS
    ),
    "residual": (lambda: ResidualCNN(channels=1, n_outputs=3, width=8, n_blocks=2), PIXELS),
    "vit": (
        lambda: SortedViT(channels=1, image_size=12, patch=4, n_outputs=3, width=16, depth=3,
                          heads=4, head_dim=4, hidden=32),
        PIXELS,
    ),
    "llama": (
        lambda: decoder("LlamaConfig", "LlamaForCausalLM", tie_word_embeddings=True), TOKENS
    ),
    "qwen3": (lambda: decoder("Qwen3Config", "Qwen3ForCausalLM", head_dim=8), TOKENS),
    "bert": (encoder, TOKENS),
    "hf vit": (vision, {"pixel_values": PIXELS["pixels"]}),
    "gpt2": (gpt2, TOKENS),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    build, inputs = NETWORKS[name]
    torch.manual_seed(0)
    return build().eval(), inputs


def answer(network: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    output = network(**inputs)
    return output if isinstance(output, torch.Tensor) else output.logits


def some_sizes(axes: Axes) -> list[dict[str, int]]:
    """Half along all axes, and half along each alone."""
    half = {axis: max(one.step, one.full // 2) for axis, one in axes.extents.items()}
    return [half, *({**axes.full, axis: size} for axis, size in half.items())]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_an_extracted_network_is_the_slice_bit_for_bit_and_leaves_the_whole_alone(name):
    network, inputs = made(name)
    axes, before = Axes.of(network), answer(network, inputs)
    for sizes in some_sizes(axes):
        with axes.cut_to(sizes) as opened:
            cut = answer(opened, inputs)
        small = extract(network, sizes)
        assert torch.equal(answer(small, inputs), cut), sizes
        assert sum(p.numel() for p in small.parameters()) == axes.parameters(sizes)
        assert type(small) is type(network)
    with axes.cut_to(axes.full) as opened:
        assert torch.equal(answer(opened, inputs), before)
    assert torch.equal(answer(network, inputs), before)


def test_each_family_has_the_axes_that_its_blocks_show():
    found = {name: tuple(Axes.of(made(name)[0]).extents) for name in NETWORKS}
    every = ("width", "depth", "heads", "ffn")
    assert found["vit"] == found["llama"] == found["qwen3"] == every
    assert found["rows"] == found["inverted"] == ("width", "depth", "ffn")
    assert found["residual"] == ("width", "depth")
    assert found["hf vit"] == ("depth", "heads", "ffn") and found["bert"] == ("depth", "ffn")
    assert found["gpt2"] == ("depth",)


def test_a_pretrained_sub_model_is_kept_and_loaded_in_its_own_class(tmp_path):
    for name in ("llama", "bert", "hf vit"):
        network, inputs = made(name)
        small = extract(network, some_sizes(Axes.of(network))[0])
        small.save_pretrained(tmp_path / name)
        again = type(network).from_pretrained(tmp_path / name).eval()
        assert torch.equal(answer(again, inputs), answer(small, inputs))


def test_a_width_that_the_forward_reads_is_refused():
    network = decoder("GemmaConfig", "GemmaForCausalLM", head_dim=8).eval()
    with pytest.raises(ModelError, match="does not compute what the slice does"):
        extract(network, width=0.5)
    assert extract(network, ffn=0.5).config.intermediate_size == 24


def test_a_shallow_stack_runs_its_first_blocks_or_some_that_are_spread():
    network, inputs = made("rows")
    h = network.stem(torch.cat([ROWS["numeric"], functional.one_hot(torch.zeros(6).long(), 3)], 1))
    for block in list(network.blocks)[:2]:
        h = block(h)
    with submodel(network, depth=2):
        assert torch.equal(network(**inputs), network.head(network.norm(h)))
    assert Axes.of(rows(depth=5), spread="even").order(3) == [0, 2, 4]
    assert Axes.of(made("residual")[0]).order(1) == [0, 2, 4]
    with pytest.raises(ModelError, match="one stage"):
        Axes.of(made("residual")[0], spread="even")


def test_a_truncated_norm_has_the_statistics_of_its_units_not_of_a_padded_vector():
    network = nn.Sequential(nn.LayerNorm(8))
    rules = rules_of(network, {"0": Place(Units("width"))})
    x = torch.randn(4, 3)
    with cut_down(rules, {"width": 3}):
        cut = network(x)
    padded = network(functional.pad(x, (0, 5)))[:, :3]
    assert torch.equal(cut, functional.layer_norm(x, (3,)))
    assert not torch.allclose(cut, padded, atol=1e-2)


def test_fewer_heads_keep_their_size_and_their_scale():
    network, inputs = made("vit")
    small = extract(network, heads=2)
    assert small.arguments["heads"] == 2 and small.blocks[0].head_dim == 4
    block, cut = network.blocks[0], small.blocks[0]
    h = torch.randn(2, 5, 16)
    x = block.norm1(h)
    q, k, v = (
        part(x)[..., :8].unflatten(-1, (2, 4)).transpose(1, 2)
        for part in (block.q, block.k, block.v)
    )
    weights = (q @ k.transpose(-1, -2) / 4**0.5).softmax(-1)  # sqrt(e), whatever the width
    seen = (weights @ v).transpose(1, 2).flatten(2)
    wanted = h + seen @ block.out.weight[:, :8].T + block.out.bias
    wanted = wanted + block.second(functional.gelu(block.first(block.norm2(wanted))))
    torch.testing.assert_close(cut(h), wanted)


def test_query_heads_go_in_whole_groups_with_the_key_that_they_share():
    network, _ = made("llama")
    small = extract(network, heads=2)
    assert (small.config.num_attention_heads, small.config.num_key_value_heads) == (2, 1)
    with pytest.raises(KnobError, match="heads 3 is not a multiple of 2, the heads of a key"):
        extract(network, heads=3)


def test_sub_models_are_nested():
    network, _ = made("vit")
    axes = Axes.of(network)
    space = Choice([0.5, 1.0]).space(axes.extents)
    for small, large in pairwise(space.sizes):
        if all(small[axis] <= large[axis] for axis in small):
            kept, more = axes.state(small), axes.state(large)
            for name, tensor in kept.items():
                assert torch.equal(more[name][tuple(map(slice, tensor.shape))], tensor)
    assert [axes.parameters(one) for one in space.sizes][-1] == sum(
        p.numel() for p in network.parameters()
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"width": (4, 8)}, r"end at the full size 16, got \(4, 8\)"),
        ({"width": (8, 4, 16)}, "must be increasing"),
        ({"depth": (1, 14)}, "depth 14 exceeds 3 blocks"),
        ({"heads": (1, 2)}, "no axis heads"),
        ({"widht": (1, 2)}, "Did you mean 'width'"),
        ({"width": (0, 16)}, "at least 1 or a share"),
        ({"width": ()}, "must be increasing"),
        ({"width": (8, 16), "probability": [1.0]}, "1 weights and there are 2"),
        ({"width": (8, 16), "probability": [0.0, 0.0]}, "not all 0"),
        ({"width": (8, 16), "probability": "even"}, "no probability 'even'"),
    ],
)
def test_sizes_that_cannot_be_are_refused_in_a_sentence(wanted, words):
    with pytest.raises(KnobError, match=words):
        SortedSpace.product(Axes.of(rows()).extents, **wanted)


def test_a_space_is_every_combination_or_an_explicit_list():
    extents = Axes.of(rows()).extents
    space = SortedSpace.product(extents, width=[0.25, 0.5, 1], depth=[1, 3])
    assert len(space) == 6 and space.full == {"width": 16, "depth": 3, "ffn": 24}
    assert space.sizes[0] == {"width": 4, "depth": 1, "ffn": 6}  # hidden units follow the width
    listed = SortedSpace.explicit(extents, [{"width": 4, "depth": 2}, {"ffn": 6}])
    assert listed.full in listed.sizes and len(listed) == 3
    with pytest.raises(KnobError, match="at least one sub-model"):
        SortedSpace.explicit(extents, [])
    assert len(space.within(space.sizes[0])) == 1
    assert Choice().space({"depth": Extent(40)}).sizes[0] == {"depth": 12}  # Sorted LLaMA's


@pytest.mark.parametrize("probability", ["uniform", "largest", "geometric", [1.0, 2.0, 3.0, 4.0]])
def test_sub_models_are_drawn_as_often_as_their_probability_says(probability):
    space = SortedSpace.product(
        Axes.of(rows()).extents, width=(8, 16), depth=(1, 3), probability=probability
    )
    draws = [space.draw(np.random.default_rng([0, step])) for step in range(2000)]
    counts = [draws.count(sizes) for sizes in space.sizes]
    assert chisquare(counts, 2000 * np.array(space.probabilities)).pvalue > 0.01
    again = [space.draw(np.random.default_rng([0, step])) for step in range(50)]
    assert again == draws[:50]
    if probability == "geometric":
        assert np.allclose(space.probabilities, np.array([1, 2, 2, 4]) / 9)


def test_the_whole_network_takes_the_place_of_a_draw_with_its_probability():
    space = SortedSpace.product(Axes.of(rows()).extents, width=(8, 16), depth=(1, 2, 3))
    for chance, progress, least, most in ((0.5, 0.0, 0.55, 0.62), ("falling", 1.0, 0.1, 0.24)):
        drawing = Drawing("sampled", full_probability=chance)
        drawn = [
            drawing.submodels(space, np.random.default_rng([1, step]), progress)[0]
            for step in range(3000)
        ]
        assert least < drawn.count(space.full) / 3000 < most
    assert Drawing("truncate").submodels(space, np.random.default_rng(0), 0.0) == [space.full]
    early = Drawing("progressive").submodels(space, np.random.default_rng(0), 0.1)
    assert early == [space.full]  # none but the largest is let in yet
    first, second, *others = Drawing("sandwich").submodels(space, np.random.default_rng(0), 0.5)
    assert (first, second) == (space.full, space.sizes[0]) and len(others) == 2
    for wrong in (
        {"scheme": "all", "accumulate": 2},
        {"scheme": "sandwich", "full_probability": 1},
    ):
        with pytest.raises(KnobError, match="leave"):
            Drawing(**wrong)


class Steps:
    """What a rule reads of the loop."""

    total_steps, schedule_steps, place, epoch_steps, epoch = 10, 10, 0, 10, 0
    processes, process, share = 1, 0, 1.0

    def __init__(self, optimizer, step=0) -> None:
        self.optimizers, self.step = [optimizer], step

    def backward(self, loss) -> None:
        loss.backward()

    def average_gradients(self, optimizer) -> None:
        """One process has nothing to average."""


def loss_of(network, batch) -> torch.Tensor:
    return functional.cross_entropy(network(batch["numeric"], batch["categorical"]), batch["y"])


BATCH = ROWS | {"y": torch.tensor([0, 1, 0, 1, 1, 0])}


class Grads(torch.optim.SGD):
    """Keeps the gradients of a step, and takes none."""

    def step(self, closure=None) -> None:
        self.seen = [p.grad for p in self.param_groups[0]["params"]]


def gradients(network, choice, drawing, step=0, batch=BATCH) -> dict[str, torch.Tensor | None]:
    """What a step of the rule would do to each weight."""
    rule = SortedRule(Backprop(loss_of, grad_clip=None), choice, drawing)
    rule.optimizers(network)
    optimizer = Grads(network.parameters(), lr=1.0)
    rule.step(Steps(optimizer, step), network, batch)
    names = [name for name, _ in network.named_parameters()]
    return dict(zip(names, optimizer.seen, strict=True))


def plain_gradients(network, sizes, batch) -> dict[str, torch.Tensor]:
    network.zero_grad()
    with Axes.of(network).cut_to(sizes) as opened:
        loss_of(opened, batch).backward()
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }
    network.zero_grad()
    return found


def close(one, other) -> None:
    for name, gradient in other.items():
        found = torch.zeros_like(gradient) if one[name] is None else one[name]
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-5)


def test_a_gradient_is_exactly_zero_outside_of_the_slice():
    network = rows()
    axes = Axes.of(network)
    sizes = axes.checked({"width": 4, "depth": 1})
    found = plain_gradients(network, sizes, BATCH)
    cuts = {cut.name: cut for cut in axes.rules.cuts}
    for name, gradient in found.items():
        if name in cuts:
            gradient[cuts[name].index(sizes)] = 0
        elif not name.startswith("blocks"):
            continue
        assert not gradient.any() or name == "head.bias", name


def test_an_accumulated_gradient_is_the_mean_of_the_draws_own():
    network, choice = rows(), Choice([0.25, 0.5, 1.0])
    space = choice.space(Axes.of(network).extents)
    for scheme, split in (("sampled", True), ("same-batch", False)):
        drawing = Drawing(scheme, accumulate=3)
        chosen = drawing.submodels(space, np.random.default_rng([0, 5]), 0.5)
        parts = parts_of(BATCH, 3) if split else [BATCH] * 3
        own = [plain_gradients(network, one, part) for one, part in zip(chosen, parts, strict=True)]
        mean = {name: sum(one[name] for one in own) / 3 for name in own[0]}
        close(gradients(network, choice, drawing, step=5), mean)


def test_equal_draws_on_one_batch_are_one_plain_step():
    network = rows()
    whole = Choice(depths=[3])
    plain = plain_gradients(network, Axes.of(network).full, BATCH)
    close(gradients(network, whole, Drawing("same-batch", accumulate=4)), plain)
    close(gradients(network, whole, Drawing("truncate")), plain)


def test_all_sub_models_at_once_have_the_mean_of_their_gradients():
    network, choice = rows(), Choice([0.5, 1.0])
    space = choice.space(Axes.of(network).extents)
    own = [plain_gradients(network, one, BATCH) for one in space.sizes]
    mean = {name: sum(one[name] for one in own) / len(own) for name in own[0]}
    close(gradients(network, choice, Drawing("all")), mean)


def test_exits_of_one_width_share_a_pass_through_the_blocks():
    network = rows()
    ran = []
    for block in network.blocks:
        block.first.register_forward_hook(lambda *_: ran.append(1))
    gradients(network, Choice([0.5, 1.0]), Drawing("all"))
    assert len(ran) == 2 * 3  # two widths, three blocks each


def test_in_a_sandwich_the_smaller_learn_what_the_largest_answers():
    network, choice = rows(), Choice([0.5, 1.0], depths=[3])
    axes = Axes.of(network)
    space = choice.space(axes.extents)
    drawing = Drawing("sandwich", accumulate=1)
    chosen = drawing.submodels(space, np.random.default_rng([0, 0]), 0.0)
    inputs = (BATCH["numeric"], BATCH["categorical"])
    wanted = network(*inputs).softmax(1).detach()
    network.zero_grad()
    loss_of(network, BATCH).backward()
    for sizes in chosen[1:]:
        with axes.cut_to(sizes):
            found = network(*inputs).log_softmax(1)
            functional.kl_div(found, wanted, reduction="batchmean").backward()
    mean = {name: p.grad / 3 for name, p in network.named_parameters()}
    network.zero_grad()
    close(gradients(network, choice, drawing), mean)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_what_a_step_does_to_units_outside_of_the_slice(kind):
    network = rows()
    axes = Axes.of(network)
    sizes = axes.checked({"width": 4, "depth": 1})
    lr, decay, beta, eps = 0.1, 0.5, 0.9, 1e-8
    optimizer = (
        torch.optim.SGD(network.parameters(), lr=lr)
        if kind == "sgd"
        else torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay, betas=(beta, 0.999))
    )
    loss_of(network, BATCH).backward()  # a whole step first, so that there is momentum
    optimizer.step()
    optimizer.zero_grad()
    before = copy.deepcopy(network.state_dict())
    state = copy.deepcopy(optimizer.state[network.stem.weight])
    with axes.cut_to(sizes) as opened:
        loss_of(opened, BATCH).backward()
    optimizer.step()
    after = network.state_dict()
    outside = after["stem.weight"][4:]
    if kind == "sgd":
        assert torch.equal(outside, before["stem.weight"][4:])
    else:
        mean = beta * state["exp_avg"][4:] / (1 - beta**2)
        square = 0.999 * state["exp_avg_sq"][4:] / (1 - 0.999**2)
        drift = before["stem.weight"][4:] * (1 - lr * decay) - lr * mean / (square.sqrt() + eps)
        torch.testing.assert_close(outside, drift)
    assert torch.equal(after["blocks.1.first.weight"], before["blocks.1.first.weight"])


def test_each_sub_model_has_its_own_statistics_of_batch_normalisation():
    torch.manual_seed(0)
    network = ResidualCNN(channels=1, n_outputs=3, width=8, n_blocks=2)
    axes = Axes.of(network)
    pixels = torch.randn(64, 1, 12, 12)
    batches = [{"pixels": part} for part in pixels.split(16)]
    whole = copy.deepcopy(network.state_dict())
    sizes = axes.checked({"width": 0.5, "depth": 1})
    found = Statistics()
    found.measure(axes, sizes, batches, lambda n, batch: n(**batch).sum())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, whole[name]), name  # the whole one's are as they were
    small = extract(network, sizes, statistics=found)
    fresh = extract(network, sizes)
    for module in fresh.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    fresh.train()
    for batch in batches:
        fresh(**batch)
    torch.testing.assert_close(
        small.eval()(pixels), fresh.eval()(pixels), atol=1e-6, rtol=1e-6
    )  # fmt: skip
    with found.used(axes, sizes) as opened:
        torch.testing.assert_close(opened.eval()(pixels), small(pixels), atol=1e-6, rtol=1e-6)
    again = Statistics.of_tensors(found.tensors())
    assert (
        extract(network, sizes, statistics=again).state_dict().keys() == small.state_dict().keys()
    )


def test_the_largest_within_a_budget_is_selected_and_never_exceeds_it():
    network = rows()
    space = Choice([0.25, 0.5, 1.0]).space(Axes.of(network).extents)
    table = table_of_submodels(network, space, {k: v[:1] for k, v in ROWS.items()}, latency=False)
    costs = table["multiply_adds"]
    last = 0
    for budget in sorted({costs.min(), *np.linspace(costs.min(), costs.max(), 7)}):
        chosen = select(table, max_macs=budget)
        (cost,) = costs[[one == chosen for one in space.sizes]]
        assert last <= cost <= budget and cost == costs[costs <= budget].max()
        last = cost
    with pytest.raises(KnobError, match="the smallest needs"):
        select(table, max_params=3)
    with pytest.raises(KnobError, match="give a budget"):
        select(table)
    with pytest.raises(KnobError, match="give data"):
        select(table, max_latency=3)
    tie = pd.DataFrame({"depth": [1, 2], "parameters": [5, 5], "score": [0.2, 0.1]})
    assert select(tie, max_params=5) == {"depth": 1}


def test_the_pareto_set_is_what_no_other_one_beats():
    costs, scores = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.4, 0.7, 0.7])
    assert pareto(costs, scores).tolist() == [True, False, True, False]


def test_a_module_without_a_rule_a_split_tie_and_an_open_sub_model_are_refused():
    with pytest.raises(ModelError, match="no rule to cut 0, a Bilinear"):
        rules_of(nn.Sequential(nn.Bilinear(2, 2, 2)), {"0": Place(Units("width"))})
    tied = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    with pytest.raises(ModelError, match="one tied weight"):
        rules_of(tied, {"0": Place(Units("width")), "1": Place(Units("width"))})
    axes = Axes.of(rows())
    one, two = (axes.cut_to(axes.checked({"depth": depth})) for depth in (1, 2))
    with one, pytest.raises(ModelError, match="open already"), two:
        pass
