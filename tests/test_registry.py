from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import slidefusion as sf
from slidefusion.errors import OptionError, PluginError, UnknownNameError
from slidefusion.fuser import Fuser
from slidefusion.registry import FUSERS, find, fuser_options, fusers, get_fuser, plugins

MODULE = """
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from slidefusion.fuser import Footprint, Fused, PlaneRange, option

@dataclass(frozen=True)
class First:
    name: ClassVar[str] = "first"
    planes: ClassVar[PlaneRange] = PlaneRange(1)
    footprint: ClassVar[Footprint] = Footprint()
    device: ClassVar[str] = "cpu"
    strength: float = option(1.0, "how much", minimum=0, maximum=2)
    mode: str = option("a", "which", choices=("a", "bee"))
    rounds: int = option(1, "how often")
    label: str | None = None
    side: Literal["left", "right"] = "left"
    tile: int | Literal["auto"] = option("auto", "how large", minimum=1)
    sizes: tuple[int, ...] = option((1,), "which", minimum=1)
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        if self.rounds == 13:
            raise ZeroDivisionError("thirteen")

    def working_bytes(self, planes, channels, height, width):
        return 0

    def __call__(self, stack):
        return Fused(stack[0])

class NoFuser:
    name = "nothing"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put distributions with entry points on the path, as pip leaves them."""
    (tmp_path / "acme_module.py").write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, version: str = "1.0", **entries: str) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
        (folder / "entry_points.txt").write_text(f"[{FUSERS}]\n{lines}\n")
        importlib.invalidate_caches()

    return install


def test_built_ins_are_listed_with_their_distribution() -> None:
    lpp = next(plugin for plugin in fusers() if plugin.name == "lpp")
    assert (lpp.distribution, lpp.built_in) == ("slidefusion", True)
    assert lpp.version == importlib.metadata.version("slidefusion")


