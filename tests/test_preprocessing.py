"""Transformers are scikit-learn's in numbers and names, lazy where the data is, and never wide."""

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from dask.distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing as peers
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import dask_gd
from dask_gd.errors import DataError, InvalidArgumentError, InvalidTypeError, MissingChunkError, NonFiniteError
from dask_gd.estimators import LinearRegression, LogisticRegression, Ridge
from dask_gd.preprocessing import OneHotEncoder, StandardScaler, encoder, train_test_split


@parametrize_with_checks([StandardScaler()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def to_zarr(a, chunks, path, **options):
    array = zarr.create_array(path, shape=a.shape, dtype=a.dtype, chunks=chunks, **options)
    array[...] = a
    return array


def every_kind(a, path, rows=70):
    """The same rows as Dask, Zarr and lazy DataArrays, with ragged chunks."""
    zarrs = to_zarr(a, (rows, a.shape[1]), path)
    names = [f"f{i}" for i in range(a.shape[1])]
    labelled = xr.DataArray(a, dims=("row", "feature"), coords={"row": np.arange(len(a)) + 5, "feature": names})
    return [da.from_array(a, chunks=(rows, 2)), zarrs, labelled.chunk(row=rows), labelled]


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# StandardScaler


@given(st.data())
def test_moments_are_those_of_the_whole_for_any_chunks(data):
    n = data.draw(st.integers(1, 120))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    spread, level = data.draw(st.sampled_from([(1.0, 0.0), (1.0, 1e6), (1e-3, 1e6), (1e8, -1.0)]))
    x = level + spread * rng.normal(size=(n, 3))
    s = rng.integers(0, 3, n) * rng.uniform(size=n)
    s[-1] = 0.5
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, n - 1)), max_size=6)))
    edges = [0, *(c for c in cuts if c < n), n]
    blocks = da.from_array(x, chunks=(tuple(np.diff(edges).tolist()), 2))
    for weight in (None, s):
        w = np.ones(n) if weight is None else s
        exact = x.astype(np.longdouble)
        mean = (w @ exact) / w.sum()
        var = (w @ (exact - mean) ** 2) / w.sum()
        scaler = StandardScaler().fit(blocks, sample_weight=weight)
        np.testing.assert_allclose(scaler.mean_, mean.astype(float), rtol=1e-14, atol=1e-14 * spread)
        np.testing.assert_allclose(scaler.var_, var.astype(float), rtol=1e-12, atol=(1e-15 * level) ** 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.bool_], ids=str)
@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}], ids=str)
def test_attributes_and_values_are_scikit_learns(tmp_path, dtype, options):
    x = (np.random.default_rng(0).normal(size=(300, 3)) * [1, 30, 2] + [1, 500, 0]).astype(dtype)
    if dtype == np.float64:
        x += 1e6
    theirs = peers.StandardScaler(**options).fit(x.astype(float))
    expected = theirs.transform(x.astype(float))
    single = dtype == np.float32
    for a in (x, *every_kind(x, tmp_path)):
        ours = StandardScaler(**options).fit(a)
        for name in ("mean_", "var_", "scale_"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=1e-12)
        assert ours.n_samples_seen_ == 300
        assert ours.n_features_in_ == 3
        done = ours.transform(a)
        assert done.dtype == (np.float32 if single else np.float64)
        np.testing.assert_allclose(done, expected, rtol=1e-5 if single else 1e-8, atol=1e-5 if single else 1e-8)
        np.testing.assert_allclose(ours.inverse_transform(done), x, rtol=1e-5 if single else 1e-12, atol=1e-5)
        assert dask.is_dask_collection(done) == dask.is_dask_collection(a) or isinstance(a, zarr.Array)


def test_float32_is_centred_as_float64_is():
    """The mean is subtracted to the last digit, which float32 does not hold."""
    x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32) + np.float32(1e5)
    done = StandardScaler().fit_transform(da.from_array(x, chunks=(100, 2))).compute()
    assert done.dtype == np.float32
    np.testing.assert_allclose(done.mean(axis=0, dtype=float), 0, atol=1e-6)


