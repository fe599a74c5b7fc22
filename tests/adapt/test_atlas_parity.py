"""Numbers recorded from the authors' code: composition, gradients, partition, linearised model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from stackwise.adapt.atlas import Composition, Linearised, blocks_of, task_vectors

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "atlas.safetensors")
INPUT = RECORD["input/x"]


class Recorded(nn.Module):
    """proj(h + tanh(b(h))) with h = GELU(norm(a(x)))."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.proj = nn.Linear(8, 4, bias=False)
        self.load_state_dict(weights)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.gelu(self.norm(self.a(x)))
        return self.proj(h + torch.tanh(self.b(h)))


def under(prefix: str) -> dict[str, Tensor]:
    found = {name: tensor for name, tensor in RECORD.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


BASE = Recorded(under("weights/pretrained/"))
DONORS = [Recorded(under(f"weights/task{number}/")) for number in range(3)]


def composed(case: str, coefficients: Tensor, **how: object) -> Composition:
    blocks = blocks_of(BASE, exclude=[], matrices=how.get("scaling") == "weights")
    made = Composition(BASE, blocks, task_vectors(BASE, how.pop("donors", DONORS), blocks), **how)
    with torch.no_grad():
        made.values.copy_(coefficients)
    return made


def held(made: Composition, case: str, *, digits: float = 1e-5) -> None:
    features = made.written()(INPUT)
    features.square().mean().backward()
    assert_close(features, RECORD[f"output/{case}/features"], rtol=digits, atol=digits)
    network = made.composed()
    for name, tensor in under(f"output/{case}/composed/").items():
        assert_close(network.get_parameter(name).detach(), tensor, rtol=digits, atol=digits)


def test_a_coefficient_a_block_composes_and_learns_as_theirs():
    made = composed("block", RECORD["input/coef_block"][:, :, None])
    held(made, "block")
    assert_close(made.values.grad[:, :, 0], RECORD["output/block/coef_grad"], rtol=1e-4, atol=1e-6)


def test_a_coefficient_a_donor_composes_and_learns_as_theirs():
    made = composed("global", RECORD["input/coef_global"][:, None, None], scaling="donor")
    held(made, "global")
    expected = RECORD["output/global/coef_grad"]
    assert_close(made.values.grad[:, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_parts_of_matrices_compose_and_learn_as_theirs_with_their_split_by_shape():
    names = list(BASE.state_dict())
    matrices = [place for place, name in enumerate(names) if BASE.get_parameter(name).dim() == 2]
    shapes = {names[place]: tuple(BASE.get_parameter(names[place]).shape) for place in matrices}
    groups = {
        name: RECORD[f"input/partition_index/{rows}x{columns}"].reshape(-1)
        for name, (rows, columns) in shapes.items()
    }
    coefficients = RECORD["input/coef_partition"][:, matrices]
    made = composed("partition", coefficients, scaling="weights", parts=4, groups=groups)
    held(made, "partition")
    expected = RECORD["output/partition/coef_grad"]
    assert_close(made.values.grad, expected[:, matrices], rtol=1e-4, atol=1e-6)
    vectors = [place for place in range(len(names)) if place not in matrices]
    assert not expected[:, vectors].any()  # theirs have coefficients that do nothing


def test_donors_in_half_precision_are_near_theirs_which_sum_in_half():
    halves = [{name: t.half() for name, t in donor.state_dict().items()} for donor in DONORS]
    made = composed("block", RECORD["input/coef_block"][:, :, None], donors=halves)
    held(made, "block_half_vectors", digits=3e-3)


def test_the_linearised_network_answers_as_theirs():
    made = composed("block", RECORD["input/coef_block"][:, :, None], linearised=True)
    features = made.written()(INPUT)
    assert_close(features, RECORD["output/linearised/features"], rtol=1e-5, atol=1e-5)
    vector = {name: made.change(name) for name in made.names}
    plain = Linearised(Recorded(under("weights/pretrained/")).eval(), vector)
    assert_close(plain(INPUT), features)


def test_lengths_and_negation_of_task_vectors_are_theirs():
    blocks = blocks_of(BASE, exclude=[])
    vectors = task_vectors(BASE, DONORS, blocks)
    lengths = [
        torch.cat([part.values().reshape(-1) for part in one.parts.values()]).norm()
        for one in vectors
    ]
    assert_close(torch.stack(lengths), RECORD["output/vector_norms"], rtol=1e-5, atol=1e-5)
    with (-0.4 * vectors[0].delta(BASE)).on(BASE):
        found = BASE.a.weight.detach().clone()
    assert_close(found, RECORD["output/negated_applied/a.weight"], rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def the_recorded_stay():
    before = {name: tensor.clone() for name, tensor in BASE.state_dict().items()}
    yield
    assert all(torch.equal(tensor, before[name]) for name, tensor in BASE.state_dict().items())
