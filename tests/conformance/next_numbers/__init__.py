"""A task and two methods as another package brings them: predict the number that follows."""
