"""A fine-tuning step on an effective batch, against TRL's packed and padded forms of the same.

Both take the same samples with the loss on the answers alone. The peer is what TRL's SFTTrainer
computes in a step: its collator for padding, transformers' loss with num_items_in_batch, clipping
and AdamW.
"""

import random

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from side_by_side import alternate, line
from stackwise.tasks.instructions.encode import IGNORED, Encoded
from stackwise.tasks.instructions.packing import effective_batch
from stackwise.train.sft_recipe import effective_gradient

SIZES = {"4 blocks of 128": (4, 128), "6 of 256": (6, 256), "8 of 384": (8, 384)}
SAMPLES, REPEATS = 16, 5


def model_of(depth: int, width: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048, hidden_size=width, intermediate_size=3 * width,
            num_hidden_layers=depth, num_attention_heads=width // 64,
        )
    )  # fmt: skip


def samples() -> list[Encoded]:
    """Samples of very different lengths, as chats are."""
    generator = random.Random(0)
    made = []
    for row in range(SAMPLES):
        size = generator.choice((12, 20, 32, 48, 96, 160))
        ids = tuple(generator.randrange(2, 2048) for _ in range(size))
        made.append(Encoded(row, ids, (IGNORED,) * (size // 2) + ids[size // 2 :], size // 2))
    return made


def main() -> None:
    """Every case, a line each."""
    threads = torch.get_num_threads()
    chats = samples()
    collate = DataCollatorForLanguageModeling(pad_token_id=0)
    rows = [{"input_ids": list(one.ids), "labels": list(one.labels)} for one in chats]
    for name, (depth, width) in SIZES.items():
        model, twin = model_of(depth, width), model_of(depth, width)
        mine = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        theirs = torch.optim.AdamW(twin.parameters(), lr=1e-5, fused=True)

        def ours_step(network=model, optimizer=mine) -> None:
            batch = effective_batch(chats, most_tokens=512, packed=True)
            effective_gradient(network, batch, torch.autograd.backward)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        def peer_step(network=twin, optimizer=theirs) -> None:
            given = collate(rows)
            count = (given["labels"][:, 1:] != IGNORED).sum()
            network(**given, num_items_in_batch=count).loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        ours, peer = alternate(ours_step, peer_step, REPEATS)
        line(f"a step of {SAMPLES} chats, {name}", ours, peer, "TRL's collator and loss, padded",
             "s", "float32", threads)  # fmt: skip


if __name__ == "__main__":
    main()
