"""``slidefusion fusers``."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated, Any

import typer

from slidefusion.cli.columns import columns

__all__ = ["fusers"]


def fusers(
    name: Annotated[
        str | None, typer.Argument(help="One of them, or 'distribution:name': show its options.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed fusers, or the options of one.

    \b
    Examples:
      slidefusion fusers
      slidefusion fusers lpp
      slidefusion fusers lpp --json
    """
    if name is None:
        _list(as_json)
    else:
        _show(name, as_json)


def _list(as_json: bool) -> None:
    import slidefusion as sf

    found = [
        {"name": p.name, "distribution": p.distribution, "version": p.version, "target": p.target}
        for p in sf.fusers()
    ]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    rows = [(p["name"], f"{p['distribution']} {p['version']}", p["target"]) for p in found]
    print(columns([("FUSER", "FROM", "TARGET"), *rows]))
    print("\n'slidefusion fusers NAME' shows the options of one.")


def _show(name: str, as_json: bool) -> None:
    from slidefusion.registry import FUSERS, declared_options, find

    plugin = find(FUSERS, name)
    factory = plugin.load()
    infos = declared_options(factory)
    text = textwrap.dedent(factory.__doc__ or "").strip().partition("\n\n")[0]
    options = [
        {
            "name": info.name,
            "type": info.type,
            "default": info.default,
            "choices": None if info.choices is None else list(info.choices),
            "minimum": info.minimum,
            "maximum": info.maximum,
            "help": info.help,
        }
        for info in infos
    ]
    planes = getattr(factory, "planes", None)
    weights = _weights(plugin.name) if any(info.name == "weights" for info in infos) else []
    described = {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "target": plugin.target,
        "planes": str(planes) if isinstance(getattr(planes, "min", None), int) else None,
        "description": " ".join(text.split()),
        "options": options,
        "weights": weights,
    }
    if as_json:
        print(json.dumps(described, indent=2, default=str))
        return
    print(f"{plugin.name} ({plugin.distribution} {plugin.version}, {plugin.target})")
    if described["description"]:
        print(textwrap.fill(str(described["description"]), 96))
    if described["planes"]:
        print(f"planes: {described['planes']}")
    if not options:
        print("no options are declared")
        return
    rows = [(o["name"], o["type"], str(o["default"]), _allowed(o), o["help"]) for o in options]
    print()
    print(columns([("OPTION", "TYPE", "DEFAULT", "ALLOWED", "MEANING"), *rows]))
    if weights:
        print()
        fields = ("name", "planes", "parameters", "network", "pack")
        cells = [tuple("" if w[f] is None else str(w[f]) for f in fields) for w in weights]
        print(columns([("WEIGHTS", "PLANES", "PARAMETERS", "NETWORK", "PACK"), *cells]))
    example = options[0]
    print(f"\nset one with -O, for example: -O {example['name']}={example['default']}")


def _weights(fuser: str) -> list[dict[str, Any]]:
    """The installed weights for a fuser, as their cards say."""
    from slidefusion.weights import find

    return [
        {
            "name": card.name if card.pack == "slidefusion" else card.reference,
            "planes": card.planes,
            "parameters": card.parameters,
            "network": card.network,
            "pack": card.pack,
        }
        for card in find()
        if card.fuser == fuser
    ]


def _allowed(option: dict[str, Any]) -> str:
    if option["choices"] is not None:
        return ", ".join(map(str, option["choices"]))
    low, high = option["minimum"], option["maximum"]
    if low is None and high is None:
        return ""
    if high is None:
        return f">= {low:g}"
    return f"<= {high:g}" if low is None else f"{low:g} to {high:g}"
