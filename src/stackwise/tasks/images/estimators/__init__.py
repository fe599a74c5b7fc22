"""Estimators on pictures."""
