"""TabM: k MLPs in one network that share almost all weights; their predictions are averaged.

Every linear layer of an MLP is shared by the k members but for three vectors a member,

    l_i(x) = s_i * (W (r_i * x)) + b_i

so that member i is the MLP with weights W * (s_i r_i^T). All members learn at once, each on its
own loss,

    L = 1 / (B k) sum_b sum_i loss(f_i(x_b), y_b)

and only their predictions (for classes: probabilities) are averaged. The loss of the mean
prediction would train one large model and lose what an ensemble gains. What parts the members is
the very first r, drawn at random once a feature; all else begins equal.

Source: arXiv 2410.24210. Differs from the paper: members share their batches by default, as the
authors' package recommends (`share_batches=False` gives each its own); classifiers stop early on
the log-loss of the mean prediction, which is smoother than accuracy on small validation parts;
training is in bfloat16 only where the processor multiplies it faster (`precision`).
"""

from stackwise.build.tabm.learner import TabMClassifier, TabMRegressor
from stackwise.build.tabm.network import Member, TabM

__all__ = ["Member", "TabM", "TabMClassifier", "TabMRegressor"]
