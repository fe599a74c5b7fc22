"""What a comparison on labelled texts includes besides the methods."""
