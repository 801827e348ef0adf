"""The gate: whatever enters a task is what its array declared, or refused by name (FOUND 3, 4; FAULTS 59, 60)."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from dask import delayed

import dask_gd
from dask_gd.errors import DataError, InvalidTypeError, NonFiniteError
from dask_gd.estimators import LogisticRegression, Ridge
from dask_gd.preprocessing import StandardScaler
from dask_gd.sources.gate import gated

ROWS, CHUNK = 100, 25


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3))
    return x, x @ [1.0, 2.0, -1.0] + 0.1 * rng.normal(size=ROWS)


def masked_dask(a, mask):
    return da.ma.masked_array(da.from_array(a, chunks=CHUNK), mask=da.from_array(mask, chunks=CHUNK))


def masked_without_meta(a, mask):
    """A Dask array whose meta does not tell that its blocks are masked."""
    array = da.from_array(a, chunks=(CHUNK, *a.shape[1:]))
    mask = da.from_array(mask, chunks=array.chunks)
    return da.map_blocks(np.ma.masked_array, array, mask, dtype=a.dtype, meta=np.empty((0,) * a.ndim, a.dtype))


def masked_in_memory(a, mask):
    return np.ma.masked_array(a, mask=mask)


def masked_data_array(a, mask):
    return xr.DataArray(masked_dask(a, mask), dims=("row", "feature")[: a.ndim])


MASKED = [masked_dask, masked_without_meta, masked_in_memory, masked_data_array]


@pytest.mark.parametrize("dtype", [float, "float32", int])
@pytest.mark.parametrize("role", ["x", "y", "sample_weight", "offset"])
@pytest.mark.parametrize("masked", MASKED)
def test_masked_values_are_missing(data, masked, role, dtype):
    """FOUND 3, FAULTS 59: refused with their row, or left out as NaN is."""
    x, y = data
    columns = {"x": x, "y": y, "sample_weight": np.ones(ROWS), "offset": np.zeros(ROWS)}
    columns = {name: np.round(8 * a).astype(dtype) for name, a in columns.items()}
    mask = np.zeros(columns[role].shape, bool)
    mask[[3, 60]] = True
    given = columns | {role: masked(columns[role], mask)}
    with pytest.raises(NonFiniteError, match=r"row (3|60)"):
        dask_gd.fit(**given)
    rest = np.delete(np.arange(ROWS), [3, 60])
    dropped = dask_gd.fit(**given, nan="drop", tol=1e-12)
    alone = dask_gd.fit(**{name: a[rest] for name, a in columns.items()}, tol=1e-12)
    assert dropped.dropped == 2
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(dropped.parameters, alone.parameters, rtol=tolerance, atol=tolerance)


def test_a_mask_without_masked_values_changes_nothing(data):
    x, y = data
    nothing = np.zeros(ROWS, bool)
    plain = dask_gd.fit(da.from_array(x, chunks=(CHUNK, 3)), da.from_array(y, chunks=CHUNK))
    masked = dask_gd.fit(da.from_array(x, chunks=(CHUNK, 3)), masked_dask(y, nothing))
    np.testing.assert_array_equal(plain.parameters, masked.parameters)


def test_predictions_of_masked_rows_are_nan(data):
    x, y = data
    run = dask_gd.fit(x, y)
    mask = np.zeros(x.shape, bool)
    mask[7, 1] = True
    for given in (np.ma.masked_array(x, mask=mask), masked_without_meta(x, mask)):
        predicted = np.asarray(run.predict(given))
        assert np.flatnonzero(np.isnan(predicted)).tolist() == [7]


#: What makes a block other than it was declared, (25, 3) of float64, and what the message says was found.
LIES = {
    "more rows": (lambda b: np.vstack([b, b[:3]]), r"found shape \(28, 3\) of float64"),
    "fewer rows": (lambda b: b[:-5], r"found shape \(20, 3\) of float64"),
    "no rows": (lambda b: b[:0], r"found shape \(0, 3\)"),
    "wider rows": (lambda b: np.hstack([b, b]), r"found shape \(25, 6\)"),
    "narrower rows": (lambda b: b[:, :2], r"found shape \(25, 2\)"),
    "fewer dimensions": (lambda b: b[:, 0], r"found shape \(25,\)"),
    "more dimensions": (lambda b: b[..., None], r"found shape \(25, 3, 1\)"),
    "transposed": (lambda b: b.T, r"found shape \(3, 25\)"),
    "complex": (lambda b: b + 1j, "of complex128"),
    "objects": (lambda b: b.astype(object), "of object"),
    "strings": (lambda b: b.astype(str), "of <U"),
    "times": (lambda b: b.astype("m8[s]"), "of timedelta64"),
    "csr": (scipy.sparse.csr_matrix, "sparse .scipy csr_matrix.*toarray"),
    "csr array": (scipy.sparse.csr_array, "sparse .scipy csr_array.*toarray"),
    "frame": (pd.DataFrame, "pandas DataFrame"),
    "list": (lambda b: b.tolist(), "is a list"),
    "matrix": (np.matrix, "numpy matrix"),
    "number": (lambda b: 1.0, "is a float"),
    "nothing": (lambda b: None, "is a NoneType"),
}


def lying(a, lie, which=2):
    """A Dask array, one block of which is not what is declared."""
    blocks = [delayed(lie if i == which else np.asarray)(b) for i, b in enumerate(np.split(a, len(a) // CHUNK))]
    return da.concatenate([da.from_delayed(b, (CHUNK, *a.shape[1:]), a.dtype) for b in blocks])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("lie", LIES)
def test_a_block_that_is_not_what_was_declared_is_refused(data, lie):
    """FOUND 4, FAULTS 60: the message names array, block, declared and found."""
    x, y = data
    change, found = LIES[lie]
    with pytest.raises(DataError, match=rf"block \(2, 0\) of 'x' \(declared as rows 50-74\).*{found}"):
        dask_gd.fit(lying(x, change), y)


@pytest.mark.parametrize("chunks", [CHUNK, 10, 40])
@pytest.mark.parametrize("role", ["y", "sample_weight", "offset"])
@pytest.mark.parametrize("lie", ["more rows", "fewer rows"])
def test_rows_are_counted_before_blocks_are_cut_to_others(data, role, lie, chunks):
    x, y = data
    columns = {"y": y, "sample_weight": np.ones(ROWS), "offset": np.zeros(ROWS)}
    change = {"more rows": lambda b: np.append(b, b[:3]), "fewer rows": lambda b: b[:-5]}[lie]
    columns[role] = lying(columns[role], change)
    with pytest.raises(DataError, match=rf"block \(2,\) of '{role}'"):
        dask_gd.fit(da.from_array(x, chunks=(chunks, 2)), **columns)


ENTRANCES = {
    "predict": lambda x, y: dask_gd.fit(np.ones((4, 3)), np.ones(4)).predict(x).compute(),
    "infer": lambda x, y: dask_gd.infer(dask_gd.fit(np.random.default_rng(0).normal(size=(9, 3)), np.ones(9)), x, y),
    "search": lambda x, y: dask_gd.search(x, y, alphas=[1.0, 2.0]),
    "estimator": lambda x, y: LogisticRegression().fit(x, y > 0),
    "scaler": lambda x, y: StandardScaler().fit(x),
    "scaler's transform": lambda x, y: StandardScaler().fit(np.eye(3)).transform(x).compute(),
    "score": lambda x, y: Ridge().fit(np.eye(3), np.ones(3)).score(x, y),
    "a dataset": lambda x, y: dask_gd.fit(
        xr.Dataset({"a": (("t", "f"), x), "b": ("t", y)}), features=["a"], target="b", sample_dims=("t", "f")
    ),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("lie", ["more rows", "complex", "csr"])
def test_every_entrance_refuses_such_blocks(data, entrance, lie):
    x, y = data
    with pytest.raises(DataError, match=r"block \(2, 0\) of '(x|X|a)'"):
        ENTRANCES[entrance](lying(x, LIES[lie][0]), da.from_array(y, chunks=CHUNK))


@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_blocks_that_are_no_features_are_refused_before_the_first_task(data, make):
    x, _ = data
    begun = []

    def block(b):
        begun.append(len(b))
        return make(b)

    sparse = da.from_array(x, chunks=(CHUNK, 3)).map_blocks(block, meta=make(np.empty((0, 0))), dtype=float)
    # Features may be sparse, and nothing else: scalers make dense columns of them.
    with pytest.raises(InvalidTypeError, match=r"StandardScaler was given sparse rows"):
        StandardScaler().fit(sparse)
    with pytest.raises(InvalidTypeError, match=r"y is sparse; only features x can be.*toarray"):
        dask_gd.fit(x, sparse)
    assert not begun


@pytest.mark.parametrize("found", ["float32", "float16", "int32", "bool", ">f8"])
def test_real_numbers_of_another_size_are_what_they_are(data, found):
    """map_blocks often declares another dtype than it makes; a real number is a real number."""
    x, y = np.round(4 * data[0]), np.round(data[1])
    stored = x.astype(found).astype(float)
    declared = da.from_array(x, chunks=(CHUNK, 3)).map_blocks(
        lambda b: b.astype(found), dtype=float, meta=np.empty((0, 0))
    )
    np.testing.assert_array_equal(
        dask_gd.fit(declared, y).parameters, dask_gd.fit(da.from_array(stored, chunks=(CHUNK, 3)), y).parameters
    )


def test_blocks_of_unknown_length_pass(data):
    x, y = data
    few = da.from_array(x, chunks=(CHUNK, 3))[da.from_array(y, chunks=CHUNK) > 0]
    assert np.isnan(few.shape[0])
    np.testing.assert_array_equal(gated(few, "x").compute(), x[y > 0])


def row_masked(a, row=3):
    """The array with one row masked."""
    mask = np.zeros(a.shape, bool)
    mask[row] = True
    return np.ma.masked_array(a, mask=mask)


MASKED_IN_MEMORY = {
    "features": lambda x, y: Ridge().fit(row_masked(x), y),
    "targets": lambda x, y: Ridge().fit(x, row_masked(y)),
    "weights": lambda x, y: Ridge().fit(x, y, sample_weight=row_masked(np.ones(ROWS))),
    "labels": lambda x, y: LogisticRegression().fit(x, row_masked((y > 0).astype(int))),
    "names of classes": lambda x, y: LogisticRegression().fit(x, row_masked(np.where(y > 0, "yes", "no"))),
    "targets to score": lambda x, y: Ridge().fit(x, y).score(x, row_masked(y)),
    "features to predict": lambda x, y: Ridge().fit(x, y).predict(row_masked(x)),
    "features to scale": lambda x, y: StandardScaler().fit(row_masked(x)),
}


@pytest.mark.parametrize("entrance", MASKED_IN_MEMORY)
def test_estimators_do_not_take_masked_values_for_numbers(data, entrance):
    """FOUND 3: scikit-learn's own checks drop the mask."""
    with pytest.raises((ValueError, TypeError), match=r"(?i)nan|no label"):
        MASKED_IN_MEMORY[entrance](*data)


SCORED = {
    "classes": (LogisticRegression, lambda y: (y > 0).astype(float)),
    "integer classes": (LogisticRegression, lambda y: (y > 0).astype(int)),
    "numbers": (Ridge, lambda y: y),
}


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("masked", [masked_dask, masked_without_meta])
def test_no_score_counts_rows_without_a_target(data, kind, masked):
    """FOUND 3: a class that is masked is no wrong answer."""
    x, y = data
    make, targets = SCORED[kind]
    y, lazy = targets(y), da.from_array(x, chunks=(CHUNK, 3))
    model = make().fit(x, y)
    mask = np.arange(ROWS) == 60
    with pytest.raises(NonFiniteError, match=r"no score: y is NaN or infinite in 1 rows, first in row 60"):
        model.score(lazy, masked(y, mask))
    with pytest.raises(NonFiniteError, match=r"no score: sample_weight is NaN .* first in row 60"):
        model.score(lazy, da.from_array(y, chunks=CHUNK), sample_weight=masked(np.ones(ROWS), mask))
    if make is LogisticRegression:
        with pytest.raises(NonFiniteError, match=r"no label: y is NaN .* first in row 60"):
            make().fit(lazy, masked(y, mask))
