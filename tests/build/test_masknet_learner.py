"""MaskNet as an estimator: ids stay, vocabularies and hashes are kept, memory is checked first."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from stackwise import MaskNetClassifier, MaskNetRegressor
from stackwise.build.masknet.memory import GIB, check_memory, training_bytes
from stackwise.build.masknet.network import MaskNet
from stackwise.build.masknet.peers import DeepFMClassifier, DNNClassifier
from stackwise.errors import DataError


def clicks(rows: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Users and items of two hidden signs each; a click where the signs agree."""
    generator = np.random.default_rng(seed)
    user, item = generator.integers(0, 40, rows), generator.integers(0, 60, rows)
    agree = (user % 2) == (item % 2)
    chance = np.where(agree, 0.9, 0.1)
    frame = pd.DataFrame(
        {
            "user_id": 1000 + user,
            "item": [f"i{n}" for n in item],
            "tags": [("red green" if n % 3 else "blue") for n in item],
            "age": generator.normal(40, 9, rows),
        }
    )
    return frame, np.where(generator.random(rows) < chance, "click", "none")


def small(cls=MaskNetClassifier, **knobs):
    return cls(**{"width": 16, "max_epochs": 3, "batch_size": 64, "head": (8,)} | knobs)


def test_ids_are_categories_and_all_of_them_are_kept():
    X, y = clicks()
    contract = small(max_epochs=1).fit(X, y).contract_
    sizes = dict(zip(contract.categorical_names, contract.cardinalities, strict=True))
    assert sizes == {"user_id": 40, "item": 60, "tags": 2}
    assert contract.numeric_names == ["age"]


@pytest.mark.parametrize("variant", ["serial", "parallel"])
def test_products_of_categories_are_learned(variant: str):
    X, y = clicks(3000)
    fitted = small(variant=variant, max_epochs=25, lr=3e-3).fit(X, y)
    X_new, y_new = clicks(1000, seed=1)
    assert roc_auc_score(y_new == "click", fitted.predict_proba(X_new)[:, 0]) > 0.8


def test_rare_values_and_new_ones_are_one_category():
    X, y = clicks()
    X.loc[:2, "item"] = ["once", "twice", "twice"]
    fitted = small(min_count=3).fit(X, y)
    item = fitted.contract_.columns[1]
    assert "once" not in item.detail["levels"]
    row = X.iloc[[0]]
    for name in ("twice", "never seen"):
        other = row.assign(item=name)
        assert np.array_equal(fitted.predict_proba(row), fitted.predict_proba(other))


def test_max_vocab_keeps_the_most_frequent():
    X, y = clicks()
    X.loc[X.index[:400], "item"] = "popular"
    item = small(max_epochs=1, max_vocab=5).fit(X, y).contract_.columns[1]
    assert len(item.detail["levels"]) == 5
    assert "popular" in item.detail["levels"]


