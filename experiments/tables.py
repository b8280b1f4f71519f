"""The paper's tables in Markdown, from results files alone, with the published figures beside ours.

A results file is JSON: `figures`, `config` (resolved, file names without folders), `environment` (versions, processor),
`seed`, `commit` (`+` where the source had changes). Its figures are, by command:

- `blindsr evaluate`, one generator on one set: a *sheet*: `set`, `generator` (its name, told apart by its file),
  `architecture` (blocks, width, scale, modulation), `photos`, `widths`, and `policies`: by policy (`true-code` first)
  and metric `mean`, `mean_by_width`, `interval` and `interval_by_width` (of the means, over photos), `gain` (over the
  true code, an interval; positive is better), `scores` (photos x widths), `broken` (how many of these are no finite
  number though the true code's are: left out of the rest). Files written before sets had names lack `set`,
  `architecture` and the intervals of the means; their set is `config.images`. Older ones lack `broken`.
  With `recipes`, a sheet has these too: by name `agents` (which of the policies), `metrics`: by metric `gain` (an
  interval over seeds and photos), `gain_by_width`, `gain_by_seed`, and `over` (by each recipe that stands before it,
  the gain less that one's, paired by photo), `photos` (how many all seeds have a score of) and `broken`; and `curves`:
  by what was logged `metric` and `generator` (of the training), `renders` and `by_seed` (seeds x renders).
- `blindsr evaluate`, several: `sheets`, a list of those, and `differences`, one for each further generator and set:
  `set`, `generator`, `against` (the first generator), `widths`, and `policies`: by policy and metric the gain over the
  first generator, paired by photo: an interval, and `by_width`, one for each width.
- `blindsr hack`: `kind` = `hack`, `metric`, `photos`, `scenes`, `renders`, `generators`: by name `architecture`,
  `true_code` (mean scores by metric) and `actions`: by action space `reward` (interval), `gain` (intervals by metric),
  `scores` (means by metric), `scenes`, `broken` (by metric, as above), `offset` (15 numbers), `rewards` (one a scene);
  and `differences` to the first generator, paired by scene: `true_psnr`, `reward` by action space.
- `blindsr search`: `kind` = `search`, `photos`, `scenes`, `generator`, `action`, `metric`, `budgets`, `best` (interval
  of the best known code's reward: per scene the better search of those from the true code and the prediction), and
  `starts`: by where a search began `rewards` (scenes x budgets), `reward` and `normalised` (an interval a budget; null
  where there is nothing to be won), `curve` (the mean after each render) and `price`: by `start` and `found` (the best
  code), gains by metric.

Scenes take one photo after another, in the order of `photos`; means are of the photos' means.

An interval is `mean`, `low`, `high` (95%) and `count`, the number of independent values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import evaluate, hack, labels, paper, search
from experiments.intervals import Interval
from generators.atomic import atomic_write

SETS = ("Set5", "Set14", "BSD100")
"""In the paper's order; other sets follow."""

SAME, SAME_SHARE = 0.005, 0.05
"""Two files may give the same figure with a difference of this, and of this share of it: threads and devices sum so."""

COSTS = {
    "psnr": "PSNR gain, dB",
    "ssim": "SSIM gain",
    "lpips": "LPIPS gain",
    "grid": "grid gain, 1e-3",
}
"""Metrics that show the price of a won NIQE, and what columns call them."""

PLACES = "blindsr evaluate, blindsr hack or blindsr search"
"""What writes figures for tables and charts."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Settings of `blindsr tables`.

    Attributes:
        results: results files of `blindsr evaluate`, `hack` and `search`, or folders of them.
        output: folder for the tables, one Markdown file each; None only prints them.
    """

    results: list[str] | str = "results"
    output: str | None = "results"


@dataclass(frozen=True)
class Result:
    """A results file.

    Attributes:
        name: the file's, with its folder.
        figures: see the module.
        config: the run's settings.
    """

    name: str
    figures: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True)
class Sheet:
    """The scores of one generator on one set.

    Attributes:
        file: the results file that it stands in.
        set: name of the set of photos.
        generator: its name.
        scale: its scale.
        action: action space of the policies.
        widths: kernel widths.
        policies: see the module.
        recipes: see the module.
    """

    file: str
    set: str
    generator: str
    scale: int
    action: str
    widths: tuple[float, ...]
    policies: dict[str, Any]
    recipes: dict[str, Any] = field(default_factory=dict)

    @property
    def singles(self) -> dict[str, Any]:
        """The policies beside the true code that are no seed of a recipe."""
        seeds = {agent for recipe in self.recipes.values() for agent in recipe["agents"]}
        return {name: entry for name, entry in self.policies.items() if name != "true-code" and name not in seeds}

    def mean(self, metric: str, width: float, policy: str = "true-code") -> float | None:
        """Give the mean score at one width; None where it was not measured."""
        entry = self.policies.get(policy, {}).get(metric)
        return entry["mean_by_width"][self.widths.index(width)] if entry and width in self.widths else None


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


def read(places: Sequence[str] | str) -> list[Result]:
    """Read results files.

    Args:
        places: files, or folders whose `*.json` are read in the order of their names.

    Raises:
        ValueError: a file is missing, or holds no results.
    """
    found = []
    for place in [places] if isinstance(places, str) else places:
        path = Path(place)
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            try:
                content = json.loads(file.read_text())
                found.append(Result("/".join(file.parts[-2:]), dict(content["figures"]), dict(content["config"])))
            except OSError:
                raise ValueError(f"no results file at {file}: check the path") from None
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{file} holds no results of a blindsr command: remove it, or run it again") from None
    return found


