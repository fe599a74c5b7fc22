"""The task of questions: multiple choice, or a short answer that must match."""
