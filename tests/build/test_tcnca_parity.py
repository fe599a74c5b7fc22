"""MEGA's gated attention and moving average against the authors': with equal weights, every stream.

The numbers were recorded from facebookresearch/mega at aeaa4b44592cd1d60a9a34554e359eda2a62b03b in
float32, on seeded random weights. TCNCA is this with another operator.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stackwise.build.tcnca import GatedMixing, Sizes
from stackwise.layers.moving_average import MovingAverage

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "tcnca.safetensors")
NETS = {
    "softmax_causal_chunk": {"chunk": 5},
    "softmax_causal_whole": {"chunk": 32},
    "laplace_causal_chunk": {"chunk": 5, "activation": "laplace"},
    "softmax_both_ways_chunk": {"chunk": 5, "direction": "two-way"},
    "rotary_causal_chunk": {"chunk": 5, "bias": "rotary"},
    "truncated_postnorm_scalenorm": {
        "chunk": 5, "truncation": 7, "norm": "scale", "norm_first": False,
    },
}  # fmt: skip
NAMES = {
    "move.delta": "temporal.operator.delta", "move.alpha": "temporal.operator.alpha",
    "move.beta": "temporal.operator.beta", "move.gamma": "temporal.operator.gamma",
    "move.omega": "temporal.omega", "gamma": "scale", "beta": "shift",
    "mx_proj": "main", "v_proj": "value", "h_proj": "output", "norm.norm": "norm",
    "norm.norm.scalar": "norm.scale", "rel_pos_bias.rel_pos_bias": "attend.bias.table",
    "rel_pos_bias.alpha": "attend.bias.query", "rel_pos_bias.beta": "attend.bias.key",
}  # fmt: skip
X = RECORD["input/x"].transpose(0, 1)
MASK = ~RECORD["input/padding_mask"].bool()


def mixing(name: str) -> GatedMixing:
    """Our layer with the authors' weights."""
    given = {"bias": "simple", "operator": "ema", "averages": 4} | NETS[name]
    made = GatedMixing(Sizes(dim=10, v_dim=14, z_dim=6, ffn_dim=1, **given))
    start = f"weights/{name}/"
    weights = {}
    for key, value in RECORD.items():
        if not key.startswith(start) or key.endswith("_float_tensor"):
            continue
        own = key.removeprefix(start)
        head, _, last = own.rpartition(".")
        renamed = NAMES.get(own) or f"{NAMES[head]}.{last}"
        weights[renamed] = value.reshape(made.state_dict()[renamed].shape)
    made.load_state_dict(weights)
    return made.eval()


def recorded(name: str, output: str) -> torch.Tensor:
    return RECORD[f"output/{name}/{output}"]


@pytest.mark.parametrize("name", NETS)
def test_the_average_its_kernel_and_what_comes_of_it_are_theirs(name):
    made = mixing(name)
    average = made.temporal.operator
    p, q = average.coefficients()
    for ours, theirs in ((p, "ema_p"), (q, "ema_q")):
        assert torch.allclose(ours, recorded(name, theirs).squeeze(-1), atol=1e-6)
    kernel = recorded(name, "ema_kernel")
    assert torch.allclose(average.kernel(kernel.shape[1]), kernel, atol=1e-5)
    read = made.norm(X) if made.sizes.norm_first else X
    moved = made.temporal(read)
    assert torch.allclose(moved.transpose(0, 1), recorded(name, "ema_out"), atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_values_gates_and_the_output_are_theirs(name):
    made = mixing(name)
    read = made.norm(X) if made.sizes.norm_first else X
    assert torch.allclose(made._values(read).transpose(0, 1), recorded(name, "v"), atol=1e-5)
    u, q, k, r, hx = made._parts(made.temporal(read))
    assert torch.allclose(u.transpose(0, 1), recorded(name, "gate"), atol=1e-5)
    o = made.attend(q, k, made._values(read))
    attended = recorded(name, "gated_attended")
    assert torch.allclose((o * r).transpose(0, 1), attended, atol=1e-5)
    h = torch.nn.functional.silu(hx + made.output(o * r))
    assert torch.allclose(h.transpose(0, 1), recorded(name, "candidate"), atol=1e-5)
    assert torch.allclose(made(X).transpose(0, 1), recorded(name, "out"), atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_the_bias_is_theirs(name):
    bias = recorded(name, "relative_bias")
    places = torch.arange(len(bias))
    assert torch.allclose(mixing(name).attend.bias(places, places), bias, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_padding_changes_what_is_there_as_it_does_theirs(name):
    found, wanted = mixing(name)(X, MASK), recorded(name, "padded/out").transpose(0, 1)
    assert torch.allclose(found[MASK], wanted[MASK], atol=1e-5)


def test_the_recurrence_goes_on_as_theirs_does():
    average: MovingAverage = mixing("softmax_causal_whole").temporal.operator
    first, state = average.step(X[:, :9], average.start(2))
    last, end = average.step(X[:, 9:], state)
    for ours, theirs in (
        (first.transpose(0, 1), "out_first9"), (last.transpose(0, 1), "out_last6"),
        (state, "state_after9"), (end, "state_after15"),
    ):  # fmt: skip
        assert torch.allclose(ours, RECORD[f"output/ema_steps/{theirs}"], atol=1e-5)
    whole = torch.nn.functional.silu(average(X) + mixing("softmax_causal_whole").temporal.omega * X)
    assert torch.allclose(whole.transpose(0, 1), RECORD["output/ema_steps/whole"], atol=1e-5)
