"""Markdown tables made from results files alone, with the paper's figures beside ours.

`experiments.sheets` says what results files hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindsr_env.kernels import GAUSSIAN8
from experiments import findings, labels, offsets, paper
from experiments.intervals import Interval
from experiments.ranking import ranked
from experiments.references import BICUBIC, ORIGINAL
from experiments.sheets import PLACES, Result, of_the_paper, place, read
from generators.atomic import atomic_write
from generators.peers import PEERS

COSTS = {
    "psnr": "PSNR gain, dB",
    "ssim": "SSIM gain",
    "lpips": "LPIPS gain",
    "grid": "grid gain, 1e-3",
}
"""Metrics that show the price of a NIQE gain, and what columns call them."""

INTERVALS = (
    "Intervals are 95%: for a single policy a percentile bootstrap over photos (Student's t for fewer than fifty "
    "photos), for a recipe Student's t over seeds and photos (two-way analysis of variance, random effects). The "
    "interval of a single agent, or of a recipe with one seed, covers photos alone and contains no variance between "
    "seeds."
)
"""How the intervals are made, for the head of a page; see `experiments.intervals`."""

BOLD = "Bold: the interval lies above 0."
"""What bold print means, here and nowhere anything else."""


LAYERS = {"amlayer": "AMLayer", "adain": "AdaIN"}
"""Layers of Table 4, and what it calls them."""

SCORES = {"psnr": "PSNR, dB", "ssim": "SSIM", "niqe": "NIQE", "lpips": "LPIPS", "grid": "grid, 1e-3"}
"""Metrics of the table of generators, and what columns call them."""


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
    """Make every table for which the results hold figures, print them and write them.

    Returns:
        Markdown by name.

    Raises:
        ValueError: no results, a file that holds none, or two files that disagree.
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
    bicubic: dict[str, list[float]] = {}
    for sheet in of_the_paper(results):
        upsampled = sheet.references.get(BICUBIC, {}).get("psnr")
        if upsampled is not None and sheet.widths == paper.WIDTHS:
            bicubic.setdefault(sheet.set, upsampled["mean_by_width"])
        found = [sheet.mean("psnr", width) for width in paper.AMNET_PSNR.get(sheet.set, {})]
        values = [value for value in found if value is not None]
        if values and len(values) == len(found):
            ours.setdefault((sheet.set, sheet.generator), values)
    rows = []
    for title in dict.fromkeys(title for title, _ in ours):
        published = list(paper.AMNET_PSNR[title].values())
        if title in bicubic:
            rows.append([title, BICUBIC, *_each(bicubic[title]), ""])
        if title in paper.SRMDNF_PSNR:
            rows.append([title, "SRMDNF, published", *_each(paper.SRMDNF_PSNR[title].values()), ""])
        rows.append([title, "AMNet, the paper", *_each(published), ""])
        for (of, name), values in ours.items():
            if of == title:
                less = [own - theirs for own, theirs in zip(values, published, strict=True)]
                whose = "its authors' weights" if name.split(" ")[0] in PEERS else "ours"
                rows.append([title, f"{name}, {whose}", *_each(values), " / ".join(_each(less, "+"))])
    widths = [f"width {width:g}" for width in paper.WIDTHS]
    return _document(
        "Table 1: PSNR with the true kernel's code",
        "Mean over whole photos, in dB, at scale 4; PSNR is measured on the luminance without a border of 4 pixels. "
        "Every network is given the true kernel, or its code; IMDN, trained for bicubic downsampling, looks at none.",
        ["set", "network", *widths, "difference from the paper's AMNet"],
        rows,
    )


def table4(results: list[Result]) -> str:
    """Lay out the paper's Table 4: AMLayer against AdaIN at width 1.8, from runs that score both."""
    rows = []
    for result in results:
        every = result.figures.get("sheets", [])
        layer = {sheet["generator"]: sheet.get("architecture", {}).get("modulation") for sheet in every}
        if not set(LAYERS) <= set(layer.values()):
            continue
        differences = {(each["set"], each["generator"]): each for each in result.figures["differences"]}
        for sheet in of_the_paper([result]):
            psnr, ssim = (sheet.mean(metric, paper.ADAIN_WIDTH) for metric in ("psnr", "ssim"))
            if psnr is None or layer[sheet.generator] not in LAYERS:  # other networks may be in the run
                continue
            difference = differences.get((sheet.set, sheet.generator))
            paired = ""
            if difference is not None:
                by_width = difference["policies"]["true-code"]["psnr"]["by_width"]
                paired = f"{Interval(**by_width[sheet.widths.index(paper.ADAIN_WIDTH)])} over {difference['against']}"
            kind = LAYERS[layer[sheet.generator]]
            rows.append(
                [sheet.set, sheet.generator, kind, f"{psnr:.2f}", "" if ssim is None else f"{ssim:.4f}", paired]
            )
    return _document(
        "Table 4: AMLayer against AdaIN",
        f"Mean over whole photos at kernel width {paper.ADAIN_WIDTH:g}, with the true kernel's code. Differences are "
        "paired by photo and come with their 95% interval.",
        ["set", "generator", "layer", "PSNR, dB", "SSIM", "PSNR difference, dB"],
        rows,
    )


