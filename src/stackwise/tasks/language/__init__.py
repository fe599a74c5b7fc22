"""What the tasks on language models share: tokens on disk, learners that keep such a model."""
