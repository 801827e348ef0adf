"""Clusters that tests share, and what holds for every test.

Hypothesis invents the same cases on every run, so that a failure is a change of the code.
"""

import gc

import dask
import helpers
import pytest
from dask.distributed import Client
from distributed.deploy.spec import SpecCluster
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dask_gd",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("dask_gd")

# Dask's workers are forked from a process that has loaded them; those of the command line start as its users' do.
# Nobody looks at the profiles that each process takes of itself a hundred times a second, or at its other measurements.
dask.config.set(
    {
        "distributed.worker.multiprocessing-method": "forkserver",
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "5s",
    }
)

# The clusters that tests share, by their number of workers or by name.
SHARED = {}

# Fixtures that take seconds to make. Of a test that asks for more than one the first counts: workers that are killed
# are waited for, and other tests of clusters go on meanwhile.
COSTLY = ("fragile", "clusters", "stored", "chromium")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Let one of pytest-xdist's processes run all tests of a costly fixture, which is made once then."""
    for item in items:
        asked = getattr(item, "fixturenames", ())
        group = next((name for name in COSTLY if name in asked), None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


def shares_clusters(item):
    return "clusters" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem):
    """Close the shared clusters after the last test that asks for them: idle workers take time from the tests."""
    try:
        return (yield)
    finally:
        if nextitem is None or not shares_clusters(nextitem):
            while SHARED:
                SHARED.popitem()[1].close()


def pytest_collection_finish():
    """Keep Python from looking for garbage among the thousands of tests, and what was imported, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def clusters():
    """Return shared clusters by their number of workers or by name; each starts when it is first asked for."""

    def shared(which):
        if which not in SHARED:
            SHARED[which] = helpers.cluster(which if isinstance(which, int) else 2)
        return SHARED[which]

    return shared


@pytest.fixture
def two(clusters):
    """A client of two worker processes with a thread each. It is this test's own; the workers are not: kill none."""
    with Client(clusters(2)) as client:
        yield client


@pytest.fixture
def four(clusters):
    """A client of four worker processes with a thread each. It is this test's own; the workers are not: kill none."""
    with Client(clusters(4)) as client:
        yield client


def left_behind():
    """Return the clients and clusters that still run, without the shared ones."""
    clients = [client for client in Client._instances if client.status in ("running", "connecting")]
    others = [c for c in SpecCluster._instances if c.status.name == "running" and c not in SHARED.values()]
    return clients + others


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    """Close what a test leaves running, since the tests after it would run there, and say that it did."""
    yield
    left = {each: repr(each) for each in left_behind()}
    for each in left:
        each.close()
    if left:
        pytest.fail(f"left running: {', '.join(left.values())}")
