"""CNN-SVM: a convolutional network whose last layer is a linear support vector machine.

One binary machine a class, each against the rest, on the features h that the network computes. With
targets y_ic = 1 at the true class and -1 elsewhere, and scores s_ic = w_c . h_i + b_c:

    L2-SVM    (1/p) ||W||^2 + C sum_ic max(0, 1 - y_ic s_ic)^2                              (eq. 2)
    L1-SVM    (1/p) ||W||^2 + C sum_ic max(0, 1 - y_ic s_ic)                                (eq. 1)
    decision  argmax_c s_ic

The gradient of the hinge flows into the network, so that features and machines learn together.
`swap_head` puts such a head on any classifier with a linear last layer.

Source: arXiv 1712.03541, and its public code, which takes means in place of the sums: p is the
number of entries of W, and the hinge is a mean over rows and classes (`reduction="mean"`). The idea
is Tang's (arXiv 1306.0239). Differs from the paper: the public code decides by argmax_c sign(s_ic),
where every tie goes to the first class; here the raw margin decides, as one-vs-rest does
(the evidence measures what the sign costs). Pictures are normalised and moved in training
(`augment="none"` turns that off), and weights begin as torch's do (`init="paper"` for the other).
"""

from stackwise.build.cnn_svm.head import SVMHead
from stackwise.build.cnn_svm.hinge import hinge, one_vs_rest, squared_hinge
from stackwise.build.cnn_svm.learner import CNNSVMClassifier
from stackwise.build.cnn_svm.network import ConvSVM
from stackwise.build.cnn_svm.swapping import swap_head

__all__ = [
    "CNNSVMClassifier", "ConvSVM", "SVMHead", "hinge", "one_vs_rest", "squared_hinge", "swap_head",
]  # fmt: skip
