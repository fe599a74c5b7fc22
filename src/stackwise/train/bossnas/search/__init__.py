"""The search: a block at a time, two networks a block, a rating for each of its paths."""
