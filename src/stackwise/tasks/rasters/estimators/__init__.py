"""What learners that make maps of scenes share."""
