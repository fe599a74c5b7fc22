"""TabM: one network is k MLPs, exactly."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor, nn

from stackwise import TabMClassifier, TabMRegressor
from stackwise.build.tabm import TabM
from stackwise.errors import DataError, ModelError
from stackwise.layers.numeric_embeddings import (
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    PiecewiseLinearEncoding,
    compute_bins,
)
from stackwise.learning.outputs import row_losses

VARIANTS = ("tabm", "mini", "packed", "naive", "bad")
BINS = [[-1.0, 0.0, 0.5, 2.0], [-2.0, 2.0], [0.0, 1.0, 3.0]]
EMBEDDINGS = (None, "piecewise", "periodic", "periodic-lite", "linear-relu")


@pytest.fixture(autouse=True)
def same_start():
    torch.manual_seed(0)


def network(variant: str = "tabm", embedding: str | None = None, **more) -> TabM:
    options = {"k": 4, "width": 8, "depth": 2, "dropout": 0.0, "d_embedding": 5} | more
    return TabM(
        n_numeric=3, cardinalities=[2, 4], n_outputs=2, variant=variant, num_embedding=embedding,
        bins=BINS if embedding == "piecewise" else None, frequency_scale=1.0, **options,
    )  # fmt: skip


def stir(model: nn.Module) -> None:
    """Move every parameter, so that nothing is equal by its initial value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def rows(count: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3), torch.stack(
        [torch.randint(0, 3, (count,)), torch.randint(0, 5, (count,))], dim=1
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_member_as_a_plain_mlp_equals_its_slice(variant: str, embedding: str | None):
    model = network(variant, embedding).eval()
    stir(model)
    numeric, categorical = rows()
    whole = model(numeric, categorical)
    assert whole.shape == (6, 4, 2)
    for index in range(4):
        member = model.member(index)
        assert torch.allclose(member(numeric, categorical), whole[:, index], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pruned_members_keep_their_outputs_in_the_asked_order(variant: str):
    model = network(variant, "piecewise").eval()
    stir(model)
    inputs = rows()
    picked = model.prune([2, 0])
    assert torch.allclose(picked(*inputs), model(*inputs)[:, [2, 0]], atol=1e-6)
    assert torch.equal(model.prune(range(4))(*inputs), model(*inputs))


def test_tabm_begins_as_mini():
    tabm, mini = network("tabm"), network("mini")
    state = tabm.state_dict()
    shared = {
        name: state[name][0] if name.endswith("bias") and name.startswith("blocks") else state[name]
        for name in mini.state_dict()
        if name != "r"
    }
    mini.load_state_dict(shared | {"r": state["blocks.0.0.r"]})
    inputs = rows()
    assert torch.allclose(tabm(*inputs), mini(*inputs), atol=1e-6)


def test_with_all_adapters_at_one_and_equal_heads_all_members_are_equal():
    model = network()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".r", ".s")):
                parameter.fill_(1.0)
            if name.startswith("head"):
                parameter.copy_(parameter[:1].expand_as(parameter))
    output = model(*rows())
    assert torch.allclose(output, output[:, :1].expand_as(output), atol=1e-6)


def test_packed_members_share_nothing():
    model = network("packed")
    model(*rows())[:, 1].sum().backward()
    for parameter in model.parameters():
        others = [i for i in range(4) if i != 1]
        assert (parameter.grad[others] == 0).all()
        assert parameter.grad[1].abs().sum() > 0


def test_a_member_reaches_the_shared_matrix_and_only_its_own_rows():
    model = network()
    model(*rows())[:, 2].sum().backward()
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and name.startswith("blocks"):
            assert parameter.grad.abs().sum() > 0
        else:
            assert (parameter.grad[[0, 1, 3]] == 0).all(), name


def test_initial_values_are_those_of_the_paper():
    model = network()
    first = model.blocks[0][0]
    assert set(first.r.unique().tolist()) <= {-1.0, 1.0}
    chunks = first.r.split([1, 1, 1, 2, 4], dim=1)
    assert all((chunk == chunk[:, :1]).all() for chunk in chunks)
    assert (model.blocks[1][0].r == 1).all()
    for block in model.blocks:
        assert (block[0].s == 1).all()
        assert (block[0].bias == block[0].bias[:1]).all()
    embedded = network("tabm", "piecewise").blocks[0][0].r
    assert (embedded[:, :5] == embedded[:, :1]).all()
    assert len(embedded.unique()) == 4 * 5
    naive = network("naive")
    assert set(naive.blocks[1][0].s.unique().tolist()) == {-1.0, 1.0}
    assert network("bad").blocks[0][0].r is None


def test_the_number_of_parameters_is_that_of_the_formula():
    k, d_in, width, outputs = 4, 3 + 2 + 4, 8, 2
    layers = [(d_in, width), (width, width)]
    expected = sum(a * b + k * (a + 2 * b) for a, b in layers) + k * (width * outputs + outputs)
    assert sum(p.numel() for p in network().parameters()) == expected


