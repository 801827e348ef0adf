"""Imports go one way: each module of dask_gd uses only those of its own layer and of the layers below."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dask_gd

ROOT = Path(dask_gd.__file__).parent

#: The layers, the lowest first. A layer is some packages or modules that know nothing of one another.
LAYERS = (
    ("errors", "interrupt", "names", "worker_env"),
    ("cluster", "validate"),
    ("model",),
    ("display", "kernels", "losses", "penalties", "store"),
    ("solvers", "sources"),
    ("passes",),
    ("weight_blocks",),
    ("preprocessing", "results"),
    ("events",),
    ("dashboard",),
    ("fitting",),
    ("accessor", "callbacks", "measures", "reports"),
    ("estimators",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
#: What only some layers may import: the arithmetic knows nothing of where rows come from and what runs it.
OUTSIDE = {
    "dask": (
        "cli",
        "cluster",
        "dashboard",
        "estimators",
        "fitting",
        "passes",
        "preprocessing",
        "results",
        "sources",
        "weight_blocks",
    ),
    "zarr": ("cli", "results", "sources", "store", "__init__"),
    "xarray": (
        "accessor",
        "cli",
        "display",
        "estimators",
        "fitting",
        "measures",
        "preprocessing",
        "results",
        "sources",
    ),
}
OUTSIDE["distributed"] = (*OUTSIDE["dask"], "worker_env")


def name_of(path):
    """Return a module's name below dask_gd, "__init__" for dask_gd itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imported(name):
    """Return what a module imports, wherever in it, for typing too: names below dask_gd, and other packages' names."""
    path = MODULES[name]
    package = path.parent.relative_to(ROOT).parts
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ("dask_gd", *package[: len(package) - node.level + 1], *(node.module or "").split("."))
            targets = [".".join(filter(None, (*base, alias.name))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            first, _, rest = target.partition(".")
            if first != "dask_gd":
                others.add(first)
                continue
            while rest and rest not in MODULES:
                rest = rest.rpartition(".")[0]
            own.add(rest or "__init__")
    return own - {name}, others


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_its_own_layer_or_from_those_below(name):
    layer = {member: i for i, members in enumerate(LAYERS) for member in members}
    mine = name.partition(".")[0]
    own, others = imported(name)
    for other in own:
        theirs = other.partition(".")[0]
        assert theirs == mine or layer[theirs] < layer[mine], f"{name} imports {other}"
    for outside in others & OUTSIDE.keys():
        assert mine in OUTSIDE[outside], f"{name} imports {outside}"


def test_no_modules_import_each_other():
    """Sorting raises an error that names those of a cycle."""
    graph = {name: imported(name)[0] for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_each_layer_is_there():
    assert {member for members in LAYERS for member in members} == {name.partition(".")[0] for name in MODULES}
