"""Constant offsets as a page of tables: what one offset of the true code gains on each generator.

The figures are those of `experiments.hack`; `experiments.sheets` says how they are laid out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blindsr_env.patch import sides
from experiments import labels
from experiments.intervals import Interval
from experiments.sheets import BUILT_IN


def page(runs: Sequence[dict[str, Any]]) -> str:
    """Lay out runs as Markdown: for each metric and budget one table of all generators, then differences.

    Args:
        runs: figures of `blindsr hack`.

    Returns:
        A page, or "" without runs.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        scenes = run.get("held_out"), tuple(run["photos"]), _patches(run), run["scenes"]
        groups.setdefault((run["metric"], run["renders"], *scenes), []).append(run)
    parts = [part for group in groups.values() for part in (_gains(group), _broken(group), _differences(group))]
    return (
        "\n\n".join(["# How far one constant offset can fool a metric", *filter(None, parts)]) + "\n" if parts else ""
    )


def _patches(run: dict[str, Any]) -> str:
    """Name a run's patches; "" where an older file does not tell."""
    return f", patches of {' x '.join(map(str, sides(run['patch_size'])))}" if "patch_size" in run else ""


def _gains(runs: Sequence[dict[str, Any]]) -> str:
    first, metric = runs[0], runs[0]["metric"]
    title, unit = labels.in_units(metric)
    lines = [
        f"The offset is added to the code of the true kernel; it is the same for all photos and was learned to improve "
        f"{metric} with {first['renders']} renders. Scores are means over {first['scenes']} held-out scenes of "
        f"{len(first['photos'])} photos of {first.get('held_out') or BUILT_IN}{_patches(first)}; gains over the true "
        "code come with a 95% interval over photos, and positive is better.",
        "",
        f"| generator | action space | {title} gain | PSNR gain, dB | grid, 1e-3 | grid of the true code, 1e-3 "
        "| PSNR of the true code, dB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        for name, entry in run["generators"].items():
            true = entry["true_code"]
            for space, result in entry["actions"].items():
                psnr = result["reward"] if metric == "psnr" else result["gain"]["psnr"]
                lines.append(
                    f"| {name} | {space} | {Interval(**result['reward']).times(unit)} | {Interval(**psnr)} "
                    f"| {1e3 * result['scores']['grid']:.3f} | {1e3 * true['grid']:.3f} | {true['psnr']:.2f} |"
                )
    return "\n".join(dict.fromkeys(lines))


def _broken(runs: Sequence[dict[str, Any]]) -> str:
    """Say where pictures with the offset have no score though those with the true code have one."""
    return "\n\n".join(
        f"{name}, {space}: with the offset {count} scenes have no {metric}, though they have one with the true code."
        for run in runs
        for name, entry in run["generators"].items()
        for space, result in entry["actions"].items()
        for metric, count in result.get("broken", {}).items()
        if count
    )


def _differences(runs: Sequence[dict[str, Any]]) -> str:
    lines = []
    for run in runs:
        title, unit = labels.in_units(run["metric"])
        for each in run["differences"]:
            start = f"| {each['generator']} | {each['against']} |"
            lines.append(f"{start} PSNR of the true code, dB | {Interval(**each['true_psnr'])} | |")
            for space, difference in each["reward"].items():
                own, other = (
                    run["generators"][name]["actions"][space]["reward"]["mean"]
                    for name in (each["generator"], each["against"])
                )
                share = f"{own / other:.2f}" if other > 0 else ""
                lines.append(f"{start} {title} gain in {space} | {Interval(**difference).times(unit)} | {share} |")
    if not lines:
        return ""
    head = [
        "Differences are paired by scene, with a 95% interval over photos; the share is that of the other generator's "
        "gain.",
        "",
        "| generator | compared with | what | difference | share |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *lines])
