"""Retrieval: documents, ranked by how well they answer a query."""
