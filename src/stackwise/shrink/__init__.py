"""Methods that answer: how do I make it smaller or shallower?"""
