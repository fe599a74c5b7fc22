"""What sharing beginnings saves a search, and what running a path costs against the plain model.

Blocks are counted exactly; times are medians of alternating runs in one process.
"""

import random
from functools import partial

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from side_by_side import alternate, line
from stackwise.route.cola import Asked, Settings, Space, search_questions
from stackwise.stack import Stack
from stackwise.tasks.choices.source import Question

SIZES = {"6 blocks of 64": (6, 64), "8 of 128": (8, 128), "12 of 256": (12, 256)}
REPEATS = 3


def model_of(depth: int, width: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256, hidden_size=width, intermediate_size=3 * width,
            num_hidden_layers=depth, num_attention_heads=width // 32,
        )
    ).eval()  # fmt: skip


def asked(count: int) -> list[Asked]:
    """Questions of random tokens, the answer one of four."""
    generator = random.Random(0)
    made = []
    for row in range(count):
        question = Question(row, "", ("a", "b", "c", "d"), generator.randrange(4))
        tokens = tuple(generator.randrange(256) for _ in range(48))
        made.append(Asked(question, tokens, (65, 66, 67, 68), question.answer))
    return made


def main() -> None:
    """Every case, a line each."""
    threads = torch.get_num_threads()
    questions = asked(16)
    for name, (depth, width) in SIZES.items():
        model = model_of(depth, width)
        counted = {}

        def search(share: bool) -> None:
            counted[share] = search_questions(  # noqa: B023
                model, None, questions, simulations=40, space=Space(longest=2 * depth),  # noqa: B023
                settings=Settings(), share=share,
            )[1]  # fmt: skip

        ours, peer = alternate(lambda: search(True), lambda: search(False), REPEATS)
        line(f"search 16 questions, {name}", ours, peer, "nothing shared", "s", "float32", threads)
        line(f"blocks run, {name}", counted[True].blocks, counted[False].blocks, "nothing shared",
             "blocks", "float32", threads)  # fmt: skip
        ids = torch.randint(0, 256, (8, 64))
        order = [0, 1, 1, *range(3, depth)]
        stack, rebuilt = Stack.of(model), Stack.of(model).rebuild(order)

        def run(network: torch.nn.Module) -> None:
            with torch.no_grad():
                network(input_ids=ids, use_cache=False)  # noqa: B023

        with stack.path(order):
            ours, peer = alternate(partial(run, model), partial(run, rebuilt), 9)
        line(f"forward along a path, {name}", ours, peer, "a model of these blocks", "s", "float32",
             threads)  # fmt: skip
        prompt = torch.randint(0, 256, (1, 16))

        def write(network: LlamaForCausalLM) -> None:
            network.generate(prompt, max_new_tokens=16, do_sample=False, pad_token_id=0)  # noqa: B023

        with stack.path(order):
            ours, peer = alternate(partial(write, model), partial(write, rebuilt), REPEATS)
        line(f"generate 16 tokens along a path, {name}", ours, peer, "a model of these blocks", "s",
             "float32", threads)  # fmt: skip


if __name__ == "__main__":
    main()
