"""From columns to what a model takes: numbers, codes, hashed words."""
