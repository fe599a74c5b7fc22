"""What learners share, whatever their data: targets, metrics, what outputs mean."""
