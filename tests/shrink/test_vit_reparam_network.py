"""The branched vision transformer and its plain form, as modules."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stackwise.errors import ModelError
from stackwise.shrink.vit_reparam import BranchedViT, merge, set_join
from stackwise.stack import Stack

SIZES = {
    "channels": 2, "image_size": (10, 8), "n_outputs": 3, "patch": 4, "width": 12, "depth": 2,
    "heads": 3, "mlp_ratio": 2.0,
}  # fmt: skip


def network(**changes) -> BranchedViT:
    torch.manual_seed(0)
    model = BranchedViT(**SIZES | changes).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def pictures(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 2, 10, 8, generator=torch.Generator().manual_seed(2))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("branches", [1, 2, 3, 4])
@pytest.mark.parametrize("values", ["join", "wide"])
def test_a_merged_network_equals_the_joined_one(branches: int, values: str):
    model = network(branches=branches, values=values)
    set_join(model, 1.0)
    outputs, merged = model(pictures()), merge(model)
    assert merged.arguments["branches"] == 1
    assert (merged(pictures()) - outputs).abs().max() < 1e-4 * outputs.abs().max()
    exact = copy.deepcopy(model).double()
    error = merge(exact)(pictures().double()) - exact(pictures().double())
    assert error.abs().max() < 1e-10
    assert (model(pictures()) == outputs).all(), "merging changed its input"


def test_a_joined_merge_counts_as_a_plain_network():
    model = network(branches=3)
    set_join(model, 1.0)
    assert count(merge(model)) == count(network())


def test_deit_tiny_has_its_size():
    with torch.device("meta"):
        model = BranchedViT()
    norms = 12 * 2 * 2 * 192  # scale and shift of DeiT's norms, which are part of our matrices
    assert count(model) == 5_717_416 - norms


def test_a_merged_network_is_saved_exported_and_compiled(tmp_path):
    for values in ("join", "wide"):
        model = network(branches=4, values=values)
        set_join(model, 1.0)
        merged = merge(model)
        expected = merged(pictures())
        save_file(merged.state_dict(), tmp_path / "model.safetensors")
        again = BranchedViT(**merged.arguments).eval()
        again.load_state_dict(load_file(tmp_path / "model.safetensors"))
        assert torch.equal(again(pictures()), expected)
        exported = torch.export.export(
            merged, (pictures(),), dynamic_shapes=({0: torch.export.Dim("rows")},)
        )
        assert torch.allclose(exported.module()(pictures(5))[:3], merged(pictures(5))[:3])
    compiled = torch.compile(merged, backend="aot_eager")
    assert torch.allclose(compiled(pictures()), expected, atol=1e-5)


def test_a_branched_network_is_exported_with_its_lambda():
    model = network(branches=2)
    set_join(model, 0.5)
    exported = torch.export.export(model, (pictures(),)).module()
    assert torch.allclose(exported(pictures()), model(pictures()), atol=1e-5)


def test_bfloat16_autocast_trains():
    model = network(branches=2, dropout=0.1, drop_path=0.2).train()
    set_join(model, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(pictures()).float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_its_stack_is_found_and_split():
    model = network(branches=2)
    stack = Stack.of(model)
    assert len(stack) == 2
    with torch.no_grad(), stack.capture(sublayers=True) as stream:
        model(pictures())
    added = stream.attention[0] + stream.mlp[0]
    assert torch.allclose(added, stream.contributions[0], atol=1e-4)


def test_branches_begin_apart_and_sum_to_the_scale_of_one():
    torch.manual_seed(0)
    model = BranchedViT(**SIZES | {"width": 48, "branches": 4})
    second = model.blocks[0].ffn.second.weight.detach()
    assert second.std() == pytest.approx(0.02 / 2, rel=0.1)
    first = model.blocks[0].ffn.first.weight.chunk(4)
    assert not torch.allclose(first[0], first[1])


def test_a_picture_is_filled_up_to_whole_patches():
    model = network()
    assert model.positions.shape[1] == 1 + 3 * 2
    with pytest.raises(ModelError, match=r"made for pictures of 10 x 8 pixels, got 12 x 8"):
        model(torch.zeros(1, 2, 12, 8))
    assert BranchedViT.least_size(**SIZES) == 4
