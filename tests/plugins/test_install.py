"""Each plugin, built and installed into a fresh environment, works there through its entry point.

Offline: the environment borrows this one's packages, hatchling among them, and installs nothing
but the plugin itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"

USE_IT = """
import json, sys
import numpy as np
import slidefusion as sf

name, module = sys.argv[1:]
listed = [p for p in sf.fusers() if p.name == name]
imported_by_listing = module in sys.modules
stack = np.random.default_rng(0).integers(0, 255, (3, 2, 61, 47), dtype=np.uint8)
options = [[o.name, o.help] for o in sf.fuser_options(name)]
fused = sf.fuse(stack, name, chunks=32)
whole = sf.get_fuser(name)(stack.transpose(1, 0, 2, 3))
print(json.dumps({
    "distributions": [p.distribution for p in listed],
    "imported_by_listing": imported_by_listing,
    "from": sys.modules[module].__file__,
    "options": options,
    "dims": list(fused.dims),
    "equal": bool(np.array_equal(fused.values, whole.image)),
}))
"""


def run(command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of a fresh environment that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(
        run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    # addsitedir, not a path: it also follows the .pth files of editable installs.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(borrowed)]
    (site / "borrowed.pth").write_text("\n".join(lines) + "\n")
    return python


@pytest.fixture(scope="module")
def installed(environment, tmp_path_factory):
    """The same Python, with every plugin installed by pip from a copy of its sources."""
    wheels = tmp_path_factory.mktemp("wheels")
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check", "-q"]
    pip = [sys.executable, "-m", "pip"]
    sources = sorted(PLUGINS.glob("slidefusion-*"))
    run([*pip, "wheel", *offline, "--no-build-isolation", "-w", wheels, *sources])
    built = sorted(wheels.glob("*.whl"))
    run([*pip, "--python", environment, "install", *offline, *built])
    return environment


@pytest.mark.parametrize(
    ("distribution", "name", "module"),
    [
        ("slidefusion-template", "sharpest", "slidefusion_template"),
        ("slidefusion-guided", "guided", "slidefusion_guided"),
    ],
)
def test_a_plugin_works_once_installed(installed, tmp_path, distribution, name, module):
    script = tmp_path / "use_it.py"
    script.write_text(USE_IT)
    report = json.loads(run([installed, "-W", "error", script, name, module], cwd=tmp_path))
    assert report["distributions"] == [distribution]
    assert not report["imported_by_listing"]
    assert str(installed.parents[1]) in report["from"], "it must be the installed copy"
    assert report["options"] and all(help for _, help in report["options"])
    assert report["dims"] == ["c", "y", "x"]
    assert report["equal"]


USE_WEIGHTS = """
import sys
import numpy as np
import slidefusion as sf
from slidefusion import weights
from slidefusion.nets import build

folder, = sys.argv[1:]
weights.save(f"{folder}/blur", build("blur_model", width=4, blocks=[1, 1, 1]), {"fuser": "blur"})
network = build("generator", width=4, residual=True)
weights.save(f"{folder}/tiny", network, {"fuser": "focusgan", "blur_model": "blur"})
stack = np.random.default_rng(0).integers(0, 255, (3, 1, 61, 47), dtype=np.uint8)
fused = sf.fuse(stack, "focusgan", weights="large:tiny", tile=64, overlap=16)
assert [card.pack for card in weights.find() if card.name == "tiny"] == ["large"]
assert np.abs(fused.values - stack[:, 0].astype(int)).max() <= 1  # untrained: its plane
"""


def test_weights_in_a_pack_are_used_by_name(installed, tmp_path):
    site = run([installed, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    folder = Path(site) / "slidefusion_weights" / "files"
    before = set(folder.iterdir())
    script = tmp_path / "use_weights.py"
    script.write_text(USE_WEIGHTS)
    try:
        run([installed, "-W", "error", script, folder], cwd=tmp_path)
    finally:
        for made in set(folder.iterdir()) - before:
            shutil.rmtree(made) if made.is_dir() else made.unlink()


@pytest.mark.parametrize(
    "distribution", ["slidefusion-template", "slidefusion-guided", "slidefusion-weights"]
)
def test_its_own_tests_pass(installed, tmp_path, distribution):
    # Copied, so that no configuration of this repository applies.
    shutil.copytree(PLUGINS / distribution / "tests", tmp_path / "tests")
    output = run(
        [installed, "-m", "pytest", "-rs", "-W", "error", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
    )
    assert "passed" in output
    assert "no entry point" not in output, "registered, so the name is checked, not skipped"


def test_plugins_use_the_public_surface_only():
    allowed = ("slidefusion.fuser", "slidefusion.testing")
    for source in PLUGINS.rglob("*.py"):
        for line in source.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("slidefusion."):
                assert words[1] in allowed, f"{source}: {line}"
