"""The one training loop, its rules, its batches and its checkpoints."""

from stackwise.training.batches import ArrayBatches, Batches
from stackwise.training.loop import TrainingLoop, train, train_phases
from stackwise.training.phases import Phase, Trained
from stackwise.training.rules import Backprop, Loop, Rule
from stackwise.training.session import Session, current_session, session

__all__ = [
    "ArrayBatches",
    "Backprop",
    "Batches",
    "Loop",
    "Phase",
    "Rule",
    "Session",
    "Trained",
    "TrainingLoop",
    "current_session",
    "session",
    "train",
    "train_phases",
]
