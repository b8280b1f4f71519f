"""Policies and recipes ranked by their gain over the true code, with its price: `blindsr leaderboard`."""

from __future__ import annotations

from dataclasses import dataclass

from experiments import labels, paper
from experiments.ranking import Entry, ranked
from experiments.sheets import check_known, read, sheets

COLUMNS = ("psnr", "ssim", "lpips", "niqe", "grid")
"""In this order; others follow."""

CLEAR = "*"
"""Marks a gain whose interval lies above 0."""


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Settings of `blindsr leaderboard`.

    Attributes:
        results: results files of `blindsr evaluate` and `blindsr benchmark`, or folders of them.
        metric: metric to rank by; the others are shown beside it as the price.
        set: show only this set of photos.
        generator: show only this generator.
    """

    results: list[str] | str = "results"
    metric: str = "niqe"
    set: str | None = None
    generator: str | None = None


def leaderboard(settings: Leaderboard) -> str:
    """Print a ranking for each set of photos, generator, action space and choice of widths that the results hold.

    Returns:
        What was printed.

    Raises:
        ValueError: no results, or none with this metric, set or generator.
    """
    every = ranked(sheets(read(settings.results)), settings.metric)
    if not every:
        raise ValueError(f"no policy with a score in {settings.metric!r} there: run blindsr evaluate with it first")
    for what in ("set", "generator"):
        check_known(what, getattr(settings, what), {getattr(entry, what) for entry in every})
    kept = [
        entry for entry in every if settings.set in (None, entry.set) and settings.generator in (None, entry.generator)
    ]
    boards = dict.fromkeys(entry.board for entry in kept)
    text = "\n\n".join(board([entry for entry in kept if entry.board == each], settings.metric) for each in boards)
    print(text)
    return text


def board(entries: list[Entry], metric: str) -> str:
    """Lay out one board, best first.

    Args:
        entries: of one board, ranked.
        metric: by which they are ranked.
    """
    first = entries[0]
    price = sorted({name for entry in entries for name in entry.gains if name != metric}, key=_column)
    title, unit = labels.in_units(metric)
    gains = [str(entry.gains[metric].times(unit)) for entry in entries]
    wide, breadth = max(len(entry.title) for entry in entries), max(map(len, [*gains, title]))
    heads = [f"{labels.in_units(name)[0]:>8}" for name in price]
    scale = "" if first.scale == paper.SCALE else f", x{first.scale}"
    lines = [
        f"{first.set}, {first.generator}{scale}, actions {first.action}, widths "
        f"{', '.join(f'{width:g}' for width in first.widths)}: gain over the true code [95% interval]",
        f"      {'':{wide}}  {title:>{breadth}}  {'  '.join(heads)}",
    ]
    for number, (entry, gain) in enumerate(zip(entries, gains, strict=True), start=1):
        cells = [_cell(entry, name).rjust(len(head)) for name, head in zip(price, heads, strict=True)]
        mark = CLEAR if _clear(entry, metric) else " "
        lines.append(f"{number:>4}{mark} {entry.title:{wide}}  {gain:>{breadth}}  {'  '.join(cells)}")
    lines = [line.rstrip() for line in lines]
    if any(_clear(entry, metric) for entry in entries):
        lines.append(f"   {CLEAR}: the interval, over photos and all seeds, lies above 0")
    theirs = paper.AMGAN_RL_NIQE_GAIN.get(first.set)
    if metric == "niqe" and theirs is not None and (first.scale, first.widths) == (paper.SCALE, paper.WIDTHS):
        lines.append(f"      the paper's AMGAN-RL, over its own AMGAN, unbounded actions: {theirs:+.3f}")
    return "\n".join(lines)


def _column(metric: str) -> tuple[int, str]:
    return (COLUMNS.index(metric) if metric in COLUMNS else len(COLUMNS), metric)


def _clear(entry: Entry, metric: str) -> bool:
    return entry.gains[metric].low > 0


def _cell(entry: Entry, metric: str) -> str:
    return f"{entry.gains[metric].mean * labels.in_units(metric)[1]:+.4f}" if metric in entry.gains else ""
