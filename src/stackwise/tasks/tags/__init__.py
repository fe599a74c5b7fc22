"""Texts in which words are tagged: what a task on them reads, scores and writes."""
