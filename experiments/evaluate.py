"""Scores of policies on whole photos, each at several kernel widths, against the true code.

One generator and one set of photos give a *sheet*; several give a sheet each, and the generators are compared with the
first one photo by photo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import generators
from agents import policies
from agents.baselines import Random
from agents.checkpoints import shipped_predictor_file
from agents.part import Part, parted
from blindsr_env import images, sharing
from blindsr_env.env import BlindSREnv
from experiments import digests, labels, recipes
from experiments.counts import check_seed
from experiments.devices import pick_device
from experiments.held_out import check_common, check_size, for_whole_photos
from experiments.intervals import Interval
from experiments.results_file import ResultsFile
from experiments.scoring import differences, scored, zeta_of
from experiments.sheets import BUILT_IN
from experiments.widths import default_widths


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Settings of `blindsr evaluate`.

    Attributes:
        policies: what chooses the code: any of `true-code` (the true kernel's), `predictor`, `mean-code`, `random`,
            shipped agents such as `amgan_rl`, files or run folders of predictors and agents, and `module:function` for
            a policy of another library (see `agents.policies.load`).
        images: HR photos: a folder or a file; several as `[A, B]`, or with names of your own as `{Set5: A, Set14: B}`.
            Without it, the built-in held-out photos.
        widths: kernel widths (standard deviation, HR pixels); every photo is degraded with each. Without it, the
            paper's 0.2, 1.3 and 2.6, at scale 2 0.2, 1.1 and 2.
        metrics: metrics to score the pictures with.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`); without it, the one that policies and recipes learned on, or else `amnet`.
        generators: several generators instead of one; the others are compared with the first.
        tiles: sides of the tiles, in LR pixels, in which larger photos are rendered (see `generators.tiles`); null
            renders photos whole, as the paper does. With several, such as `[null, 64]`, each generator is scored in
            each way, and each further way is compared with the first.
        self_ensemble: whether each photo is rendered flipped and turned in eight ways, of which the mean is taken (see
            `generators.self_ensemble`); `[false, true]` compares likewise.
        predictor: checkpoint that `predictor` uses, or `predictor_s`, `predictor_s_open` or `predictor_s_x2`; without
            it, the one that ships for the generator.
        action: what the policies choose. `code`: 15 numbers that describe the blur kernel, scaled so that Gaussian
            kernels fill 80% of the box [-1, 1]; `free-code`: the same 15 numbers, scaled so that they also reach codes
            that no kernel has; `width`: one number, the Gaussian's width.
        recipes: agents that differ only in their random seed, by the name of their recipe: files, run folders, or a
            pattern of them, as in `{eq10: 'runs/eq10_*', eq11: 'runs/eq11_*'}`. They are scored like policies; each
            recipe's gain comes with an interval over seeds and photos, and is compared with the recipes before it.
        output: results file, JSON; null writes none. If it holds results of another run, the new ones go to
            `NAME_2.json`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: random seed of the random policy and the intervals.
    """

    policies: tuple[str, ...] = ("true-code", "predictor", "mean-code")
    images: dict[str, str] | list[str] | str | None = None
    widths: tuple[float, ...] | None = None
    metrics: tuple[str, ...] = ("psnr", "ssim", "niqe", "grid")
    generator: str | None = None
    generators: list[str] | str | None = None
    tiles: tuple[int | None, ...] = (None,)
    self_ensemble: tuple[bool, ...] = (False,)
    predictor: str | None = None
    action: str = "code"
    recipes: dict[str, recipes.Recipe] = field(default_factory=dict)
    output: str | None = "results/evaluate.json"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse empty tables and settings that contradict each other."""
        check_seed(self)
        if self.widths == () or not self.metrics or not self.policies:
            raise ValueError("give at least one policy, one width and one metric")
        if self.generator is not None and self.generators is not None:
            raise ValueError("give generator or generators, not both")
        if self.images in ({}, []) or self.generators == [] or not self.tiles or not self.self_ensemble:
            raise ValueError("give at least one generator, one folder of photos, one way of tiles and of self_ensemble")
        if self.widths is not None:
            # In one order, so that tables and boards know equal choices as such.
            object.__setattr__(self, "widths", tuple(sorted(self.widths)))
            labels.distinct([str(width) for width in self.widths], "width")
        labels.distinct(labels.of_policies(self.policies), "policy")
        labels.distinct([str(tile) for tile in self.tiles], "tile")
        labels.distinct([str(each) for each in self.self_ensemble], "self_ensemble")
        if isinstance(self.images, list):
            labels.distinct(labels.tails(self.images), "folder of photos")

    @property
    def sources(self) -> list[str]:
        """Names or files of the generators."""
        if isinstance(self.generators, list):
            return [*self.generators]
        return [self.generators or self.generator or generators.names()[0]]

    @property
    def sets(self) -> dict[str, str | None]:
        """Folders of photos by the names of the sets; None for the built-in ones."""
        if isinstance(self.images, dict):
            return {**self.images}
        if self.images is None:
            return {BUILT_IN: None}
        folders = [self.images] if isinstance(self.images, str) else self.images
        return dict(zip(labels.tails(folders), folders, strict=True))


def evaluate(settings: Evaluate) -> dict[str, Any]:
    """Score policies, print the tables and write the results.

    Returns:
        Figures; see `experiments.sheets` for their layout. One generator on one set: a sheet. Otherwise `sheets`, and
        `differences` of each further generator to the first.

    Raises:
        ValueError: unknown names, photos or files that cannot be used, something given twice, generators of several
            scales, or no generator where policies learned on different ones.
    """
    settings, seeds, ways, sets, every_actor = _checked(settings)
    assert settings.widths is not None  # it names them
    config = labels.short(asdict(settings))
    identity = {} if settings.output is None else _identity(settings, seeds, ways)
    output = ResultsFile(settings.output, config, settings.seed, identity)
    if several := _predictors(settings, ways):
        print(several)
    curves = {name: recipes.curves([*files.values()]) for name, files in seeds.items()}
    sheets: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    references: dict[str, Any] = {}  # by set: no generator takes part, and all are of one scale
    figures: dict[str, Any] = {}
    for way, actors in zip(ways, every_actor, strict=True):
        zeta = zeta_of(way.env.core)
        for title, photos in sets.items():
            _restart(actors.values())
            scores = scored(
                way.env.core,
                photos,
                settings.widths,
                actors,
                seed=settings.seed,
                title=f"{way.name}, {title}",
                references=references.get(title),
            )
            references[title] = scores["references"]
            sheet = {"set": title, "generator": way.name, **scores}
            print(table(sheet), flush=True)
            if seeds:
                summary = recipes.summary(seeds, sheet["policies"], zeta)
                sheet["recipes"] = {name: {**of, "curves": curves[name]} for name, of in summary.items()}
                print(recipes.table(sheet["recipes"]), flush=True)
            sheets.append(sheet)
            if way.against is not None:
                base = next(each for each in sheets if (each["set"], each["generator"]) == (title, way.against))
                compared += differences([base, sheet], zeta, settings.seed)
            figures = {"sheets": sheets, "differences": compared} if len(sheets) > 1 else sheet
            if whole := len(sheets) == len(ways) * len(sets):
                print(table_of_differences(compared), end="", flush=True)
            output.keep(figures, whole=whole)
    if output.path is not None:
        print(f"written to {output.path}")
    return figures


def _predictors(settings: Evaluate, ways: Iterable[_Way]) -> str:
    """Say which predictor ships for which generator, where they are several and one takes part; "" elsewhere."""
    parts = [parted(name) for name in settings.policies]
    if settings.predictor is not None or not any(name == "predictor" or share is not None for name, share in parts):
        return ""
    files = {way.env.core.generator.name: shipped_predictor_file(way.env.core.generator) for way in ways}
    if len(set(files.values())) < 2:
        return ""
    return f"predictor is {', '.join(f'{file.stem} for {generator}' for generator, file in files.items())}"


def check(settings: Evaluate) -> None:
    """Raise what `evaluate` would, before any picture is rendered.

    Raises:
        ValueError: see `evaluate`.
    """
    _checked(settings)


Seeds = Mapping[str, Mapping[str, str]]
"""By recipe, the files of its agents by what tables call them."""


@dataclass(frozen=True, eq=False)
class _Way:
    """A generator, of photos whole or in tiles, with or without self-ensemble.

    Attributes:
        source: its name or file.
        name: what tables call it.
        against: the name of what it is compared with; None for the first.
        env: where it renders and policies act.
    """

    source: str
    name: str
    against: str | None
    env: BlindSREnv


def _restart(actors: Iterable[policies.Policy]) -> None:
    """Have chance begin anew: a set's random actions do not hang on the sets before it."""
    for policy in actors:
        chance = policy.policy if isinstance(policy, Part) else policy
        if isinstance(chance, Random):
            chance.restart()