def niqe_gains(results: list[Result]) -> str:
    """Rank policies by how much they lower NIQE below the true code's, and lay out the price."""
    entries = ranked((sheet for sheet in of_the_paper(results) if sheet.widths == paper.WIDTHS), "niqe")
    rows = []
    for number, entry in enumerate(entries):
        theirs = paper.AMGAN_RL_NIQE_GAIN.get(entry.set)
        if theirs is not None and (not number or entries[number - 1].set != entry.set):
            rows.append([entry.set, "AMGAN, the paper", "unbounded", "AMGAN-RL", f"{theirs:+.3f}", *[""] * 5])
        less = "" if theirs is None else f"{entry.gains['niqe'].mean - theirs:+.3f}"
        costs = [
            _marked(entry.gains[metric].times(labels.in_units(metric)[1])) if metric in entry.gains else ""
            for metric in COSTS
        ]
        rows.append([entry.set, entry.generator, entry.action, entry.title, _marked(entry.gains["niqe"]), less, *costs])
    return _document(
        "NIQE gains over the true kernel's code",
        f"Means over whole photos at kernel widths {_listed(paper.WIDTHS)}. A gain is the "
        "improvement over the same generator's picture with the true kernel's code; positive is better. Policies are "
        "ranked within each generator and action space; the paper's row comes first in each set.\n\n"
        f"{INTERVALS} {BOLD}",
        ["set", "generator", "action space", "policy", "NIQE gain", "minus the paper's gain", *COSTS.values()],
        rows,
    )


def recipes(results: list[Result]) -> str:
    """Lay out recipes' gains over the true code, overall and at each width, and how recipes differ."""
    gains, differences = [], []
    for sheet in of_the_paper(results):
        for name, recipe in sheet.recipes.items():
            for metric, entry in recipe["metrics"].items():
                called, unit = labels.in_units(metric)
                place = [sheet.set, sheet.generator, sheet.action, _widths(sheet.widths), name]
                by_width = "; ".join(_marked(_interval(each, unit)) for each in entry["gain_by_width"])
                gain = _marked(_interval(entry["gain"], unit)) + _broken(entry)
                gains.append([*place, str(len(recipe["agents"])), called, gain, by_width])
                for other, over in entry["over"].items():
                    seeds = [len(each["agents"]) for each in (recipe, sheet.recipes[other])]
                    # The interval knows nothing of how seeds differ where one recipe has a single one.
                    shown = (_marked if min(seeds) > 1 else str)(_interval(over, unit))
                    differences.append([*place, other, " / ".join(map(str, seeds)), called, shown])
    about = (
        "A recipe is a way to train; its seeds are agents that differ only in their random seed. Means over whole "
        f"photos and kernel widths, {_listed(paper.WIDTHS)} where no others are named; gains over the true kernel's "
        f"code, positive is better.\n\n{INTERVALS} {BOLD}"
    )
    paired = (
        "Gain of the recipe minus that of the other one, paired by photo; intervals and bold as above. Where one of "
        "the two has a single seed, the interval contains no variance between its seeds, and nothing is bold."
    )
    place, against = ["set", "generator", "action space", "widths", "recipe"], ["compared with", "seeds"]
    parts = (
        _document("Recipes", about, [*place, "seeds", "metric", "gain", "gain at each width"], gains),
        _document("Recipes compared", paired, [*place, *against, "metric", "difference"], differences, "##"),
    )
    return "\n".join(part for part in parts if part)


def gaussian8(results: list[Result]) -> str:
    """Lay out PSNR on Gaussian8, blind and with the true code, beside the paper's AMNet-RL."""
    rows, published = [], set()
    for sheet in of_the_paper(results):
        if sheet.widths != GAUSSIAN8 or "psnr" not in sheet.policies["true-code"]:
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
        "Gaussian8: PSNR of blind super-resolution",
        "Mean over whole photos and the kernel widths 1.8, 2.0, ..., 3.2; PSNR is measured on the luminance without a "
        "border of 4 pixels. Gains over the true kernel's code come with a 95% interval over photos.",
        [
            "set",
            "generator",
            "policy",
            "PSNR, dB",
            "gain over the true code, dB",
            "difference from the paper's AMNet-RL, dB",
        ],
        rows,
    )


