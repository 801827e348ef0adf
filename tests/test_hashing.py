"""Random numbers of rows: SplitMix64's, uniform, and each row's own."""

import numpy as np
import pytest
from scipy import stats

from dask_gd.sources.row_hash import GOLDEN, mixed, row_hashes


def test_they_are_splitmix64s():
    """The first numbers of the generator from the state 0, as its authors' program prints them."""
    states = np.array([GOLDEN, 2 * GOLDEN % 2**64, 3 * GOLDEN % 2**64], np.uint64)
    assert mixed(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    first = int(mixed(np.array([GOLDEN], np.uint64))[0])  # where the rows of seed 0 begin
    again = mixed(np.array([(first + GOLDEN * i) % 2**64 for i in (1, 2)], np.uint64))
    assert row_hashes(0, 0, 2).tolist() == again.tolist()


def test_a_row_has_its_number_wherever_it_is_asked_for():
    whole = row_hashes(3, 0, 1000)
    assert whole.dtype == np.uint64
    np.testing.assert_array_equal(np.concatenate([row_hashes(3, 0, 7), row_hashes(3, 7, 1000)]), whole)
    assert row_hashes(3, 5, 5).size == 0
    assert len(set(row_hashes(3, 10**12, 10**12 + 1000).tolist()) | set(whole.tolist())) == 2000


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**70])
def test_they_are_uniform_and_those_of_two_seeds_have_nothing_in_common(seed):
    a, b = (row_hashes(s, 0, 100_000) / 2.0**64 for s in (seed, seed + 1))
    assert stats.kstest(a, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.015
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.015
