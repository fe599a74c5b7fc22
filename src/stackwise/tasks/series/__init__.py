"""The task on series: what is measured moment by moment, as whole series or ahead of time."""
