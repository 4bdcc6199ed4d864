"""SSIM of every plane against its position, with the fused slide as a line: an inline SVG."""

from __future__ import annotations

import math

from slidefusion.demo.measure import Measured, Opened

__all__ = ["focus_chart"]

_WIDTH, _HEIGHT = 480, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 16, 48


def focus_chart(opened: Opened, measured: Measured) -> str:
    """The chart as SVG; colours come from the page's style sheet."""
    z, scores = opened.z_um, [score["ssim"] for score in measured.planes]
    lines = {"fused": measured.fused["ssim"], "mean of planes": measured.mean["ssim"]}
    low = min(*scores, *lines.values())
    low = max(0.0, math.floor((low - 0.01) * 20) / 20)
    high = 1.0

    def x(value: float) -> float:
        return _LEFT + (value - z[0]) / (z[-1] - z[0]) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    steps = 5
    for k in range(steps + 1):
        value = low + (high - low) * k / steps
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.2f}</text>'
        )
    every = max(1, len(z) // 6)
    for k, value in enumerate(z):
        if (k - opened.reference) % every == 0:
            parts.append(
                f'<text x="{x(value):.1f}" y="{_HEIGHT - 28}" text-anchor="middle">{_signed(value)}'
                "</text>"
            )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 5}" text-anchor="middle">'
        "position of the plane, µm</text>"
    )
    for name, value in lines.items():
        kind = "fused" if name == "fused" else "mean"
        parts.append(
            f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text class="{kind}" x="{_LEFT + 6}" y="{y(value) - 6:.1f}">'
            f"{name} {value:.3f}</text>"
        )
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(z, scores, strict=True))
    parts.append(f'<polyline class="planes" points="{points}"/>')
    parts += [
        f'<circle class="planes" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5"><title>{b:.4f}</title>'
        "</circle>"
        for a, b in zip(z, scores, strict=True)
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="SSIM to the truth of every plane and of the fused slide">{"".join(parts)}'
        "</svg>"
    )


def _signed(value: float) -> str:
    return f"{value:+.1f}" if value else "0"
