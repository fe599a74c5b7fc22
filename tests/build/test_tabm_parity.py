"""TabM against the authors' packages: with equal weights, equal outputs, gradients and steps."""

import numpy as np
import pytest
import torch
from torch import nn

from stackwise.build.tabm import TabM
from stackwise.layers.numeric_embeddings import (
    LinearReLUEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    compute_bins,
)

package = pytest.importorskip("tabm")
embeddings = pytest.importorskip("rtdl_num_embeddings")

X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
BINS = embeddings.compute_bins(X, n_bins=6)


def theirs_of(kind: str | None, lite: bool = False) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "piecewise":
        return embeddings.PiecewiseLinearEmbeddings(BINS, 5, activation=False, version="B")
    if kind == "linear-relu":
        return embeddings.LinearReLUEmbeddings(3, 5)
    return embeddings.PeriodicEmbeddings(
        3, 5, n_frequencies=4, frequency_init_scale=0.5, activation=True, lite=lite
    )


def copy_embedding(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the package's weights; its last bin of a short column stands in its last place."""
    with torch.no_grad():
        if isinstance(ours, PiecewiseLinearEmbedding):
            for j, edges in enumerate(BINS):
                count = len(edges) - 1
                ours.weight[j, : count - 1] = theirs.linear.weight[j, : count - 1]
                ours.weight[j, count - 1] = theirs.linear.weight[j, -1]
            ours.linear.weight.copy_(theirs.linear0.weight)
            ours.linear.bias.copy_(theirs.linear0.bias)
        elif isinstance(ours, LinearReLUEmbedding):
            ours.weight.copy_(theirs.linear.weight)
            ours.bias.copy_(theirs.linear.bias)
        elif isinstance(ours, PeriodicEmbedding):
            ours.frequencies.copy_(theirs.periodic.weight)
            weight = theirs.linear.weight
            ours.weight.copy_(weight.T[None] if weight.ndim == 2 else weight)
            ours.bias.copy_(theirs.linear.bias.reshape(ours.bias.shape))


def pair(variant: str, kind: str | None) -> tuple[TabM, nn.Module]:
    torch.manual_seed(0)
    # naive is tabm with other initial values, and all values are copied here
    arch = "tabm" if variant in ("tabm", "naive") else f"tabm-{variant}"
    theirs = package.TabM.make(
        n_num_features=3, cat_cardinalities=[2, 4], d_out=2, k=4, d_block=8, n_blocks=2,
        dropout=0.0, arch_type=arch,
        num_embeddings=theirs_of(kind, kind == "periodic-lite"),
        **({} if variant == "packed" else {"start_scaling_init": "random-signs"}),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    ours = TabM(
        n_numeric=3, cardinalities=[2, 4], n_outputs=2, k=4, width=8, depth=2, dropout=0.0,
        variant=variant, num_embedding=kind, d_embedding=5, n_frequencies=4, frequency_scale=0.5,
        bins=[edges.tolist() for edges in BINS] if kind == "piecewise" else None,
    )  # fmt: skip
    with torch.no_grad():
        for mine, other in zip(ours.blocks, theirs.backbone.blocks, strict=True):
            for name, parameter in mine[0].named_parameters():
                parameter.copy_(getattr(other[0], name))
        if variant == "mini":
            ours.r.copy_(theirs.backbone.affine.weight)
        ours.head.weight.copy_(theirs.output.weight)
        ours.head.bias.copy_(theirs.output.bias)
    if kind is not None:
        copy_embedding(ours.embedding, theirs.num_module)
    return ours, theirs


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    categorical = torch.stack(
        [torch.randint(0, 2, (10,), generator=generator),
         torch.randint(0, 4, (10,), generator=generator)], 1
    )  # fmt: skip
    return 2 * torch.randn(10, 3, generator=generator), categorical


@pytest.mark.parametrize("variant", ["tabm", "mini", "packed", "naive"])
@pytest.mark.parametrize("kind", [None, "piecewise", "periodic", "periodic-lite", "linear-relu"])
def test_outputs_gradients_and_a_step_equal_the_packages(variant: str, kind: str | None):
    ours, theirs = pair(variant, kind)
    x, c = inputs()
    assert torch.allclose(ours(x, c), theirs(x, c), atol=1e-5)
    for model in (ours, theirs):
        model(x, c).square().mean().backward()
    pairs = [(ours.head.weight, theirs.output.weight)]
    pairs += [
        (parameter, getattr(other[0], name))
        for mine, other in zip(ours.blocks, theirs.backbone.blocks, strict=True)
        for name, parameter in mine[0].named_parameters()
    ]
    if variant == "mini":
        pairs.append((ours.r, theirs.backbone.affine.weight))
    for mine, other in pairs:
        assert torch.allclose(mine.grad, other.grad, atol=1e-5)
    for model in (ours, theirs):
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.allclose(ours(x, c), theirs(x, c), atol=1e-5)


@pytest.mark.parametrize("target", [False, True])
def test_bins_equal_the_packages(target: bool):
    y = (X[:, 0] > 0).float() + X[:, 1]
    x = torch.cat([X, X.round()], 1)
    options = {
        "y": y, "regression": True, "tree_kwargs": {"random_state": 0},
    }  # fmt: skip
    theirs = embeddings.compute_bins(x, n_bins=8, **(options if target else {}))
    ours = compute_bins(x.numpy(), 8, target=y.numpy() if target else None)
    for mine, other in zip(ours, theirs, strict=True):
        assert np.allclose(mine, other.numpy(), atol=1e-5)


@pytest.mark.parametrize("version", ["A", "B"])
def test_both_versions_of_piecewise_embeddings_equal_the_packages(version: str):
    torch.manual_seed(0)
    theirs = embeddings.PiecewiseLinearEmbeddings(BINS, 5, activation=False, version=version)
    with torch.no_grad():
        theirs.linear.weight.normal_()
    ours = PiecewiseLinearEmbedding([edges.tolist() for edges in BINS], 5, version=version)
    if version == "B":
        copy_embedding(ours, theirs)
    else:
        with torch.no_grad():
            for j, edges in enumerate(BINS):
                count = len(edges) - 1
                ours.weight[j, : count - 1] = theirs.linear.weight[j, : count - 1]
                ours.weight[j, count - 1] = theirs.linear.weight[j, -1]
            ours.bias.copy_(theirs.linear.bias)
    x = 3 * X[:20]
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
