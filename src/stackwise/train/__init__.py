"""By which rule does the stack learn?"""
