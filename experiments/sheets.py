"""Results files, and the sheets in them: one generator's scores on one set.

A results file is JSON: `figures`, `config` (resolved, file names without folders), `identity` (digests of the files and
photos that the config names, see `experiments.digests`), `environment` (versions; the processor, in files from before
2026-11-27 its architecture alone), `seed`, `commit` (`+` where the source had changes). A run replaces the file of the
same config and identity, and takes another name beside others; files from before identities were kept are compared by
their config alone. Files of a run that was cut short say `whole: false`.
The figures are, by command:

- `blindsr evaluate`, one generator on one set: a *sheet*: `set`, `generator` (its name, told apart by its file),
  `architecture` (blocks, width, scale, modulation), `photos`, `widths`, and `policies`: by policy (`true-code` first)
  and metric `mean`, `mean_by_width`, `interval` and `interval_by_width` (of the means, over photos), `gain` (over the
  true code, an interval; positive is better), `scores` (photos x widths), `broken` (how many of these are not finite
  although the true code's are: left out of the rest). Files written before sets had names lack `set`,
  `architecture` and the intervals of the means; their set is `config.images`. Older ones lack `broken`. Since
  2026-11-26 `references`: by name (`bicubic`, `original`) and metric `mean`, `mean_by_width`, `interval`; of the
  original only metrics that do not compare with it.
  With `recipes`, a sheet has these too: by name `agents` (which of the policies), `metrics`: by metric `gain` (an
  interval over seeds and photos), `gain_by_width`, `gain_by_seed`, and `over` (by each recipe that stands before it,
  the gain less that one's, paired by photo), `photos` (how many all seeds have a score of) and `broken`; and `curves`:
  by what was logged `metric` and `generator` (of the training), `renders` and `by_seed` (seeds x renders).
- `blindsr evaluate`, several: `sheets`, a list of those, and `differences`, one for each further generator and set:
  `set`, `generator`, `against` (the first generator; in further tiles the same one in the first way), `widths`, and
  `policies`: by policy and metric the gain over that, paired by photo: an interval, and `by_width`, one for each width.
- `blindsr hack`: `kind` = `hack`, `metric`, `photos`, `scenes`, `renders`, `generators`: by name `architecture`,
  `true_code` (mean scores by metric) and `actions`: by action space `reward` (interval), `gain` (intervals by metric),
  `scores` (means by metric), `scenes`, `broken` (by metric, as above), `offset` (15 numbers), `rewards` (one a scene);
  and `differences` to the first generator, paired by scene: `true_psnr`, `reward` by action space. Older files lack
  `held_out` (the set's name, null for the built-in one) and `patch_size`, which stand in their config.
- `blindsr search`: `kind` = `search`, `photos`, `scenes`, `generator`, `action`, `metric`, `budgets`, `best` (interval
  of the best known code's reward: per scene the better search of those from the true code and the prediction), and
  `starts`: by where a search began `rewards` (scenes x budgets), `reward` and `normalised` (an interval a budget; null
  where there is nothing to be won), `curve` (the mean after each render) and `price`: by `start` and `found` (the best
  code), gains by metric on the photos as they are. Since 2026-11-26 `views`, how many views of a scene a render is,
  `invalid`, how many scenes are left out since the true code has no score on a view, `best_unseen`, what the best known
  code (picked by the searched views) earns on the transposed ones, which no search sees, and by start `unseen`, on the
  same: `rewards` (scenes x 2: the start's code, the best found), their means `start` and `found`, how much `more` the
  latter is, and `normalised`, the start's share of `best_unseen` (null where there is nothing to be won).

Scenes take one photo after another, in the order of `photos`; means are of the photos' means.

An interval is `mean`, `low`, `high` (95%) and `count`, the number of independent values. Those of 10 to 49 photos in
`experiments/results` were bootstrapped first and made Student's on 2026-11-27, from the scores in the files; those in
`references` and `price`, whose scores no file holds, are bootstraps still.

Numbers that are not finite, as the ends of one photo's interval, are null; older files hold NaN.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import paper
from experiments.intervals import Interval
from generators.nearest import unknown

BUILT_IN = "built-in"
"""What the set of held-out photos in the package is called."""

SETS = ("Set5", "Set14", "BSD100")
"""In the paper's order; other sets follow."""

