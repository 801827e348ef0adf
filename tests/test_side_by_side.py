"""Numbers, codes and sparse rows side by side: the products of the same rows written out."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from dask_gd import Logistic, Poisson, Squared
from dask_gd.kernels.base import BOUND, EXACT, Kernel, Part, Request, sums_of_rows
from dask_gd.kernels.codes import CodedRows
from dask_gd.kernels.factors import Factor
from dask_gd.kernels.side_by_side import SideBySide
from dask_gd.kernels.sparse import SparseRows
from dask_gd.sources.compressed import rows_of

N = 500


def problem(seed=0):
    """Return rows of numbers, codes, words and another number, their format, and the rows written out."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(N, 2)) + 3
    codes = rng.integers(0, [4, 3], (N, 2)).astype(np.int16)
    words = sp.random_array((N, 9), density=0.3, rng=rng, format="csr")
    words.sum_duplicates()
    last = rng.normal(size=(N, 1))
    row_format = SideBySide(
        (
            CodedRows((None, None, Factor(4), Factor(3, drop_first=True))),
            SparseRows(9),
            CodedRows((None,)),
        )
    )
    rows = row_format.cast(((numbers, codes), rows_of(words), last), np.empty)
    first = np.eye(4)[codes[:, 0]]
    second = np.eye(3)[codes[:, 1]][:, 1:]
    return rows, row_format, np.hstack([numbers, first, second, words.toarray(), last])


def test_rows_are_written_out_in_the_order_of_the_parts():
    rows, row_format, dense = problem()
    assert row_format.features == dense.shape[1] == 18
    assert_allclose(row_format.dense(rows), dense)
    for which in (slice(10, 90), np.array([0, 7, 400])):
        assert_allclose(row_format.dense(row_format.take(rows, which)), dense[which])
    assert row_format.can_shift.tolist() == [True] * 2 + [False] * 15 + [True]


@pytest.mark.parametrize("loss", [Squared(), Logistic(), Poisson()], ids=str)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("is_shifted", [True, False])
def test_sums_are_those_of_the_same_rows_written_out(loss, intercept, is_shifted):
    rows, row_format, dense = problem()
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, (N, 1)).astype(float)
    weight = rng.uniform(0.0, 2.0, N)
    query = rng.normal(size=(18 + intercept, 1, 3)) / 5
    shift = None
    if is_shifted:
        shift = np.where(row_format.can_shift, rng.normal(size=18), 0.0)
    request = Request(EXACT if loss.curvature_bound is None else BOUND, moments=True, shift=shift)
    kernel = Kernel(Part(0, query, loss, request, row_format))
    kernel.step = 130
    for start in range(0, N, 200):
        part = slice(start, start + 200)
        kernel.add(row_format.take(rows, part), y[part], weight[part])
    ours, theirs = kernel.sums(), sums_of_rows(dense, y, weight, query, loss, request)
    for name in ("loss", "gradient", "curvature"):
        assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-9)
    for mine, other in zip(ours.moments, theirs.moments, strict=True):
        assert_allclose(mine, other, rtol=1e-10, atol=1e-9)


def test_the_first_value_that_is_none_is_found_in_any_part_by_its_feature():
    rows, row_format, _ = problem()
    assert row_format.first_bad(rows) is None
    entry = rows[1].indptr[200]
    row = int(np.searchsorted(rows[1].indptr, entry, side="right") - 1)
    rows[1].data[entry] = np.inf
    bad = row_format.first_bad(rows)
    assert (bad.row, bad.column) == (row, 8 + rows[1].indices[entry])
    rows[2][0][30] = np.nan
    assert row_format.first_bad(rows)[:2] == (30, 17)
    rows[0][1][20, 1] = 7
    bad = row_format.first_bad(rows)
    assert (bad.row, bad.column, bad.value) == (20, 6, 7)
    assert np.flatnonzero(row_format.with_nan(rows)).tolist() == [30]


def test_a_code_that_is_none_makes_the_sums_not_finite():
    rows, row_format, _ = problem()
    rows[0][1][20, 0] = -5
    query = np.zeros((19, 1, 1))
    kernel = Kernel(Part(0, query, Logistic(), Request(EXACT), row_format))
    kernel.add(rows, np.ones((N, 1)), None)
    assert not np.isfinite(kernel.sums().gradient).all()
