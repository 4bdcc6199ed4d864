"""``report.html``: one page with everything in it, readable without a network."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

import numpy as np
import numpy.typing as npt

from slidefusion.demo import pictures
from slidefusion.demo.chart import focus_chart
from slidefusion.demo.folder import DemoFolder
from slidefusion.demo.measure import Measured, Opened
from slidefusion.evaluation.patches import worst_places
from slidefusion.geometry import Window
from slidefusion.phantom import Phantom

__all__ = ["write_report"]

_CROP_PX = 300
_VIEWER_PX = 480
_OVERVIEW_PX = 900
_MAP_PX = 640
_PLACES = 3


def write_report(
    folder: DemoFolder,
    opened: Opened,
    measured: Measured,
    phantom: Phantom,
    seconds: dict[str, float],
) -> None:
    """Write the report and, beside it, the figure of crops."""
    size = opened.truth.shape[-2:]
    worst = worst_places(measured.plane_error, 4, _CROP_PX, size, _PLACES)
    places = [place for place, _ in worst]
    page = _Page(opened, measured, places)
    text = Template(_resource("report.html")).substitute(
        css=_resource("report.css"),
        script=_resource("report.js"),
        headline=page.headline(),
        tiles=page.tiles(seconds),
        viewer=page.viewer(),
        chart=focus_chart(opened, measured),
        crops=page.crops(),
        overview=page.overview(),
        depth=page.depth(),
        error=page.error(),
        scores=page.scores(),
        timings=_timings(seconds),
        files=_files(folder),
        provenance=_provenance(folder, phantom),
    )
    folder.report.write_text(text, encoding="utf-8")
    _write_figure(folder, page, places)


def _resource(name: str) -> str:
    return resources.files("slidefusion.demo").joinpath(name).read_text("utf-8")


@dataclass(frozen=True)
class _Page:
    opened: Opened
    measured: Measured
    places: list[Window]

    @property
    def limit_um(self) -> float:
        return pictures.depth_limit_um(self.opened.depth_um)

    def headline(self) -> str:
        height, width = self.opened.slide
        area = self.opened.area
        part = (
            f" The middle {area.height} × {area.width} px are measured and shown."
            if area.size != self.opened.slide
            else ""
        )
        planes, step = len(self.opened.z_um), self.opened.z_um[1] - self.opened.z_um[0]
        return (
            f"A synthetic cervical smear of {height} × {width} px "
            f"({self.opened.pixel_size_um:g} µm a pixel) at {planes} focal planes {step:.3g} µm "
            f"apart, fused and compared with the exact truth.{part}"
        )

    def tiles(self, seconds: dict[str, float]) -> str:
        m, at = self.measured, self.opened.reference
        best = self.opened.offsets[m.best]
        cells = [
            ("SSIM, fused", f"{m.fused['ssim']:.4f}", "fused"),
            ("SSIM, plane 0", f"{m.planes[at]['ssim']:.4f}", ""),
            (f"SSIM, best plane ({best:+d})", f"{m.planes[m.best]['ssim']:.4f}", ""),
            ("SSIM, mean of planes", f"{m.mean['ssim']:.4f}", ""),
        ]
        if m.depth_error_um is not None:
            cells.append(("depth, median error", f"{m.depth_error_um:.2f} µm", ""))
        cells.append(("all steps", f"{sum(seconds.values()):.0f} s", ""))
        return "".join(
            f'<div class="tile {kind}"><b>{value}</b><span>{html.escape(label)}</span></div>'
            for label, value, kind in cells
        )

    def viewer(self) -> str:
        """One place at every plane, with a slider; plane 0 without scripts."""
        place = self.places[0]
        height, width = self.opened.truth.shape[-2:]
        side = min(_VIEWER_PX, height, width)
        y = min(max(0, place.y + place.height // 2 - side // 2), height - side)
        x = min(max(0, place.x + place.width // 2 - side // 2), width - side)
        window = Window(y, x, side, side)
        frames = []
        for k, (z, offset) in enumerate(zip(self.opened.z_um, self.opened.offsets, strict=True)):
            uri = pictures.data_uri(self.opened.planes.read(k, window), quality=80)
            shown = "" if offset == 0 else " hidden"
            frames.append(f'<img src="{uri}" alt="plane {offset:+d}, {z:+g} µm"{shown}>')
        fused = pictures.data_uri(pictures.crop(self.opened.fused, window))
        last, start = len(frames) - 1, self.opened.reference
        labels = json.dumps(
            [
                f"plane {o:+d} at {z:+.1f} µm" if o else "plane 0"
                for z, o in zip(self.opened.z_um, self.opened.offsets, strict=True)
            ]
        )
        return (
            f'<figure id="focus" data-labels="{html.escape(labels)}"><div class="frames">'
            f"{''.join(frames)}</div><figcaption><output>plane 0</output>"
            f'<input type="range" min="0" max="{last}" value="{start}" '
            'aria-label="focal plane"></figcaption></figure>'
            f'<figure><img src="{fused}" alt="the fused slide"><figcaption>fused</figcaption>'
            "</figure>"
        )

    def crops(self) -> str:
        """A row a place: plane 0, fused, truth, both depths."""
        rows = []
        for name, place in zip("ABC", self.places, strict=False):
            cells = "".join(
                f'<td><img src="{pictures.data_uri(image, quality=88)}" alt="{title}, {name}"></td>'
                for title, image in self.columns(place).items()
            )
            rows.append(f"<tr><th>{name}</th>{cells}</tr>")
        head = "".join(f"<th>{title}</th>" for title in self.columns(self.places[0]))
        return (
            f'<div class="scroll"><table class="crops"><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def columns(self, place: Window) -> dict[str, npt.NDArray[np.uint8]]:
        """Titles and crops (3, Y, X) of one place."""
        opened, limit = self.opened, self.limit_um
        images = {
            "plane 0": opened.planes.read(opened.reference, place),
            "fused": pictures.crop(opened.fused, place),
            "truth": pictures.crop(opened.truth, place),
        }
        for title, depth in self.depths().items():
            part = pictures.crop(depth, place)
            images[f"depth, {title}"] = pictures.coloured(part, -limit, limit, "depth")
        return images

    def depths(self) -> dict[str, npt.NDArray[np.float32]]:
        """Titles and depths (Y, X) in µm, NaN on clear glass; the fuser's if it gives one."""
        opened = self.opened
        truth = {"truth": opened.depth_um}
        if opened.fused_depth_um is None:
            return truth
        known = np.isfinite(opened.depth_um)
        nothing = np.float32(np.nan)
        return {"fused": np.where(known, opened.fused_depth_um, nothing), **truth}

    def overview(self) -> str:
        """The whole area with the places marked, and the same in the reference plane."""
        height, width = self.opened.truth.shape[-2:]
        boxes = "".join(
            f'<rect x="{p.x}" y="{p.y}" width="{p.width}" height="{p.height}"/>'
            f'<text x="{p.x + 16}" y="{p.y + 90}">{name}</text>'
            for name, p in zip("ABC", self.places, strict=False)
        )
        parts = []
        for title, image in (
            ("fused", self.opened.fused),
            ("plane 0", self.opened.planes[self.opened.reference]),
        ):
            uri = pictures.data_uri(pictures.shrunk(image, _OVERVIEW_PX), quality=82)
            parts.append(
                f'<figure><svg class="over" viewBox="0 0 {width} {height}" role="img" '
                f'aria-label="{title}, the whole area"><image href="{uri}" width="{width}" '
                f'height="{height}" preserveAspectRatio="none"/>{boxes}</svg>'
                f"<figcaption>{title}</figcaption></figure>"
            )
        return "".join(parts)

    def depth(self) -> str:
        limit = self.limit_um
        step = max(1, -(-max(self.opened.depth_um.shape) // _MAP_PX))
        parts = []
        for title, values in self.depths().items():
            image = pictures.coloured(values[::step, ::step], -limit, limit, "depth")
            uri = pictures.data_uri(image, lossless=True)
            parts.append(_map(uri, title))
        bar = _bar("depth", f"{-limit:g} µm", "0 (plane 0)", f"{limit:+g} µm")
        return f'<div class="pair">{"".join(parts)}</div>{bar}'

    def error(self) -> str:
        m = self.measured
        high = float(max(1.0, np.ceil(np.percentile(m.plane_error, 99.5))))
        parts = []
        for title, values in (("plane 0", m.plane_error), ("fused", m.fused_error)):
            small = pictures.shrunk(values[np.newaxis], _MAP_PX)[0]
            uri = pictures.data_uri(pictures.coloured(small, 0, high, "error"), quality=90)
            mean = float(values.mean())
            parts.append(_map(uri, f"{title}: {mean:.2f} gray values in the mean"))
        bar = _bar("error", "0", "mean absolute error in gray values", f"{high:g} or more")
        return f'<div class="pair">{"".join(parts)}</div>{bar}'

    def scores(self) -> str:
        m, opened = self.measured, self.opened
        rows = [
            ("fused", "", m.fused, "fused"),
            ("mean of all planes", "", m.mean, ""),
        ]
        for k, score in enumerate(m.planes):
            marks = [
                text
                for text, here in (
                    ("reference", k == opened.reference),
                    ("best single plane", k == m.best),
                )
                if here
            ]
            z = f"{opened.z_um[k]:+.1f}" if opened.z_um[k] else "0"
            name = f"plane {opened.offsets[k]:+d}" if opened.offsets[k] else "plane 0"
            label = f"{name} <small>{', '.join(marks)}</small>" if marks else name
            rows.append((label, z, score, "marked" if marks else ""))
        body = "".join(
            f'<tr class="{kind}"><th>{label}</th><td>{z}</td>'
            + "".join(f"<td>{score[key]:.4f}</td>" for key in ("ssim", "cc", "qmi"))
            + "</tr>"
            for label, z, score, kind in rows
        )
        return (
            "<table><thead><tr><th></th><th>z, µm</th><th>SSIM</th><th>CC</th><th>QMI</th></tr>"
            f"</thead><tbody>{body}</tbody></table>"
        )


def _map(uri: str, title: str) -> str:
    return (
        f'<figure><img class="map" src="{uri}" alt="{title}"><figcaption>{title}</figcaption>'
        "</figure>"
    )


def _bar(name: Any, low: str, middle: str, high: str) -> str:
    return (
        f'<div class="bar"><div style="background:{pictures.colour_bar_css(name)}"></div>'
        f"<span>{low}</span><span>{middle}</span><span>{high}</span></div>"
    )


def _timings(seconds: dict[str, float]) -> str:
    longest = max(seconds.values())
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{value:.1f} s</td>"
        f'<td class="time"><i style="width:{100 * value / longest:.1f}%"></i></td></tr>'
        for name, value in seconds.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _files(folder: DemoFolder) -> str:
    what = {
        folder.slide: "the slide file: tiled OME-TIFF with all planes",
        folder.stack: "converted: OME-Zarr 0.5 focus stack (c, z, y, x)",
        folder.fused: "fused: OME-Zarr 0.5 slide (c, y, x), depth map in labels/depth",
        folder.truth: "the slide in focus everywhere, without noise",
        folder.depth: "its true depth in µm",
        folder.scores: "the numbers of this page",
        folder.figure: "the crops of this page",
    }
    rows = "".join(
        f"<tr><th><code>{path.name}</code></th><td>{text}</td></tr>" for path, text in what.items()
    )
    return f"<table class='files'><tbody>{rows}</tbody></table>"


def _provenance(folder: DemoFolder, phantom: Phantom) -> str:
    import slidefusion as sf

    fused = dict(sf.open_slide(folder.fused).attrs["slidefusion"])
    text = json.dumps({"fused": fused, "phantom": phantom.provenance}, indent=2)
    return html.escape(text)


def _write_figure(folder: DemoFolder, page: _Page, places: list[Window]) -> None:
    rows = [page.columns(place) for place in places[:2]]
    pictures.figure(folder.figure, list(rows[0])[:4], [list(row.values())[:4] for row in rows])
