"""Folds hold each row out at most once, keep groups whole, and share classes out."""

import warnings

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, ShuffleSplit

from stackwise.errors import DataError
from stackwise.tasks.labelled.folds import fold_numbers, make_folds

RNG = np.random.default_rng(0)
CLASSES = np.repeat([0, 1, 2], [61, 30, 9])
SIZES = RNG.integers(1, 9, 40)
GROUPS = RNG.permutation(np.repeat(np.arange(40), SIZES))


@pytest.fixture(autouse=True)
def no_warning_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_each_class_is_shared_out_alike_and_every_row_is_in_a_fold():
    folds = fold_numbers(CLASSES, 4, by_class=True)
    table = np.array([np.bincount(folds[name == CLASSES], minlength=4) for name in range(3)])
    assert (np.ptp(table, axis=1) <= 1).all() and np.ptp(table.sum(0)) <= 3
    assert np.array_equal(folds, fold_numbers(CLASSES, 4, by_class=True))
    assert not np.array_equal(folds, fold_numbers(CLASSES, 4, by_class=True, seed=1))


@pytest.mark.parametrize("by_class", [True, False])
def test_a_group_stays_whole_and_the_folds_are_of_like_size(by_class: bool):
    y = RNG.integers(0, 2, len(GROUPS))
    folds = fold_numbers(y, 5, by_class=by_class, groups=GROUPS)
    assert all(len(set(folds[group == GROUPS])) == 1 for group in range(40))
    sizes = np.bincount(folds, minlength=5)
    assert np.ptp(sizes) <= 8
    shares = [y[folds == fold].mean() for fold in range(5)]
    assert not by_class or np.ptp(shares) < 0.12


def test_as_many_folds_as_groups_leaves_none_empty():
    y = np.arange(12) // 4
    for seed in range(20):
        folds = fold_numbers(y, 6, by_class=True, groups=np.arange(12) // 2, seed=seed)
        assert np.bincount(folds, minlength=6).tolist() == [2] * 6


def test_classes_rarer_than_the_folds_are_parted_all_the_same():
    folds = fold_numbers(np.arange(20) // 2, 5, by_class=True)
    assert np.bincount(folds).tolist() == [4] * 5


def test_folds_of_a_number_are_at_most_as_many_as_the_rows_of_the_commonest_class():
    assert len(make_folds(5, np.array([0, 0, 0, 1, 1, 1, 1]), by_class=True)) == 4
    assert len(make_folds(5, np.arange(3.0), by_class=False)) == 3
    assert len(make_folds(5, np.arange(9.0), by_class=False, groups=np.arange(9) // 3)) == 3


def test_a_class_of_one_row_is_held_out_by_bagging_alone():
    y = np.append(np.arange(20) % 2, 7)
    assert sorted(np.concatenate([held for _, held in make_folds(3, y, by_class=True)])) == list(
        range(20)
    )
    assert all(20 in train for train, _ in make_folds(3, y, by_class=True))
    assert fold_numbers(y, 3, by_class=True)[20] in range(3)


def test_in_time_order_a_fold_is_later_than_what_it_is_predicted_from():
    for train, held in make_folds(4, RNG.normal(size=30), by_class=False, ordered=True):
        assert train.max() < held.min()


def test_a_splitter_of_ones_own_is_taken_as_it_is_unless_it_repeats_a_row():
    y = RNG.normal(size=len(GROUPS))
    own = make_folds(GroupKFold(4), y, by_class=False, groups=GROUPS)
    plain = list(GroupKFold(4).split(y, y, GROUPS))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(own, plain, strict=True))
    with pytest.raises(DataError, match="each row must be held out at most once"):
        make_folds(ShuffleSplit(9, test_size=0.5, random_state=0), y, by_class=False)


def test_too_few_rows_or_groups_are_told():
    with pytest.raises(DataError, match="3 groups cannot be parted into 4 folds"):
        fold_numbers(np.zeros(9), 4, by_class=False, groups=np.arange(9) // 3)
    with pytest.raises(DataError, match="at least 2 rows of one class, there is 1"):
        make_folds(3, np.arange(5), by_class=True)
    with pytest.raises(DataError, match="at least 2 groups, there is 1"):
        make_folds(3, np.arange(5.0), by_class=False, groups=np.zeros(5))
