"""How do I make it deeper?"""