def test_constant_features_are_not_blown_up():
    """However many rows, and wherever zero weights are."""
    values = np.array([0.0, 0.1, 1e6 + 0.1, -1e-12, 3e300])
    x = np.tile(values[None, :3], (997, 1))
    s = np.random.default_rng(0).uniform(size=997)
    x[:3], s[:3], s[100:200] = 7.0, 0.0, 0.0
    for weight in (s, None):
        a = x if weight is not None else x[3:]
        ours = StandardScaler().fit(da.from_array(a, chunks=(90, 3)), sample_weight=weight)
        same(ours.scale_, np.ones(3))
        same(ours.transform(x[3:]), np.zeros((994, 3)))
    # Its spread is small beside its mean, but no rounding: with scikit-learn's bound many rows would make it constant.
    x = 1e6 + 1e-6 * np.random.default_rng(0).normal(size=(300_000, 1))
    assert StandardScaler().fit(da.from_array(x, chunks=30_000)).scale_[0] == pytest.approx(1e-6, rel=1e-2)


def test_weights_are_scikit_learns(tmp_path):
    rng = np.random.default_rng(1)
    x, s = rng.normal(size=(300, 3)) + 100, rng.uniform(0, 2, 300)
    theirs = peers.StandardScaler().fit(x, sample_weight=s)
    weights = [s, s.tolist(), da.from_array(s, chunks=110), to_zarr(s, (90,), tmp_path / "s"), xr.DataArray(s)]
    for a in (x, *every_kind(x, tmp_path / "x")):
        for weight in weights:
            ours = StandardScaler().fit(a, sample_weight=weight)
            np.testing.assert_allclose(ours.var_, theirs.var_, rtol=1e-12)
            np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
            assert ours.n_samples_seen_ == pytest.approx(s.sum())
    whole = np.repeat(x, rng.integers(0, 3, 300), axis=0)
    counted = StandardScaler().fit(x, sample_weight=np.array([(whole == row).all(axis=1).sum() for row in x], float))
    np.testing.assert_allclose(counted.var_, StandardScaler().fit(whole).var_, rtol=1e-12)


def test_scheduler_and_cluster_do_not_change_a_bit(tmp_path, clusters):
    x = np.random.default_rng(0).normal(size=(5003, 20)) + 1e3
    s = np.random.default_rng(1).uniform(size=5003)
    stored, blocks = to_zarr(x, (300, 20), tmp_path), da.from_array(x, chunks=(300, 20))
    codes = da.from_array((10 * x[:, :2]).astype(int) % 50, chunks=(1640, 2))

    def found():
        scalers = [StandardScaler().fit(a, sample_weight=s) for a in (stored, blocks)]
        one_hot = OneHotEncoder().fit(codes)
        lazy = (one_hot.transform(codes), *train_test_split(codes, seed=4))
        moments = [a for scaler in scalers for a in (scaler.mean_, scaler.var_)]
        return [*moments, *one_hot.categories_, *dask.compute(*lazy)]

    with dask.config.set(scheduler="synchronous"):
        one = found()
    with dask.config.set(scheduler="threads"):
        threads = found()
    with Client(clusters(2)):
        workers = found()
    for other in (threads, workers):
        for a, b in zip(one, other, strict=True):
            same(a, b)


def test_bad_values_are_refused_with_their_row(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 3))
    x[211, 1] = np.nan
    for a in (x, *every_kind(x, tmp_path)):
        with pytest.raises(NonFiniteError, match=r"nan in row 211, column 1 of 'X'") as caught:
            StandardScaler().fit(a)
        assert "nan='drop'" not in str(caught.value)
    s = np.ones(300)
    s[200:] = 0  # which do not hide it
    with pytest.raises(NonFiniteError, match="row 211"):
        StandardScaler().fit(da.from_array(x, chunks=(50, 3)), sample_weight=s)
    x[211, 1] = 1e200
    with pytest.raises(NonFiniteError, match="squares of column 1"):
        StandardScaler().fit(da.from_array(x, chunks=(50, 3)))
    good = da.from_array(x[:200], chunks=(50, 3))
    s = np.ones(200)
    s[7] = -1
    with pytest.raises(DataError, match=r"Negative weight -1\.0 in row 7 of 'sample_weight'"):
        StandardScaler().fit(good, sample_weight=s)
    with pytest.raises(InvalidArgumentError, match="sum to 0"):
        StandardScaler().fit(good, sample_weight=0 * s)
    with pytest.raises(InvalidArgumentError, match="200 rows but sample_weight has 199"):
        StandardScaler().fit(good, sample_weight=s[1:])


