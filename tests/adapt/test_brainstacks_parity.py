"""Brainstacks against numbers that were recorded from the authors' code.

One layer from 12 to 10 numbers, two stacks that are frozen and one that learns; 4 experts, 2 taken,
rank 4, alpha 3. Where the authors' code differs from the paper's text, the record says what it
does, and the tests below say what is done here.
"""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from stackwise.adapt.brainstacks import (
    Domain,
    ExpertDelta,
    Experts,
    ExpertStack,
    Switch,
    gates,
    load_balance,
    mixture,
)
from stackwise.adapt.brainstacks.null_space import leading, of_samples
from stackwise.adapt.brainstacks.switch import ACTIVE
from stackwise.files import read_tensors

RECORD = Path(__file__).parents[1] / "data" / "parity" / "brainstacks.safetensors"
SCALE = 1.5  # 3 / sqrt(4)


@pytest.fixture(scope="module")
def record():
    return read_tensors(RECORD)


def experts_of(record, stack: str) -> Experts:
    weights = {
        role: torch.stack([record[f"weights/{stack}.experts.{e}.{role}.weight"] for e in range(4)])
        for role in "AB"
    }
    return Experts(weights["A"], weights["B"], record[f"weights/{stack}.router.weight"])


def layer_of(record) -> nn.Sequential:
    layer = nn.Linear(12, 10)
    layer.load_state_dict({name: record[f"weights/frozen.{name}"] for name in ("weight", "bias")})
    return nn.Sequential(layer)


def frozen_on(record, *stacks: int) -> ExpertDelta:
    rounds = [{"0": experts_of(record, f"frozen_stacks.{place}")} for place in stacks]
    return ExpertDelta({"earlier": Domain(rounds, scale=SCALE)})


def active_of(record, **more) -> ExpertStack:
    found = experts_of(record, "active_stack")
    stack = ExpertStack(12, 10, rank=4, scale=SCALE, **more)
    stack.load_state_dict({
        "a": found.a, "b": found.b, "router": found.router,
        "noise": record["weights/active_stack.noise_linear.weight"],
        **({} if stack.directions is None else {"directions": stack.directions}),
    })  # fmt: skip
    return stack


@pytest.mark.parametrize("place", [0, 1])
def test_a_stack_adds_what_the_authors_adds(record, place):
    experts = experts_of(record, f"frozen_stacks.{place}")
    x = record["input/x"]
    logits = functional.linear(x, experts.router)
    torch.testing.assert_close(
        logits.flatten(0, 1), record[f"output/eval/frozen{place}_router_logits"]
    )
    added = mixture(x, gates(logits, 2), experts.a, experts.b, SCALE)
    torch.testing.assert_close(added, record[f"output/eval/frozen{place}_delta"])
    for e in range(4):
        alone = functional.one_hot(torch.full((2, 5), e), 4).float()
        torch.testing.assert_close(
            mixture(x, alone, experts.a, experts.b, SCALE).flatten(0, 1),
            record[f"output/eval/frozen{place}_expert_outputs"][:, e],
        )


def test_a_layer_with_its_stacks_gives_what_the_authors_gives(record):
    model = layer_of(record).eval()
    model[0].add_module(ACTIVE, active_of(record))
    model.eval()
    with frozen_on(record, 0, 1).on(model):
        torch.testing.assert_close(model(record["input/x"]), record["output/eval/layer_out"])


def test_the_projector_is_the_authors(record):
    model, embedding = layer_of(record), record["weights/embedding"]
    with frozen_on(record, 0, 1).on(model):
        found = of_samples(
            model, ["0"], [record["input/samples"][:8]], lambda m, ids: m(embedding[ids]),
            samples=8, count=4,
        )["0"]  # fmt: skip
    torch.testing.assert_close(found.norm(dim=1), record["output/null/singular_values"][:4])
    v = functional.normalize(found).T
    torch.testing.assert_close(v @ v.T, record["output/null/projector"], atol=1e-5, rtol=1e-5)
    again = leading(record["output/null/mean_frozen_deltas"], 4)
    torch.testing.assert_close(again.abs(), found.abs(), atol=1e-5, rtol=1e-5)


