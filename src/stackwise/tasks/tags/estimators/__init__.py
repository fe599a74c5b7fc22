"""Estimators on tagged texts."""
