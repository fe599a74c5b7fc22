"""Kept trees and linear models as modules of tensors, for export: one reader a package.

LightGBM and XGBoost are read from the text and the JSON that they themselves write, scikit-learn's
histogram trees from the node table of each predictor.
"""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.tasks.table.estimators.trees import Forest, Node, TreeTensors


def lightgbm_tensors(learner: Any) -> nn.Module:
    """The trees of a fitted LightGBM learner."""
    found = learner.booster_.dump_model(num_iteration=learner.best_epoch_)
    several = int(found["num_tree_per_iteration"])
    forest = Forest(base=[0.0] * several)
    for number, tree in enumerate(found["tree_info"]):
        nodes: list[Node] = []
        _lightgbm_node(tree["tree_structure"], nodes)
        forest.trees.append(nodes)
        forest.scores.append(number % several)
    return TreeTensors(forest, learner.contract_.cardinalities)


def _lightgbm_node(record: dict[str, Any], nodes: list[Node]) -> int:
    """Add a node and all below it; returns its number."""
    number, node = len(nodes), Node()
    nodes.append(node)
    if "split_feature" not in record:
        node.value = float(record["leaf_value"])
        return number
    node.feature = int(record["split_feature"])
    if record["decision_type"] == "==":  # a missing category is in no set
        node.left_set = frozenset(int(code) for code in str(record["threshold"]).split("||"))
    else:
        node.threshold = float(record["threshold"])
        # a column without gaps in training reads a gap as zero
        by_default = record["missing_type"] == "NaN"
        node.missing_left = bool(record["default_left"]) if by_default else node.threshold >= 0
    node.left = _lightgbm_node(record["left_child"], nodes)
    node.right = _lightgbm_node(record["right_child"], nodes)
    return number


def xgboost_tensors(learner: Any) -> nn.Module:
    """The trees of a fitted XGBoost learner; its sets name the codes that go right."""
    found = json.loads(learner.booster_.save_raw("json"))["learner"]["gradient_booster"]["model"]
    classes = len(learner.classes_) if learner._by_class else 1
    cardinalities = learner.contract_.cardinalities
    forest = Forest(base=[0.0] * (classes if classes > 2 else 1), strict=True)
    for tree, score in zip(found["trees"], found["tree_info"], strict=True):
        forest.trees.append(_xgboost_nodes(tree, learner.contract_.n_numeric, cardinalities))
        forest.scores.append(int(score))
    made = TreeTensors(forest, cardinalities)
    made.base = _xgboost_base(learner, made)
    return made


def _xgboost_nodes(tree: dict[str, Any], numbers: int, cardinalities: list[int]) -> list[Node]:
    nodes = []
    at = {int(n): i for i, n in enumerate(tree["categories_nodes"])}
    for number, left in enumerate(tree["left_children"]):
        # a float32 in decimals: rows of training lie on it, and must fall to the same side
        split = float(np.float32(tree["split_conditions"][number]))
        if left < 0:
            nodes.append(Node(value=split))
            continue
        node = Node(
            feature=int(tree["split_indices"][number]), threshold=split, left=int(left),
            right=int(tree["right_children"][number]),
            missing_left=bool(tree["default_left"][number]),
        )  # fmt: skip
        if number in at:
            start = int(tree["categories_segments"][at[number]])
            count = int(tree["categories_sizes"][at[number]])
            right = {int(code) for code in tree["categories"][start : start + count]}
            every = range(cardinalities[node.feature - numbers])
            node.left_set = frozenset(set(every) - right)
        nodes.append(node)
    return nodes


