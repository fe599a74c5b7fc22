"""What every comparison on a table includes: a plain MLP, gradient boosting and a linear model.

A method that does not beat them has earned nothing. Each has the same view of the columns, the
same validation rows and presets of its own, so that it is as good as a user would make it:

- `mlp`: linear layers, ReLU and dropout on scaled numbers and one-hot categories, in the training
  loop of the methods;
- `gradient-boosting`: scikit-learn's histogram trees on raw numbers (missing ones included) and
  native categories, stopped early;
- `lightgbm`, `xgboost`, `catboost`: the packages that people reach for, where they are installed;
- `linear`: ridge or logistic regression on scaled numbers and one-hot categories, its penalty
  chosen by cross-validation.

The ones of scikit-learn are kept with skops: a file of arrays and names, of which only the listed
types load; the packages keep their trees in their own formats.
"""

from stackwise.tasks.table.baselines.catboost_trees import CatBoostClassifier, CatBoostRegressor
from stackwise.tasks.table.baselines.histogram_boosting import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
)
from stackwise.tasks.table.baselines.lightgbm_trees import LightGBMClassifier, LightGBMRegressor
from stackwise.tasks.table.baselines.linear import LinearClassifier, LinearRegressor
from stackwise.tasks.table.baselines.mlp import MLP, MLPClassifier, MLPRegressor
from stackwise.tasks.table.baselines.xgboost_trees import XGBoostClassifier, XGBoostRegressor

__all__ = [
    "MLP", "CatBoostClassifier", "CatBoostRegressor", "GradientBoostingClassifier",
    "GradientBoostingRegressor", "LightGBMClassifier", "LightGBMRegressor", "LinearClassifier",
    "LinearRegressor", "MLPClassifier", "MLPRegressor", "XGBoostClassifier", "XGBoostRegressor",
]  # fmt: skip
