"""MaskNet's parts: the mask, the norms, the blocks and the fields."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stackwise.build.masknet import (
    FieldEmbedding,
    FieldNorm,
    InstanceGuidedMask,
    MaskBlock,
    MaskNet,
    ParallelMaskBlocks,
)
from stackwise.errors import ModelError

NUMBERS, CODES, K = 2, [3, 5, 4], 6
FIELDS = NUMBERS + len(CODES)


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def network(**more) -> MaskNet:
    options = {"n_outputs": 2, "embedding_dim": K, "width": 8, "head": [7], "blocks": 3} | more
    return MaskNet(n_numeric=NUMBERS, cardinalities=CODES, **options)


def stir(model: nn.Module, spread: float = 0.3) -> nn.Module:
    """Move every parameter, so that nothing is equal by its initial value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def rows(count: int = 9) -> tuple[Tensor, Tensor]:
    codes = [torch.randint(0, size + 1, (count,)) for size in CODES]
    return torch.randn(count, NUMBERS), torch.stack(codes, 1)


def set_masks_to_one(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "project." in name:
                parameter.fill_(1.0 if name.endswith("bias") else 0.0)


def test_a_serial_net_with_masks_of_one_is_an_mlp_with_norms():
    model = stir(network())
    set_masks_to_one(model)
    numeric, categorical = rows()
    h = model.norm(model.embedding(numeric, categorical)).flatten(1)
    for block in model.blocks:
        h = functional.layer_norm(
            h @ block.linear.weight.T, (8,), block.norm.weight, block.norm.bias
        ).relu()
    expected = h @ model.head[0].weight.T + model.head[0].bias
    assert torch.allclose(model(numeric, categorical), expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["serial", "parallel"])
@pytest.mark.parametrize("hidden_norm", [True, False])
def test_masks_of_one_equal_no_masks(variant: str, hidden_norm: bool):
    masked = stir(network(variant=variant, hidden_norm=hidden_norm))
    set_masks_to_one(masked)
    plain = network(variant=variant, hidden_norm=hidden_norm, mask=False)
    state = masked.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    inputs = rows()
    assert torch.allclose(masked(*inputs), plain(*inputs), atol=1e-6)


def test_the_norm_of_a_field_sees_that_field_alone():
    norm = stir(FieldNorm(FIELDS, K))
    x = torch.randn(4, FIELDS, K)
    other = x.clone()
    other[:, 2] = torch.randn(4, K)
    found, moved = norm(x), norm(other)
    assert torch.equal(found[:, [0, 1, 3, 4]], moved[:, [0, 1, 3, 4]])
    assert not torch.allclose(found[:, 2], moved[:, 2])
    for field in range(FIELDS):
        alone = functional.layer_norm(x[:, field], (K,), norm.weight[field], norm.bias[field])
        assert torch.allclose(found[:, field], alone, atol=1e-6)


def test_the_mask_reads_the_raw_embedding():
    model = network()
    fields = torch.randn(4, FIELDS, K)
    mask = model.blocks[0].mask
    assert torch.allclose(model.norm(3 * fields), model.norm(fields), atol=1e-3)
    assert not torch.allclose(mask(3 * fields.flatten(1)), mask(fields.flatten(1)), atol=1e-2)
    # later blocks' masks read it too: with W = 0 nothing else can reach the output
    h = torch.ones(4, 8)
    block = model.blocks[1]
    assert not torch.allclose(block(fields.flatten(1), h), block(-fields.flatten(1), h))


def test_a_mask_is_not_bounded():
    mask = stir(InstanceGuidedMask(4, 3), 1.0)
    found = mask(100 * torch.randn(50, 4))
    assert found.min() < -1
    assert found.max() > 1


@pytest.mark.parametrize(("variant", "mask"), [("serial", 1), ("serial", 0), ("parallel", 1)])
def test_the_number_of_parameters_is_that_of_the_formulas(variant: str, mask: int):
    d, q, u, outputs = FIELDS * K, 8, 3, 2

    def of_mask(z: int) -> int:
        t = 2 * z
        return d * t + t + t * z + z

    embedding = sum(size + 1 for size in CODES) * K + NUMBERS * 2 * K
    norms = 2 * d
    if variant == "serial":
        blocks = sum(mask * of_mask(z) + z * q + 2 * q for z in (d, q, q))
        head = q * outputs + outputs
    else:
        blocks = u * (of_mask(d) + d * q + 2 * q)
        head = u * q * 7 + 7 + 7 * outputs + outputs
    found = sum(p.numel() for p in network(variant=variant, mask=bool(mask)).parameters())
    assert found == embedding + norms + blocks + head


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_fused_masks_equal_separate_ones(norm: bool, mask: bool):
    d, q, u = 12, 5, 3
    fused = stir(ParallelMaskBlocks(d, q, u, reduction=1.5, norm=norm, mask=mask))
    embedding, h = torch.randn(2, 7, d, requires_grad=True).unbind()
    found = fused(embedding, h)
    separate = []
    for index in range(u):
        block = MaskBlock(d, d, q, reduction=1.5, norm=norm, mask=mask)
        with torch.no_grad():
            block.linear.weight.copy_(fused.weight[index].T)
            bias = block.norm.bias if norm else block.linear.bias
            bias.copy_(fused.bias[index, 0])
            if norm:
                block.norm.weight.copy_(fused.scale[index, 0])
            if mask:
                hidden = slice(index * 18, (index + 1) * 18)
                block.mask.aggregate.weight.copy_(fused.aggregate.weight[hidden])
                block.mask.aggregate.bias.copy_(fused.aggregate.bias[hidden])
                block.mask.project.weight.copy_(fused.project.weight[index].T)
                block.mask.project.bias.copy_(fused.project.bias[index])
        separate.append(block(embedding, h))
    assert torch.allclose(found, torch.cat(separate, 1), atol=1e-6)


def test_the_order_of_parallel_blocks_does_not_matter():
    model = stir(network(variant="parallel"))
    inputs = rows()
    before = model(*inputs)
    order = [2, 0, 1]
    blocks, first = model.blocks, model.head[0]
    with torch.no_grad():
        for parameter in (blocks.weight, blocks.bias, blocks.scale, *blocks.project.parameters()):
            parameter.copy_(parameter[order].clone())
        for parameter in blocks.aggregate.parameters():
            parts = parameter.unflatten(0, (3, -1))[order].flatten(0, 1).clone()
            parameter.copy_(parts)
        columns = first.weight.unflatten(1, (3, -1))[:, order].flatten(1).clone()
        first.weight.copy_(columns)
    assert torch.allclose(model(*inputs), before, atol=1e-6)


def test_first_masks_are_xavier_with_zero_bias_in_both_forms():
    d = 30
    serial = InstanceGuidedMask(d, d)
    fused = ParallelMaskBlocks(d, 8, 4)
    pairs = [
        (serial.aggregate, fused.aggregate, (6 / (d + 2 * d)) ** 0.5),
        (serial.project, fused.project, (6 / (2 * d + d)) ** 0.5),
    ]
    for one, several, bound in pairs:
        for layer in (one, several):
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.98 * bound
            assert (layer.bias == 0).all()


def test_each_field_has_its_own_stretch_of_the_matrix():
    embedding = FieldEmbedding(0, CODES, K)
    codes = torch.tensor([[0, 0, 0], [3, 5, 4]])
    places = embedding.starts + codes
    assert places.tolist() == [[0, 4, 10], [3, 9, 14]]
    assert torch.equal(embedding(torch.zeros(2, 0), codes), embedding.weight[places])


def test_what_training_did_not_see_begins_at_zero():
    embedding = FieldEmbedding(0, CODES, K)
    assert (embedding(torch.zeros(1, 0), torch.tensor([CODES])) == 0).all()
    assert (embedding.weight != 0).all(1).sum() == sum(CODES)


def test_several_values_are_the_mean_of_their_embeddings():
    embedding = FieldEmbedding(1, [4, 7, 7, 7, 2], K, slots=[1, 3, 1])
    stir(embedding)
    numeric = torch.randn(4, 1)
    table = embedding.weight[5:13]
    codes = torch.tensor([[0, 1, 5, 7, 1], [0, 1, 5, 2, 1], [0, 7, 7, 6, 1], [0, 7, 7, 7, 1]])
    found = embedding(numeric, codes)
    assert found.shape == (4, 4, K)
    expected = torch.stack([table[[1, 5]].mean(0), table[[1, 5, 2]].mean(0), table[6], table[7]])
    assert torch.allclose(found[:, 2], expected, atol=1e-6)
    assert torch.equal(found[:, 1], embedding.weight[:1].expand(4, -1))
    assert torch.equal(found[:, 3], embedding.weight[14:15].expand(4, -1))
    # the order of the values says nothing
    turned = embedding(numeric, codes[:, [0, 3, 1, 2, 4]])
    assert torch.allclose(turned, found, atol=1e-6)


def test_a_number_is_its_line_or_its_multiple():
    x = torch.randn(5, NUMBERS)
    none = torch.zeros(5, 0, dtype=torch.int64)
    line = FieldEmbedding(NUMBERS, [], K)
    assert torch.allclose(line(x, none), x[..., None] * line.numbers.weight + line.numbers.bias)
    multiple = FieldEmbedding(NUMBERS, [], K, number_embedding="product")
    assert torch.allclose(multiple(x, none), x[..., None] * multiple.numbers.weight)
    # which is why `linear` is the default: the norm of a field leaves of w x no more than its sign
    large = stir(multiple)(x.abs() + 1, none)
    norm = FieldNorm(NUMBERS, K)
    assert torch.allclose(norm(large), norm(7 * large), atol=1e-3)


@pytest.mark.parametrize("variant", ["serial", "parallel"])
def test_rows_do_not_see_each_other_and_eval_is_deterministic(variant: str):
    model = stir(network(variant=variant, dropout=0.5)).eval()
    numeric, categorical = rows()
    turned = torch.randperm(9)
    found = model(numeric, categorical)
    assert torch.equal(found, model(numeric, categorical))
    assert torch.allclose(model(numeric[turned], categorical[turned]), found[turned], atol=1e-5)


def test_bad_arguments_and_codes_are_refused_in_one_sentence():
    model = network()
    numeric, categorical = rows()
    categorical[4, 1] = 6
    with pytest.raises(ModelError, match="column 1 has the code 6; its codes are 0 to 5"):
        model(numeric, categorical)
    with pytest.raises(ModelError, match="numeric has 1 columns, the model was built for 2"):
        model(numeric[:, :1], categorical)
    with pytest.raises(ModelError, match="at least one field"):
        MaskNet(n_numeric=0)
    with pytest.raises(ModelError, match="reduction 0.1 leaves a mask of 8 numbers"):
        network(reduction=0.1)
    with pytest.raises(ModelError, match="blocks must be at least 1, got 0"):
        network(blocks=0)
    with pytest.raises(ModelError, match="head needs at least 1 unit"):
        network(variant="parallel", head=[0])
    with pytest.raises(ModelError, match="slots must be positive and sum to 3"):
        network(slots=[1, 1])


@pytest.mark.parametrize("variant", ["serial", "parallel"])
def test_arguments_make_the_same_network_again(variant: str):
    model = stir(network(variant=variant, hidden_norm=False, number_embedding="product"))
    again = MaskNet(**model.arguments)
    again.load_state_dict(model.state_dict())
    inputs = rows()
    assert torch.equal(again(*inputs), model(*inputs))
