"""The examples in deploy/ run, and name commands, options and resources that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

import slidefusion as sf
from slidefusion.cli.app import app
from slidefusion.tasks.placement import GPU

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted(DEPLOY.rglob("*.py"))
MANIFESTS = sorted(DEPLOY.rglob("*.yaml"))
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def check_command(words: list[str]) -> None:
    """``slidefusion …`` names a command of ours and only options that it has."""
    words = words[words.index("slidefusion") + 1 :]
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] == "--log" else words[1:]
    known = {name for option in COMMANDS[words[0]].params for name in option.opts}
    known |= {name for option in COMMANDS[words[0]].params for name in option.secondary_opts}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)}
    assert given <= known | {"--help"}, f"{words[0]} has no {given - known}"


def containers(value: Any) -> list[dict[str, Any]]:
    """Every container in a manifest."""
    if isinstance(value, list):
        return [found for item in value for found in containers(item)]
    if not isinstance(value, dict):
        return []
    own = [c for key in ("containers", "initContainers") for c in value.get(key, [])]
    return own + [found for item in value.values() for found in containers(item)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_show_their_help(script: Path) -> None:
    ended = run(script, "--help")
    assert ended.returncode == 0, ended.stderr
    assert "--local" in ended.stdout and "stack" in ended.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_scripts_fuse_on_processes_of_this_machine(script: Path, tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (1, 3, 90, 130), dtype=np.uint8)
    stack = tmp_path / "stack.zarr"
    source = tmp_path / "stack.npy"
    np.save(source, planes)
    from ..test_stack import Planes

    sf.convert(Planes(planes, (0.0, 1.0, 2.0)), stack, progress=False)
    few = {"fuse_on_slurm": ["--jobs", 1], "fuse_over_ssh": ["--processes", 1]}
    ended = run(
        script,
        stack,
        tmp_path / "slide.zarr",
        "--local",
        *few.get(script.stem, ["--device", "cpu"]),
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("slide.zarr is complete\n")
    assert np.array_equal(sf.open_slide(tmp_path / "slide.zarr"), sf.fuse(stack))


def test_manifests_fit_together() -> None:
    documents = {path.name: list(yaml.safe_load_all(path.read_text())) for path in MANIFESTS}
    (cluster,), (job,) = documents["cluster.yaml"], documents["job.yaml"]
    assert (cluster["apiVersion"], cluster["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    name = cluster["metadata"]["name"]
    assert cluster["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name
    every = containers(cluster) + containers(job)
    assert len({container["image"] for container in every}) == 1  # equal versions everywhere
    fuse = next(c for c in every if c["name"] == "fuse")["command"]
    check_command(fuse)
    assert fuse[fuse.index("--scheduler") + 1] == f"tcp://{name}-scheduler:8786"
    secrets = {source["secretRef"]["name"] for c in every for source in c.get("envFrom", [])}
    assert len(secrets) == 1
    assert f"secret generic {secrets.pop()}" in (DEPLOY / "kubernetes/job.yaml").read_text()


def test_dask_has_the_options_that_are_given_to_it() -> None:
    from distributed.cli import dask_scheduler, dask_worker

    known = {
        name
        for command in (dask_scheduler.main, dask_worker.main)
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }
    (cluster,) = yaml.safe_load_all((DEPLOY / "kubernetes/cluster.yaml").read_text())
    for container in containers(cluster):
        given = {word for word in container["args"] if word.startswith("--")}
        assert given <= known
    for line in shell_lines():
        words = shlex.split(line, comments=True)
        if words[:2] in (["dask", "worker"], ["dask", "scheduler"]):
            assert {word for word in words if word.startswith("--")} <= known


def test_the_page_names_our_commands_and_options() -> None:
    commands = [line for line in shell_lines() if line.startswith("slidefusion ")]
    commands += re.findall(r"`(slidefusion [^`]+ [^`]+)`", (DEPLOY / "README.md").read_text())
    assert len(commands) > 4
    for line in commands:
        check_command(shlex.split(line, comments=True))
    text = (DEPLOY / "README.md").read_text()
    for folder in (path for path in DEPLOY.iterdir() if path.is_dir()):
        assert f"`{folder.name}/`" in text


def test_gpu_workers_declare_what_fusers_look_for() -> None:
    (name,) = GPU
    for script in ("slurm/fuse_on_slurm.py", "gpus/fuse_on_gpus.py"):
        text = (DEPLOY / script).read_text()
        assert f'"{name}=1"' in text or f'{{"{name}": 1}}' in text


def shell_lines() -> list[str]:
    """The lines of the page's code blocks."""
    blocks = re.findall(r"```\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]