def test_what_does_not_fit_is_refused_before_a_task(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 3))
    lazy, stored, labelled, _ = every_kind(x, tmp_path)
    scaler = StandardScaler().fit(labelled)
    assert scaler.feature_names_in_.tolist() == ["f0", "f1", "f2"]
    with pytest.raises(InvalidArgumentError, match="feature 0 is named 'f2'"):
        scaler.transform(labelled[:, ::-1])
    for a in (lazy[:, :2], labelled[:, :2]):
        with pytest.raises(InvalidArgumentError, match="X has 2 features; it had 3"):
            scaler.transform(a)
    assert not hasattr(scaler.fit(lazy), "feature_names_in_")
    with pytest.raises(InvalidArgumentError, match=r"2-D.*dask_array\[:, None\]"):
        StandardScaler().fit(lazy[:, 0])
    for a in (labelled.to_dataset(name="x"), dask_gd.open("data/flights.zarr", x="X", y="late")):
        with pytest.raises(InvalidTypeError, match=r"Dataset was given|give its features"):
            StandardScaler().fit(a)
        with pytest.raises(InvalidTypeError, match=r"Dataset was given|give its arrays"):
            train_test_split(a)
    weight = to_zarr(np.ones(300), (90,), tmp_path / "weight")
    (tmp_path / "weight" / "c" / "1").unlink()
    with pytest.raises(MissingChunkError, match=r"lacks chunk \(1,\)"):
        scaler.fit(lazy, sample_weight=weight)
    (tmp_path / "c" / "2" / "0").unlink()
    for refused in (StandardScaler().fit, scaler.transform, OneHotEncoder().fit, train_test_split):
        with pytest.raises(MissingChunkError, match=r"lacks chunk \(2, 0\)"):
            refused(stored)


def test_rows_of_unknown_number_are_scaled(caplog):
    x = np.random.default_rng(0).normal(size=(300, 3))
    lazy = da.from_array(x, chunks=(70, 3))
    unknown, known = lazy[lazy[:, 0] > 0], x[x[:, 0] > 0]
    scaler = StandardScaler().fit(unknown)
    np.testing.assert_allclose(scaler.mean_, known.mean(axis=0), atol=1e-14)
    assert [record.getMessage()[:21] for record in caplog.records] == ["The chunk sizes of X "]
    np.testing.assert_allclose(scaler.transform(unknown), peers.StandardScaler().fit_transform(known), atol=1e-12)
    assert len(caplog.records) == 1


def test_in_pipelines_with_lazy_and_eager_rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [1, 100, 0.01] + [0, 1e4, 0]
    y = x @ [1.0, 0.01, 100.0] + rng.normal(size=300)
    expected = make_pipeline(peers.StandardScaler(), Ridge()).fit(x, y)
    for a in every_kind(x, tmp_path):
        ours = clone(make_pipeline(StandardScaler(), Ridge())).fit(a, y)
        np.testing.assert_allclose(ours[-1].coef_, expected[-1].coef_, rtol=1e-6)
        np.testing.assert_allclose(ours.predict(a), expected.predict(x), rtol=1e-6)
    frame = pd.DataFrame(x, columns=list("abc"))
    scaled = StandardScaler().set_output(transform="pandas").fit_transform(frame)
    assert list(scaled.columns) == list("abc")
    labelled = xr.DataArray(
        x, dims=("t", "f"), coords={"t": np.arange(300) + 7, "f": list("abc")}, attrs={"units": "K"}
    )
    done = StandardScaler().fit_transform(labelled.chunk(t=100))
    assert done.coords["f"].values.tolist() == list("abc")
    same(done.t, labelled.t)
    assert done.attrs == {}


def test_columns_of_codes_stay_beside_those_that_are_scaled():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(3, 2, 300), "code": rng.integers(0, 4, 300), "b": rng.normal(-1, 9, 300)})
    expected = frame.to_numpy()
    expected[:, [0, 2]] = peers.StandardScaler().fit_transform(expected[:, [0, 2]])
    scaler = StandardScaler(columns=["b", "a"]).fit(frame)
    np.testing.assert_allclose(scaler.transform(frame), expected, atol=1e-14)
    assert (scaler.mean_[1], scaler.var_[1], scaler.scale_[1]) == (0, 1, 1)
    lazy, y = da.from_array(frame.to_numpy(), chunks=(90, 3)), rng.normal(size=300)
    model = make_pipeline(StandardScaler(columns=[0, 2]), OneHotEncoder(columns=[1], dtype=float), Ridge()).fit(lazy, y)
    wide = np.insert(expected[:, [0, 2]], [1], np.eye(4)[frame.code], axis=1)
    np.testing.assert_allclose(model[-1].coef_, Ridge().fit(wide, y).coef_, rtol=1e-6, atol=1e-9)
    with pytest.raises(InvalidArgumentError, match="'c' is none of 0 to 2, or names of a, code, b"):
        StandardScaler(columns=["c"]).fit(frame)