def _xgboost_base(learner: Any, made: TreeTensors) -> Tensor:
    """What XGBoost adds to its trees: the difference on a row of which nothing is known."""
    numbers, codes = learner.contract_.n_numeric, learner.contract_.cardinalities
    row = learner.module.DMatrix(
        np.full((1, numbers + len(codes)), np.nan), enable_categorical=True,
        feature_types=["q"] * numbers + ["c"] * len(codes),
    )  # fmt: skip
    whole = np.asarray(learner.booster_.predict(row, output_margin=True), dtype=np.float64)
    empty = torch.full((1, numbers), torch.nan), torch.tensor([codes], dtype=torch.int64)
    with torch.no_grad():
        return torch.from_numpy(whole.reshape(-1)) - made(*empty)[0]


def histogram_tensors(learner: Any) -> nn.Module:
    """The trees of scikit-learn's histogram boosting, which lays categories before numbers."""
    fitted, contract = learner.estimator_, learner.contract_
    numbers = contract.n_numeric
    natives = np.flatnonzero(_natives(fitted, numbers + len(contract.cardinalities)))
    others = [i for i in range(numbers + len(contract.cardinalities)) if i not in set(natives)]
    order = [*natives.tolist(), *others]
    encoders = _encoders(fitted, natives)
    several = fitted.n_trees_per_iteration_
    forest = Forest(base=np.asarray(fitted._baseline_prediction).reshape(-1).tolist())
    for iteration in fitted._predictors:
        for score, predictor in enumerate(iteration):
            forest.trees.append(_histogram_nodes(predictor, order, encoders))
            forest.scores.append(score)
    assert len(forest.base) == several
    return TreeTensors(forest, contract.cardinalities)


def _natives(fitted: Any, columns: int) -> np.ndarray:
    """(columns,) which columns are split as categories."""
    given = fitted.is_categorical_
    if given is None:
        return np.zeros(columns, dtype=bool)
    asked = np.zeros(columns, dtype=bool)
    asked[np.asarray(fitted.categorical_features, dtype=int)] = True
    return asked


def _encoders(fitted: Any, natives: np.ndarray) -> dict[int, np.ndarray]:
    """By column the codes that training had, in the order in which scikit-learn numbers them."""
    if not len(natives):
        return {}
    known = fitted._preprocessor.named_transformers_["encoder"].categories_
    return {int(place): np.asarray(codes) for place, codes in zip(natives, known, strict=True)}


def _histogram_nodes(
    predictor: Any, order: list[int], encoders: dict[int, np.ndarray]
) -> list[Node]:
    nodes = []
    for record in predictor.nodes:
        if record["is_leaf"]:
            nodes.append(Node(value=float(record["value"])))
            continue
        feature = order[int(record["feature_idx"])]
        node = Node(
            feature=feature, threshold=float(record["num_threshold"]), left=int(record["left"]),
            right=int(record["right"]), missing_left=bool(record["missing_go_to_left"]),
        )  # fmt: skip
        if record["is_categorical"]:
            words = predictor.raw_left_cat_bitsets[int(record["bitset_idx"])]
            codes = encoders[feature]
            places = [i for i in range(len(codes)) if (int(words[i // 32]) >> (i % 32)) & 1]
            node.left_set = frozenset(int(codes[i]) for i in places if codes[i] == codes[i])
        nodes.append(node)
    return nodes


class LinearTensors(nn.Module):
    """A linear model on numbers and one-hot codes; an unseen code is all zeros."""

    weight: Tensor
    bias: Tensor

    def __init__(self, learner: Any) -> None:
        super().__init__()
        fitted = learner.estimator_
        self.cardinalities = list(learner.contract_.cardinalities)
        weight = np.atleast_2d(np.asarray(fitted.coef_, dtype=np.float64))
        bias = np.atleast_1d(np.asarray(fitted.intercept_, dtype=np.float64))
        self.register_buffer("weight", torch.from_numpy(weight.copy()))
        self.register_buffer("bias", torch.from_numpy(bias.copy()))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """(B, scores) float64."""
        parts = [numeric.double()]
        for place, size in enumerate(self.cardinalities):
            parts.append((categorical[:, place : place + 1] == torch.arange(size)).double())
        scores: Tensor = torch.cat(parts, 1) @ self.weight.T + self.bias
        return scores
