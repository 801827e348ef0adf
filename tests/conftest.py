"""Hypothesis invents the same cases on every run, so that a failure is a change of the code."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "dask_gd",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("dask_gd")
