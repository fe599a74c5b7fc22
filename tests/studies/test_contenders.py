"""Which contenders a method brings into a comparison: its variants, by its own card."""

import pytest

from stackwise.studies.contenders import contenders
from stackwise.tasks.table.task import TableTask


@pytest.fixture(scope="module")
def task():
    return TableTask.small()


def test_a_variant_stands_beside_the_method_as_it_is(task):
    assert contenders(task, "tabm", None, {"k": 4}) == {
        None: {"k": 4}, "piecewise": {"num_embedding": "piecewise", "k": 4},
    }  # fmt: skip
    assert list(contenders(task, "mlp", "quick", {})) == [None]


def test_a_variant_that_the_user_contradicts_takes_no_part(task):
    given = {"num_embedding": "periodic"}
    assert contenders(task, "tabm", None, given) == {None: given}


def test_a_preset_that_makes_two_equal_has_one_contender(task):
    assert list(contenders(task, "tabm", "best", {})) == [None]
    assert len(contenders(task, "tabm", "quick", {})) == 2
