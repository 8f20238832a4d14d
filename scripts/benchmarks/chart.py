"""Grouped bars on a logarithmic axis, as SVG text: one picture does not need a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2")
_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 64, 40


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 12) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
            f"{escape(text)}</text>")


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]]) -> str:
    """One group of bars for each of `groups`, one bar a series; None leaves a gap. The axis starts
    at 1 or at the power of ten below the smallest value."""
    values = [v for row in series.values() for v in row if v]
    low = min(0, math.floor(math.log10(min(values, default=1))))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10))))
    bottom = _HEIGHT - _BOTTOM

    def height(value: float) -> float:
        return (math.log10(value) - low) / (high - low) * (bottom - _TOP)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
           'font-family="sans-serif" fill="#222">',
           f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
           _text(_LEFT, 22, title, "start", 14)]
    for power in range(low, high + 1):
        y = bottom - height(10.0**power)
        out += [f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{"#222" if power == 0 else "#ddd"}"/>',
                _text(_LEFT - 8, y + 4, f"{10.0**power:g}x", "end")]
    group_width = (_WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    bar_width = 0.84 * group_width / max(1, len(series))
    for place, (name, row) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        legend = _LEFT + place * 130
        out += [f'<rect x="{legend}" y="34" width="12" height="12" fill="{colour}"/>',
                _text(legend + 18, 44, name, "start")]
        for group, value in enumerate(row):
            if not value:
                continue
            x = _LEFT + (group + 0.08) * group_width + place * bar_width
            top, base = sorted((bottom - height(value), bottom - height(1.0)))
            out += [f'<rect x="{x:.1f}" y="{top:.1f}" width="{bar_width - 2:.1f}" '
                    f'height="{base - top:.1f}" fill="{colour}"/>',
                    _text(x + bar_width / 2 - 1, top - 4, _figure(value), size=11)]
    out += [_text(_LEFT + (g + 0.5) * group_width, _HEIGHT - 14, name, size=13)
            for g, name in enumerate(groups)]
    return "\n".join([*out, "</svg>", ""])
