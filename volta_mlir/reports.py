"""Reports about compiled functions, for people to read: text, and a picture."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from volta_mlir.plan import Buffer, Plan

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_bytes(count: float) -> str:
    """A number of bytes with a unit.

    >>> format_bytes(1536), format_bytes(12)
    ('1.5 KiB', '12 B')
    """
    unit = 0
    while abs(count) >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count:.0f} B"


def parse_bytes(text: str) -> int:
    """The number of bytes that a text with a unit says; units of 1000 or, with an i, of 1024.

    Raises:
        ValueError: it is no number with a unit.

    >>> parse_bytes("1.5 KiB"), parse_bytes("2GB"), parse_bytes("12 kB")
    (1536, 2000000000, 12000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([kKMGT]?)(i?)B", text.strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{text!r} is no number of bytes, such as 2GiB or 500 MB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))


@dataclass(frozen=True)
class MemoryReport:
    """What one call of a compiled function needs in memory; made by ``lowered.memory_report()``. Sizes are in bytes.

    ``peak_bytes`` is what is allocated. ``live`` is what is needed of the transients at each step of the schedule,
    which is less where buffers do not fit into one another exactly.

    Attributes:
        name: the function.
        arguments: all arguments, those that are donated included.
        plan: what is allocated during the call.
        buffers: every buffer with the steps during which it is needed.
        donated: the names of the arguments that are donated, in whole or in part.

    Example:
        >>> import volta_mlir as volta
        >>> report = volta.jit(lambda x, w: volta.tanh(x @ w) @ w).lower(*[volta.spec((64, 64))] * 2).memory_report()
        >>> report.arguments, report.results, report.peak_bytes - report.transients
        (32768, 16384, 49152)
        >>> print(str(report).splitlines()[1])  # doctest: +ELLIPSIS
          arguments 32.0 KiB, results 16.0 KiB, transients ...
    """

    name: str
    arguments: int
    plan: Plan
    buffers: tuple[Buffer, ...]
    donated: tuple[str, ...] = ()

    @property
    def results(self) -> int:
        """Results that do not take a donated argument's buffer."""
        return self.plan.results

    @property
    def transients(self) -> int:
        """The most that is allocated for intermediate results at any time."""
        return self.plan.transients

    @property
    def peak_bytes(self) -> int:
        """The most memory that exists during a call."""
        return self.arguments + self.results + self.transients

    @cached_property
    def live(self) -> list[int]:
        """The bytes of transients that are needed at each step."""
        changes: dict[int, int] = defaultdict(int)
        for buffer in self._transients:
            changes[buffer.first] += buffer.bytes
            changes[buffer.last + 1] -= buffer.bytes
        live, steps = 0, []
        for step in range(max((b.last for b in self.buffers), default=0) + 1):
            live += changes[step]
            steps.append(live)
        return steps

    @property
    def peak_step(self) -> int:
        """The step at which the most transients are needed."""
        return self.live.index(max(self.live))

    def at_peak(self) -> list[Buffer]:
        """The transients that are needed at the peak, largest first."""
        step = self.peak_step
        return sorted((b for b in self._transients if b.first <= step <= b.last), key=lambda b: -b.bytes)

    @property
    def _transients(self) -> list[Buffer]:
        return [b for b in self.buffers if b.kind == "transient"]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {format_bytes(self.peak_bytes)} at the peak",
            f"  arguments {format_bytes(self.arguments)}, results {format_bytes(self.results)},"
            f" transients {format_bytes(self.transients)}",
        ]
        if self.donated:
            lines.append(f"  donated: {', '.join(self.donated)}")
        held = self.at_peak()
        if held:
            lines.append(f"Live at step {self.peak_step} of {len(self.live)}: {format_bytes(max(self.live))}")
            rows: dict[tuple[str, str], list[int]] = defaultdict(list)
            for buffer in held:
                rows[buffer.location, buffer.writer].append(buffer.bytes)
            for (location, writer), sizes in sorted(rows.items(), key=lambda row: -sum(row[1])):
                times = f"{len(sizes)} x " if len(sizes) > 1 else ""
                size = f"{times}{format_bytes(sizes[0])}" if len({*sizes}) == 1 else format_bytes(sum(sizes))
                lines.append(f"  {size:>16}  {location or '-'}  {writer}")
        return "\n".join(lines)

    def to_svg(self, width: int = 960, height: int = 320) -> str:
        """The live bytes of transients over the schedule, as a picture; width and height in pixels."""
        top, left, bottom = 30, 10, height - 20
        most = max(*self.live, 1)
        across, up = (width - 2 * left) / len(self.live), (bottom - top) / most
        points: list[tuple[float, float]] = [(left, bottom)]
        for step, live in enumerate(self.live):
            points += [(left + step * across, bottom - live * up), (left + (step + 1) * across, bottom - live * up)]
        points.append((left + len(self.live) * across, bottom))
        outline = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        title = escape(f"{self.name}: live transients, {format_bytes(max(self.live))} at step {self.peak_step}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">'
            f'<rect width="{width}" height="{height}" fill="white"/>'
            f'<text x="{left}" y="18" font-size="14">{title}</text>'
            f'<polygon points="{outline}" fill="#9ecae1" stroke="#3182bd"/>'
            f'<text x="{left}" y="{height - 5}" font-size="11">{len(self.live)} steps</text></svg>\n'
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`to_svg` to a file."""
        Path(path).write_text(self.to_svg())
