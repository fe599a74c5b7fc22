"""Pages: why a document was found, word by word; and a search of one's own in a browser."""