Photos = dict[str, list[images.Photo]]
Actors = dict[str, policies.Policy]


def _checked(settings: Evaluate) -> tuple[Evaluate, Seeds, list[_Way], Photos, list[Actors]]:
    """Load what is compared, and refuse what does not fit; the settings come back with generator and widths."""
    seeds = {name: recipes.by_label(name, recipes.files(recipe)) for name, recipe in settings.recipes.items()}
    sets = {name: images.load(folder, split="test") for name, folder in settings.sets.items()}
    settings = _with_generator(settings, seeds)
    ways = _ways(settings)
    widths = default_widths(ways[0].env.core.codec.width_range) if settings.widths is None else settings.widths
    for way in ways:
        for width in widths:
            way.env.core.check_width(width)
        for photo in (each for photos in sets.values() for each in photos):
            check_size(way.env.core, photo)
    return replace(settings, widths=widths), seeds, ways, sets, [_actors(way, settings, seeds) for way in ways]


def _with_generator(settings: Evaluate, seeds: Seeds) -> Evaluate:
    """Name the generator that the agents learned on, where none is named."""
    if settings.generator is not None or settings.generators is not None:
        return settings
    names = [*settings.policies, *(file for files in seeds.values() for file in files.values())]
    if settings.predictor is not None:
        names.append(settings.predictor)
    learned_on = policies.generator_of(names, pick_device(settings.device))
    return replace(settings, generator=learned_on or generators.names()[0])


