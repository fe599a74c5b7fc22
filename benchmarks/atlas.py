"""Merging fine-tuned models on disk, against mergekit's task arithmetic; and a step of learning.

theta_0 + 0.3 (tau_1 + tau_2) of Llamas of random weights in bfloat16, from files to files. Each run
is a process of its own, for the peak of its memory is what is asked; seconds are counted within it,
from after its imports, and runs alternate. What both wrote is compared once a size, to half a last
bit of each of mergekit's roundings. "Above the imports" is what merging itself takes, beside the
bytes of the model.

A step learns a coefficient for each of three donors and each block. Its peer keeps the composition
in the graph, as the authors' code does: weights made of tensors that all take part in autograd.
"""

import copy
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, in_a_process, line
from stackwise.adapt.atlas import Composition, blocks_of, task_vectors

SIZES = {
    "20 million parameters": (6, 320, 960, 5),
    "50 million parameters": (8, 512, 1536, 8),
    "110 million parameters": (12, 768, 2048, 12),
}
"""Blocks, width, width of the MLP, heads."""
VOCABULARY = 49_152
REPEATS = 1
PIECES = (
    "donors are read in pieces, which bounds the memory: through maps, merging took as long as the "
    "peer (1.00 and 0.96 at 50 and 110 million) and more memory"
)
STEPS = {"2 blocks of 128": (2, 128), "4 of 256": (4, 256), "6 of 384": (6, 384)}
BEGIN = """
import sys, time, resource
import torch, transformers
from transformers import AutoConfig, LlamaForCausalLM
"""
OURS = """
from stackwise.adapt.atlas import merge_saved
began = time.perf_counter()
base, one, two, out = sys.argv[1:]
merge_saved(base, out, donors=[one, two], alpha=0.3)
"""
MERGEKIT = """
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
began = time.perf_counter()
base, one, two, out = sys.argv[1:]
config = MergeConfiguration.model_validate({
    "merge_method": "task_arithmetic", "base_model": base, "dtype": "bfloat16",
    "parameters": {"normalize": False},
    "models": [{"model": donor, "parameters": {"weight": 0.3}} for donor in (one, two)],
})
options = MergeOptions(copy_tokenizer=False, lazy_unpickle=True, low_cpu_memory=True, quiet=True)
run_merge(config, out, options)
"""
NEW = """
from transformers import LlamaConfig
began = time.perf_counter()
folders = sys.argv[1:4]
depth, width, inner, heads, vocabulary = map(int, sys.argv[4:])
config = LlamaConfig(
    vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=depth,
    num_attention_heads=heads, tie_word_embeddings=True, dtype=torch.bfloat16,
)
with torch.device("meta"):
    model = LlamaForCausalLM(config).to(torch.bfloat16)
model.to_empty(device="cpu")
torch.manual_seed(0)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.uniform_(-0.05, 0.05)
    for place, folder in enumerate(folders):
        for parameter in model.parameters():
            if place:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.01, 0.01))
        model.save_pretrained(folder)
"""
NEAR = """
from pathlib import Path
from safetensors import safe_open
began = time.perf_counter()
def tensors(folder):
    for path in Path(folder).glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            yield from ((name, file.get_tensor(name)) for name in file.keys())
theirs = dict(tensors(sys.argv[2]))
for name, ours in tensors(sys.argv[1]):
    if name in theirs:  # a file may leave out what is tied
        apart = (ours.float() - theirs[name].float()).abs()
        assert bool((apart <= 0.02 * ours.float().abs() + 2e-3).all()), name
"""
EMPTY = """
from stackwise.adapt.atlas import merge_saved
began = time.perf_counter()
"""


