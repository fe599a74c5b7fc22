"""The search as estimators: on pictures, on tables and on series."""