SAME, SAME_SHARE = 0.01, 0.05
"""Two files may differ in the same figure by this much, and by this share of it: threads, devices and releases sum in
another order, which changes the rounding of pictures, and NIQE sees it."""

NUMBERS = ("mean", "low", "high", "mean_by_width", "scores", "true_code", "curve")
"""Keys of numbers and lists of them: JSON has no NaN, so files hold null there."""

PLACES = "blindsr evaluate, blindsr hack or blindsr search"
"""What writes figures for tables and charts."""


@dataclass(frozen=True)
class Result:
    """A results file.

    Attributes:
        name: of the file, with its folder.
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
        file: the results file that holds it.
        set: name of the set of photos.
        generator: its name.
        scale: its scale.
        action: action space of the policies.
        widths: kernel widths.
        policies: see the module.
        recipes: see the module.
        references: see the module.
    """

    file: str
    set: str
    generator: str
    scale: int
    action: str
    widths: tuple[float, ...]
    policies: dict[str, Any]
    recipes: dict[str, Any] = field(default_factory=dict)
    references: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The set, with the widths where they are not the paper's: means over others do not compare."""
        widths = f", widths {', '.join(f'{width:g}' for width in self.widths)}"
        return self.set + ("" if self.widths == paper.WIDTHS else widths)

    @property
    def singles(self) -> dict[str, Any]:
        """The policies, other than the true code, that are not seeds of a recipe."""
        seeds = {agent for recipe in self.recipes.values() for agent in recipe["agents"]}
        return {name: entry for name, entry in self.policies.items() if name != "true-code" and name not in seeds}

    def mean(self, metric: str, width: float) -> float | None:
        """Give the true code's mean score at one width; None where it was not measured."""
        entry = self.policies["true-code"].get(metric)
        return entry["mean_by_width"][self.widths.index(width)] if entry and width in self.widths else None


def read(places: Sequence[str] | str) -> list[Result]:
    """Read results files.

    Args:
        places: files, or folders whose `*.json` are read in the order of their names.

    Raises:
        ValueError: a file is missing, holds no results, or is damaged.

    Warns:
        UserWarning: a run was cut short; or a file in a folder holds no results, and is passed over.
    """
    found = []
    for place in [places] if isinstance(places, str) else places:
        path = Path(place)
        for file in sorted(filter(Path.is_file, path.glob("*.json"))) if path.is_dir() else [path]:
            content: Any = None
            try:
                content = json.loads(file.read_text(), object_hook=_with_nan)
                figures, config = dict(content["figures"]), dict(content["config"])
                _check_layout(figures)
                if not content.get("whole", True):
                    warnings.warn(f"{file} is of a run that was cut short: run it again", stacklevel=2)
                found.append(Result("/".join(file.parts[-2:]), figures, config))
            except OSError:
                raise ValueError(f"no results file at {file}: check the path") from None
            except (ValueError, KeyError, TypeError, AttributeError):
                if not path.is_dir() or (isinstance(content, dict) and {"figures", "config"} <= set(content)):
                    what = f"{file} holds no results of a blindsr command: remove it, or run it again"
                    raise ValueError(what) from None
                warnings.warn(f"{file} holds no results of a blindsr command: it is passed over", stacklevel=2)
    return found


def _with_nan(entry: dict[str, Any]) -> dict[str, Any]:
    """Give NaN back for the null of numbers; elsewhere null stays."""
    return {key: _numbers(value) if key in NUMBERS else value for key, value in entry.items()}


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return math.nan if value is None else value