# OneHotEncoder


def codes_of(n=300, seed=0, dtype=np.int32):
    """Three columns of codes, of which the second leaves some out."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 4, n), 3 * rng.integers(-2, 5, n), rng.integers(0, 2, n)], axis=1).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.float64, np.float32], ids=str)
@pytest.mark.parametrize("drop", [None, "first"])
def test_indicators_are_scikit_learns(tmp_path, dtype, drop):
    x = codes_of(dtype=dtype)
    theirs = peers.OneHotEncoder(sparse_output=False, drop=drop).fit(x.astype(int))
    names = [f"f{i}" for i in range(3)]
    for a in (x, *every_kind(x, tmp_path)):
        ours = clone(OneHotEncoder(drop=drop)).fit(a)
        for one, other in zip(ours.categories_, theirs.categories_, strict=True):
            same(one, other)
        done = ours.transform(a)
        assert done.dtype == np.float32
        same(done, theirs.transform(x.astype(int)))
        given = names if isinstance(a, xr.DataArray) else None
        assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out(given).tolist()
        if isinstance(a, xr.DataArray):
            assert done.coords["feature"].values.tolist() == ours.get_feature_names_out().tolist()
            same(done.row, a.row)
        elif not isinstance(a, np.ndarray):
            assert not np.isnan(sum(map(sum, done.chunks)))


def test_a_fit_of_indicators_is_that_of_the_wide_matrix(tmp_path):
    rng = np.random.default_rng(0)
    codes, x = codes_of(2000), rng.normal(size=(2000, 1))
    wide = np.concatenate([peers.OneHotEncoder(sparse_output=False).fit_transform(codes), x], axis=1)
    y = (wide @ rng.normal(size=wide.shape[1]) + rng.logistic(size=2000) > 0).astype(float)
    both = np.concatenate([codes, x], axis=1)
    options = {"loss": "logistic", "penalty": dask_gd.L2(1e-3), "tol": 1e-9}
    expected = dask_gd.fit(wide, y, **options)
    for a in every_kind(both, tmp_path, rows=330):
        one_hot = OneHotEncoder(columns=[0, 1, 2], dtype=np.float64).fit(a)
        run = dask_gd.fit(one_hot.transform(a), y, **options)
        np.testing.assert_allclose(run.parameters, expected.parameters, rtol=1e-6, atol=1e-8)
    assert run.weights.coords["feature"].values.tolist()[-3:] == ["f2_0", "f2_1", "f3"]
    frame = da.from_array(both, chunks=(330, 4))
    pipe = make_pipeline(OneHotEncoder(columns=[0, 1, 2]), LogisticRegression(C=1 / (2000 * 1e-3))).fit(frame, y)
    np.testing.assert_allclose(pipe[-1].coef_[0], expected.parameters[:-1, 0], rtol=1e-4, atol=1e-4)
    assert pipe.predict(frame).chunks[0] == (330,) * 6 + (20,)
    dropped = make_pipeline(OneHotEncoder(columns=[0, 1, 2], drop="first"), LinearRegression()).fit(both, y)
    np.testing.assert_allclose(dropped.predict(both), LinearRegression().fit(wide, y).predict(wide), atol=1e-4)


def test_columns_are_named_or_numbered_and_the_others_stay_in_their_place():
    frame = pd.DataFrame({"a": [0.5, 1.5], "carrier": [7, 2], "b": [0.1, 0.2], "month": [0, 1]})
    one_hot = OneHotEncoder(columns=["month", "carrier"], categories=[2, [2, 7, 9]]).fit(frame)
    names = "a carrier_2 carrier_7 carrier_9 b month_0 month_1"
    assert " ".join(one_hot.get_feature_names_out()) == names
    same(one_hot.transform(frame), np.array([[0.5, 0, 1, 0, 0.1, 1, 0], [1.5, 1, 0, 0, 0.2, 0, 1]]))
    numbered = OneHotEncoder(columns=[3, 1], categories=[2, [2, 7, 9]]).fit(frame.to_numpy())
    same(numbered.transform(frame.to_numpy()), one_hot.transform(frame))


def test_columns_that_are_no_codes_keep_their_digits():
    x = np.array([[1.7e9 + 1, 0], [1.7e9 + 2, 1]])
    for a in (x, da.from_array(x, chunks=(1, 2))):
        same(OneHotEncoder(columns=[1]).fit_transform(a), np.column_stack([x[:, 0], np.eye(2)]))
    assert OneHotEncoder(columns=[1]).fit_transform(x.astype(np.float32)).dtype == np.float32
    assert OneHotEncoder().fit_transform(x).dtype == np.float32


@pytest.mark.parametrize("chunk", [1, 2])
def test_squares_that_overflow_are_named_in_any_chunks(chunk):
    with pytest.raises(NonFiniteError, match=r"column 0 .*overflow"):
        StandardScaler().fit(da.from_array(np.array([[1e200], [-1e200]]), chunks=(chunk, 1)))


def test_an_expanded_block_is_small_and_its_codes_are_read_once(tmp_path):
    """Whatever the size of the chunks, and in a fit too."""
    n, k = 250_000, 400
    x = np.random.default_rng(0).integers(0, k, (n, 1)).astype(np.int16)
    reads = []

    def read(block, block_info=None):
        reads.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(x, chunks=(100_000, 1)).map_blocks(read, dtype=x.dtype, meta=np.empty((0, 0), x.dtype))
    for a in (lazy, to_zarr(x, (100_000, 1), tmp_path)):
        wide = OneHotEncoder([k]).fit(a).transform(a)
        sizes = np.array(wide.chunks[0]) * k * 4
        assert sizes.max() <= encoder.EXPANDED_BYTES
        assert sizes[:-1].min() >= encoder.EXPANDED_BYTES / 2
        assert wide.shape == (n, k)
    wide = OneHotEncoder([k]).fit(lazy).transform(lazy)
    assert reads == []
    same(wide.sum(axis=0).compute(), np.bincount(x[:, 0], minlength=k))
    assert len(reads) == 3
    source = dask_gd.sources.as_source(wide, x[:, 0])
    assert max(source.x.array.chunks[0]) * k * 4 <= encoder.EXPANDED_BYTES


def test_unknown_codes_are_refused_or_zeros(tmp_path):
    x = codes_of()
    one_hot, lenient = OneHotEncoder().fit(x), OneHotEncoder(handle_unknown="ignore").fit(x)
    named = OneHotEncoder().fit(pd.DataFrame(x, columns=["f0", "f1", "f2"]))
    expected = peers.OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(x)
    x[222, 1] = 100
    for a in (x, *every_kind(x, tmp_path)):
        strict, column = (named, "'f1'") if isinstance(a, xr.DataArray) else (one_hot, "1")
        message = f"Code 100 in row 222 of column {column} is none of its 7 categories, -6 to 12"
        with pytest.raises(DataError, match=message):
            np.asarray(strict.transform(a))
        same(lenient.transform(a), expected.transform(x))
    with pytest.raises(DataError, match="Code nan in row 3"):
        one_hot.transform(np.where(np.arange(300)[:, None] == 3, np.nan, codes_of()))


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**60])
def test_what_is_no_code_is_refused(value):
    x = codes_of(dtype=float)
    x[222, 1] = value
    for a in (x, da.from_array(x, chunks=(70, 2))):
        with pytest.raises(DataError, match=r"in row 222, column 1 of 'X', the block with rows .* is no code"):
            OneHotEncoder().fit(a)
        assert len(OneHotEncoder(columns=[0, 2]).fit(a).categories_) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": "all"}, "choose 'auto', or give a list"),
        ({"categories": [4]}, "1 entries for 3 encoded columns"),
        ({"categories": [4, [3, 1], 2]}, "ascending"),
        ({"categories": [4, [1, 1], 2]}, "ascending"),
        ({"categories": [4, [0.5], 2]}, "integers"),
        ({"categories": [0, 4, 2]}, "entry 0"),
        ({"columns": [3]}, "3 is none of 0 to 2"),
        ({"columns": ["a"]}, "'a' is none of"),
        ({"columns": [1, 1]}, "each once"),
        ({"columns": []}, "at least one"),
        ({"drop": "if_binary"}, "choose None or 'first'"),
        ({"handle_unknown": "warn"}, "choose 'error', 'ignore' or"),
    ],
    ids=str,
)
def test_parameters_of_the_encoder_are_checked_in_the_fit(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        OneHotEncoder(**options).fit(codes_of())


# train_test_split


@pytest.mark.parametrize("seed", [0, 1, 12])
def test_the_same_rows_whatever_the_chunks(tmp_path, seed):
    x, y = np.random.default_rng(0).normal(size=(1000, 3)), np.arange(1000)
    train, test, y_train, y_test = train_test_split(x, y, test_size=0.3, seed=seed)
    assert sorted([*y_train, *y_test]) == list(range(1000))
    assert abs(len(y_test) - 300) < 5 * np.sqrt(1000 * 0.3 * 0.7)
    same(train, x[y_train])
    for a in (*every_kind(x, tmp_path, 70), da.from_array(x, chunks=((1, 999), 1)), da.from_array(x, chunks=(3, 3))):
        a_train, a_test, rows, _ = train_test_split(a, da.from_array(y, chunks=133), test_size=0.3, seed=seed)
        assert a_train.shape == train.shape  # known, and nothing read
        same(a_train, train)
        same(a_test, test)
        same(rows, y_train)
        if not isinstance(a, xr.DataArray):
            assert isinstance(a_train, da.Array)
            assert [len(block) for block in dask.compute(*a_test.blocks)] == list(a_test.chunks[0])
        else:
            same(a_train.row, a.row[y_train])
            assert dask.is_dask_collection(a_test) == dask.is_dask_collection(a)
    frame, labels = train_test_split(pd.DataFrame(x), ["a"] * 1000, test_size=0.3, seed=seed)[::2]
    assert frame.index.tolist() == y_train.tolist()
    assert labels.tolist() == ["a"] * len(y_train)


def test_nothing_is_read_by_the_split_and_rows_keep_their_side():
    def read(block):
        raise AssertionError("read")

    lazy = da.from_array(np.ones((500, 2)), chunks=100).map_blocks(read, dtype=float, meta=np.empty((0, 0)))
    assert sum(len(part) for part in train_test_split(lazy)) == 500
    few, more = (train_test_split(np.arange(n), seed=3)[1] for n in (500, 900))
    same(more[: len(few)], few)
    small, large = (train_test_split(np.arange(900), test_size=share, seed=3)[1] for share in (0.2, 0.4))
    assert set(small) <= set(large)


def test_a_split_is_fitted_and_scored():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3))
    y = x @ [1.0, 2.0, 3.0] + rng.normal(size=1000)
    blocks = da.from_array(x, chunks=(5, 3)), da.from_array(y, chunks=300)
    train, test, y_train, y_test = train_test_split(*blocks, test_size=0.5)
    assert 0 in train.chunks[0]
    model = LinearRegression().fit(train, y_train)
    expected = LinearRegression().fit(train.compute(), y_train.compute())
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    assert model.score(test, y_test) == pytest.approx(expected.score(test.compute(), y_test.compute()))


def test_what_cannot_be_split_is_refused():
    x = np.arange(6)
    for share in (0, 1, 2, -0.1, np.nan, True, "1"):
        with pytest.raises(InvalidArgumentError, match="a share of the rows"):
            train_test_split(x, test_size=share)
    with pytest.raises(InvalidArgumentError, match="seed=-1"):
        train_test_split(x, seed=-1)
    for share, lacks in ((1e-9, "test"), (1 - 1e-9, "fit")):
        with pytest.raises(InvalidArgumentError, match=f"leaves no row to {lacks} of 6"):
            train_test_split(x, test_size=share)
    with pytest.raises(InvalidArgumentError, match="6, 5 rows; they must agree"):
        train_test_split(x, da.from_array(x[1:]))
    with pytest.raises(InvalidArgumentError, match="at least one array"):
        train_test_split()
    with pytest.raises(InvalidArgumentError, match="array 1 has no rows"):
        train_test_split(x, 5)


# Imports


def test_it_asks_for_scikit_learn():
    code = "import sys; sys.modules['sklearn'] = None; import dask_gd.preprocessing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ImportError: dask_gd.preprocessing needs scikit-learn")
