"""The four stages over a matrix of out-of-fold predictions."""