def test_all_unseen_categories_are_alike():
    X, y = clicks()
    fitted = small().fit(X, y)
    row = X.iloc[[0]]
    with pytest.warns(UserWarning, match="unseen category"):
        found = [fitted.predict_proba(row.assign(item=name)) for name in ("a", "b", None)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_hashed_values_survive_saving_and_share_their_buckets(tmp_path):
    X, y = clicks()
    fitted = small(hash_buckets=8).fit(X, y)
    user, item, tags, _ = fitted.contract_.columns
    assert user.detail["buckets"] == item.detail["buckets"] == 8
    assert "buckets" not in tags.detail
    assert fitted.network_.embedding.weight.shape[0] <= 9 + 9 + 3
    fitted.save(tmp_path)
    again = MaskNetClassifier.load(tmp_path)
    fresh = X.iloc[:50].assign(item=[f"new {n}" for n in range(50)])
    assert np.array_equal(again.predict_proba(fresh), fitted.predict_proba(fresh))


def test_several_values_in_a_cell_are_one_field_in_any_order(tmp_path):
    X, y = clicks()
    fitted = small(multivalued={"tags": " "}).fit(X, y)
    assert fitted.contract_.slots == [1, 1, 2]
    assert fitted.network_.embedding.fields == 4
    row = X.iloc[[0]]
    one = fitted.predict_proba(row.assign(tags="red green"))
    assert np.allclose(one, fitted.predict_proba(row.assign(tags="green red")), atol=1e-6)
    assert not np.array_equal(one, fitted.predict_proba(row.assign(tags="blue")))
    fitted.save(tmp_path)
    assert np.array_equal(
        MaskNetClassifier.load(tmp_path).predict_proba(X), fitted.predict_proba(X)
    )


def test_a_table_too_wide_is_refused_with_the_vocabulary_that_fits():
    generator = np.random.default_rng(0)
    wide = pd.DataFrame(
        {f"c{i}": [f"v{n}" for n in generator.integers(0, 400, 600)] for i in range(30)}
    )
    y = generator.integers(0, 2, 600)
    knobs = {"memory_limit": 0.001, "max_epochs": 1, "embedding_dim": 4, "reduction": 0.1}
    with pytest.raises(DataError, match=r"more than memory_limit=0.001; max_vocab=\d+") as caught:
        small(**knobs).fit(wide, y)
    fits = int(str(caught.value).partition("max_vocab=")[2].split()[0])
    assert fits > 10
    small(**knobs, max_vocab=fits).fit(wide, y)
    # two more may be kept for the pooled rare values and the missing ones
    with pytest.raises(DataError, match="max_vocab"):
        small(**knobs, max_vocab=fits + 2).fit(wide, y)


def test_200_columns_of_100_000_values_are_refused_without_being_made():
    def build(sizes: list[int]) -> MaskNet:
        return MaskNet(n_numeric=0, cardinalities=sizes, n_outputs=2)

    full = [100_000] * 200
    with pytest.raises(DataError, match="20,000,000 categories in 200 columns would take about 6"):
        check_memory(build, full, 100_000, 512, 6.0)
    with pytest.raises(DataError, match=r"max_vocab=\d{5} would fit") as caught:
        check_memory(build, full, 100_000, 512, 6.0)
    fits = int(str(caught.value).partition("max_vocab=")[2].split()[0])
    check_memory(build, [fits + 2] * 200, 100_000, 512, 6.0)
    check_memory(build, full, 100_000, 512, 8.0)


def test_a_network_that_is_too_large_by_itself_says_so():
    X, y = clicks(200)
    with pytest.raises(DataError, match="lower embedding_dim, reduction or width"):
        small(memory_limit=1e-4).fit(X, y)


def test_the_estimate_of_memory_counts_every_weight():
    network = MaskNet(n_numeric=0, cardinalities=[1000], embedding_dim=8, width=4)
    weights = sum(p.numel() for p in network.parameters())
    assert training_bytes(network, 1, 0, 0) == 8 * 4 * weights
    assert training_bytes(network, 3, 100, 0) - training_bytes(network, 3, 0, 0) == 2400
    assert GIB == 1024**3


@pytest.mark.parametrize("num_embedding", ["linear", "product", "piecewise"])
def test_every_form_of_numbers_fits_and_is_kept(num_embedding: str, tmp_path):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 3))
    y = X[:, 0] * X[:, 1]
    fitted = small(MaskNetRegressor, num_embedding=num_embedding, n_bins=8).fit(X, y)
    fitted.save(tmp_path)
    assert np.array_equal(MaskNetRegressor.load(tmp_path).predict(X), fitted.predict(X))


def test_more_than_two_classes_are_learned():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(600, 2))
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    fitted = small(max_epochs=40, lr=1e-2).fit(X, y)
    assert fitted.score(X, y) > 0.9


@pytest.mark.parametrize("size", [1, 7])
def test_a_prediction_does_not_depend_on_how_rows_are_batched(size: int):
    X, y = clicks(300)
    fitted = small(variant="parallel").fit(X, y)
    whole = fitted.predict_proba(X.iloc[:50])
    parts = [fitted.predict_proba(X.iloc[i : min(i + size, 50)]) for i in range(0, 50, size)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("peer", [DNNClassifier, DeepFMClassifier])
def test_the_peers_see_the_same_columns(peer):
    X, y = clicks()
    fitted = small(peer, max_epochs=20, lr=3e-3).fit(X, y)
    assert fitted.contract_.categorical_names == ["user_id", "item", "tags"]
    assert fitted.score(X, y) > 0.6


@parametrize_with_checks(
    [
        MaskNetRegressor(width=8, blocks=1, embedding_dim=4, max_epochs=20, lr=1e-2),
        MaskNetClassifier(width=8, blocks=1, embedding_dim=4, max_epochs=20, lr=1e-2),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "batches are drawn by row, so that a "
        "weight of 2 and a repeated row take other steps",
    },
)
def test_the_estimator_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)
