"""What estimators on series share: how series come in, and networks on them."""
