"""Methods that answer: what do I stack?"""
