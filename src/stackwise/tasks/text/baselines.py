"""What every comparison on text includes: a decoder trained from nothing, and counts."""

from stackwise.tasks.text.decoder import DecoderLearner
from stackwise.tasks.text.ngram import NGram

__all__ = ["DecoderLearner", "NGram"]
