"""Attention in chunks: what it computes, what it does not see, and its biases."""

import pytest
import torch
from torch.nn import functional

from stackwise.errors import ModelError
from stackwise.layers.chunked_attention import (
    ChunkAttend,
    ChunkedAttention,
    RotaryBias,
    SimpleBias,
    laplace,
    relu2,
)

torch.manual_seed(0)


def inputs(length, z=6, v=10, rows=2):
    return torch.randn(rows, length, z), torch.randn(rows, length, z), torch.randn(rows, length, v)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bias", ["simple", "rotary"])
def test_softmax_is_scaled_attention_with_the_bias_as_mask(causal, bias):
    made = ChunkAttend(6, 8, causal=causal, bias=bias)
    q, k, v = inputs(8)
    places = torch.arange(8)
    added = made.bias(places, places)
    if causal:
        added = added.masked_fill(torch.ones(8, 8).triu(1).bool(), -torch.inf)
    wanted = functional.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=6**-0.5)
    assert torch.allclose(made(q, k, v), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "laplace", "relu2"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_chunk_sees_itself_alone(kind, causal):
    made = ChunkAttend(6, 5, causal=causal, activation=kind, bias="rotary")
    q, k, v = inputs(23)
    whole = made(q, k, v)
    for start in range(0, 23, 5):
        part = slice(start, start + 5)
        assert torch.allclose(whole[:, part], made(q[:, part], k[:, part], v[:, part]), atol=1e-6)
    long = ChunkAttend(6, 64, causal=causal, activation=kind, bias="rotary")
    long.load_state_dict(made.state_dict())
    assert torch.allclose(
        long(q[:, :5], k[:, :5], v[:, :5]), made(q[:, :5], k[:, :5], v[:, :5]), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["laplace", "relu2"])
def test_scores_of_the_others_are_divided_by_the_visible_keys(kind):
    function = {"laplace": laplace, "relu2": relu2}[kind]
    for causal in (True, False):
        made = ChunkAttend(4, 6, causal=causal, activation=kind)
        made.bias.table.data.zero_()
        q, k, v = torch.ones(1, 6, 4), torch.ones(1, 6, 4), torch.ones(1, 6, 1)
        visible = torch.arange(1, 7) if causal else torch.full((6,), 6)
        wanted = visible * function(4.0 / visible)
        assert torch.allclose(made(q, k, v)[0, :, 0], wanted.float(), atol=1e-5)


def test_biases_depend_on_the_offset_alone():
    places = torch.arange(9)
    for bias in (SimpleBias(9), RotaryBias(6)):
        for vector in bias.parameters():
            vector.data.normal_()
        found = bias(places, places)
        for offset in range(-8, 9):
            line = found.diagonal(offset)
            assert torch.allclose(line, line[0].expand_as(line), atol=1e-5)
        assert not torch.allclose(found, found.T, atol=1e-3)
    table = SimpleBias(3)
    table.table.data = torch.arange(5.0)
    assert table(torch.tensor([2]), torch.tensor([0])).item() == 0  # key minus query is -2


@pytest.mark.parametrize("kind", ["softmax", "laplace"])
def test_padded_keys_are_not_attended_to(kind):
    made = ChunkAttend(6, 8, causal=False, activation=kind, bias="rotary")
    q, k, v = inputs(13)
    wider = [functional.pad(one, (0, 0, 0, 11), value=3.0) for one in (q, k, v)]
    mask = torch.arange(24)[None].expand(2, -1) < 13
    assert torch.allclose(made(*wider, mask)[:, :13], made(q, k, v), atol=1e-5)
    assert made(*wider, mask).isfinite().all()


def test_the_first_attention_is_nearly_uniform():
    q, k = (torch.nn.functional.silu(torch.randn(1, 16, 8)) * 0.02 * torch.randn(8) for _ in "qk")
    scores = q @ k.transpose(1, 2) / 8**0.5
    weights = scores.softmax(-1)
    entropy = -(weights * weights.log()).sum(-1)
    assert torch.allclose(entropy, torch.full_like(entropy, 16).log(), rtol=0.01)


def test_with_maps_of_its_own_it_keeps_the_width_of_the_stream():
    made = ChunkedAttention(8, 4, 12, chunk=5)
    assert made(torch.randn(2, 17, 8)).shape == (2, 17, 8)


def test_what_makes_no_attention_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="must be one of softmax, laplace, relu2, not 'gelu'"):
        ChunkAttend(4, 4, activation="gelu")
    with pytest.raises(ModelError, match="even z_dim, got 5"):
        ChunkAttend(5, 4, bias="rotary")
    made = ChunkAttend(4, 4, bias="simple")
    made.chunk = 8
    with pytest.raises(ModelError, match="longer than the 4 of the simple bias"):
        made(*inputs(8, z=4))
    with pytest.raises(ModelError, match="length 0"):
        made(*inputs(0, z=4))
