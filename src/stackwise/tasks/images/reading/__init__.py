"""Read pictures: find them, decode them, bring them to one size and hold them."""
