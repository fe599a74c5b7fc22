"""Estimators on texts."""
