"""What is at the place of an output, and deleting a store so that a kill midway does no harm."""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
from pathlib import Path
from typing import Any, Literal

from slidefusion.errors import OutputError, ProcessingError, StackError, UnknownNameError
from slidefusion.files import PARTIAL_SUFFIX, ZARR_NAMES, replace_file
from slidefusion.omezarr.access import reaching, writing
from slidefusion.omezarr.journal import JOURNAL_NAME
from slidefusion.omezarr.lock import LOCK_NAME
from slidefusion.omezarr.record import RECORD_KEY, is_complete, record_of
from slidefusion.omezarr.shards import SCRATCH_NAME
from slidefusion.omezarr.store import is_url, open_group

__all__ = ["State", "delete_store", "sizes_below", "state_of"]

State = Literal["empty", "unfinished", "complete", "deleted", "zarr", "other"]
"""Nothing; an output of ours, not finished or finished; one whose deletion was begun; somebody
else's Zarr store; anything else."""

_OWN = {LOCK_NAME, JOURNAL_NAME, SCRATCH_NAME}


def state_of(where: str) -> tuple[State, dict[str, Any]]:
    """What is at ``where``, and what its root says under ``slidefusion``.

    Raises
    ------
    OutputError
        When a file is there, or the place or what lies there does not answer.
    """
    names = _names(where)
    if not names:
        return "empty", {}
    if not names & set(ZARR_NAMES):
        return "other", {}
    with reaching(where):
        try:
            mine = record_of(dict(open_group(where).attrs))
        except (StackError, UnknownNameError):  # it is somebody else's, or damaged
            mine = {}
        except ProcessingError as error:  # what cannot be read may well be ours, and finished
            raise error.__cause__ or error from None
    if not mine:
        return "zarr", {}
    if mine.get("deleted"):
        return "deleted", mine
    return "unfinished" if is_complete(mine) is False else "complete", mine


def _names(where: str) -> set[str]:
    """What lies at the top, without what every run begins with and half-made files."""
    if is_url(where):
        import fsspec

        with reaching(where):
            filesystem, root = fsspec.core.url_to_fs(where)
            filesystem.invalidate_cache()
            paths = filesystem.ls(root, detail=False) if filesystem.exists(root) else []
        names = _children(paths, root)
    else:
        path = Path(where)
        with reaching(where):
            if path.exists() and not path.is_dir():
                raise OutputError(f"{where} is a file; choose another output")
            names = {child.name for child in path.iterdir()} if path.is_dir() else set()
    return {name for name in names - _OWN if not name.endswith(PARTIAL_SUFFIX)}


def _children(paths: list[str], root: str) -> set[str]:
    """Names directly below ``root``; some stores list the folder itself, too."""
    stripped = [path.rstrip("/") for path in paths]
    return {path.rpartition("/")[2] for path in stripped if path != root.rstrip("/")}


def sizes_below(where: str) -> dict[str, int]:
    """Everything in a store at a URL, by its URL, with its size in bytes."""
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(where)
    filesystem.invalidate_cache()
    found = filesystem.find(root, detail=True)
    return {
        f"{where}{str(path).removeprefix(str(root))}": int(info["size"])
        for path, info in found.items()
    }


def delete_store(where: str) -> None:
    """Delete a Zarr store, but for the lock of the run that deletes it.

    First of all its root says that it is being deleted, and that goes last: a deletion that was
    interrupted is recognised, and completed, by whoever comes next.

    Raises
    ------
    ProcessingError
        When the store refuses.
    """
    marker = {"zarr_format": 3, "node_type": "group", "attributes": {RECORD_KEY: _DELETED}}
    with writing(f"(delete) {where}"):
        if is_url(where):
            _delete_url(where, json.dumps(marker).encode())
        else:
            _delete_local(Path(where), json.dumps(marker).encode())


_DELETED = {"complete": False, "deleted": True}


def _delete_local(path: Path, marker: bytes) -> None:
    with replace_file(path / "zarr.json") as partial:
        partial.write_bytes(marker)
    for child in path.iterdir():
        if child.name not in (LOCK_NAME, "zarr.json"):
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
    (path / "zarr.json").unlink()


def _delete_url(where: str, marker: bytes) -> None:
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(where)
    filesystem.pipe_file(f"{root}/zarr.json", marker)
    filesystem.invalidate_cache()
    kept = {f"{root}/{LOCK_NAME}", f"{root}/zarr.json"}
    for name in _children(filesystem.ls(root, detail=False), root):
        if f"{root}/{name}" not in kept:
            _delete_tree(filesystem, f"{root}/{name}")
    filesystem.rm_file(f"{root}/zarr.json")


def _delete_tree(filesystem: Any, path: str) -> None:
    """Delete what is at ``path`` and below, by these names and no others.

    fsspec's ``rm`` takes a name with ``*``, ``?`` or ``[`` for a pattern, and deletes all that fits
    it, such as the slide of somebody else.
    """
    found = filesystem.find(path, withdirs=True, detail=True)
    if not any(map(glob.has_magic, [path, *found])):
        filesystem.rm(path, recursive=True)
        return
    folders = [name for name, entry in found.items() if entry["type"] == "directory"]
    for name in found.keys() - set(folders):
        filesystem.rm_file(name)
    for name in sorted(folders, key=len, reverse=True):
        # Some stores have folders only as long as something is in them.
        with contextlib.suppress(FileNotFoundError, NotImplementedError):
            filesystem.rmdir(name)