def _check_layout(figures: dict[str, Any]) -> None:
    """Take out of figures what tables and charts will: a KeyError, TypeError or ValueError where it is not there."""
    for sheet in _sheets_of(figures):
        _ = sheet["generator"], sheet["policies"]["true-code"]
        for entry in (entry for of_metric in sheet["policies"].values() for entry in of_metric.values()):
            _ = Interval(**entry["gain"]), dict(zip(sheet["widths"], entry["mean_by_width"], strict=True))
        for recipe in sheet.get("recipes", {}).values():
            _ = [*recipe["agents"]], [Interval(**entry["gain"]) for entry in recipe["metrics"].values()]
    if figures.get("kind") == "hack":
        _ = figures["metric"], [(entry["true_code"], entry["actions"]) for entry in figures["generators"].values()]
    if figures.get("kind") == "search":
        _ = [dict(zip(figures["budgets"], of["reward"], strict=True)) for of in figures["starts"].values()]


def _sheets_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    return list(figures.get("sheets", [figures] if "policies" in figures else []))


def sheets(results: Iterable[Result]) -> list[Sheet]:
    """Take the sheets out of results files, in the order of the sets.

    Raises:
        ValueError: two files give different figures under the same name.
    """
    found = []
    for result in results:
        figures = result.figures
        for sheet in _sheets_of(figures):
            title = sheet.get("set") or result.config.get("images") or BUILT_IN
            count, all_of_it = len(sheet.get("photos", ())), paper.PHOTOS.get(title)
            if count and all_of_it and count != all_of_it:  # some photos of a set are not to stand beside the paper's
                title = f"{title} ({count} of {all_of_it} photos)"
            widths, action = tuple(sheet["widths"]), result.config.get("action", "code")
            scale = sheet.get("architecture", {}).get("scale", paper.SCALE)
            scored = sheet["policies"], sheet.get("recipes", {}), sheet.get("references", {})
            found.append(Sheet(result.name, title, sheet["generator"], scale, action, widths, *scored))
    _check_agreement(found)
    return sorted(found, key=lambda sheet: place(sheet.set))


def of_the_paper(results: Iterable[Result]) -> list[Sheet]:
    """Take the sheets that are comparable with the paper's figures: those of its scale."""
    return [sheet for sheet in sheets(results) if sheet.scale == paper.SCALE]


def check_known(what: str, chosen: str | None, known: Iterable[str]) -> None:
    """Refuse a set, generator or action space of which there are no figures, though there are some.

    Raises:
        ValueError: the message names the nearest that there are.
    """
    there = sorted(set(known))
    if chosen is not None and there and chosen not in there:
        raise ValueError(unknown(what, chosen, there))


def _check_agreement(found: list[Sheet]) -> None:
    """Refuse two agents, or two generators, that have the same name but different scores."""
    seen: dict[tuple[Any, ...], tuple[float, str]] = {}
    for sheet in found:
        scored = [(sheet.generator, policy, of) for policy, of in sheet.policies.items()]
        scored += [("", name, of) for name, of in sheet.references.items()]  # no generator made them
        for generator, policy, of_metric in scored:
            shared = policy == "true-code" or not generator
            action = "" if shared else sheet.action  # they are the same in every action space
            for metric, entry in of_metric.items():
                for width, now in zip(sheet.widths, entry["mean_by_width"], strict=True):
                    key = (sheet.set, generator, sheet.scale, action, policy, metric, width)
                    before, file = seen.setdefault(key, (now, sheet.file))
                    if abs(before - now) > min(SAME, SAME_SHARE * abs(before)):
                        raise ValueError(
                            f"{generator or 'no generator'}, {policy}, on {sheet.set} at width {width:g} has {metric} "
                            f"{before:.5g} in {file} and {now:.5g} in {sheet.file}: remove one, or score both in one "
                            "run, which tells them apart by their files"
                        )


def place(title: str) -> tuple[int, str]:
    """Give the sort key of sets: the paper's in its order, then others by name."""
    return (SETS.index(title) if title in SETS else len(SETS), title)
