"""Methods that answer: how do I join several models?"""
