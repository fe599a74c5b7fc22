"""Sentences or windows through a network, for answers."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from stackwise.build.drug_ner.batches import Features
from stackwise.build.drug_ner.layers.crf import CRF
from stackwise.build.drug_ner.representation import window_places
from stackwise.tasks.tags.estimators.wordwise import offset_of

AT_ONCE = 8192
"""Words, those that pad among them, that go through a network together."""
WINDOWS = 4096
"""The same of windows."""


@torch.no_grad()
def outputs_of(network: nn.Module, features: Features, window: int | None) -> list[np.ndarray]:
    """(n, C) logits of the words of each sentence, or of the windows that begin at them."""
    device = next(network.parameters()).device
    head = network.get_submodule("head")
    assert isinstance(head, nn.Linear)
    classes = head.out_features
    lengths = features.lengths.tolist()
    if not lengths:
        return []
    if window is not None:
        rows = features.windows(window_places(lengths, window))
        parts = [
            network(**_on(features.of_windows(rows[at : at + WINDOWS]), device)).cpu()
            for at in range(0, len(rows), WINDOWS)
        ]
        whole = torch.cat(parts).numpy() if parts else np.zeros((0, classes), np.float32)
        return np.split(whole, list(accumulate(lengths))[:-1])
    found = [np.zeros((0, classes), np.float32) for _ in lengths]
    for group in _groups(features.lengths):
        batch = _on(features.sentences(group), device)
        for row, one in zip(group, network(**batch).cpu().numpy(), strict=True):
            found[row] = one[: lengths[row]]
    return found


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(n, C) float64 logarithms of probabilities."""
    whole = logits.astype(np.float64)
    if not len(whole):
        return whole
    whole -= whole.max(1, keepdims=True)
    return np.asarray(whole - np.log(np.exp(whole).sum(1, keepdims=True)))


def _on(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return batch if device.type == "cpu" else {k: v.to(device) for k, v in batch.items()}


def _groups(lengths: np.ndarray) -> list[np.ndarray]:
    """Sentences of like length in groups of at most `AT_ONCE` words, those that pad among them."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    made, start = [], 0
    for end in range(1, len(order) + 1):
        full = end == len(order) or (end + 1 - start) * lengths[order[end]] > AT_ONCE
        if full:
            made.append(order[start:end])
            start = end
    return made


def likeliest(chain: CRF, emissions: Sequence[np.ndarray], threshold: float) -> list[np.ndarray]:
    """(n,) the classes of the likeliest sequence of each sentence, every class but O raised by what
    a threshold means.
    """
    found = [np.zeros(0, dtype=np.int64) for _ in emissions]
    for rows, padded, mask in _padded(emissions, chain.start.device):
        padded[..., 1:] += offset_of(threshold)
        for row, codes in zip(rows, chain.decode(padded, mask).cpu().numpy(), strict=True):
            found[row] = codes[: len(emissions[row])]
    return found


def marginals(chain: CRF, emissions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(n, C) the probabilities of the classes of each word of each sentence."""
    found = [np.zeros(one.shape, dtype=np.float64) for one in emissions]
    for rows, padded, mask in _padded(emissions, chain.start.device):
        shares = chain.marginals(padded, mask).double().cpu().numpy()
        for row, values in zip(rows, shares, strict=True):
            found[row] = values[: len(emissions[row])]
    return found


def _padded(
    emissions: Sequence[np.ndarray], device: torch.device
) -> list[tuple[np.ndarray, Tensor, Tensor]]:
    """Sentences of like length: their numbers, (B, T, C) and their mask."""
    lengths = np.array([len(one) for one in emissions], dtype=np.int64)
    made = []
    for rows in _groups(lengths):
        held = [torch.from_numpy(np.array(emissions[row])) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(held, batch_first=True)
        mask = torch.arange(padded.shape[1]) < torch.from_numpy(lengths[rows])[:, None]
        made.append((rows, padded.to(device), mask.to(device)))
    return made
