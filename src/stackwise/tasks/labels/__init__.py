"""The task of labels: texts with a class each."""
