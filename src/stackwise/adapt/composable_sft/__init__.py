"""Fine-tune a few entries of a model's weights, so that fine-tunings can be added up.

A fine-tuning is kept as a sparse difference phi of weights beside its base, and composed by adding:

    F(. ; theta0 + phi_task + phi_language),    ||phi||_0 = K

which entries may change is found by trying (a lottery ticket), in two phases from one start:

    1  full      train all weights from theta0 to theta1
    2  select    the K entries of the largest |theta1 - theta0|, ranked over all weights together
    3  sparse    rewind everything, heads too, to theta0; train again with the gradient of every
                 other entry set to zero, to theta2
       phi = theta2 - theta0 at the K entries; a head of the job is kept whole

With n `iterations` each round adds K / n entries, ranked by how far they are from theta0 and not
yet selected, and goes on from where the last one ended. In both phases a penalty

    lambda / N * sum_i |theta_i - theta0_i|         (N all parameters of the model)

keeps weights near the base. Selections beside the paper's `movement`: `random` entries without a
first phase, all `biases` (BitFit), and `denoised` (arXiv 2505.15090): each matrix of changes is
parted by a singular value decomposition into a low-rank part, kept, and a rest of which the small
entries are dropped, and the sum of both is ranked.

Source: arXiv 2110.07560. Differs from it and from its authors' code: exactly K entries are taken,
ties by their place, where that code takes every entry at the threshold; an entry that did not move
is never selected, however large K is; every change that is not zero is kept, where that code drops
those up to 1e-7; what is taken off is restored bit for bit and not subtracted; norms are frozen by
their class, where that code looks for the name LayerNorm and so trains some; the pooler of an
encoder goes with the head; batch normalisation, which none of its models has, keeps its
statistics. Composing several
sources within one training (multi-source) is not built. Of the denoised selection the paper's
abstract is followed; the rank and the share of the rest that is kept are our reading.
"""

from stackwise.adapt.composable_sft.delta import SparseFineTuning, overlap_report
from stackwise.adapt.composable_sft.entry import composable_sft

__all__ = ["SparseFineTuning", "composable_sft", "overlap_report"]
