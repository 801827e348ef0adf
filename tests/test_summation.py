"""The tree over the partitions of a pass: whoever adds up which part of it."""

import operator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_gd.passes.graph import add_up
from dask_gd.passes.summation import Subtree, added_up


def leaves(values, start=0):
    return [Subtree(0, start + i, value) for i, value in enumerate(values)]


@given(st.data())
def test_however_the_partitions_are_grouped_the_bits_are_the_same(data):
    count = data.draw(st.integers(1, 70))
    values = np.random.default_rng(count).normal(size=count) * 10.0 ** np.arange(count) % 1e7
    (alone,) = added_up(leaves(values), count, operator.add)
    assert alone.is_whole(count)
    # Tasks with some partitions each, whose sums are added up some at a time.
    edges = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=8))})
    level = [added_up(leaves(values[start:stop], start), count, operator.add) for start, stop in pairwise(edges)]
    while len(level) > 1:
        width = data.draw(st.integers(2, 5))
        runs = [level[i : i + width] for i in range(0, len(level), width)]
        level = [added_up([part for parts in run for part in parts], count, operator.add) for run in runs]
    assert level == [[alone]]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 30, 33])
def test_every_partition_is_added_once_and_neighbours_first(count):
    (all_of_them,) = added_up(leaves([[i] for i in range(count)]), count, operator.add)
    assert all_of_them.sums == list(range(count))
    shapes = added_up(leaves([str(i) for i in range(count)]), count, lambda a, b: f"({a} {b})")
    if count == 3:
        assert shapes[0].sums == "((0 1) 2)"


def test_sums_that_have_overflowed_are_added_up_without_a_warning():
    parts = [leaves([np.array(np.inf)]), leaves([np.array(-np.inf)], start=1)]
    assert np.isnan(add_up(parts, 2, operator.add)[0].sums)


def test_a_task_keeps_few_sums():
    for start, stop in ((0, 64), (3, 61), (7, 8)):
        kept = added_up(leaves(range(start, stop), start), 100, operator.add)
        assert len(kept) <= 2 * 6
