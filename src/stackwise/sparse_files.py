"""A layout of sparse tensors that makes their file really smaller.

Each tensor is kept in the cheapest of three forms, all of them plain tensors in safetensors:

    dense   as it is
    bits    one bit a weight for the mask, then the non-zeros
    gaps    the distance to the next non-zero as 16 bits (a longer way is taken in steps over
            explicit zeros), then the non-zeros

`bits` costs numel / 8 bytes and suits 50 to 94 %, `gaps` costs 2 bytes a non-zero and suits more.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from stackwise.files import believing, parse_json, read_tensors, write_tensors

FARTHEST = 2**16 - 1
MOST_ZEROS = 1 << 26
"""Numbers of a tensor that may be read from a file which spends no byte on them."""


def _gaps(flat: Tensor) -> tuple[Tensor, Tensor]:
    """The steps from one kept place to the next, and the values there."""
    places = flat.nonzero().flatten().numpy()
    steps = np.diff(places, prepend=-1)
    extra = (steps - 1) // FARTHEST
    last = np.cumsum(extra + 1) - 1
    total = int(last[-1]) + 1 if len(last) else 0
    gaps = np.full(total, FARTHEST, dtype=np.uint16)
    gaps[last] = steps - extra * FARTHEST
    values = torch.zeros(total, dtype=flat.dtype)
    values[torch.from_numpy(last)] = flat[torch.from_numpy(places)]
    return torch.from_numpy(gaps.view(np.int16)), values


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Give each tensor its cheapest form.

    Returns:
        the tensors to write, and for each packed one its form and shape.
    """
    packed: dict[str, Tensor] = {}
    forms: dict[str, object] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().flatten()
        size, left = flat.element_size(), int(flat.count_nonzero())
        costs = {
            "dense": flat.numel() * size,
            "bits": -(-flat.numel() // 8) + left * size,
            "gaps": (left + flat.numel() // FARTHEST) * (size + 2),
        }
        form = min(costs, key=lambda kind: (costs[kind], kind != "dense"))
        if form == "dense" or not flat.dtype.is_floating_point:
            packed[name] = tensor.detach()
            continue
        forms[name] = {"form": form, "shape": list(tensor.shape)}
        if form == "bits":
            mask = flat != 0
            packed[f"{name}#bits"] = torch.from_numpy(np.packbits(mask.numpy()))
            packed[f"{name}#values"] = flat[mask]
        else:
            packed[f"{name}#gaps"], packed[f"{name}#values"] = _gaps(flat)
    return packed, forms


def unpack(packed: Mapping[str, Tensor], forms: Mapping[str, dict]) -> dict[str, Tensor]:
    """The inverse of `pack`, bit for bit (a negative zero becomes zero)."""
    tensors = {name: tensor for name, tensor in packed.items() if "#" not in name}
    for name, about in forms.items():
        shape, values = about["shape"], packed[f"{name}#values"]
        _check_size(name, shape, packed.get(f"{name}#bits"), packed.get(f"{name}#gaps"))
        flat = torch.zeros(math.prod(shape), dtype=values.dtype)
        if about["form"] == "bits":
            bits = np.unpackbits(packed[f"{name}#bits"].numpy(), count=flat.numel())
            flat[torch.from_numpy(bits.astype(bool))] = values
        else:
            steps = packed[f"{name}#gaps"].numpy().view(np.uint16).astype(np.int64)
            flat[torch.from_numpy(np.cumsum(steps) - 1)] = values
        tensors[name] = flat.view(shape)
    return tensors


def _check_size(name: str, shape: list[int], bits: Tensor | None, gaps: Tensor | None) -> None:
    """The bytes of a file reach for a tensor of this shape, so that a small file makes no large
    one.
    """
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ValueError(f"{name} has the shape {str(shape)[:80]}")
    told = 8 * bits.numel() if bits is not None else 0
    told += FARTHEST * gaps.numel() if gaps is not None else 0
    if math.prod(shape) > told + MOST_ZEROS:
        raise ValueError(f"{name} has the shape {str(shape)[:80]}, more than its bytes can fill")


def save_sparse(tensors: Mapping[str, Tensor], path: Path | str) -> int:
    """Write tensors in their cheapest forms and return the size of the file in bytes."""
    packed, forms = pack(tensors)
    write_tensors(Path(path), packed, metadata={"sparse": json.dumps(forms)})
    return Path(path).stat().st_size


def load_sparse(path: Path | str) -> dict[str, Tensor]:
    """Read what `save_sparse` wrote; a plain safetensors file is read as it is.

    Raises:
        RunError: the file is missing, damaged or of another kind.
    """
    tensors = read_tensors(Path(path))
    with believing(Path(path)), safe_open(path, framework="pt") as file:
        forms = parse_json((file.metadata() or {}).get("sparse", "{}"))
        return unpack(tensors, forms)


def encoded_bytes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of weights under the encodings that papers count with.

    Returns:
        `dense`; `mask` (a bit a weight and the non-zeros); `offsets` (5-bit relative offsets and
        the non-zeros, arXiv 1710.01878).
    """
    counts = [(t.numel(), int(t.count_nonzero()), t.element_size()) for t in tensors.values()]
    return {
        "dense": sum(n * size for n, _, size in counts),
        "mask": sum(-(-n // 8) + left * size for n, left, size in counts),
        "offsets": sum(-(-left * 5 // 8) + left * size for _, left, size in counts),
    }