def metrics(results: list[Result]) -> str:
    """Lay out every metric of each generator with the true code, between bicubic upsampling and the original."""
    rows: dict[tuple[str, str], list[str]] = {}
    for sheet in of_the_paper(results):
        if sheet.widths != paper.WIDTHS:
            continue
        for name, scores in {**sheet.references, sheet.generator: sheet.policies["true-code"]}.items():
            cells = [_score(scores.get(metric), metric) for metric in SCORES]
            known = rows.setdefault((sheet.set, name), [""] * len(SCORES))
            rows[sheet.set, name] = [old or new for old, new in zip(known, cells, strict=True)]
    order = {BICUBIC: 0, ORIGINAL: 2}
    places = sorted(rows, key=lambda key: (place(key[0]), order.get(key[1], 1)))
    return _document(
        "Generators by every metric",
        "The true kernel's code, mean over whole photos and the kernel widths "
        f"{_listed(paper.WIDTHS)}. PSNR and SSIM: higher is better; the others: lower is "
        "better. LPIPS is SqueezeNet's.",
        ["set", "pictures", *SCORES.values()],
        [[*key, *rows[key]] for key in places],
    )


def comparison(results: list[Result]) -> str:
    """Compare generators with the true code, in every metric of the runs that score several."""
    rows = [
        [
            each["set"],
            each["generator"],
            each["against"],
            _widths(each.get("widths", ())),
            metric + _broken(entry),
            str(_interval(entry, labels.in_units(metric)[1])),
        ]
        for result in results
        for each in sorted(result.figures.get("differences", []), key=lambda each: place(each.get("set", "")))
        if "policies" in each
        for metric, entry in each["policies"]["true-code"].items()
    ]
    return _document(
        "Generators compared",
        "Gain of one generator over another, both with the true kernel's code: mean over whole photos and kernel "
        f"widths, {_listed(paper.WIDTHS)} where no others are named, paired by photo, with a 95% interval over photos. "
        "Positive is better (lower NIQE, higher PSNR); grid is in thousandths.",
        ["set", "generator", "compared with", "widths", "metric", "gain"],
        rows,
    )


def hacking(results: list[Result]) -> str:
    """Lay out what one constant offset of the true code gains on each generator."""
    runs = [result for result in results if result.figures.get("kind") == "hack"]
    told = [{key: run.config[key] for key in ("held_out", "patch_size") if key in run.config} for run in runs]
    return offsets.page([config | run.figures for config, run in zip(told, runs, strict=True)])  # older figures lack it


def searches(results: list[Result]) -> str:
    """Lay out rewards against renders per image, and their share of the best known code's."""
    runs = [result.figures for result in results if result.figures.get("kind") == "search"]
    parts = [f"```text\n{findings.table(figures)}\n```" for figures in runs]
    return "\n\n".join(["# What searches gain with their renders", *parts]) + "\n" if parts else ""


TABLES: dict[str, Callable[[list[Result]], str]] = {
    "table1": table1,
    "table4": table4,
    "niqe_gains": niqe_gains,
    "recipes": recipes,
    "gaussian8": gaussian8,
    "metrics": metrics,
    "generators": comparison,
    "hacking": hacking,
    "search": searches,
}
"""By the name of the Markdown file; each gives "" if the results hold no figures for it."""


def _document(title: str, about: str, header: list[str], rows: list[list[str]], level: str = "#") -> str:
    """Give a Markdown page with one table, or "" without rows; repeated rows and empty columns are left out."""
    if not rows:
        return ""
    kept = [column for column in range(len(header)) if any(row[column] for row in rows)]
    once = dict.fromkeys(tuple(row[column] for column in kept) for row in rows)
    shown = [[header[column] for column in kept], ["---"] * len(kept), *once]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in shown]
    return "\n".join([f"{level} {title}", "", about, "", *lines, ""])


def _interval(entry: dict[str, Any], unit: float = 1.0) -> Interval:
    return Interval(entry["mean"], entry["low"], entry["high"], entry["count"]).times(unit)


def _marked(interval: Interval) -> str:
    """Write an interval, in bold where it lies above 0."""
    return f"**{interval}**" if interval.low > 0 else str(interval)


def _score(entry: dict[str, Any] | None, metric: str) -> str:
    """Write a mean score; "" where there is none."""
    if entry is None:
        return ""
    digits = {"psnr": 2, "niqe": 2, "ssim": 4, "lpips": 3, "grid": 4}
    return f"{labels.in_units(metric)[1] * entry['mean']:.{digits[metric]}f}"


def _broken(entry: dict[str, Any]) -> str:
    """Say how many pictures are left out, if any."""
    return f" ({entry['broken']} pictures broken and left out)" if entry.get("broken") else ""


def _widths(widths: Iterable[float]) -> str:
    """Name kernel widths other than the paper's: means over these stand beside others."""
    return "" if tuple(widths) == paper.WIDTHS else _listed(widths)


def _listed(widths: Iterable[float]) -> str:
    return ", ".join(f"{width:g}" for width in widths)


def _each(values: Iterable[float], sign: str = "") -> list[str]:
    return [f"{value:{sign}.2f}" for value in values]
