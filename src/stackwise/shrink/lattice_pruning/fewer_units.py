"""A recurrent layer of which units were taken out: dense, smaller, and the same from outside.

Each layer and direction keeps some of its n units, with their rows and columns of W_hh, their rows
of W_ih and of the biases, and their columns of W_ih in the layer above. Outputs and states are as
wide as before: what reads them finds zeros where units went.

    small = FewerUnits.of(nn.LSTM(28, 128), [[[0, 2, 5, ...]]])      kept[layer][direction]
    outputs, (h, c) = small(x)                                       outputs (..., 128)

Where the weights that lead out of the units that went are zero, a model answers as before.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackwise.errors import ModelError
from stackwise.layers.arguments import keeps_arguments
from stackwise.shrink.lattice_pruning.units import gates_of, suffix

Kept = Sequence[Sequence[Sequence[int]]]
KINDS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


@keeps_arguments
class FewerUnits(nn.Module):
    """nn.RNN, nn.LSTM or nn.GRU with some of its units; called as those are.

    Args:
        kind: LSTM, GRU or RNN. nonlinearity: of RNN.
        input_size, hidden_size, bias, batch_first, dropout: of the layer as it was.
        kept: kept[layer][direction] are the units that stay, in their order; as many in each
            direction of a layer.
    """

    arguments: dict[str, Any]

    def __init__(
        self,
        *,
        kind: Literal["LSTM", "GRU", "RNN"],
        input_size: int,
        hidden_size: int,
        kept: Kept,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__()
        _check(kept, hidden_size)
        self.kind, self.kept = kind, [[list(units) for units in ways] for ways in kept]
        self.input_size, self.hidden_size, self.batch_first = input_size, hidden_size, batch_first
        self.num_layers, self.ways = len(kept), len(kept[0])
        self.bidirectional = self.ways == 2
        self.dropout = nn.Dropout(dropout)
        more: dict[str, Any] = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
        self.layers = nn.ModuleList()
        size = input_size
        for layer, units in enumerate(self.kept):
            own = KINDS[kind](
                size, len(units[0]), bias=bias, batch_first=batch_first,
                bidirectional=self.bidirectional, **more,
            )  # fmt: skip
            self.layers.append(own)
            size = sum(map(len, units))
            places = torch.tensor(self.kept[layer])  # (ways, kept)
            self.register_buffer(f"places_{layer}", places, persistent=False)

    @classmethod
    def of(cls, module: nn.RNNBase, kept: Kept) -> "FewerUnits":
        """Take a layer's units `kept[layer][direction]`, with the weights that they have."""
        more = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNN) else {}
        kind = next(name for name, made in KINDS.items() if isinstance(module, made))
        small = cls(
            kind=cast(Any, kind), input_size=module.input_size, hidden_size=module.hidden_size,
            kept=[[list(units) for units in ways] for ways in kept], bias=module.bias,
            batch_first=module.batch_first, dropout=module.dropout, **more,
        )  # fmt: skip
        weight = next(module.parameters())
        small.to(device=weight.device, dtype=weight.dtype)
        small._take(module)
        small.train(module.training)
        return small

    def forward(self, x: Any, hx: Any = None) -> tuple[Any, Any]:
        """As the layer of torch: (..., input_size) and states, or a packed sequence.

        Returns:
            (..., directions * hidden_size), and the states (layers * directions, ..., hidden_size);
            zero where units went.
        """
        states = []
        for number, layer in enumerate(self.layers):
            x, state = layer(x, self._narrow(hx, number))
            states.append(self._widen_state(state, number))
            if number + 1 < self.num_layers:
                x = _on_data(self.dropout, x)
        if self.kind == "LSTM":
            behind: Any = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        else:
            behind = torch.cat(states)
        return _on_data(self._widen, x), behind

    def _places(self, layer: int) -> Tensor:
        return cast(Tensor, self.get_buffer(f"places_{layer}"))

    def _narrow(self, hx: Any, layer: int) -> Any:
        """The state that a layer begins with, of its own units."""
        if hx is None:
            return None
        if isinstance(hx, tuple):
            return tuple(self._narrow(part, layer) for part in hx)
        rows = hx[layer * self.ways : (layer + 1) * self.ways]
        places = self._places(layer)
        return torch.stack(
            [row.index_select(-1, place) for row, place in zip(rows, places, strict=True)]
        )

    def _widen_state(self, state: Any, layer: int) -> Any:
        if isinstance(state, tuple):
            return tuple(self._widen_state(part, layer) for part in state)
        wide = state.new_zeros(*state.shape[:-1], self.hidden_size)
        parts = zip(wide, state, self._places(layer), strict=True)
        return torch.stack([empty.index_copy(-1, place, part) for empty, part, place in parts])

    def _widen(self, x: Tensor) -> Tensor:
        """(..., kept of all directions) -> (..., directions * hidden_size)."""
        places = self._places(self.num_layers - 1)
        first = self.hidden_size * torch.arange(self.ways, device=places.device)
        wide = x.new_zeros(*x.shape[:-1], self.ways * self.hidden_size)
        return wide.index_copy(-1, (places + first[:, None]).flatten(), x)

    @torch.no_grad()
    def _take(self, module: nn.RNNBase) -> None:
        """Copy the weights of the units that stay."""
        size, gates = module.hidden_size, max(len(gates_of(module)), 1)
        columns = torch.arange(module.input_size)
        for number, ways in enumerate(self.kept):
            layer, above = self.layers[number], []
            for way, units in enumerate(ways):
                own, whole = suffix(0, way), suffix(number, way)
                stay = torch.tensor(units)
                rows = torch.cat([gate * size + stay for gate in range(gates)])
                taken = {
                    "weight_ih": getattr(module, f"weight_ih{whole}")[rows][:, columns],
                    "weight_hh": getattr(module, f"weight_hh{whole}")[rows][:, stay],
                }
                if module.bias:
                    taken |= {
                        name: getattr(module, name + whole)[rows] for name in ("bias_ih", "bias_hh")
                    }
                for name, values in taken.items():
                    getattr(layer, name + own).copy_(values)
                above.append(way * size + stay)
            columns = torch.cat(above)

    def extra_repr(self) -> str:
        """The units that stay, a number a layer."""
        counts = ", ".join(str(len(ways[0])) for ways in self.kept)
        return f"{self.kind}, {counts} of {self.hidden_size} units"


def _on_data(action: Any, x: Any) -> Any:
    """Apply to a tensor, or to the data of a packed sequence."""
    if not isinstance(x, PackedSequence):
        return action(x)
    return PackedSequence(action(x.data), x.batch_sizes, x.sorted_indices, x.unsorted_indices)


def _check(kept: Kept, size: int) -> None:
    """Raises:
    ModelError: units that are not there, none in a layer, or directions that differ in number.
    """
    for ways in kept:
        if len({len(units) for units in ways}) != 1 or len(ways) != len(kept[0]):
            raise ModelError("the directions of a layer keep as many units each")
        for units in ways:
            if not units or sorted(set(units)) != list(units) or units[0] < 0 or units[-1] >= size:
                raise ModelError(
                    f"kept units must be at least one of 0 to {size - 1}, in their order; got "
                    f"{str(list(units))[:60]}"
                )
