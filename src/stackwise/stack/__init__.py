"""A live view of a network as a stack: a stem, an ordered list of blocks, a head.

stack = Stack.of(model)
with stack.path([0, 1, 1, 3]):          # run the blocks in this order
    model(**batch)
with stack.capture() as stream:         # see the residual stream
    model(**batch)
with stack.intervene(3, lambda h: 0 * h):
    model(**batch)                      # change the output of a block
replay, output = record(stack, **batch) # a run whose blocks are called again on other streams
shorter = stack.rebuild([0, 1, 1, 3])   # a new model that is saved and loaded as any other
rebuild_saved("model", [0, 1, 1, 3], "shorter")  # the same from files to files, in no memory
"""

from stackwise.stack.replay import Replay, record
from stackwise.stack.saved import SavedModel, rebuild_saved
from stackwise.stack.stream import Stream
from stackwise.stack.view import Stack

__all__ = ["Replay", "SavedModel", "Stack", "Stream", "rebuild_saved", "record"]
