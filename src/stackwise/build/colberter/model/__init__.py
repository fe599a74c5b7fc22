"""The model: whole words, both reductions, and how words match."""
