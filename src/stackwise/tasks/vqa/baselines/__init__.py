"""What every comparison on questions about pictures includes."""

from stackwise.tasks.vqa.baselines.most_frequent import MostFrequentAnswer
from stackwise.tasks.vqa.baselines.readers import AllTokens, FewTokens, QuestionOnly

__all__ = ["AllTokens", "FewTokens", "MostFrequentAnswer", "QuestionOnly"]
