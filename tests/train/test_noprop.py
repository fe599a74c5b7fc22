"""NoProp keeps its equations, and no block knows of another."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from stackwise.train.noprop import (
    BlockRule,
    LearnedSchedule,
    NoPropImages,
    NoPropRule,
    NoPropTable,
    cosine_abar,
    prototypes,
    transition,
)
from stackwise.train.noprop.blocks import DenoisingBlock, LabelPath
from stackwise.train.noprop.peers import BackpropChain, ForwardForward, chain_loss, saved_bytes
from stackwise.train.noprop.rule import stack_loss
from stackwise.train.noprop.schedules import snr
from stackwise.training.batches import ArrayBatches
from stackwise.training.loop import train

SMALL = {
    "shape": (1, 4, 4), "variant": "dt", "classes": 3, "size": 3, "steps": 4,
    "embedding": "onehot", "fixed": False, "eta": 0.1, "sigma": 0.1, "readout": "softmax",
    "draws": 1, "seed": 0, "width": 2, "hidden": 6, "dropout": 0.2,
}  # fmt: skip
FORMS = [("dt", "onehot"), ("dt", "learned"), ("dt", "prototype"), ("ct", "learned"),
         ("fm", "learned")]  # fmt: skip


def stack(**changed) -> NoPropImages:
    given = SMALL | changed
    given["size"] = {"onehot": 3, "prototype": 16, "learned": 5}[given["embedding"]]
    torch.manual_seed(0)
    made = NoPropImages(**given)
    if given["embedding"] == "prototype":
        with torch.no_grad():
            made.embedding.normal_()
    return made


def batch(rows: int = 12) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "pixels": torch.randn(rows, 1, 4, 4, generator=generator),
        "target": torch.arange(rows) % 3, "weight": torch.ones(rows),
    }  # fmt: skip


def soft(rows: int = 12) -> torch.Tensor:
    return nn.functional.one_hot(torch.arange(rows) % 3, 3).float()


def trained(made: NoPropImages, rule, epochs: int = 2) -> NoPropImages:
    batches = ArrayBatches(batch(), 6, seed=3)
    return train(made, rule, batches, max_epochs=epochs, seed=5).model


def test_the_step_keeps_mean_variance_and_signal():
    abar = cosine_abar(10)
    for s, r in pairwise(abar):
        a, b, c = transition(s, r)
        assert torch.allclose(a + b * s.sqrt(), r.sqrt(), atol=1e-14)
        assert torch.allclose(b**2 * (1 - s) + c, 1 - r, atol=1e-14)
        assert torch.allclose(a**2 / c, snr(r) - snr(s), rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 3, 10, 300])
def test_time_goes_from_noise_to_the_label(steps):
    abar = cosine_abar(steps)
    gains = snr(abar).diff()
    assert abar[0] < 0.01 and 0.98 < abar[-1] < 1
    assert (gains > 0).all()
    assert torch.allclose(gains.sum(), snr(abar[-1]) - snr(abar[0]))


def test_a_latent_has_the_variance_that_its_time_says():
    made, u = stack(), torch.eye(3)[[1]].expand(50_000, -1)
    noise = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0))
    for abar in made.abar:
        squares = made.noised(u, abar, noise).square().sum(1).mean()
        assert abs(float(squares) - float(abar + 3 * (1 - abar))) < 0.05


def test_the_prior_term_is_the_divergence_from_a_standard_normal():
    made = stack(embedding="learned")
    u = made.label(soft())
    for abar in (torch.tensor(0.3), torch.tensor(1e-9)):
        q = torch.distributions.Normal(abar.sqrt() * u, (1 - abar).sqrt())
        expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0, 1)).sum(1)
        assert torch.allclose(made.prior_loss(soft(), abar), expected, atol=1e-6)
    assert made.prior_loss(soft(), torch.tensor(1e-9)).abs().max() < 1e-6


class Oracle(nn.Module):
    """A block that knows the label of every row."""

    def __init__(self, y: torch.Tensor) -> None:
        super().__init__()
        self.y = y

    def tower(self, x):
        return x

    def logits(self, z, x, t=None, seen=None):
        return 200.0 * nn.functional.one_hot(self.y, 3).float()

    forward = DenoisingBlock.forward


def test_blocks_that_know_the_label_lead_noise_to_it():
    made, y = stack(steps=6), torch.zeros(20_000, dtype=torch.long)
    made.blocks = nn.ModuleList([Oracle(y) for _ in range(6)])
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(20_000, 1, 4, 4)
    noise = torch.randn(7, 20_000, 3, generator=generator)
    for place, (z, _) in enumerate(made.latents(x, noise), 1):
        abar = float(made.abar[place])
        mean = torch.tensor([math.sqrt(abar), 0, 0])
        assert (z.mean(0) - mean).abs().max() < 0.03
        assert (z.var(0) - (1 - abar)).abs().max() < 0.03


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_flow_that_knows_its_end_arrives_there(steps):
    made = stack(variant="fm", steps=steps)
    y = torch.arange(5) % 3
    start = torch.randn(3, generator=torch.Generator().manual_seed(0))

    class Flow(Oracle):
        def logits(self, z, x, t=None, seen=None):
            return torch.eye(3)[self.y] - start

    made.blocks = nn.ModuleList([Flow(y)])
    *_, (z, _) = made.latents(torch.zeros(5, 1, 4, 4), start.expand(steps + 1, 3))
    assert torch.allclose(z, torch.eye(3)[y], atol=1e-6)
    assert (made.probabilities(z).argmax(1) == y).all()


def test_what_a_block_predicts_lies_within_the_embeddings():
    made = stack().eval()
    z, x = torch.randn(9, 3), torch.randn(9, 1, 4, 4)
    estimate = made.blocks[0].logits(z, x).softmax(-1) @ made.embedding
    assert (estimate >= 0).all() and torch.allclose(estimate.sum(1), torch.ones(9))


def test_a_loss_reaches_one_block_alone():
    made = stack()
    made.block_loss(1, batch()["pixels"], soft(), torch.randn(12, 3)).mean().backward()
    for place, block in enumerate(made.blocks):
        has = [parameter.grad is not None for parameter in block.parameters()]
        assert all(has) if place == 1 else not any(has)
    assert made.readout.weight.grad is None


def test_the_cross_entropy_reaches_no_block():
    made = stack(embedding="learned")
    made.readout_loss(soft(), torch.randn(12, 5)).mean().backward()
    assert made.readout.weight.grad is not None and made.embedding.grad is not None
    assert all(parameter.grad is None for parameter in made.blocks.parameters())


def test_training_a_block_leaves_the_others_to_the_bit():
    before = stack()
    after = trained(stack(), BlockRule(2, 0))
    for name, value in after.state_dict().items():
        moved = not torch.equal(value, before.state_dict()[name])
        assert moved == name.startswith("blocks.2."), name


def test_the_squared_error_is_a_sum_over_numbers():
    made = stack(embedding="learned")
    noise, x = torch.randn(12, 5), batch()["pixels"]
    made.eval()
    one = made.block_loss(0, x, soft(), noise)
    doubled = stack(embedding="learned").eval()
    with torch.no_grad():
        both = torch.cat([made.embedding, made.embedding], 1)
    doubled.load_state_dict(made.state_dict())
    doubled.embedding = nn.Parameter(both)

    class Half(nn.Module):
        def __init__(self, label: LabelPath) -> None:
            super().__init__()
            self.label = label

        def forward(self, z):
            return self.label(z[:, :5])

    doubled.blocks[0].label = Half(doubled.blocks[0].label)
    other = doubled.block_loss(0, x, soft(), torch.cat([noise, noise], 1))
    assert torch.allclose(other, 2 * one, rtol=1e-5)


def test_the_loss_of_a_block_is_its_equation():
    made = stack().eval()
    x, noise = batch()["pixels"], torch.randn(12, 3)
    u = torch.eye(3)[torch.arange(12) % 3]
    z = made.abar[1].sqrt() * u + (1 - made.abar[1]).sqrt() * noise
    estimate = made.blocks[1].logits(z, x).softmax(-1)
    gain = made.abar[2] / (1 - made.abar[2]) - made.abar[1] / (1 - made.abar[1])
    expected = 4 / 2 * 0.1 * gain * (estimate - u).square().sum(1)
    assert torch.allclose(made.block_loss(1, x, soft(), noise), expected)


@pytest.mark.parametrize(("variant", "embedding"), FORMS)
def test_every_form_learns_all_that_it_should(variant, embedding):
    before = stack(variant=variant, embedding=embedding, steps=2)
    after = trained(stack(variant=variant, embedding=embedding, steps=2), NoPropRule(0), 1)
    still = {
        name for name, value in after.named_parameters()
        if torch.equal(value, before.get_parameter(name))
    }  # fmt: skip
    assert still <= ({"embedding"} if embedding == "onehot" else set())
    with torch.no_grad():
        found = after(pixels=batch()["pixels"]).exp()
    assert torch.allclose(found.sum(1), torch.ones(12), atol=1e-4)


def test_activations_do_not_grow_with_the_number_of_blocks():
    x, noise = batch(64)["pixels"], torch.randn(64, 3)

    def most(steps: int, chain: bool) -> int:
        made = stack(steps=steps)

        def together() -> None:
            chain_loss(BackpropChain(made), batch(64)).backward()

        def apart() -> None:
            for place in range(steps):
                made.block_loss(place, x, soft(64), noise).mean().backward()

        return saved_bytes(together if chain else apart)

    assert most(8, chain=False) <= 1.01 * most(2, chain=False)
    assert most(8, chain=True) > 3 * most(2, chain=True)


def test_the_learned_schedule_rises_and_its_slope_is_its_differences():
    schedule = LearnedSchedule().double()
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    assert torch.allclose(schedule.gbar(t)[[0, -1]], torch.tensor([0.0, 1.0]).double())
    assert (schedule.gamma(t).diff() < 0).all()
    values, slope = schedule.snr_and_slope(t)
    assert (slope > 0).all()
    step = 1e-6
    middle = t[1:-1]
    above, below = (schedule.snr_and_slope(middle + d)[0] for d in (step, -step))
    assert torch.allclose((above - below) / (2 * step), slope[1:-1], rtol=1e-5)
    assert torch.allclose(values, snr(schedule.abar(t)))
    slope.sum().backward()
    assert all(parameter.grad is not None for parameter in schedule.parameters())


def test_prototypes_are_those_of_brute_force():
    generator = torch.Generator().manual_seed(0)
    inputs, y = torch.randn(31, 2, 3, generator=generator), torch.arange(31) % 3
    found = prototypes(inputs, y, 3)
    for place in range(3):
        own = inputs[y == place].flatten(1)
        medians = [sorted(float((a - b).norm()) for b in own)[(len(own) - 1) // 2] for a in own]
        assert torch.equal(found[place], own[medians.index(min(medians))])


def test_draws_are_averaged_and_the_same_for_every_row():
    made = stack(draws=3).eval()
    x = batch()["pixels"]
    with torch.no_grad():
        each = torch.stack([made.run(x, noise) for noise in made.noise])
        assert torch.allclose(made(pixels=x).exp(), each.mean(0), atol=1e-6)
        assert torch.equal(made(pixels=x[3:4])[0], made(pixels=x[3:4].repeat(5, 1, 1, 1))[2])


def test_the_posterior_readout_goes_by_distance():
    made = stack(readout="posterior", embedding="learned").eval()
    z = torch.randn(6, 5)
    with torch.no_grad():
        estimate = made.readout(z).softmax(-1) @ made.embedding
        distances = torch.cdist(estimate, made.embedding).square()
        expected = (-distances / (2 * 0.5**2)).softmax(-1)
        assert torch.allclose(made.probabilities(z), expected, atol=1e-6)


def test_the_loss_of_all_blocks_gives_each_its_own_gradient():
    made = stack(dropout=0.0)
    stack_loss(made, batch()).backward()
    grads = [next(block.parameters()).grad for block in made.blocks]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_a_batch_of_one_row_has_a_loss():
    made = NoPropTable(
        n_numeric=2, cardinalities=[3], **{k: v for k, v in SMALL.items() if k != "shape"}
    )
    x = made.inputs(numeric=torch.randn(1, 2), categorical=torch.zeros(1, 1, dtype=torch.long))
    assert x.shape == (1, 5)
    assert made.block_loss(0, x, soft(1), torch.randn(1, 3)).isfinite().all()


def test_layers_of_forward_forward_learn_apart():
    model = ForwardForward(16, 3, 8, 2)
    losses = model.losses(batch()["pixels"], batch()["target"], (batch()["target"] + 1) % 3)
    losses[1].backward()
    assert (model.layers[0].weight.grad == 0).all()
    assert model.layers[1].weight.grad.abs().sum() > 0
