"""Join the out-of-fold predictions of many models by regularised meta-models.

Given predictions P (n, M), in which no model saw the target of a row that it predicts, four stages
give one prediction:

    1  keep  = best of each cluster of near-copies: drop j for a better kept k with
               corr(P_j, P_k) >= tau_corr and mean (P_j - P_k)^2 <= tau_mse
    2  A     = [Z, mu, sigma, median, rho, mu sigma, rho sigma],    Z = P[:, keep]
    3  w_g   = Ridge, Lasso, ElasticNet on A, penalties by nested cross-validation
    4  yhat  = sum_g omega_g A w_g,    omega_g = (1 / e_g) / sum_h (1 / e_h)

where mu, sigma, median and rho are mean, standard deviation, median and range over the kept
models, and e_g is the error of meta-model g on rows that it did not learn from.

Source: arXiv 2602.12469 (a preprint that a third party lists as withdrawn, unconfirmed). Differs
from the paper: thresholds and penalties are in units of the target's spread (`mse_units="absolute"`
is the paper's), because absolute ones drop nothing for prices and nearly all for shares; stage 1 is
repeated inside each outer fold for the reported error (`honest=False` is the authors' code); 5
outer folds, not 10; a meta-model that is 2 % worse than the best is left out (`drop_worse=None`
keeps it); classification is ours: on log-odds, with penalised logistic regression, blending
probabilities by their inverse log loss.
"""

from stackwise.combine.regularized_meta_learning.hill_climbing import HillClimb, hill_climb
from stackwise.combine.regularized_meta_learning.learner import (
    RegularizedStackingClassifier,
    RegularizedStackingRegressor,
)
from stackwise.combine.regularized_meta_learning.stacked import Stacked
from stackwise.combine.regularized_meta_learning.stacked_predictions import (
    StackedPredictions,
    StackResult,
    stack_predictions,
)

__all__ = [
    "HillClimb", "RegularizedStackingClassifier", "RegularizedStackingRegressor", "StackResult",
    "Stacked", "StackedPredictions", "hill_climb", "stack_predictions",
]  # fmt: skip
