"""Growing a saved model from files to files, against mergekit's passthrough: seconds and memory.

A Llama of random weights in bfloat16 is written in shards and its list of blocks is stacked twice
over: 24 blocks become 48. The largest has the sizes of a 1.7-billion-parameter model, 3.4 GB on
disk. Each run is a process of its own, for the peak of its memory is what is asked; seconds are
counted within it, from after its imports, and runs alternate. Both outputs hold the same numbers,
which is checked once a size.

For a second peer the model is opened and rebuilt in memory, as `Stack.rebuild` does.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from side_by_side import in_a_process, line

SIZES = {
    "0.1 billion parameters": (12, 768, 2048, 12),
    "0.5 billion parameters": (16, 1536, 4096, 16),
    "1.7 billion parameters": (24, 2048, 8192, 32),
}
"""Blocks, width, width of the MLP, heads."""
VOCABULARY = 49_152
REPEATS = 3
OURS = """
import sys, time, resource
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
from stackwise.stack import rebuild_saved
began = time.perf_counter()
folder, out, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
rebuild_saved(folder, [*range(depth), *range(depth)], out)
"""
OPENED = """
import sys, time, resource
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
from stackwise.stack import Stack
began = time.perf_counter()
folder, out, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = LlamaForCausalLM.from_pretrained(folder, dtype="auto")
Stack.of(model).rebuild([*range(depth), *range(depth)]).save_pretrained(out)
"""
MERGEKIT = """
import sys, time, resource
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
began = time.perf_counter()
folder, out, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
piece = {"sources": [{"model": folder, "layer_range": [0, depth]}]}
config = MergeConfiguration.model_validate(
    {"merge_method": "passthrough", "dtype": "bfloat16", "slices": [piece, piece]}
)
options = MergeOptions(copy_tokenizer=False, lazy_unpickle=True, low_cpu_memory=True, quiet=True)
run_merge(config, out, options)
"""
NEW = """
import sys, time, resource
import torch
from transformers import LlamaConfig, LlamaForCausalLM
began = time.perf_counter()
depth, width, inner, heads, vocabulary = map(int, sys.argv[2:])
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=depth,
    num_attention_heads=heads, tie_word_embeddings=True, dtype=torch.bfloat16,
)
with torch.device("meta"):
    model = LlamaForCausalLM(config).to(torch.bfloat16)
model.to_empty(device="cpu")
with torch.no_grad():
    for parameter in model.parameters():
        parameter.uniform_(-0.05, 0.05)
model.save_pretrained(sys.argv[1], max_shard_size="1GB")
"""
"""A Llama of random weights in bfloat16, in shards of 1 GB."""
EQUAL = """
import sys, time, resource
from pathlib import Path
import torch
from safetensors import safe_open
began = time.perf_counter()
def places(folder):
    found = {}
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    found.pop("lm_head.weight", None)  # tied: a file may hold it or leave it out
    return found
def tensor(path, name):
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)
left, right = places(sys.argv[1]), places(sys.argv[2])
assert left.keys() == right.keys(), left.keys() ^ right.keys()
for name in left:
    assert torch.equal(tensor(left[name], name), tensor(right[name], name)), name
"""
EMPTY = """
import sys, time, resource
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
from stackwise.stack import rebuild_saved
began = time.perf_counter()
"""


def measure(name: str, shape: tuple[int, int, int, int], room: Path) -> None:
    """All cases of one size."""
    depth = shape[0]
    folder = room / "model"
    in_a_process(NEW, folder, *shape, VOCABULARY)
    scripts = {"ours": OURS, "mergekit": MERGEKIT, "opened": OPENED}
    found: dict[str, list[tuple[float, float]]] = {which: [] for which in scripts}
    for turn in range(REPEATS + 1):
        order = list(scripts) if turn % 2 == 0 else list(reversed(scripts))
        for which in order:
            shutil.rmtree(room / which, ignore_errors=True)
            os.sync()  # what an earlier run left to be written is not this one's to wait for
            measured = in_a_process(scripts[which], folder, room / which, depth)
            if turn:  # the first warms the cache of files
                found[which].append(measured)
        if turn == 0:
            in_a_process(EQUAL, room / "ours", room / "mergekit")
    shutil.rmtree(folder)
    imports = in_a_process(EMPTY)[1]
    middle = {which: [median(values) for values in zip(*pairs, strict=True)]
              for which, pairs in found.items()}  # fmt: skip
    for which, peer in (("mergekit", "mergekit passthrough"), ("opened", "opened and rebuilt")):
        for place, unit in ((0, "s"), (1, "MiB")):
            what = f"double {name}, {'seconds' if unit == 's' else 'peak memory'}"
            line(what, middle["ours"][place], middle[which][place], peer, unit, "bfloat16", 1)
    above = [max(middle[which][1] - imports, 0.1) for which in ("ours", "mergekit")]
    line(f"double {name}, peak memory above the imports", *above, "mergekit passthrough", "MiB",
         "bfloat16", 1)  # fmt: skip


def main() -> None:
    """Every size; `python benchmarks/rebuild.py small` leaves the largest out."""
    for name, shape in list(SIZES.items())[: 2 if "small" in sys.argv else None]:
        with tempfile.TemporaryDirectory() as room:
            measure(name, shape, Path(room))


if __name__ == "__main__":
    main()
