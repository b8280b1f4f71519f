"""The paper's tables in Markdown, from results files alone, with the published figures beside ours.

What results files hold: `experiments.sheets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import findings, hack, labels, paper
from experiments.intervals import Interval
from experiments.ranking import ranked
from experiments.sheets import PLACES, Result, of_the_paper, place, read
from generators.atomic import atomic_write

COSTS = {
    "psnr": "PSNR gain, dB",
    "ssim": "SSIM gain",
    "lpips": "LPIPS gain",
    "grid": "grid gain, 1e-3",
}
"""Metrics that show the price of a won NIQE, and what columns call them."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Settings of `blindsr tables`.

    Attributes:
        results: results files of `blindsr evaluate`, `hack` and `search`, or folders of them.
        output: folder for the tables, one Markdown file each; null only prints them.
    """

    results: list[str] | str = "results"
    output: str | None = "results"


def tables(settings: Tables) -> dict[str, str]:
    """Make every table that the results have figures for, print them and write them.

    Returns:
        Markdown by name.

    Raises:
        ValueError: no results, a file that is none, or two files that disagree.
    """
    results = read(settings.results)
    made = {name: text for name, make in TABLES.items() if (text := make(results))}
    if not made:
        given = settings.results if isinstance(settings.results, str) else ", ".join(settings.results)
        raise ValueError(f"no figures for a table in {given}: run {PLACES} first")
    for name, text in made.items():
        print(text)
        if settings.output is not None:
            path = Path(settings.output) / f"{name}.md"
            with atomic_write(path) as partial:
                partial.write_text(text)
    if settings.output is not None:
        print(f"written to {', '.join(f'{name}.md' for name in made)} in {settings.output}")
    return made


def table1(results: list[Result]) -> str:
    """Lay out the paper's Table 1: PSNR with the true code, by set and width."""
    ours: dict[tuple[str, str], list[float]] = {}
    for sheet in of_the_paper(results):
        found = [sheet.mean("psnr", width) for width in paper.AMNET_PSNR.get(sheet.set, {})]
        values = [value for value in found if value is not None]
        if values and len(values) == len(found):
            ours.setdefault((sheet.set, sheet.generator), values)
    rows = []
    for title in dict.fromkeys(title for title, _ in ours):
        published = list(paper.AMNET_PSNR[title].values())
        if title in paper.SRMDNF_PSNR:
            rows.append([title, "SRMDNF, its authors' weights", *_each(paper.SRMDNF_PSNR[title].values()), ""])
        rows.append([title, "AMNet, the paper", *_each(published), ""])
        for (of, name), values in ours.items():
            if of == title:
                less = [own - theirs for own, theirs in zip(values, published, strict=True)]
                rows.append([title, f"{name}, ours", *_each(values), " / ".join(_each(less, "+"))])
    widths = [f"width {width:g}" for width in paper.WIDTHS]
    return _document(
        "Table 1: the true code",
        "PSNR of the luminance, border 4, dB, mean over whole photos; x4, the true kernel's code.",
        ["set", "network", *widths, "less the paper's AMNet"],
        rows,
    )


def table4(results: list[Result]) -> str:
    """Lay out the paper's Table 4: AMLayer against AdaIN at width 1.8, from runs that score both."""
    rows = []
    for result in results:
        every = result.figures.get("sheets", [])
        layer = {sheet["generator"]: sheet["architecture"]["modulation"] for sheet in every}
        if len(set(layer.values())) < 2:
            continue
        differences = {(each["set"], each["generator"]): each for each in result.figures["differences"]}
        for sheet in of_the_paper([result]):
            psnr, ssim = (sheet.mean(metric, paper.ADAIN_WIDTH) for metric in ("psnr", "ssim"))
            if psnr is None:
                continue
            difference = differences.get((sheet.set, sheet.generator))
            paired = ""
            if difference is not None:
                by_width = difference["policies"]["true-code"]["psnr"]["by_width"]
                paired = f"{Interval(**by_width[sheet.widths.index(paper.ADAIN_WIDTH)])} over {difference['against']}"
            kind = {"amlayer": "AMLayer", "adain": "AdaIN"}[layer[sheet.generator]]
            rows.append(
                [sheet.set, sheet.generator, kind, f"{psnr:.2f}", "" if ssim is None else f"{ssim:.4f}", paired, ""]
            )
    return _document(
        "Table 4: AMLayer against AdaIN",
        f"Width {paper.ADAIN_WIDTH:g}, the true code, mean over whole photos; difference with its 95% interval, paired "
        "by photo. The paper's figures are not known to us: the column stays empty.",
        ["set", "generator", "layer", "PSNR, dB", "SSIM", "PSNR difference, dB", "the paper's PSNR"],
        rows,
    )


def niqe_gains(results: list[Result]) -> str:
    """Rank policies by how much lower than the true code's their NIQE is, and lay out what it costs."""
    entries = ranked((sheet for sheet in of_the_paper(results) if sheet.widths == paper.WIDTHS), "niqe")
    rows = []
    for number, entry in enumerate(entries):
        theirs = paper.AMGAN_RL_NIQE_GAIN.get(entry.set)
        if theirs is not None and (not number or entries[number - 1].set != entry.set):
            rows.append([entry.set, "AMGAN, the paper", "unbounded", "AMGAN-RL", f"{theirs:+.3f}", *[""] * 5])
        less = "" if theirs is None else f"{entry.gains['niqe'].mean - theirs:+.3f}"
        costs = [
            str(entry.gains[metric].times(labels.in_units(metric)[1])) if metric in entry.gains else ""
            for metric in COSTS
        ]
        rows.append([entry.set, entry.generator, entry.action, entry.title, str(entry.gains["niqe"]), less, *costs])
    return _document(
        "NIQE below the true code's",
        f"Whole photos, widths {', '.join(f'{width:g}' for width in paper.WIDTHS)}; gains over the same generator's "
        "picture with the true code, 95% interval over photos, of recipes over seeds and photos; positive is better. "
        "Ranked within each generator and action space; the paper's row leads each set.",
        ["set", "generator", "actions", "policy", "NIQE gain", "less the paper's", *COSTS.values()],
        rows,
    )


