"""Tasks: what data asks of a model."""