def sheets(results: Iterable[Result]) -> list[Sheet]:
    """Take the sheets out of results files, in the order of the sets.

    Raises:
        ValueError: two files give different figures for what is called the same.
    """
    found = []
    for result in results:
        figures = result.figures
        for sheet in figures.get("sheets", [figures] if "policies" in figures else []):
            title = sheet.get("set") or result.config.get("images") or evaluate.BUILT_IN
            count, all_of_it = len(sheet.get("photos", ())), paper.PHOTOS.get(title)
            if count and all_of_it and count != all_of_it:  # some photos of a set are not to stand beside the paper's
                title = f"{title} ({count} of {all_of_it} photos)"
            widths, action = tuple(sheet["widths"]), result.config.get("action", "code")
            scale = sheet.get("architecture", {}).get("scale", paper.SCALE)
            scored = sheet["policies"], sheet.get("recipes", {})
            found.append(Sheet(result.name, title, sheet["generator"], scale, action, widths, *scored))
    _check_agreement(found)
    return sorted(found, key=lambda sheet: _place(sheet.set))


def of_the_paper(results: Iterable[Result]) -> list[Sheet]:
    """Take the sheets that may stand beside the paper's figures: those of its scale."""
    return [sheet for sheet in sheets(results) if sheet.scale == paper.SCALE]


def _check_agreement(found: list[Sheet]) -> None:
    """Refuse two agents, or two generators, that are called the same and score differently."""
    seen: dict[tuple[Any, ...], tuple[float, str]] = {}
    for sheet in found:
        for policy, of_metric in sheet.policies.items():
            action = "" if policy == "true-code" else sheet.action  # it is the same in every action space
            for metric, entry in of_metric.items():
                for width, now in zip(sheet.widths, entry["mean_by_width"], strict=True):
                    key = (sheet.set, sheet.generator, sheet.scale, action, policy, metric, width)
                    before, file = seen.setdefault(key, (now, sheet.file))
                    if abs(before - now) > min(SAME, SAME_SHARE * abs(before)):
                        raise ValueError(
                            f"{sheet.generator}, {policy}, on {sheet.set} at width {width:g} has {metric} {before:.5g} "
                            f"in {file} and {now:.5g} in {sheet.file}: remove one, or score both in one run, which "
                            "tells them apart by their files"
                        )


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
    widths = paper.WIDTHS
    rows: dict[tuple[str, ...], list[str]] = {}  # a policy may stand in several files, with more metrics in some
    won: dict[tuple[str, ...], float] = {}
    for sheet in of_the_paper(results):
        if "niqe" not in sheet.policies["true-code"] or sheet.widths != widths:
            continue
        theirs = paper.AMGAN_RL_NIQE_GAIN.get(sheet.set)
        gains = {
            name + _broken(of_metric["niqe"]): {metric: entry["gain"] for metric, entry in of_metric.items()}
            for name, of_metric in sheet.singles.items()
        }
        for name, recipe in sheet.recipes.items():
            of_recipe = {metric: entry["gain"] for metric, entry in recipe["metrics"].items()}
            seeds = f", {len(recipe['agents'])} seeds" if len(recipe["agents"]) > 1 else ""
            gains[name + seeds + _broken(recipe["metrics"]["niqe"])] = of_recipe
        if gains and theirs is not None:
            place = (sheet.set, "AMGAN, the paper", "unbounded", "AMGAN-RL")
            rows.setdefault(place, [*place, f"{theirs:+.3f}", *[""] * 5])
            won[place] = theirs
        for name, gain in gains.items():
            less = "" if theirs is None else f"{gain['niqe']['mean'] - theirs:+.3f}"
            costs = [
                str(_interval(gain[metric], labels.in_units(metric)[1])) if metric in gain else "" for metric in COSTS
            ]
            place = (sheet.set, sheet.generator, sheet.action, name)
            row = [*place, str(_interval(gain["niqe"])), less, *costs]
            if place not in rows or row.count("") < rows[place].count(""):
                rows[place], won[place] = row, gain["niqe"]["mean"]
    first = {place[:length]: i for i, place in reversed([*enumerate(won)]) for length in (1, 3)}
    ranked = sorted(won, key=lambda place: (first[place[:1]], first[place[:3]], math.isnan(won[place]), -won[place]))
    return _document(
        "NIQE below the true code's",
        f"Whole photos, widths {', '.join(f'{width:g}' for width in widths)}; gains over the same generator's picture "
        "with the true code, 95% interval over photos, of recipes over seeds and photos; positive is better. Ranked "
        "within each generator and action space; the paper's row leads each set.",
        [
            "set",
            "generator",
            "actions",
            "policy",
            "NIQE gain",
            "less the paper's",
            *COSTS.values(),
        ],
        [rows[place] for place in ranked],
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
        for each in sorted(result.figures.get("differences", []), key=lambda each: _place(each.get("set", "")))
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
    parts = [f"```text\n{search.table(figures)}\n```" for figures in runs]
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


def _place(title: str) -> tuple[int, str]:
    return (SETS.index(title) if title in SETS else len(SETS), title)


def _interval(entry: dict[str, Any], unit: float = 1.0) -> Interval:
    return Interval(entry["mean"], entry["low"], entry["high"], entry["count"]).times(unit)


def _broken(entry: dict[str, Any]) -> str:
    """Say how many pictures are left out, where there are any."""
    return f" ({entry['broken']} pictures broken and left out)" if entry.get("broken") else ""


def _each(values: Iterable[float], sign: str = "") -> list[str]:
    return [f"{value:{sign}.2f}" for value in values]
