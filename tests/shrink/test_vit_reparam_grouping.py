"""Trained transformers as branches of fewer layers, and back to their own classes."""

import copy
from functools import cache

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from stackwise.errors import ModelError
from stackwise.shrink.vit_reparam import BranchedViT, grouped, merge, restored, set_join
from stackwise.stack import Stack

FAMILIES = {"vit": "ViT", "deit": "DeiT", "dinov2": "Dinov2"}


def roughen(model: nn.Module) -> nn.Module:
    """Random norms, scales and biases, so that folding them wrongly shows."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
        else:
            nn.init.normal_(parameter, mean=float("bias" not in name), std=0.3)
    return model.double().eval()


@cache
def _made(family: str, depth: int = 12, **extra) -> nn.Module:
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_attention_heads": 3, "num_labels": 4}
    if family == "dinov2":
        sizes |= {"mlp_ratio": 2, "layerscale_value": 0.5, "drop_path_rate": 0.1}
    config = getattr(hf, f"{FAMILIES[family]}Config")(
        image_size=8, patch_size=4, num_hidden_layers=depth, **sizes | extra
    )
    return roughen(getattr(hf, f"{FAMILIES[family]}ForImageClassification")(config))


def trained(family: str, depth: int = 12, **extra) -> nn.Module:
    return copy.deepcopy(_made(family, depth, **extra))


def pictures() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator)


def side_by_side(model: nn.Module, depth: int) -> Tensor:
    """The stream of a model whose groups of blocks run in parallel, sublayer by sublayer."""
    stack = Stack.of(model)
    seen: list[Tensor] = []
    hook = stack.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(pictures())
    hook.remove()
    h, count = seen[0], len(stack) // depth
    for start in range(0, len(stack), count):
        blocks = stack.blocks[start : start + count]
        h = h + sum(_attended(block, h) for block in blocks)
        h = h + sum(_fed(block, h) for block in blocks)
    return h


def _attended(block: nn.Module, h: Tensor) -> Tensor:
    norm = getattr(block, "layernorm_before", None) or block.norm1
    added = block.attention(norm(h))[0]
    return block.layer_scale1(added) if hasattr(block, "layer_scale1") else added


def _fed(block: nn.Module, h: Tensor) -> Tensor:
    norm = getattr(block, "layernorm_after", None) or block.norm2
    added = block.mlp(norm(h))
    return block.layer_scale2(added) if hasattr(block, "layer_scale2") else added


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [6, 4, 3])
def test_grouped_blocks_are_the_old_ones_side_by_side(family: str, depth: int):
    model = trained(family)
    branched = grouped(model, depth)
    stack, seen = Stack.of(branched), []
    assert len(stack) == depth
    stack.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    branched(pictures())
    expected = side_by_side(model, depth)
    assert (seen[0] - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_of_one_block_compute_the_same(family: str):
    model = trained(family)
    expected = model(pictures()).logits
    assert (grouped(model, 12)(pictures()).logits - expected).abs().max() < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [6, 4, 3])
def test_a_joined_group_merges_and_goes_back_to_its_own_class(family: str, depth: int, tmp_path):
    model = trained(family)
    branched = grouped(model, depth)
    set_join(branched, 1.0)
    expected = branched(pictures()).logits
    plain = restored(merge(branched), like=model)
    assert type(plain) is type(model) and plain.config.num_hidden_layers == depth
    assert (plain(pictures()).logits - expected).abs().max() < 1e-10
    plain.save_pretrained(tmp_path)
    again = type(plain).from_pretrained(tmp_path, dtype=torch.float64).eval()
    assert (again(pictures()).logits - plain(pictures()).logits).abs().max() < 1e-12
    assert model.config.num_hidden_layers == 12, "the given model was changed"


def test_wide_values_merge_but_do_not_fit_into_their_own_class():
    model = trained("vit")
    branched = grouped(model, 3, values="wide")
    set_join(branched, 1.0)
    merged = merge(branched)
    assert (merged(pictures()).logits - branched(pictures()).logits).abs().max() < 1e-10
    with pytest.raises(ModelError, match="wide values do not fit into ViTForImageClassification"):
        restored(merged, like=model)


def test_layers_without_biases_get_them():
    model = trained("vit", qkv_bias=False)
    branched = grouped(model, 6)
    set_join(branched, 1.0)
    plain = restored(merge(branched), like=model)
    assert plain.config.qkv_bias and not model.config.qkv_bias
    assert (plain(pictures()).logits - branched(pictures()).logits).abs().max() < 1e-10


@pytest.mark.parametrize("depth", [6, 4, 3])
def test_our_own_plain_network_is_grouped_and_merged(depth: int):
    sizes = {"image_size": 8, "patch": 4, "width": 12, "mlp_ratio": 2.0, "n_outputs": 4}
    model = roughen(BranchedViT(**sizes, depth=12))
    assert (grouped(model, 12)(pictures()) - model(pictures())).abs().max() < 1e-10
    branched = grouped(model, depth)
    assert branched.arguments["branches"] == 12 // depth
    set_join(branched, 1.0)
    merged = merge(branched)
    assert (merged(pictures()) - branched(pictures())).abs().max() < 1e-10
    plain = BranchedViT(**sizes, depth=depth).double().eval()
    plain.load_state_dict(merged.state_dict())
    assert torch.equal(plain(pictures()), merged(pictures()))


def test_training_joins_and_merges_exactly():
    model = trained("dinov2", 4).float()
    branched = grouped(model, 2).train()
    optimizer = torch.optim.AdamW(branched.parameters(), lr=1e-2)
    for lam in (0.0, 0.5, 1.0, 1.0):
        set_join(branched, lam)
        loss = branched(pictures().float(), labels=torch.tensor([0, 1])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    branched = branched.double().eval()
    plain = restored(merge(branched), like=model)
    assert (plain(pictures()).logits - branched(pictures()).logits).abs().max() < 1e-10


class PostNorm(nn.Module):
    """A block of the right names that normalises after it adds."""

    def __init__(self) -> None:
        super().__init__()
        self.block = trained("vit", 2).vit.layers[0]
        for name, part in self.block.named_children():
            self.add_module(name, part)

    def forward(self, h: Tensor) -> Tensor:
        h = self.layernorm_before(h + self.attention(h)[0])
        return self.layernorm_after(h + self.mlp(h))


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(ModelError, match="12 layers cannot be grouped into 5 layers"):
        grouped(trained("vit"), 5)
    mixed = trained("vit", 2)
    mixed.vit.layers[1] = trained("vit", 2, num_attention_heads=2).vit.layers[1]
    with pytest.raises(ModelError, match="differ in heads, width or activation"):
        grouped(mixed, 1)
    with pytest.raises(ModelError, match="normalisation must come before the sublayer"):
        grouped(nn.Sequential(PostNorm(), PostNorm()), 1)
    with pytest.raises(ModelError, match="must be a block of ViT, DeiT or DINOv2"):
        grouped(nn.Sequential(*(nn.Sequential(nn.Linear(3, 3)) for _ in range(2))), 1)
    with pytest.raises(ModelError, match="has branches already"):
        grouped(grouped(trained("vit", 2), 1), 1)
