"""The task of language modelling: a corpus, tokenized once, mapped from disk."""
