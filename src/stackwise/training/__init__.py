"""The one training loop, its rules, its batches and its checkpoints."""

from stackwise.training.batches import ArrayBatches, Batches
from stackwise.training.loop import Loop, train, train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop, Rule
from stackwise.training.session import Session, current_session, session
from stackwise.training.trainable import Trainable, trainable

__all__ = [
    "ArrayBatches",
    "Backprop",
    "Batches",
    "Loop",
    "Phase",
    "Rule",
    "Session",
    "Trainable",
    "Trained",
    "current_session",
    "session",
    "train",
    "train_phases",
    "trainable",
]
