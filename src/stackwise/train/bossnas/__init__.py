"""BossNAS: choose the operation of every layer without labels, a block at a time.

A supernet, which shares the weights of all candidates, is cut into blocks. Each block is trained so
that all its paths predict their own common average, and the paths that come nearest to it are kept:

    T^     = 1/|p| sum_p  z'(a_p; x'_p) / ||z'(a_p; x'_p)||               ensemble, by the teacher
    L      = 1/|p| sum_p  || q(z(a_p; x_p)) - T^ ||^2                     of unit vectors
    r_k(a) = || q(z(a; x1)) - c(x2) ||^2 + || q(z(a; x2)) - c(x1) ||^2    c the mean over the block
    a*     = argmin sum_k r_k(a_k)

so that rating costs the sum of the blocks' paths, not their product, and no teacher network's
taste decides. The chosen network is then trained from scratch, in the ordinary way.

Source: arXiv 2103.12424 and the authors' code (changlin31/BossNAS). Differs from it: gradients stop
between blocks (`stop_gradient=False` is their code); the center is the mean of unit vectors, as
the target is in training; attention has its product the right way round; AdamW, not LARS, which
wants batches of thousands; smaller projections, as the blocks are smaller; and `order="apart"`,
which searches blocks side by side, is not theirs.
"""

from stackwise.train.bossnas.learners.pictures import BossNAS
from stackwise.train.bossnas.learners.rows import BossNASTableClassifier, BossNASTableRegressor
from stackwise.train.bossnas.learners.series import (
    BossNASSeriesClassifier,
    BossNASSeriesRegressor,
)
from stackwise.train.bossnas.network import build, costs
from stackwise.train.bossnas.outcomes.entry import bossnas, bossnas_ranking
from stackwise.train.bossnas.search.ratings import Ratings, rank_report
from stackwise.train.bossnas.spaces import (
    HyTra,
    MBConvSpace,
    OperationSpace,
    RowSpace,
    SearchSpace,
    SlimSpace,
    Space,
    space_of,
)

__all__ = [
    "BossNAS", "BossNASSeriesClassifier", "BossNASSeriesRegressor", "BossNASTableClassifier",
    "BossNASTableRegressor", "HyTra", "MBConvSpace", "OperationSpace", "Ratings", "RowSpace",
    "SearchSpace", "SlimSpace", "Space", "bossnas", "bossnas_ranking", "build", "costs",
    "rank_report", "space_of",
]  # fmt: skip
