"""``slidefusion info``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

__all__ = ["info"]


def info(
    store: Annotated[str, typer.Argument(help="OME-Zarr stack, slide or image: a path or URL.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe an OME-Zarr and say whether it is complete.

    Prints planes, sizes, units, chunks and provenance, of any OME-Zarr 0.4 or 0.5, or of an output
    that an interrupted run left.

    \b
    Examples:
      slidefusion info stack.zarr
      slidefusion info slide.zarr --json | jq .provenance.planes
    """
    from slidefusion.verbs.info import describe

    described = describe(store)
    print(json.dumps(described, indent=2) if as_json else _text(described))


def _text(d: dict[str, Any]) -> str:
    from slidefusion.cli.columns import columns

    sizes = dict(zip(d["axes"], d["shape"], strict=True))
    rows = [
        ("store", d["store"]),
        ("state", _state(d)),
        ("format", _format(d)),
        ("size", f"{sizes['y']} x {sizes['x']} px (height x width){_extent(d, sizes)}"),
        ("dtype", d["dtype"]),
    ]
    if d["channels"]:
        rows.append(("channels", f"{len(d['channels'])}: {', '.join(d['channels'])}"))
    rows.append(("pixel size", _pixel_size(d)))
    if d["disk_bytes"] is not None:
        rows.append(("on disk", f"{d['disk_bytes'] / 1e6:,.1f} MB in {d['disk_files']:,} files"))
    parts = [columns(rows)]
    if d["planes"]:
        table = [("PLANE", "FOCUS OFFSET", "Z (µm)")]
        for k, plane in enumerate(d["planes"]):
            z = "unknown" if plane["z_um"] is None else _signed(plane["z_um"])
            table.append((str(k), _signed(plane["focus_offset"]), z))
        parts.append(columns(table))
    parts.append(_levels("LEVEL", d["levels"]))
    parts += [_levels(f"LABEL {label['name']}", label["levels"]) for label in d["labels"]]
    if d["provenance"]:
        parts.append("provenance\n" + _provenance(d["provenance"], "  "))
    return "\n\n".join(parts)


def _signed(value: float) -> str:
    return f"{value:+g}" if value else "0"


def _state(d: dict[str, Any]) -> str:
    if d["complete"]:
        return "complete"
    progress = d["regions"]
    if progress is None:
        return "INCOMPLETE: the run that writes it stopped before its first region"
    return (
        f"INCOMPLETE: {progress['finished']} of {progress['total']} regions are finished; repeat "
        "the command that writes it to continue"
    )


def _format(d: dict[str, Any]) -> str:
    version = f"OME-Zarr {d['ngff_version']}" if d["ngff_version"] else "not OME-Zarr yet"
    return f"{version} (Zarr v{d['zarr_format']}), {d['kind']}, axes {', '.join(d['axes'])}"


def _extent(d: dict[str, Any], sizes: dict[str, int]) -> str:
    if d["pixel_size_um"] is None:
        return ""
    y, x = d["pixel_size_um"]
    return f", {sizes['y'] * y / 1e3:.3g} x {sizes['x'] * x / 1e3:.3g} mm"


def _pixel_size(d: dict[str, Any]) -> str:
    if d["pixel_size_um"] is None:
        return "unknown"
    y, x = d["pixel_size_um"]
    return f"{y:g} µm" if y == x else f"{y:g} x {x:g} µm (y x x)"


def _levels(title: str, levels: list[dict[str, Any]]) -> str:
    from slidefusion.cli.columns import columns

    def show(shape: list[int] | None) -> str:
        return "-" if shape is None else " x ".join(map(str, shape))

    rows = [(title, "SHAPE", "CHUNK", "SHARD")]
    rows += [
        (level["path"], show(level["shape"]), show(level["chunk"]), show(level["shard"]))
        for level in levels
    ]
    return columns(rows)


def _provenance(value: dict[str, Any], indent: str) -> str:
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{indent}{key}")
            lines.append(_provenance(item, indent + "  "))
        else:
            lines.append(f"{indent}{key}: {item if isinstance(item, str) else json.dumps(item)}")
    return "\n".join(lines)
