"""S6 against transformers and mambapy: with equal weights, equal outputs, states and gradients.

The numbers were recorded from transformers 5.23.0, slow path, in float32, on seeded random weights:
width 12, inner width 24, state 5, kernel 4, rank 3, two layers.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from stackwise.layers.s6 import S6
from stackwise.shrink.mamba_pkd import MambaBlock

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "mamba-pkd.safetensors")
U = RECORD["input/mixer_x"]  # (2, 9, 12)


def expected(name: str) -> Tensor:
    return RECORD[f"output/{name}"]


def weights(start: str) -> dict[str, Tensor]:
    start = f"weights/{start}."
    return {key.removeprefix(start): value for key, value in RECORD.items() if start in key}


def of_theirs(layer: int) -> MambaBlock:
    block = MambaBlock(S6(12, d_state=5, dt_rank=3))
    block.load_state_dict(weights(f"backbone.layers.{layer}"))
    return block.eval()


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-5) -> bool:
    return torch.allclose(ours, theirs, atol=atol, rtol=1e-5)


# --------------------------------------------------------------------------- recorded numbers


@torch.no_grad()
def test_layer_block_and_model_equal_the_recorded_ones():
    first, second = of_theirs(0), of_theirs(1)
    assert close(first.mixer(U), expected("mixer_out"))
    assert close(first(U), expected("block_out"))

    embedding = weights("backbone.embeddings")["weight"]
    u = embedding[RECORD["input/input_ids"]]
    stream = [first(u), second(first(u))]
    stream.append(functional.rms_norm(stream[1], (12,), weights("backbone.norm_f")["weight"], 1e-5))
    for place, hidden in enumerate(stream):
        assert close(hidden, expected(f"lm_hidden{place}"))
    assert close(stream[-1] @ weights("lm_head")["weight"].T, expected("lm_logits"))


@torch.no_grad()
def test_reading_then_stepping_equals_the_recorded_outputs_and_states():
    layer = of_theirs(0).mixer
    out, state = layer.read(U[:, :5])
    assert close(out, expected("mixer_prefill5_out"))
    states, outputs = {"prefill5": state}, []
    for token in range(5, 9):
        out, state = layer.step(U[:, token], state)
        states.setdefault("step5", state)
        outputs.append(out)
    states["final"] = state
    assert close(torch.stack(outputs, 1), expected("mixer_steps5to8_out"))
    for when, found in states.items():
        assert close(found.conv, expected(f"mixer_{when}_conv_state"))
        assert close(found.ssm, expected(f"mixer_{when}_ssm_state"))


# --------------------------------------------------------------------------- other packages


def test_outputs_and_gradients_equal_mambapys():
    mamba = pytest.importorskip("mambapy.mamba")
    torch.manual_seed(0)
    theirs = mamba.MambaBlock(mamba.MambaConfig(d_model=20, n_layers=1, d_state=6))
    ours = S6(20, d_state=6)
    ours.load_state_dict(theirs.state_dict())
    u = torch.randn(3, 37, 20)
    assert close(ours(u), theirs(u))
    for layer in (ours, theirs):
        layer(u).square().sum().backward()
    for name, parameter in theirs.named_parameters():
        assert close(ours.get_parameter(name).grad, parameter.grad, atol=1e-4), name


def test_outputs_equal_transformers_also_with_its_first_weights():
    transformers = pytest.importorskip("transformers")
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = transformers.MambaConfig(hidden_size=24, state_size=8, num_hidden_layers=1)
    torch.manual_seed(0)
    theirs = MambaMixer(config, 0)
    ours = S6(24, d_state=8)
    ours.load_state_dict(theirs.state_dict())
    u = torch.randn(2, 33, 24)
    assert close(ours(u), theirs(u))
    ours.double()
    assert close(ours(u.double()), theirs.double()(u.double()).double())
