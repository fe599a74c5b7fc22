"""What a comparison on tagged texts includes besides the methods."""
