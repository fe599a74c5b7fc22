"""Groups of blocks side by side: every order of the expansion, exactly."""

import copy
import itertools

import pytest
import torch
from torch import nn

from stackwise.errors import ModelError
from stackwise.layers.sweeps import put_sweeps, side_by_side, sweeps_of, with_sweeps


class Linear(nn.Module):
    """x + W x."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(width, width, dtype=torch.float64))

    def forward(self, x):
        return x + x @ self.weight.T


class Bent(nn.Module):
    """x + tanh(W x), as a tuple with something beside it."""

    def __init__(self, width: int = 5, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.scale = scale

    def forward(self, x, shift=0.0):
        return x + self.scale * torch.tanh(x @ self.weight.T + shift), "beside"


class Chain(nn.Module):
    """Blocks one after the other, of which only the stream counts."""

    def __init__(self, blocks) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks[: len(self.blocks)]:
            x = block(x)
            x = x if isinstance(x, torch.Tensor) else x[0]
        return x


def cut(chain: nn.Module, order: int, groups=None) -> nn.Module:
    made = copy.deepcopy(chain)
    groups = groups or [list(range(len(made.blocks)))]
    put_sweeps(made, "blocks", groups, order)
    return made


@pytest.fixture
def bent() -> Chain:
    torch.manual_seed(0)
    return Chain([Bent() for _ in range(4)])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_of_linear_blocks_an_order_is_the_expansion_cut_after_it(order):
    torch.manual_seed(0)
    chain = Chain([Linear() for _ in range(4)])
    weights = [block.weight for block in chain.blocks]
    total = torch.eye(5, dtype=torch.float64)
    for size in range(1, order + 1):
        for chosen in itertools.combinations(range(4), size):
            term = torch.eye(5, dtype=torch.float64)
            for place in chosen:
                term = weights[place] @ term
            total = total + term
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(cut(chain, order)(x), x @ total.T, rtol=1e-12, atol=1e-12)


def test_as_many_sweeps_as_blocks_are_the_sequence_and_one_is_not(bent, x):
    torch.testing.assert_close(cut(bent, 4)(x), bent(x), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cut(bent, 99)(x), bent(x), rtol=1e-5, atol=1e-6)
    assert (cut(bent, 1)(x) - bent(x)).abs().max() > 0.01


def test_after_m_sweeps_the_first_m_states_are_exact(bent, x):
    adds = [lambda h, block=block: block(h)[0] - h for block in bent.blocks]
    exact = x
    for count in range(1, 5):
        exact = exact + adds[count - 1](exact)
        found = side_by_side(lambda j, h: adds[j](h), x, count, count)
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)


def test_a_group_of_one_is_the_block_itself(bent, x):
    assert torch.equal(cut(bent, 1, [[0], [1], [2], [3]])(x), bent(x))
    pairs = cut(bent, 1, [[0, 1], [2, 3]])(x)
    first = x + sum(block(x)[0] - x for block in bent.blocks[:2])
    second = first + sum(block(first)[0] - first for block in bent.blocks[2:])
    torch.testing.assert_close(pairs, second, rtol=1e-6, atol=1e-6)


def test_side_by_side_the_order_of_blocks_is_nothing_and_in_sequence_it_is(bent, x):
    turned = Chain([copy.deepcopy(block) for block in reversed(bent.blocks)])
    torch.testing.assert_close(cut(bent, 1)(x), cut(turned, 1)(x), rtol=1e-6, atol=1e-6)
    assert (bent(x) - turned(x)).abs().max() > 0.01


def test_blocks_that_add_nothing_leave_the_identity(x):
    chain = Chain([Bent(scale=0.0) for _ in range(3)])
    for order in (1, 2, 3):
        assert torch.equal(cut(chain, order)(x), x)


def test_what_is_cut_is_of_the_second_order_of_the_blocks(x):
    x = x.double()

    def gap(scale: float) -> float:
        torch.manual_seed(3)
        chain = Chain([Bent(scale=scale) for _ in range(3)]).double()
        return float((cut(chain, 1)(x) - chain(x)).detach().norm())

    slope = torch.log10(torch.tensor(gap(1e-2) / gap(1e-3)))
    assert abs(float(slope) - 2) < 0.1


def test_the_gradient_of_a_block_does_not_know_the_others(bent, x):
    def gradient(chain) -> torch.Tensor:
        chain.zero_grad()
        chain(x).sum().backward()
        return chain.blocks[2].weight.grad.clone()

    for chain, same in ((cut(bent, 1), True), (bent, False)):
        before = gradient(chain)
        with torch.no_grad():
            chain.blocks[0].weight.mul_(3)
        assert torch.equal(before, gradient(chain)) is same


def test_names_stay_and_a_file_tells_what_runs_side_by_side(bent, x):
    made = cut(bent, 2, [[0, 1], [2, 3]])
    assert list(made.state_dict()) == list(bent.state_dict())
    told = sweeps_of(made)
    again = with_sweeps(Chain([Bent() for _ in range(4)]), told)
    again.load_state_dict(bent.state_dict())
    assert torch.equal(again(x), made(x))
    assert sweeps_of(bent) is None and with_sweeps(bent, None) is bent


def test_what_a_file_tells_holds_against_a_constructor_and_after_a_rebuild(bent, x):
    told = sweeps_of(cut(bent, 3))
    assert torch.equal(with_sweeps(cut(bent, 1), told)(x), cut(bent, 3)(x))
    pairs = cut(bent, 1, [[0, 1], [2, 3]])
    shorter = copy.deepcopy(pairs)
    del shorter.blocks._modules["3"]  # as a rebuild leaves it
    again = Chain([copy.deepcopy(block) for block in list(bent.blocks)[:3]])
    assert torch.equal(with_sweeps(again, sweeps_of(pairs))(x), shorter(x))


def test_a_sequential_runs_its_groups_and_keeps_stem_and_head(x):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), Plain(), Plain(), nn.Linear(5, 2))
    made = copy.deepcopy(model)
    put_sweeps(made, "", [[0], [1, 2], [3]], 1)
    h = model[0](x)
    expected = model[3](h + (model[1](h) - h) + (model[2](h) - h))
    torch.testing.assert_close(made(x), expected, rtol=1e-6, atol=1e-6)


class Plain(nn.Module):
    """x + relu(w x)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, x):
        return x + self.inner(x).relu()


def test_what_cannot_run_side_by_side_is_said(bent, x):
    with pytest.raises(ModelError, match="order 0 removes every block"):
        cut(bent, 0)
    with pytest.raises(ModelError, match="not the 4 blocks in their order"):
        cut(bent, 1, [[0, 1], [3, 2]])
    with pytest.raises(ModelError, match="side by side already"):
        put_sweeps(cut(bent, 1), "blocks", [[0, 1, 2, 3]], 1)
    with pytest.raises(ModelError, match="is a Linear"):
        put_sweeps(nn.Sequential(nn.Linear(2, 2)), "0", [[0]], 1)
    widening = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 7))
    put_sweeps(widening, "", [[0, 1]], 1)
    with pytest.raises(ModelError, match=r"block 1 of a group maps \(5,\) to \(7,\)"):
        widening(x)
