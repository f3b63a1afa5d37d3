"""A chart of horizontal bars as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

ROW, GAP, LABEL, WIDTH, FIGURE = 18, 34, 170, 360, 70  #: pixels
STYLE = (
    "text { font: 12px sans-serif; fill: #555 } .title { font-weight: bold }"
    " rect { fill: #9ab } .ours { fill: #c62 }"
)


def chart(groups: Mapping[str, Mapping[str, float]], ours: str) -> str:
    """A group of bars for each title, each with a scale of its own; `ours` stands out."""
    parts: list[str] = []
    y = 20
    for title, bars in groups.items():
        parts.append(_text(0, y, title, "title"))
        y += 8
        longest = max(bars.values(), default=1.0)
        for name, value in bars.items():
            kind = ' class="ours"' if name.startswith(ours) else ""
            length = WIDTH * value / longest
            parts.append(_text(0, y + 13, name))
            parts.append(
                f'<rect{kind} x="{LABEL}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}"/>'
            )
            parts.append(_text(LABEL + length + 6, y + 13, f"{value:,.0f}"))
            y += ROW
        y += GAP
    width = LABEL + WIDTH + FIGURE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y - GAP + 6}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x:.1f}" y="{y}">{escape(text)}</text>'
