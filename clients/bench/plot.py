"""Charts as one HTML file without scripts or anything from elsewhere."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.bench.figures import Block, Summary, samples

_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 28, 36
_COLOURS = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#b8860b", "#0b7285", "#c2255c", "#495057")
_MAX_POINTS = 200
_MAX_DOTS = 12
_NUM_TICKS = 4
_HEADROOM = 1.05
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>internvl-server bench</title>
<style>
body {{ font: 15px system-ui, sans-serif; margin: 2em; background: #fff; color: #1b1b1b }}
svg {{ margin: 0 1em 1em 0 }} text {{ font: 12px system-ui, sans-serif }}
</style>
<h1>internvl-server bench</h1>
{charts}
</html>
"""

Point = tuple[float, float]
Lines = Mapping[str, Sequence[Point]]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie on the picture; both axes begin at 0."""

    x_max: float
    y_max: float

    def x(self, value: float) -> float:
        return _LEFT + value / self.x_max * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.y_max * (_HEIGHT - _TOP - _BOTTOM)


def write_page(path: Path, blocks: Sequence[Block], summaries: Sequence[Summary]) -> None:
    """Shares of requests by latency; in a sweep also each figure by throughput."""
    charts = [_shares(name, blocks) for name in ("ttft", "itl", "tpot", "e2e")]
    if len(blocks) > 1:
        charts += [_by_throughput(name, summaries) for name in ("ttft", "tpot", "e2e")]
    path.write_text(_PAGE.format(charts="\n".join(charts)), encoding="utf-8")


def _shares(name: str, blocks: Sequence[Block]) -> str:
    lines = {block.load.label: cumulative(samples(block)[name]) for block in blocks}
    return chart(f"{name.upper()}: share of all, by ms", lines)


def _by_throughput(name: str, summaries: Sequence[Summary]) -> str:
    lines = {
        percent: [
            (one.request_throughput, one.latencies_ms[name][percent])
            for one in summaries
            if name in one.latencies_ms
        ]
        for percent in ("p50", "p99")
    }
    return chart(f"{name.upper()}, ms, by requests/s", lines)


def cumulative(values: Sequence[float]) -> list[Point]:
    """(value, share of values up to it), thinned for the picture."""
    ordered, count = sorted(values), len(values)
    step = max(1, count // _MAX_POINTS)
    places = sorted({*range(0, count, step), count - 1}) if count else []
    return [(ordered[place], (place + 1) / count) for place in places]


def chart(title: str, lines: Lines) -> str:
    """An SVG with one line (and its points, when they are few) for each name."""
    points = [point for line in lines.values() for point in line]
    frame = Frame(_ceiling(x for x, _ in points), _ceiling(y for _, y in points))
    drawn = [_axes(frame), *(_line(frame, lines[name], i) for i, name in enumerate(lines))]
    legend = [_legend(name, i) for i, name in enumerate(lines)]
    label = html.escape(title)
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
        f'<text x="{_LEFT}" y="16" font-weight="bold">{label}</text>'
        f"{''.join(drawn)}{''.join(legend)}</svg>"
    )


def _axes(frame: Frame) -> str:
    left, right, low, high = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, _TOP
    drawn = [f'<path d="M{left} {high}V{low}H{right}" fill="none" stroke="#888"/>']
    for part in range(_NUM_TICKS + 1):
        x_value, y_value = (most * part / _NUM_TICKS for most in (frame.x_max, frame.y_max))
        x, y = frame.x(x_value), frame.y(y_value)
        drawn.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#eee"/>')
        drawn.append(f'<text x="{x:.1f}" y="{low + 16}" text-anchor="middle">{x_value:.3g}</text>')
        drawn.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{y_value:.3g}</text>')
    return "".join(drawn)


def _line(frame: Frame, points: Sequence[Point], number: int) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    places = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points]
    line = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}"/>'
    if len(points) > _MAX_DOTS:
        return line
    dots = (place.split(",") for place in places)
    return line + "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in dots)


def _legend(name: str, number: int) -> str:
    colour, y = _COLOURS[number % len(_COLOURS)], _HEIGHT - _BOTTOM - 8 - 15 * number
    x = _WIDTH - _RIGHT - 4
    return f'<text x="{x}" y="{y}" text-anchor="end" fill="{colour}">{html.escape(name)}</text>'


def _ceiling(values: Iterable[float]) -> float:
    return max(values, default=0.0) * _HEADROOM or 1.0
