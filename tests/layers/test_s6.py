"""S6: what holds of the layer exactly."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.s6 import DT_RANGE, S6, S6State


def close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def layer(width: int = 6, **sizes: object) -> S6:
    torch.manual_seed(0)
    return S6(width, **{"d_state": 4, **sizes})


@pytest.mark.parametrize("d_conv", [1, 4])
def test_steps_equal_all_tokens_at_once(d_conv: int):
    s6, u = layer(d_conv=d_conv), torch.randn(3, 40, 6)
    together = s6(u)
    for read in (0, 2, 33):  # tokens that are read at once before the first step
        out, state = s6.read(u[:, :read]) if read else (u[:, :0], None)
        parts = [out]
        for token in range(read, 40):
            out, state = s6.step(u[:, token], state)
            parts.append(out[:, None])
        assert close(torch.cat(parts, 1), together)


def test_one_sequence_and_one_token_go_through():
    s6, u = layer(), torch.randn(3, 9, 6)
    assert close(s6(u[:1]), s6(u)[:1])
    assert close(s6(u[:, :1]), s6(u)[:, :1])


def test_later_tokens_change_no_bit_of_earlier_outputs():
    s6, u = layer(), torch.randn(2, 50, 6)
    changed = u.clone()
    changed[:, 20:] = torch.randn(2, 30, 6)
    assert torch.equal(s6(u)[:, :20], s6(changed)[:, :20])
    assert not torch.equal(s6(u)[:, 20:], s6(changed)[:, 20:])
    both = layer(bidirectional=True)
    assert not torch.allclose(both(u)[:, :20], both(changed)[:, :20])


def test_bidirectional_is_the_sum_of_two_layers_one_on_the_flipped_input():
    both, u = layer(bidirectional=True), torch.randn(2, 9, 6)
    onward = layer()
    onward.load_state_dict(
        {name: value for name, value in both.state_dict().items() if "reverse" not in name}
    )
    assert torch.equal(both(u), onward(u) + both.reverse(u.flip(1)).flip(1))
    with pytest.raises(ModelError, match="bidirectional"):
        both.step(u[:, 0])


def test_without_a_step_size_only_the_skip_is_left():
    s6, u = layer(), torch.randn(2, 9, 6)
    with torch.no_grad():
        s6.dt_proj.bias.fill_(-1e4)
        out, state = s6.read(u)
        x, z = s6.in_proj(u.transpose(0, 1)).chunk(2, -1)
        x, _ = s6._convolve(x, s6.start(u).conv)
        only_skip = s6.out_proj(s6.D * x * functional.silu(z)).transpose(0, 1)
    assert not state.ssm.any()
    assert torch.equal(out, only_skip)


def test_the_first_rates_and_step_sizes_are_those_of_the_paper():
    s6 = layer(64)
    assert torch.allclose(s6.A_log.exp(), torch.arange(1.0, 5).expand(128, 4))
    assert (s6.D == 1).all()
    assert s6.dt_rank == 4 and s6.dt_proj.weight.abs().max() <= 0.5
    steps = functional.softplus(s6.dt_proj.bias)
    assert steps.min() >= DT_RANGE[0] * 0.999 and steps.max() <= DT_RANGE[1] * 1.001
    # log-uniform: half of them below the geometric mean
    assert 0.35 < (steps < 1e-2).float().mean() < 0.65


def test_under_autocast_the_state_stays_in_float32():
    s6, u = layer(), torch.randn(2, 40, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = s6.read(u)
        step, after = s6.step(u[:, 0], state)
    assert out.dtype == step.dtype == torch.bfloat16
    assert state.ssm.dtype == after.ssm.dtype == torch.float32
    assert torch.allclose(out.float(), s6(u), atol=0.02)
    out.float().sum().backward()
    assert s6.A_log.grad.isfinite().all() and s6.A_log.grad.dtype == torch.float32


def test_a_layer_in_bfloat16_keeps_its_state_in_float32():
    s6, u = layer().bfloat16(), torch.randn(2, 9, 6).bfloat16()
    out, state = s6.read(u)
    assert out.dtype == torch.bfloat16 and state.ssm.dtype == torch.float32


def test_the_exported_layer_gives_the_same_for_any_batch():
    s6, u = layer().eval(), torch.randn(5, 4, 6)
    exported = torch.export.export(s6, (u[:2],), dynamic_shapes={"u": {0: torch.export.Dim("B")}})
    assert close(exported.module()(u), s6(u))


def test_wrong_inputs_are_refused_in_one_sentence():
    with pytest.raises(ModelError, match="length 0"):
        layer()(torch.zeros(2, 0, 6))
    with pytest.raises(ModelError, match=r"reads \(B, L, 6\), got \(2, 3, 5\)"):
        layer()(torch.zeros(2, 3, 5))
    with pytest.raises(ModelError, match="d_state must be at least 1, got 0"):
        S6(6, d_state=0)


def test_the_state_says_what_it_holds():
    state = layer().start(torch.zeros(3, 1, 6))
    assert isinstance(state, S6State)
    assert state.conv.shape == (3, 12, 4) and state.ssm.shape == (3, 12, 4)