def merging(name: str, shape: tuple[int, int, int, int], room: Path, imports: float) -> None:
    """Both ways of merging a size."""
    folders = [room / "base", room / "one", room / "two"]
    in_a_process(BEGIN + NEW, *folders, *shape, VOCABULARY)
    scripts = {"ours": OURS, "mergekit": MERGEKIT}
    found: dict[str, list[tuple[float, float]]] = {which: [] for which in scripts}
    for turn in range(REPEATS):  # what was just written is in the cache of files
        for which in list(scripts) if turn % 2 == 0 else list(reversed(scripts)):
            shutil.rmtree(room / which, ignore_errors=True)
            os.sync()  # what an earlier run left to be written is not this one's to wait for
            found[which].append(in_a_process(BEGIN + scripts[which], *folders, room / which))
        if turn == 0:
            in_a_process(BEGIN + NEAR, room / "ours", room / "mergekit")
    size = sum(path.stat().st_size for path in folders[0].glob("*.safetensors")) / 2**20
    for folder in folders:
        shutil.rmtree(folder)
    middle = {which: [median(values) for values in zip(*pairs, strict=True)]
              for which, pairs in found.items()}  # fmt: skip
    for place, unit in ((0, "s"), (1, "MiB")):
        what = f"merge 2 donors of {name}, {'seconds' if unit == 's' else 'peak memory'}"
        line(what, middle["ours"][place], middle["mergekit"][place], "mergekit task_arithmetic",
             unit, "bfloat16", 1, PIECES)  # fmt: skip
    above = max(middle["ours"][1] - imports, 0.1)
    line(f"merge 2 donors of {name}, memory above the imports beside the model and a tenth",
         above, 1.1 * size, "the model's bytes and 10 %", "MiB", "bfloat16", 1,
         "225 to 234 MiB at every size, which is more than a small model")  # fmt: skip


def in_the_graph(model: nn.Module, donors: list[nn.Module], coefficients: Tensor, ids: Tensor,
                 vectors: list[dict[str, Tensor]]) -> Any:  # fmt: skip
    """A step with the composition in the graph of autograd."""
    theta = {
        name: weight.detach() + sum(
            coefficients[i, j] * vector[name] for i, vector in enumerate(vectors)
        )
        for j, (name, weight) in enumerate(model.named_parameters())
    }  # fmt: skip
    output = torch.func.functional_call(
        model, theta, (), {"input_ids": ids, "labels": ids, "use_cache": False}
    )
    output.loss.backward()
    return output.loss


def learning(name: str, depth: int, width: int) -> None:
    """A step of a size."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192, hidden_size=width, intermediate_size=3 * width,
            num_hidden_layers=depth, num_attention_heads=width // 64,
        )
    ).eval()  # fmt: skip
    donors = [copy.deepcopy(model) for _ in range(3)]
    with torch.no_grad():
        for donor in donors:
            for weight in donor.parameters():
                weight.add_(0.01 * torch.randn_like(weight))
    ids = torch.randint(0, 8192, (4, 64))
    blocks = blocks_of(model, exclude=[])
    made = Composition(model, blocks, task_vectors(model, donors, blocks))
    vectors = [
        {n: (w - model.get_parameter(n)).detach() for n, w in donor.named_parameters()}
        for donor in donors
    ]
    coefficients = torch.zeros(3, len(made.names), requires_grad=True)
    with torch.no_grad():
        made.values.fill_(0.1)
        coefficients.fill_(0.1)

    def ours() -> None:
        made.values.grad = None
        made.written()(input_ids=ids, labels=ids, use_cache=False).loss.backward()

    def peer() -> None:
        coefficients.grad = None
        in_the_graph(model, donors, coefficients, ids, vectors)

    ours(), peer()
    assert made.values.grad is not None and coefficients.grad is not None
    assert torch.allclose(made.values.grad[:, :, 0], coefficients.grad, rtol=1e-3, atol=1e-5)
    mine, theirs = alternate(ours, peer, 5)
    line(f"a step with 3 donors, {name}", mine, theirs, "composition in the graph", "s",
         "float32", torch.get_num_threads())  # fmt: skip


def main() -> None:
    """Every size; `python benchmarks/atlas.py small` leaves the largest merge out."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    imports = in_a_process(BEGIN + EMPTY)[1]
    for name, shape in list(SIZES.items())[: 2 if "small" in sys.argv else None]:
        with tempfile.TemporaryDirectory() as room:
            merging(name, shape, Path(room), imports)
    for name, (depth, width) in STEPS.items():
        learning(name, depth, width)


if __name__ == "__main__":
    main()
