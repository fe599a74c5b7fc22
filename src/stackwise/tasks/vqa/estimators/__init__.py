"""What reads a picture and a question: a vision transformer, a projector, a language model."""
