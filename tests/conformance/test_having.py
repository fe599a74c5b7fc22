"""A method that wants something of a model may refuse one that has it not, and nothing else."""

import dataclasses

import pytest
from torch import nn

from stackwise.catalog import Entry, card
from stackwise.conformance.checks import _Done, _follow
from stackwise.conformance.small_models import models_of, small_learners


def wanting() -> tuple[str, Entry]:
    """A transform that wants something of a model, and sees without data whether it has it."""
    return "lattice-pruning", card("lattice-pruning").entry("transform")


def test_a_model_that_has_it_not_may_be_refused_and_only_then():
    slug, after = wanting()
    made = _Done(after, nn.Linear(2, 2), None)
    _follow(made, after, card(slug), after, "module")
    wants_nothing = dataclasses.replace(after, having="")
    with pytest.raises(AssertionError, match="does not run on the module"):
        _follow(made, after, card(slug), wants_nothing, "module")


def test_what_a_method_wants_is_kept_in_the_index():
    _, entry = wanting()
    assert Entry.from_dict(entry.as_dict()) == entry
    old = {name: value for name, value in entry.as_dict().items() if name != "having"}
    assert Entry.from_dict(old).having == ""


def test_a_module_with_what_is_wanted_is_among_those_that_are_tried():
    _, entry = wanting()
    plain = list(models_of("module", dataclasses.replace(entry, having="")))
    wanted = list(models_of("module", entry))
    assert len(wanted) > len(plain) == 1


@pytest.mark.slow
def test_every_baseline_of_a_task_is_tried_where_one_is_not_enough():
    first = [name for name, *_ in small_learners(["images"])]
    every = [name for name, *_ in small_learners(["images"], every=True)]
    assert len(first) == 1 and first[0] == every[0] and len(every) > 1
