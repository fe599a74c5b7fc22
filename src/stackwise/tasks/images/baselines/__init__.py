"""What a comparison on pictures includes besides the methods."""