def projected(record) -> ExpertStack:
    _, _, right = torch.linalg.svd(record["output/null/mean_frozen_deltas"], full_matrices=False)
    return active_of(record, directions=right[:4].T.contiguous(), always=False)


def test_what_learns_is_noisy_and_projected_as_the_authors_is(record):
    stack, x = projected(record).train(), record["input/x"]
    eps = record["input/noise_active"].view(2, 5, 4)
    torch.testing.assert_close(
        stack.logits(x, eps).flatten(0, 1), record["output/train/active_noisy_logits"]
    )
    torch.testing.assert_close(
        stack(x, eps), record["output/train/active_delta_projected"], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(stack.balance, record["output/train/active_aux_loss"])
    torch.testing.assert_close(
        active_of(record).train()(x, eps), record["output/train/active_delta"]
    )


def test_its_gradient_is_the_authors(record):
    """Their frozen stacks are noisy in training; the noise is added to their logits here."""
    stack, x = projected(record).train(), record["input/x"]
    out = layer_of(record)(x) + stack(x, record["input/noise_active"].view(2, 5, 4))
    for place in (0, 1):
        experts = experts_of(record, f"frozen_stacks.{place}")
        noise = functional.linear(x, record[f"weights/frozen_stacks.{place}.noise_linear.weight"])
        eps = record[f"input/noise_frozen{place}"].view(2, 5, 4)
        logits = functional.linear(x, experts.router) + functional.softplus(noise) * eps
        out = out + mixture(x, gates(logits, 2), experts.a, experts.b, SCALE)
    torch.testing.assert_close(out, record["output/train/layer_out"], atol=1e-5, rtol=1e-5)
    loss = functional.mse_loss(out, record["input/target"])
    torch.testing.assert_close(loss, record["output/train/loss"])
    loss.backward()
    for e in range(4):
        for role, weight in (("A", stack.a), ("B", stack.b)):
            torch.testing.assert_close(
                weight.grad[e], record[f"output/train/grad/experts.{e}.{role}.weight"],
                atol=1e-5, rtol=1e-4,
            )  # fmt: skip
    for name, weight in (("router", stack.router), ("noise_linear", stack.noise)):
        torch.testing.assert_close(
            weight.grad, record[f"output/train/grad/{name}.weight"], atol=1e-5, rtol=1e-4
        )


def test_frozen_stacks_are_quiet_in_training_here(record):
    model = layer_of(record).train()
    stack = projected(record)
    model[0].add_module(ACTIVE, stack)
    stack.forward = lambda x: ExpertStack.forward(  # the recorded noise
        stack, x, record["input/noise_active"].view(2, 5, 4)
    )
    model.train()
    with frozen_on(record, 0, 1).on(model):
        torch.testing.assert_close(
            model(record["input/x"]), record["output/train/layer_out_frozen_stacks_in_eval"],
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip


def test_the_authors_balance_has_no_gradient_and_ours_does(record):
    assert not bool(record["output/train/aux_loss_has_gradient"])
    stack, x = active_of(record).double().train(), record["input/x"].double()
    eps = record["input/noise_active"].view(2, 5, 4).double()

    def balance() -> torch.Tensor:
        logits = stack.logits(x, eps)
        return load_balance(logits, gates(logits, 2))

    balance().backward()
    grad, step = stack.router.grad[1, 3].item(), 1e-4
    assert abs(grad) > 1e-6
    with torch.no_grad():
        stack.router[1, 3] += step
        above = balance()
        stack.router[1, 3] -= 2 * step
        below = balance()
    assert grad == pytest.approx((above - below).item() / (2 * step), rel=2e-2)
    assert Switch.on(layer_of(record)) is None