def recipes(results: list[Result]) -> str:
    """Lay out recipes' gains over the true code, in all and at each width, and their differences."""
    gains, differences = [], []
    for sheet in of_the_paper(results):
        for name, recipe in sheet.recipes.items():
            for metric, entry in recipe["metrics"].items():
                called, unit = labels.in_units(metric)
                place = [sheet.set, sheet.generator, sheet.action, name]
                by_width = "; ".join(str(_interval(each, unit)) for each in entry["gain_by_width"])
                gain = str(_interval(entry["gain"], unit)) + _broken(entry)
                gains.append([*place, str(len(recipe["agents"])), called, gain, by_width])
                differences += [
                    [*place, other, called, str(_interval(over, unit))] for other, over in entry["over"].items()
                ]
    about = "Whole photos; 95% intervals over seeds and photos, of one seed over photos alone; positive is better."
    place = ["set", "generator", "actions", "recipe"]
    parts = (
        _document(
            "Recipes", f"Gain over the true code. {about}", [*place, "seeds", "metric", "gain", "by width"], gains
        ),
        _document("Recipes against each other", about, [*place, "over", "metric", "difference"], differences),
    )
    return "\n".join(part for part in parts if part)


def gaussian8(results: list[Result]) -> str:
    """Lay out PSNR on Gaussian8, blind and with the true code, beside the paper's AMNet-RL."""
    rows, published = [], set()
    for sheet in of_the_paper(results):
        if sheet.widths != paper.GAUSSIAN8 or "psnr" not in sheet.policies["true-code"]:
            continue
        theirs = paper.AMNET_RL_GAUSSIAN8_PSNR.get(sheet.set)
        if theirs is not None and sheet.set not in published:
            published.add(sheet.set)
            rows.append([sheet.set, "AMNet, the paper", "AMNet-RL", f"{theirs:.2f}", "", ""])
        for name, of_metric in sheet.policies.items():
            mean = of_metric["psnr"]["mean"]
            gain = "" if name == "true-code" else str(_interval(of_metric["psnr"]["gain"]))
            less = "" if theirs is None else f"{mean - theirs:+.2f}"
            rows.append([sheet.set, sheet.generator, name, f"{mean:.2f}", gain, less])
    return _document(
        "Gaussian8",
        "PSNR of the luminance, border 4, dB, mean over whole photos and the widths 1.8, 2.0, ..., 3.2.",
        ["set", "generator", "policy", "PSNR, dB", "over the true code, dB", "less the paper's AMNet-RL"],
        rows,
    )


def comparison(results: list[Result]) -> str:
    """Lay out generators against each other with the true code, in every metric of runs that score several."""
    rows = [
        [
            each["set"],
            each["generator"],
            each["against"],
            metric + _broken(entry),
            str(_interval(entry, labels.in_units(metric)[1])),
        ]
        for result in results
        for each in sorted(result.figures.get("differences", []), key=lambda each: place(each.get("set", "")))
        if "policies" in each
        for metric, entry in each["policies"]["true-code"].items()
    ]
    return _document(
        "Generators against each other",
        "The true code, mean over whole photos and all widths of the run; gain with its 95% interval, paired by photo, "
        "positive is better (lower NIQE, higher PSNR); grid in thousandths.",
        ["set", "generator", "against", "metric", "gain"],
        rows,
    )


def hacking(results: list[Result]) -> str:
    """Lay out what one constant offset of the true code wins on each generator."""
    parts = [hack.table(result.figures) for result in results if result.figures.get("kind") == "hack"]
    return "\n\n".join(["# What one constant wins", *parts]) + "\n" if parts else ""


def searches(results: list[Result]) -> str:
    """Lay out rewards against renders an image, and their share of the best known code's."""
    runs = [result.figures for result in results if result.figures.get("kind") == "search"]
    parts = [f"```text\n{findings.table(figures)}\n```" for figures in runs]
    return "\n\n".join(["# What a search wins by its renders", *parts]) + "\n" if parts else ""


TABLES: dict[str, Callable[[list[Result]], str]] = {
    "table1": table1,
    "table4": table4,
    "niqe_gains": niqe_gains,
    "recipes": recipes,
    "gaussian8": gaussian8,
    "generators": comparison,
    "hacking": hacking,
    "search": searches,
}
"""By the name of the Markdown file; each gives "" where the results have no figures for it."""


def _document(title: str, about: str, header: list[str], rows: list[list[str]]) -> str:
    """Give a Markdown page with one table, or "" without rows; a row that stands there twice is given once."""
    if not rows:
        return ""
    once = list(dict.fromkeys(tuple(row) for row in rows))
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *once)]
    return "\n".join([f"# {title}", "", about, "", *lines, ""])


def _interval(entry: dict[str, Any], unit: float = 1.0) -> Interval:
    return Interval(entry["mean"], entry["low"], entry["high"], entry["count"]).times(unit)


def _broken(entry: dict[str, Any]) -> str:
    """Say how many pictures are left out, where there are any."""
    return f" ({entry['broken']} pictures broken and left out)" if entry.get("broken") else ""


def _each(values: Iterable[float], sign: str = "") -> list[str]:
    return [f"{value:{sign}.2f}" for value in values]
