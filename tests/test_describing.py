"""What `help` shows of an estimator."""

import inspect
import pydoc

import pytest

import stackwise
from stackwise.catalog import cards
from stackwise.catalog.describing import with_parameters
from stackwise.knobs import knobs_of

LEARNERS = {
    entry.name: entry
    for of in cards().values()
    for entry in of.entries
    if entry.kind == "learner" and of.package == "stackwise" and of.lacking is None
}


def test_help_names_no_knob_object_and_fits_the_width_of_a_screen():
    text = pydoc.plain(pydoc.render_doc(stackwise.TabMClassifier))
    shown = text[: text.index("Method resolution order")]
    assert "Knob(" not in text and "Annotated" not in text
    assert "k : int, at least 1, at most 1024, default=32" in shown
    assert max(map(len, shown.splitlines()[4:])) <= 130


@pytest.mark.parametrize("name", LEARNERS)
def test_each_knob_stands_under_parameters_with_its_default(name: str):
    made = LEARNERS[name].load()
    knobs = list(knobs_of(made.__init__))
    if not knobs:
        assert "\nParameters\n" not in inspect.getdoc(made)
        return
    section = inspect.getdoc(made).split("\nParameters\n----------\n")[1]
    named = [line.split(" : ")[0] for line in section.splitlines() if " : " in line[:40]]
    assert [one for one in named if not one.startswith(" ")] == knobs


def test_help_begins_with_a_methods_own_knobs_and_fits_a_screen_without_the_shared_ones():
    first, shared = inspect.getdoc(stackwise.TabMClassifier).split("\nOther Parameters\n-----")
    assert "k : int" in first and "d_embedding" in first and "random_state" not in first
    assert "lr : float" in shared and "random_state" in shared
    assert len(first.splitlines()) <= 40


def test_choices_stand_as_numpydoc_writes_them():
    from stackwise.build.tabm import TabMRegressor

    text = with_parameters("A network.", knobs_of(TabMRegressor.__init__))
    assert "schedule : {'constant', 'cosine', 'linear'}, default='constant'" in text
    assert "patience : int, at least 1, or None, default=16" in text