def _ways(settings: Evaluate) -> list[_Way]:
    """Load each generator, for each way of rendering."""
    device = pick_device(settings.device)
    first, *others = settings.metrics
    common: dict[str, Any] = {"metric": first, "report": others, "action": settings.action, "device": device}
    ways = list(product(settings.tiles, settings.self_ensemble))
    envs = [
        [for_whole_photos(generator=sharing.wrapped(source, *way, device), **common) for way in ways]
        for source in settings.sources
    ]
    check_common([env.core for own in envs for env in own], drawn=False)
    names = labels.of_generators([own[0].core.generator.name for own in envs], settings.sources)
    found: list[_Way] = []
    for source, name, own in zip(settings.sources, names, envs, strict=True):
        called = [labels.rendering(name, *way) for way in ways]
        for number, env in enumerate(own):
            # A generator's further ways are compared with its first one, generators with the first of all.
            against = called[0] if number else found[0].name if found else None
            found.append(_Way(source, called[number], against, env))
    return found


def _identity(settings: Evaluate, seeds: Seeds, ways: Iterable[_Way]) -> dict[str, Any]:
    """Give the digests of the files that the figures depend on."""
    by_source = {way.source: way.env.core.generator for way in ways}

    def of_policy(name: str) -> str | None | list[str | None]:
        """Give one digest, or several where generators differ in what stands behind the name."""
        every = dict.fromkeys(digests.of_policy(name, each) for each in by_source.values())
        return [*every] if len(every) > 1 else next(iter(every))

    return {
        "generators": [digests.of_generator(source) for source in settings.sources],
        "images": {title: digests.of_photos(folder) for title, folder in settings.sets.items()},
        "metrics": [digests.of_metric(metric) for metric in settings.metrics],
        "policies": [of_policy(name) for name in settings.policies],
        "predictor": of_policy(settings.predictor or "predictor"),
        "recipes": {name: [digests.of_checkpoint(file) for file in files.values()] for name, files in seeds.items()},
    }


def table(sheet: dict[str, Any]) -> str:
    """Lay a sheet out as text: for each metric a line a policy, its mean and the gain over the true code."""
    metrics = list(next(iter(sheet["policies"].values())))
    titles = {metric: labels.in_units(metric)[0] for metric in metrics}
    first, width = max(map(len, titles.values())), max(map(len, sheet["policies"]))
    lines = [
        f"{sheet['generator']}, {sheet['set']}, {len(sheet['photos'])} photos, "
        f"widths {', '.join(f'{w:g}' for w in sheet['widths'])}; "
        "gain over the true code [95% interval], positive is better"
    ]
    for metric in metrics:
        unit, title = labels.in_units(metric)[1], titles[metric]
        for name, of_metric in sheet["policies"].items():
            entry = of_metric[metric]
            mean = unit * entry["mean"]
            digits = 3 if abs(mean) >= 1 or unit != 1 else 4 if abs(mean) >= 0.01 else 6
            gain = "" if name == "true-code" else Interval(**entry["gain"]).times(unit).text(digits)
            lost = f"  ({entry['broken']} broken and left out)" if entry["broken"] else ""
            lines.append(f"{title:<{first}}  {name:<{width}}  {mean:>9.{digits}f}  {gain}{lost}".rstrip())
            title = ""
    return "\n".join(lines)


def table_of_differences(found: list[dict[str, Any]]) -> str:
    """Lay generators' differences to the first out as text, a line a set, policy and metric."""
    lines = []
    for each in found:
        for name, of_metric in each["policies"].items():
            for metric, entry in of_metric.items():
                title, unit = labels.in_units(metric)
                gain = Interval(entry["mean"], entry["low"], entry["high"], entry["count"]).times(unit)
                line = f"{each['generator']} over {each['against']}, {each['set']}, {name}: {title} {gain}"
                lines.append(line + (f", {entry['broken']} broken and left out\n" if entry["broken"] else "\n"))
    return "".join(lines)


def _actors(way: _Way, settings: Evaluate, seeds: Seeds) -> dict[str, policies.Policy]:
    """Give the policies beside the true code, by what the results call them: files by their last parts."""
    named = [*zip(labels.of_policies(settings.policies), settings.policies, strict=True)]
    agents = [each for files in seeds.values() for each in files.items()]
    labels.distinct([label for label, _ in named + agents], "policy or seed of a recipe")
    actors: dict[str, policies.Policy] = {}
    for label, name in named:
        if name != "true-code":
            actors[label] = policies.load(name, way.env, predictor=settings.predictor, seed=settings.seed)
    return actors | {label: policies.load(file, way.env) for label, file in agents}
