"""The scikit-learn estimators on tables: what they share, how they are kept and exported."""
