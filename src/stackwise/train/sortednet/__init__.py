"""Train one network so that every truncation of it is a good network, and cut it to a budget.

A network has axes (width, depth, heads, hidden units) with increasing sizes; a sub-model
b = (b_1 .. b_K) is the first b_j units along each, so that sub-models are nested. At a step one is
drawn and learns; gradients of several draws are accumulated:

    min over theta of   E_{b ~ P} E_{(x, y)} [ L(f(x; theta|b), y) ]                       (eq. 1)

The first units are in every sub-model and learn the most ("sorted"): size order is quality order,
and the best sub-model of a budget is the largest that fits. No search, no second training.

    model = SortedNetClassifier().fit(X, y)
    small = model.extract(max_macs=1e5)                  # plain, equal to the slice bit for bit
    with submodel(network, width=0.5, depth=6): ...      # the same in place, no weight copied

Of a decoder, depth exits through the shared norm and head are trained by the mean of their losses
in one forward pass, and a shallow exit drafts what the whole model checks (`speculative`).

Source: arXiv 2309.00255, and 2309.08968 for decoders. Of both the abstracts could be read, and no
official code exists. Read from there: nested sub-models along any axis, one drawn at random a step,
gradient accumulation, search-free choice; of the decoder the exits, their mean loss and the drafts.
Derived here: the rules of truncation (`truncation`), that P is uniform over a product of sizes, and
that the g draws of an accumulation share one batch by its rows. Differs: the estimators have the
whole network in a quarter of the steps (`full_probability`), since under the uniform P it sees one
of K updates and is the worse for it; batch normalisation gets statistics for each sub-model.
"""

from stackwise.train.sortednet.costs import pareto, select, table_of_submodels
from stackwise.train.sortednet.entry import sortednet
from stackwise.train.sortednet.extracting import extract
from stackwise.train.sortednet.language import SortedLanguageModel
from stackwise.train.sortednet.learner import SortedNetClassifier, SortedNetRegressor
from stackwise.train.sortednet.networks import InvertedCNN, PictureMLP, RowMLP, SortedViT
from stackwise.train.sortednet.picture_learner import SortedNetImageClassifier
from stackwise.train.sortednet.probe import sorted_submodels
from stackwise.train.sortednet.reading import Axes, submodel
from stackwise.train.sortednet.rule import Drawing, SortedRule
from stackwise.train.sortednet.spaces import Choice, SortedSpace
from stackwise.train.sortednet.speculative import SelfSpeculation, speculative_generate
from stackwise.train.sortednet.statistics import Statistics

__all__ = [
    "Axes", "Choice", "Drawing", "InvertedCNN", "PictureMLP", "RowMLP", "SelfSpeculation",
    "SortedLanguageModel", "SortedNetClassifier", "SortedNetImageClassifier", "SortedNetRegressor",
    "SortedRule", "SortedSpace", "SortedViT", "Statistics", "extract", "pareto", "select",
    "sorted_submodels", "sortednet", "speculative_generate", "submodel", "table_of_submodels",
]  # fmt: skip
