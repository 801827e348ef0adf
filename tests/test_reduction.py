"""Whatever is summed over rows goes one way: the rows, their order, the names of the tasks, and what is left behind."""

import operator
import uuid

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import get_task_stream
from dask.utils import key_split
from helpers import to_zarr

from dask_gd import passes
from dask_gd.passes import reduction, task
from dask_gd.preprocessing import StandardScaler
from dask_gd.sources import as_source

N = 500


def numbers_of(rows_of_partition):
    """A summation of a user's own: the partition with the numbers of its rows."""
    numbers = [rows.numbers for _, rows in rows_of_partition.windows]
    names = {role: column.name for role, column in rows_of_partition.columns().items()}
    return [(rows_of_partition.partition, np.concatenate(numbers).tolist(), names)]


def sums_of(rows_of_partition):
    return sum(rows.x.sum() for _, rows in rows_of_partition.windows)


def fails(rows_of_partition):
    next(rows_of_partition.windows)
    raise RuntimeError("mine")


def source_of(kind, path):
    x = np.random.default_rng(0).normal(size=(N, 3)) * 1e3
    if kind == "zarr":
        return as_source(to_zarr(x, 10, path / "x"), to_zarr(x[:, 0], 70, path / "y"))
    return as_source(da.from_array(x, chunks=(10, -1)), x[:, 0])


def reduced(source, summation, groups=None, add=operator.add, **options):
    reader, blocks = source.tasks
    if groups is None:
        groups = tuple((i,) for i in range(source.partitions))
    work = passes.Work(reader, summation, groups, key=f"{uuid.uuid4().hex[:8]}-1", add=add)
    return passes.reduce_rows(work, blocks, name="gd-test", data="x", what="a test", **options)


def check_numbers(source, found):
    assert [partition for partition, _, _ in found] == list(range(source.partitions))
    assert [number for _, numbers, _ in found for number in numbers] == list(range(N))
    for _, _, names in found:
        assert names.keys() == {"x", "y"}


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_every_row_is_summed_once_in_the_order_of_the_partitions(kind, tmp_path):
    source = source_of(kind, tmp_path)
    assert source.partitions > reduction.FAN_IN
    with dask.config.set(scheduler="threads"):
        check_numbers(source, reduced(source, numbers_of))


def test_groups_of_partitions_change_no_bit(tmp_path):
    source = source_of("zarr", tmp_path)
    alone = reduced(source, sums_of)
    everything = tuple(range(source.partitions))
    # More tasks than are added up at a time: a tree over the tasks would not be that over the partitions.
    first_two = ((0, 1), *((i,) for i in everything[2:]))
    assert len(first_two) > reduction.FAN_IN
    for groups in ((everything,), (everything[:5], everything[5:]), first_two):
        assert reduced(source, sums_of, groups) == alone


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_tasks_on_a_cluster_have_their_name_and_the_same_bits(kind, tmp_path, two):
    source = source_of(kind, tmp_path)
    with get_task_stream(two) as stream:
        total = reduced(source, sums_of)
    names = {key_split(each["key"]) for each in stream.data}
    assert {"gd-test", "gd-sum"} <= names
    assert "gd-gradient" not in names
    with dask.config.set(scheduler="threads"):
        assert reduced(source, sums_of) == total
    check_numbers(source, reduced(source, numbers_of, add=operator.add))


def test_a_pass_that_fails_closes_its_reader_and_leaves_nothing(tmp_path, monkeypatch):
    source = source_of("zarr", tmp_path)
    closed = []
    read = type(source.reader).__call__

    def watched(self, *arguments, **options):
        try:
            yield from read(self, *arguments, **options)
        finally:
            closed.append(arguments[0])

    monkeypatch.setattr(type(source.reader), "__call__", watched)
    # The error's traceback keeps the generator, so that nothing but the task itself closes it.
    with dask.config.set(scheduler="sync"), pytest.raises(RuntimeError, match="mine") as error:
        reduced(source, fails)
    assert len(closed) == 1
    assert error.value.__traceback__ is not None
    assert not task._running


def test_a_task_that_kills_its_workers_is_named_by_its_rows(tmp_path, monkeypatch):
    """For transformers as for fits."""
    named = []
    compute = reduction.compute

    def noted(*collections, **options):
        named.append(options["named"])
        return compute(*collections, **options)

    monkeypatch.setattr(reduction, "compute", noted)
    source = source_of("zarr", tmp_path)
    reduced(source, sums_of, groups=((0, 1, 2), tuple(range(3, source.partitions))))
    StandardScaler().fit(to_zarr(np.ones((90, 2)), 30, tmp_path / "X"))
    of_groups, of_scaler = named
    assert of_groups(("gd-test-3f2a91c0-1", 0)) == "One of partitions 0 to 2 (rows 0-59) of 'x'"
    assert of_scaler(("gd-rows-3f", 1)) == "Partition 1 (rows 30-59) of 'X'"
    assert of_scaler(("gd-sum-3f-0", 1)) == "Task ('gd-sum-3f-0', 1)"
