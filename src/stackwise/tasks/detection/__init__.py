"""The detection task: find the objects in a picture, a box and a class of each."""