def test_listing_imports_no_fuser() -> None:
    code = (
        "import sys, slidefusion as sf; assert sf.fusers();"
        "assert not [m for m in sys.modules if m.startswith('slidefusion.fusers')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plugin_is_found_and_made(install: Install) -> None:
    install("acme-fusers", "2.3", first="acme_module:First")
    plugin = find(FUSERS, "first")
    assert (plugin.qualified_name, plugin.version) == ("acme-fusers:first", "2.3")
    fuser = get_fuser("first", strength=2, label=None)
    assert isinstance(fuser, Fuser)
    assert get_fuser("acme-fusers:first") == get_fuser("first")


def test_unknown_name_has_the_near_match() -> None:
    with pytest.raises(UnknownNameError, match=r"no fuser 'lbp' is installed; did you mean 'lpp'"):
        get_fuser("lbp")


def test_a_broken_plugin_is_named_and_harms_no_other(install: Install) -> None:
    install("acme-fusers", first="acme_module:First")
    install("broken-fusers", "0.9", sad="broken_module:Sad", gone="acme_module:Missing")
    assert {"first", "sad", "gone", "lpp"} <= {plugin.name for plugin in fusers()}
    assert get_fuser("first").name == "first"
    pattern = (
        r"fuser 'sad' of distribution broken-fusers 0.9 cannot be loaded from 'broken_module:Sad': "
        r"ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    )
    with pytest.raises(PluginError, match=pattern) as caught:
        get_fuser("sad")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    with pytest.raises(PluginError, match="AttributeError"):
        get_fuser("gone")


def test_a_distribution_without_metadata_harms_no_other(install: Install, tmp_path: Path) -> None:
    pytest.importorskip("importlib_metadata")  # as Dask does: it reads all metadata from then on

    install("acme-fusers", first="acme_module:First")
    (tmp_path / "acme_fusers-1.0.dist-info" / "METADATA").unlink()
    importlib.invalidate_caches()
    plugin = find(FUSERS, "first")
    assert (plugin.distribution, plugin.version) == ("unknown", "unknown")
    assert get_fuser("first").name == "first"
    assert get_fuser("lpp").name == "lpp"


def test_a_distribution_may_be_spelled_as_its_author_does(install: Install) -> None:
    install("Acme.Fusers", first="acme_module:First")
    assert find(FUSERS, "first").qualified_name == "acme-fusers:first"
    assert find(FUSERS, "Acme.Fusers:first") == find(FUSERS, "acme_fusers:first")


def test_a_plugin_that_leaves_the_program_is_named(install: Install, tmp_path: Path) -> None:
    (tmp_path / "leaving_module.py").write_text("import sys\nsys.exit(4)\n")
    install("leaving-fusers", leaves="leaving_module:Leaves")
    with pytest.raises(PluginError, match=r"distribution leaving-fusers .*SystemExit: 4"):
        get_fuser("leaves")


def test_what_is_no_fuser_is_refused(install: Install) -> None:
    install("acme-fusers", nothing="acme_module:NoFuser")
    with pytest.raises(PluginError, match=r"is no fuser: it lacks planes, footprint, device"):
        get_fuser("nothing")


def test_ambiguous_names_are_refused_and_can_be_qualified(install: Install) -> None:
    install("acme-fusers", first="acme_module:First")
    install("other-fusers", first="acme_module:First")
    with pytest.raises(PluginError, match="'acme-fusers:first', 'other-fusers:first'"):
        get_fuser("first")
    assert get_fuser("other-fusers:first").name == "first"


def test_a_built_in_is_not_shadowed(install: Install) -> None:
    install("a-shadow", lpp="acme_module:First")
    assert type(get_fuser("lpp")).__name__ == "Lpp"
    with pytest.raises(PluginError, match=r"'a-shadow:lpp' .*First\) calls itself 'first'"):
        get_fuser("a-shadow:lpp")
    assert [p.distribution for p in plugins(FUSERS) if p.name == "lpp"] == [
        "slidefusion",
        "a-shadow",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strenght": 1.0}, r"has no option 'strenght'; did you mean 'strength'"),
        ({"strength": "much"}, r"strength='much' .* is of type str; it must be float"),
        ({"strength": 3}, r"strength=3 .* out of range: it must be at least 0 and at most 2"),
        ({"strength": float("nan")}, r"strength=nan .* is not finite"),
        ({"mode": "be"}, r"mode='be' .* is not allowed; did you mean 'bee'"),
        ({"rounds": True}, r"rounds=True .* is of type bool; it must be int"),
        ({"rounds": 1.5}, r"rounds=1.5 .* is of type float; it must be int"),
        ({"label": 3}, r"label=3 .* it must be str or None"),
        ({"side": "top"}, r"side='top' .* it must be 'left' or 'right'"),
        ({"tile": 0}, r"tile=0 .* out of range"),
        ({"sizes": (2, 0)}, r"sizes=\(2, 0\) .* out of range"),
    ],
)
def test_options_are_checked_before_any_work(
    install: Install, options: dict[str, object], message: str
) -> None:
    install("acme-fusers", first="acme_module:First")
    with pytest.raises(OptionError, match=message):
        get_fuser("first", **options)


def test_ranges_are_those_of_numbers(install: Install) -> None:
    """Of an option that may be a text, or is several numbers."""
    install("acme-fusers", first="acme_module:First")
    assert get_fuser("first", tile="auto", sizes=(2, 3), names=["a"], label="b", rounds=10**400)
    types = {info.name: info.type for info in fuser_options("first")}
    assert (types["sizes"], types["names"]) == ("tuple[int, ...]", "list[str]")


def test_a_constructor_that_fails_is_named(install: Install) -> None:
    install("acme-fusers", first="acme_module:First")
    with pytest.raises(PluginError, match=r"'acme-fusers:first' cannot be made .*thirteen"):
        get_fuser("first", rounds=13)


def test_options_are_described() -> None:
    options = {info.name: info for info in fuser_options("lpp")}
    assert options["levels"].type == "int"
    assert isinstance(options["levels"].default, int)
    assert options["levels"].help


def test_the_version_of_a_fuser_is_recorded_whoever_else_has_its_name(
    install: Install, tmp_path: Path
) -> None:
    install("acme-fusers", "1.2", first="acme_module:First")
    install("other-fusers", "3.4", first="other_module:First")
    (tmp_path / "other_module.py").write_text(MODULE)
    found = {}
    for name in ("acme-fusers", "other-fusers"):
        out = tmp_path / f"{name}.zarr"
        sf.fuse(np.zeros((1, 2, 8, 8), np.uint8), f"{name}:first", out=out, progress=False)
        found[name] = zarr.open_group(out, mode="r").attrs["slidefusion"]["software"]
    assert found["acme-fusers"]["acme-fusers"] == "1.2"
    assert found["other-fusers"]["other-fusers"] == "3.4"
    assert "other-fusers" not in found["acme-fusers"]


def test_packages_that_share_a_name_are_told_apart(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme").mkdir()  # a namespace: two distributions put modules there
    source = MODULE.replace('"first"', "NAME") + "\ndef make():\n    return First()\n"
    for module, name in (("fusers", "here"), ("tools", "there")):
        (tmp_path / "acme" / f"{module}.py").write_text(f"NAME = {name!r}\n{source}")
    install("acme-a", "1.0", here="acme.fusers:First")
    install("acme-b", "2.0", there="acme.tools:make")
    found = {}
    for name in ("here", "there"):
        out = tmp_path / f"{name}.zarr"
        sf.fuse(np.zeros((1, 2, 8, 8), np.uint8), name, out=out, progress=False)
        found[name] = zarr.open_group(out, mode="r").attrs["slidefusion"]["software"]
    assert found["here"]["acme-a"] == "1.0" and "acme-b" not in found["here"]
    assert found["there"]["acme-b"] == "2.0" and "acme-a" not in found["there"]
