"""A small decoder to train from nothing, as transformers defines it."""

from typing import Any

from stackwise.errors import KnobError
from stackwise.optional import needs


def new_decoder(vocabulary: int, *, layers: int, width: int, heads: int, length: int) -> Any:
    """A Llama with random weights, drawn from torch's random state.

    Args:
        vocabulary: tokens. width: of the stream; a multiple of twice the heads.
        length: most tokens of a text.

    Raises:
        KnobError: the width does not divide into heads of even size.
    """
    needs("transformers", "a language model")
    from transformers import LlamaConfig, LlamaForCausalLM

    if width % (2 * heads):
        raise KnobError(f"width={width} does not divide into {heads} heads of even size")
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=-(-8 * width // 3 // 16) * 16,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=length,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)