def test_the_loss_of_shared_rows_is_the_mean_of_the_members_losses():
    output = torch.randn(5, 4, 3)
    target = torch.randint(0, 3, (5,))
    each = [nn.functional.cross_entropy(output[:, i], target) for i in range(4)]
    assert torch.allclose(row_losses(output, target).mean(), torch.stack(each).mean())
    own = target[:, None].expand(-1, 4)
    assert torch.allclose(row_losses(output, own), row_losses(output, target))


def test_members_with_equal_rows_of_their_own_give_the_shared_output():
    model = network("tabm", "periodic").eval()
    numeric, categorical = rows()
    own = model(numeric[:, None].expand(-1, 4, -1), categorical[:, None].expand(-1, 4, -1))
    assert torch.allclose(own, model(numeric, categorical), atol=1e-6)


def test_an_unseen_category_is_all_zeros():
    model = network()
    numeric, _ = rows(1)
    base = model(numeric, torch.tensor([[2, 4]]))
    with torch.no_grad():
        model.blocks[0][0].weight[:, 3:].zero_()
    assert torch.allclose(model(numeric, torch.tensor([[2, 4]])), base)


def test_wrong_shapes_are_refused_in_one_sentence():
    model = network()
    numeric, categorical = rows()
    with pytest.raises(ModelError, match="numeric has 2 columns, the model was built for 3"):
        model(numeric[:, :2], categorical)
    with pytest.raises(ModelError, match="input has 3 members, the model has k=4"):
        model(numeric[:, None].expand(-1, 3, -1), categorical[:, None].expand(-1, 3, -1))
    with pytest.raises(ModelError, match="k must be at least 1, got 0"):
        network(k=0)
    with pytest.raises(ModelError, match="members must be among"):
        model.prune([4])


def test_piecewise_encodings_are_exact():
    encoding = PiecewiseLinearEncoding(BINS)
    widths = torch.zeros(3, 3)
    for j, edges in enumerate(BINS):
        steps = torch.tensor(edges).diff()
        widths[j, : len(steps)] = steps
    x = torch.linspace(-4, 5, 50)[:, None].expand(-1, 3)
    starts = torch.tensor([edges[0] for edges in BINS])
    total = (encoding(x) * widths).sum(-1)
    assert torch.allclose(total, x - starts, atol=1e-5)
    assert torch.allclose(encoding(starts[None]), torch.zeros(1, 3, 3), atol=1e-6)
    ends = torch.tensor([[edges[-1] for edges in BINS]])
    assert torch.allclose(encoding(ends)[0], (widths > 0).float(), atol=1e-6)
    for edge in BINS[0][1:-1]:
        near = encoding(torch.tensor([[edge - 1e-5] * 3, [edge + 1e-5] * 3]))
        assert torch.allclose(near[0], near[1], atol=1e-4)
    with pytest.raises(DataError, match="bins must increase"):
        PiecewiseLinearEncoding([[0.0, 0.0, 1.0]])


def test_version_b_begins_exactly_linear_and_periodic_at_zero_is_constant():
    embedding = PiecewiseLinearEmbedding(BINS, 4)
    x = torch.randn(3, 3)
    middle = embedding((x[:1] + x[1:2]) / 2)
    assert torch.allclose(middle, (embedding(x[:1]) + embedding(x[1:2])) / 2, atol=1e-6)
    periodic = PeriodicEmbedding(3, 4, n_frequencies=2)
    with torch.no_grad():
        periodic.frequencies.zero_()
    output = periodic(x)
    assert torch.equal(output[0], output[2])


def test_bins_of_a_column_of_one_value_are_refused():
    with pytest.raises(DataError, match="need at least 2 distinct values for bins in column 0"):
        compute_bins(np.ones((20, 1), np.float32), 4)
    with pytest.raises(DataError, match="n_bins must be between 2 and 19"):
        compute_bins(np.random.randn(20, 1).astype("float32"), 20)


def table(rows: int = 240) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, 3))
    return X, X[:, 0] - 2 * X[:, 1] + 0.1 * generator.normal(size=rows)


def small(cls=TabMRegressor, **knobs):
    return cls(**{"k": 4, "width": 16, "max_epochs": 5, "batch_size": 64} | knobs)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_every_embedding_fits_predicts_and_is_kept(embedding: str | None, tmp_path):
    X, y = table()
    fitted = small(num_embedding=embedding, n_bins=8).fit(X, y)
    prediction = fitted.predict(X)
    fitted.save(tmp_path)
    assert np.array_equal(TabMRegressor.load(tmp_path).predict(X), prediction)


@pytest.mark.parametrize("knobs", [{"share_batches": False}, {"bins_from": "tree"}])
def test_own_batches_and_tree_bins_learn_too(knobs: dict):
    X, y = table()
    fitted = small(num_embedding="piecewise", n_bins=8, max_epochs=20, lr=1e-2, **knobs).fit(X, y)
    assert fitted.score(X, y) > 0.8


