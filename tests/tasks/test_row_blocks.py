"""Rows alone and among many: the same bits, whether large blocks may be used or not."""

import numpy as np
import pytest
import torch
from torch import nn

from stackwise.build.hopular import Hopular
from stackwise.build.masknet import MaskNet
from stackwise.build.skan import SKAN
from stackwise.build.tabm import TabM
from stackwise.learning import row_blocks
from stackwise.learning.outputs import mean_values, through_network
from stackwise.tasks.table.baselines.mlp import MLP

COUNT = 700
COLUMNS = {"n_numeric": 5, "cardinalities": [3, 4], "n_outputs": 3}
WIDE = {"n_numeric": 0, "cardinalities": [50] * 40, "n_outputs": 2}
NETWORKS = {
    "mlp": lambda: MLP(**COLUMNS, width=100),
    "tabm": lambda: TabM(**COLUMNS, width=64, k=8),
    "many members": lambda: TabM(**COLUMNS, width=32, k=32),
    "masknet": lambda: MaskNet(**COLUMNS),
    # its large blocks round otherwise than its small ones, on some processors at least
    "wide parallel masknet": lambda: MaskNet(**WIDE, variant="parallel"),
    "hopular": lambda: Hopular(
        **COLUMNS, by_class=True, memory_rows=50, feature_dim=4, heads=2, blocks=1
    ),
    "skan": lambda: SKAN(**COLUMNS),
}


def made(name: str) -> tuple[nn.Module, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    generator = np.random.default_rng(0)
    codes = [generator.integers(0, size, COUNT) for size in network.arguments["cardinalities"]]
    numeric = generator.normal(size=(COUNT, network.arguments["n_numeric"])).astype(np.float32)
    return network, {"numeric": numeric, "categorical": np.stack(codes, 1)}


def put(network: nn.Module, inputs: dict[str, np.ndarray], rows=slice(None)) -> np.ndarray:
    given = {name: array[rows] for name, array in inputs.items()}
    return through_network(network, given, lambda output: mean_values(output, classes=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_has_the_same_bits_alone_and_in_large_blocks(name: str):
    network, inputs = made(name)
    whole = put(network, inputs)
    assert whole.shape[0] == COUNT
    for first, last in ((0, 1), (255, 257), (300, 340), (COUNT - 1, COUNT), (3, 600)):
        assert (put(network, inputs, slice(first, last)) == whole[first:last]).all()


class Odd(nn.Module):
    """Answers otherwise where more rows than `most` come at once, as some products round."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.linear = nn.Linear(1, 2)
        self.sizes: list[int] = []

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(numeric))
        values = numeric * self.linear.weight[:, 0] + self.linear.bias
        return values * (1 + 1e-6 * (len(numeric) > self.most))


@pytest.mark.parametrize(
    ("most", "looked_at", "then"),
    [
        (1000, [256], [256, 256, 64, 64]),
        (128, [256, 128], [128, 128, 128, 128, 64, 64]),
        (64, [256, 128], [64] * 10),
    ],
)
def test_the_largest_blocks_that_agree_are_used_and_the_finding_is_kept(most, looked_at, then):
    network = Odd(most)
    rows = {"numeric": np.linspace(-1, 1, 600, dtype=np.float32)[:, None]}
    first = put(network, rows)
    assert network.sizes[: 4 + len(looked_at)] == [64] * 4 + looked_at
    network.sizes.clear()
    whole = put(network, rows)
    assert network.sizes == then
    assert (first == whole).all()
    alone = np.concatenate([put(network, rows, slice(i, i + 1)) for i in range(0, 600, 50)])
    assert (whole[::50] == alone).all()


def test_few_rows_go_through_in_small_blocks_alone():
    network = Odd(1000)
    put(network, {"numeric": np.zeros((255, 1), dtype=np.float32)})
    assert network.sizes == [64] * 4
    assert network not in row_blocks._agreed
