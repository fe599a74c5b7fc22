"""How it learns: pairs in batches, losses, and stages that begin where the last one ended."""