def test_classes_average_probabilities_not_logits():
    X, y = table()
    fitted = small(TabMClassifier).fit(X, np.where(y > 0, "up", "down"))
    members = fitted.predict_members(X)
    assert members.shape == (240, 4, 2)
    assert np.allclose(fitted.predict_proba(X), members.mean(1))
    logits = np.log(members).mean(1)
    of_logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert not np.allclose(fitted.predict_proba(X), of_logits, atol=1e-6)


def test_selected_members_do_no_worse_on_the_rows_that_chose_them():
    X, y = table()
    fitted = small().fit(X, y)
    errors = [np.square(fitted.keep_members([i]).predict(X) - y).mean() for i in range(4)]
    best = fitted.select_members(X, y, how="best")
    assert np.square(best.predict(X) - y).mean() == pytest.approx(min(errors))
    greedy = fitted.select_members(X, y)
    assert np.square(greedy.predict(X) - y).mean() <= min(errors) + 1e-12
    assert fitted.network_.k == 4
    assert greedy.network_.k <= 4


def test_any_prefix_of_members_predicts_and_uncertainty_is_their_spread():
    X, y = table()
    fitted = small().fit(X, y)
    members = fitted.predict_members(X)[..., 0]
    for count in (1, 3):
        prefix = fitted.keep_members(range(count)).predict(X)
        assert np.allclose(prefix, members[:, :count].mean(1), atol=1e-5)
    assert np.allclose(fitted.uncertainty(X), members.std(1))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_prediction_does_not_depend_on_how_rows_are_batched(size: int):
    X, y = table()
    fitted = small(num_embedding="periodic").fit(X, y)
    whole = fitted.predict(X)
    parts = [fitted.predict(part) for part in np.array_split(X, range(size, len(X), size))]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_order_of_members_does_not_matter():
    X, y = table()
    fitted = small().fit(X, y)
    turned = fitted.keep_members([3, 1, 0, 2])
    assert np.allclose(turned.predict(X), fitted.predict(X), atol=1e-6)


def test_a_seed_fixes_a_fit():
    X, y = table()
    first, second, third = (small(random_state=seed).fit(X, y).predict(X) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


@parametrize_with_checks(
    [
        TabMRegressor(k=2, width=8, depth=1, max_epochs=20, lr=1e-2),
        TabMClassifier(k=2, width=8, depth=1, max_epochs=20, lr=1e-2),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "batches are drawn by row, so that a "
        "weight of 2 and a repeated row take other steps",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_depth_and_width_are_as_asked():
    assert len(network(depth=None).blocks) == 3
    assert len(network(embedding="linear-relu", depth=None).blocks) == 2
    shapes = [tuple(b[0].weight.shape) for b in network(depth=3).blocks]
    assert shapes == [(8, 9), (8, 8), (8, 8)]
    assert [a[0] == b[1] for a, b in itertools.pairwise(shapes)] == [True, True]


@pytest.mark.parametrize("variant", ["tabm", "mini", "naive", "bad"])
def test_leaving_out_the_zeros_of_wide_categories_changes_nothing(variant, monkeypatch):
    torch.manual_seed(0)
    model = TabM(n_numeric=3, cardinalities=[40, 25, 30], n_outputs=2, k=4, variant=variant,
                 width=24).eval()  # fmt: skip
    x = torch.randn(16, 3)
    codes = torch.stack([torch.randint(0, n + 1, (16,)) for n in (40, 25, 30)], 1)  # n is unseen

    def outputs_and_gradients():
        model.zero_grad()
        found = model(x, codes)
        found.square().sum().backward()
        return [found.detach(), *(p.grad.clone() for p in model.parameters())]

    short = outputs_and_gradients()
    monkeypatch.setattr("stackwise.build.tabm.network.MANY_VALUES", 10**6)
    dense = outputs_and_gradients()
    for ours, plain in zip(short, dense, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5, rtol=1e-4)


def test_members_and_subsets_of_a_network_on_wide_categories_are_its_own():
    torch.manual_seed(0)
    model = TabM(n_numeric=0, cardinalities=[50, 60], n_outputs=1, k=3, width=16).eval()
    codes = torch.stack([torch.randint(0, n + 1, (9,)) for n in (50, 60)], 1)
    none = torch.zeros(9, 0)
    whole = model(none, codes)
    assert torch.allclose(model.prune([2, 0])(none, codes), whole[:, [2, 0]], atol=1e-5)
    assert torch.allclose(model.member(1)(none, codes), whole[:, 1], atol=1e-5)
    own = codes[:, None].expand(-1, 3, -1), none[:, None].expand(-1, 3, -1)
    assert torch.allclose(model(own[1], own[0]), whole, atol=1e-5)
