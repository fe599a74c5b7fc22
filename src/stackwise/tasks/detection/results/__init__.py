"""What is made of found boxes: scores, files and pictures."""
