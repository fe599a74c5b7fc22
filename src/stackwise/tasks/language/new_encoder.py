"""A small encoder of random weights."""

from torch import nn

from stackwise.errors import KnobError
from stackwise.optional import needs

BERT_RANGE, BERT_WIDTH = 0.02, 768
"""The spread of BERT's first weights at its width; at a smaller one as much more, so that what goes
through them keeps its size."""


def new_encoder(
    vocabulary: int, *, width: int, layers: int, heads: int, context: int, dropout: float, pad: int
) -> nn.Module:
    """BERT of these sizes; torch's random state makes its weights.

    Raises:
        KnobError: the width does not divide into heads.
    """
    needs("transformers", "a transformer")
    from transformers import BertConfig, BertModel

    if width % heads:
        raise KnobError(f"width={width} does not divide into {heads} heads")
    return BertModel(BertConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * width,
        initializer_range=BERT_RANGE * (BERT_WIDTH / width) ** 0.5,
        max_position_embeddings=context, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout, pad_token_id=pad,
    ))  # fmt: skip
