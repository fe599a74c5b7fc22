"""Which domains a prompt needs: a small network on what the base alone makes of it.

    x    = 0.45 h_mid + 0.55 h_last             hidden states of the base, all stacks off: (S, d)
    u    = LN(W x)                              (S, H)
    c_g  = LN(sum_s softmax_s(u_s . q_g) u_s)   what the prompt is about
    c_d  = LN(sum_s softmax_s(u_s . Q_d) u_s)   what of it domain d looks for
    p_d  = sigmoid(MLP([c_d ; c_g]) / T)        each domain by itself: several may be needed

Attention has no 1 / sqrt(H), pads are masked, the MLP is one for all domains and T is learned.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.adapt.brainstacks.switch import Switch
from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.stack import Stack

MIDDLE, LAST = 0.45, 0.55
COLDEST, HOTTEST = 0.3, 3.0


@keeps_arguments
class MetaRouter(nn.Module):
    """(B, S, d) states and a (B, S) mask -> (B, domains) logits.

    Args:
        width: d. domains: their number. hidden: H. dropout: within the MLP.
    """

    def __init__(self, *, width: int, domains: int, hidden: int = 512, dropout: float = 0.1):
        super().__init__()
        self.inward = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden))
        self.about = nn.Parameter(0.02 * torch.randn(hidden))
        self.queries = nn.Parameter(0.02 * torch.randn(domains, hidden))
        self.norm_about, self.norm_domain = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, 1),
        )  # fmt: skip
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        u = self.inward(states)  # (B, S, H)
        queries = torch.cat([self.about[None], self.queries])  # (1 + D, H)
        scores = (u @ queries.T).masked_fill(~mask.bool()[..., None], -torch.inf)
        found = scores.softmax(1).transpose(1, 2) @ u  # (B, 1 + D, H)
        about = self.norm_about(found[:, :1]).expand(-1, len(self.queries), -1)
        joined = torch.cat([self.norm_domain(found[:, 1:]), about], -1)
        logits = self.mlp(joined)[..., 0]
        return logits / self.log_temperature.exp().clamp(COLDEST, HOTTEST)


def prompt_mask(inputs: Mapping[str, Any], shape: torch.Size) -> Tensor:
    """(B, S): the tokens of the prompt: not padding, and before the first that has a label."""
    mask = inputs.get("attention_mask")
    found = mask.bool() if isinstance(mask, Tensor) and mask.shape == shape else None
    kept = torch.ones(shape, dtype=torch.bool) if found is None else found
    labels = inputs.get("labels")
    if isinstance(labels, Tensor) and labels.shape == shape:
        answered = (labels != -100).cumsum(1) > 0
        asked = kept & ~answered.to(kept.device)
        # a row that is learned from its first token on has no prompt: all of it is one
        kept = torch.where(asked.any(1, keepdim=True), asked, kept)
    return kept


@torch.no_grad()
def base_states(
    model: nn.Module, args: tuple[Any, ...], inputs: Mapping[str, Any], tokens: int
) -> tuple[Tensor, Tensor]:
    """0.45 h_mid + 0.55 h_last of the base, all stacks off, and the mask of the prompt.

    Args:
        args, inputs: what the model is called with; `input_ids` and its mask are cut to `tokens`.

    Returns:
        (B, S, d) float32 and (B, S) bool.
    """
    given = {name: value for name, value in inputs.items() if name != "past_key_values"}
    ids = given.get("input_ids")
    if isinstance(ids, Tensor):
        shape = ids.shape
        given = {
            name: value[:, :tokens]
            for name, value in given.items()
            if name in ("input_ids", "attention_mask", "labels", "token_type_ids")
            and isinstance(value, Tensor)
            and value.shape == shape
        }
        mask = prompt_mask(given, given["input_ids"].shape)
        given.pop("labels", None)
        if getattr(getattr(model, "config", None), "use_cache", False):
            given["use_cache"] = False
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ModelError(
            f"a {type(model).__name__} reads a prompt apart from its answer, where no router "
            "looks: choose its domains yourself, by MODEL+RUN"
        )
    training = model.training
    model.eval()
    stack = Stack.of(model)
    with Switch.of(model).only({}), stack.capture() as stream:
        model(*args, **given)
    model.train(training)
    states = _joined(model, stream.hidden)
    if not isinstance(ids, Tensor):
        mask = torch.ones(states.shape[:2], dtype=torch.bool)
    return states, mask.to(states.device)


def _joined(model: nn.Module, hidden: list[Tensor]) -> Tensor:
    """(B, S, d): the weighted sum of the middle and the last hidden state, side by side where their
    widths differ. Of a stream without tokens, whose single one would tell no domain's query from
    another's, the states of the middle's width are the tokens.
    """
    middle, last = hidden[len(hidden) // 2], hidden[-1]
    if middle.dim() == 2:
        alike = [state for state in hidden[1:] if state.shape == middle.shape]
        return torch.stack(alike, 1).float()
    if middle.dim() != 3 or middle.shape[:2] != last.shape[:2]:
        raise ModelError(
            f"the stream of a {type(model).__name__} goes from {tuple(middle.shape)} to "
            f"{tuple(last.shape)}; a router reads (rows, width) or (rows, tokens, width)"
        )
    if middle.shape == last.shape:
        return (MIDDLE * middle + LAST * last).float()
    return torch.cat([MIDDLE * middle, LAST * last], -1).float()
