"""Rich representations: the features of several networks of one kind, side by side.

    phi(x) = [phi_1(x); ...; phi_n(x)]                                                      (CAT)

One training has no reason to find a feature that does not lower its loss further; another seed
finds another one, as good. Side by side they serve new classes, few labels and shifted data better
than one wide network does, and no better where they were learned. Used in four ways:

    probe       a linear head on phi, which stays as it is                       (`probing`)
    sub         a probe for each member, probabilities averaged: what an ensemble gains
    two-stage   fine-tune each member with its own head; then join the heads,
                W = [W_1 ... W_n] / n, and train W alone, briefly                (`tuning`)
    initial     one head on phi, everything trained together: the redundancy is trained away

    distill     one network with n heads learns what the n members answer; the heads are dropped
    snapshots   the members are moments of one run at a high learning rate

Source: arXiv 2212.07346. Its text on distillation could not be read: the loss is the usual one
(`distilling`), and so is the placing of snapshots ours (`snapshots`). Differs from the paper: a
probe is standardised features and logistic regression, with C chosen on rows that were held out
(the paper: batch normalisation and SGD, the best test epoch reported); members and fine-tunings use
AdamW; the joined head has no batch normalisation before it at any n, so that it begins as the mean
of the members' logits (the authors' script has one from n = 4 on, and then it does not). Weight
decay of the members is 0 unless asked for, since it hurts where the features go next.
"""

from stackwise.combine.rich_representations.distilling import distill, heads_loss
from stackwise.combine.rich_representations.entry import rich_representations
from stackwise.combine.rich_representations.features import Concatenated, concat, with_outputs
from stackwise.combine.rich_representations.heads import Head, Joined, joined_head
from stackwise.combine.rich_representations.learner import RichRepresentation
from stackwise.combine.rich_representations.looking import report
from stackwise.combine.rich_representations.probing import choose_penalty, fit_head
from stackwise.combine.rich_representations.together import StackedNetworks
from stackwise.combine.rich_representations.tuning import two_stage

__all__ = [
    "Concatenated", "Head", "Joined", "RichRepresentation", "StackedNetworks", "choose_penalty",
    "concat", "distill", "fit_head", "heads_loss", "joined_head", "report", "rich_representations",
    "two_stage", "with_outputs",
]  # fmt: skip
