"""In which order do the blocks run?"""
