"""What networks that learn to search share: pairs, their batches, an encoder, and how they are
watched.
"""
