"""What the suite promises about itself: a failing test leaves no client and no cluster to the tests after it."""

import os
from pathlib import Path


def test_a_client_that_a_test_leaves_running_is_closed_and_reported(pytester, monkeypatch):
    """FOUND 27."""
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]))
    pytester.makeconftest((here / "conftest.py").read_text())
    pytester.makepyfile(
        """
        import pytest
        from dask.distributed import Client, default_client

        @pytest.mark.parametrize("fails", [False, True])
        def test_leaves_a_client(fails):
            with pytest.raises(ValueError, match="No clients found"):
                default_client()
            Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0")
            assert not fails

        def test_has_none():
            with pytest.raises(ValueError, match="No clients found"):
                default_client()
        """
    )
    # In a process of its own: to this one's conftest the clusters that tests share would be left behind.
    outcomes = pytester.runpytest_subprocess("-p", "no:cacheprovider").parseoutcomes()
    # The client, and the cluster that it started, are an error of the test's tear-down.
    assert outcomes == {"passed": 2, "failed": 1, "errors": 2}


def test_tests_of_the_shared_clusters_are_one_group(request, clusters):
    """Else the clusters start for each test: pytest-xdist has the group in a test's name, or does not know of it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@clusters")


def test_no_test_file_imports_another():
    for file in Path(__file__).parent.glob("test_*.py"):
        imports = [line for line in file.read_text().splitlines() if line.startswith(("from test_", "import test_"))]
        assert not imports, f"{file.name}: what tests share is in helpers.py"
