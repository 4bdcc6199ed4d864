"""The package as a whole: light to import, one public surface, imports that point downward."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path

import cloudpickle

import slidefusion as sf

PACKAGE = Path(sf.__file__).parent

# From the bottom up; a module imports only from rows above its own (a row may use itself).
LAYERS = [
    ("errors", "files", "geometry", "jit", "processor", "registration", "units", "value_range"),
    ("fuser", "option_text", "wording"),
    ("tiling", "declarations"),
    ("memory", "registry", "metrics_kernels", "blocks"),
    ("engine", "metrics", "progress"),
    ("tasks",),
    ("source_array", "stack_shape"),
    ("transforms",),
    ("nets",),
    ("weights",),
    ("fusers",),
    ("omezarr",),
    ("phantom",),
    ("run_options",),
    ("region_run",),
    ("stack",),
    ("stack_inputs", "overview"),
    ("dask_source",),
    ("plan",),
    ("lazy_image", "write_slide"),
    ("sampling",),
    ("readers",),
    ("verbs",),
    ("training",),
    ("evaluation",),
    ("batch",),
    ("testing",),
    ("demo",),
    ("cli",),
]
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def unit(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Parts of slidefusion that a module imports, outside ``if TYPE_CHECKING``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slidefusion"):
            below = (node.module or "").split(".")[1:]
            found |= {below[0]} if below else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("slidefusion.")
            }
    return found


def test_imports_point_downward() -> None:
    for path in modules():
        own = unit(path.relative_to(PACKAGE).parts)
        if own == "__init__":
            continue
        assert own in LEVEL, f"{path}: give {own!r} its place in LAYERS"
        for other in imported(ast.parse(path.read_text())) - {own}:
            if other in LEVEL:
                assert LEVEL[other] < LEVEL[own] or {other, own} <= {*LAYERS[LEVEL[own]]}, (
                    f"{path} imports {other}, which lies above it"
                )


def test_the_document_has_the_same_layers() -> None:
    """Rows may be finer than those of LAYERS, and are in the same order."""
    text = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    table = text.split("## Layout")[1].split("```")[1]
    column = table.index("exceptions drawn") - 1  # where the descriptions begin
    rows = [row[:column].replace("/", "").split() for row in table.splitlines()]
    names = [name for row in rows for name in row]
    assert sorted(names) == sorted(LEVEL)
    assert [LEVEL[name] for name in names] == sorted(LEVEL.values())
    assert all(len({LEVEL[name] for name in row}) <= 1 for row in rows)


def test_the_engine_knows_no_fuser() -> None:
    assert not imported(ast.parse((PACKAGE / "engine.py").read_text())) & {"registry", "fusers"}


def test_importing_is_light() -> None:
    code = (
        "import sys, slidefusion; heavy = {'torch', 'dask', 'numba', 'zarr', 'xarray', 'scipy'};"
        "loaded = heavy & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists_and_is_documented() -> None:
    assert sf.__all__ == sorted(sf.__all__)
    for name in sf.__all__:
        assert getattr(sf, name).__doc__, name
    assert set(sf.__all__) <= set(dir(sf))
    assert sf.fuse is sf.fuse and callable(sf.fuse)


def test_functions_that_use_the_package_travel_to_other_processes() -> None:
    """As by ``client.submit`` of a function of a notebook, which is pickled by its value."""

    def names() -> list[str]:
        return [sf.fuse.__name__, sf.metrics.__name__]

    there = "import pickle, sys; print(pickle.load(sys.stdin.buffer)())"
    command = [sys.executable, "-c", there]
    found = subprocess.run(command, input=cloudpickle.dumps(names), check=True, capture_output=True)
    assert found.stdout.decode().strip() == str(names())
    assert copy.deepcopy(sf) is sf


def test_verbs_stay_callable_after_their_modules_are_imported() -> None:
    import slidefusion.verbs.fuse

    assert callable(sf.fuse) and sf.fuse is slidefusion.verbs.fuse.fuse


def test_files_stay_short() -> None:
    for path in modules():
        lines = len(path.read_text().splitlines())
        assert lines <= 350, f"{path} has {lines} lines: split it"
