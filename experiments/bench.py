"""Speed and memory of the generator, the metrics and the environments: `blindsr bench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from experiments import contestants, digests, labels
from experiments.counts import at_least, check_seed
from experiments.devices import pick_device
from experiments.results_file import ResultsFile, environment
from experiments.stopwatch import memory_now, memory_peak, race
from generators.entry_point import is_entry_point
from generators.nearest import unknown

PAPER_MULTIPLY_ADDS = 6.6e9
"""Of AMNet-RL on a 64x64 photo (paper, Table 6)."""

MEMORY_ROWS = 20
"""Rows of the vector environment that `memory` watches."""

MACHINE = ("processor", "architecture", "bf16", "cores", "threads", "gpu")
"""What of the environment tells two machines' timings apart."""

PRECISION_NOISE = 0.1
"""Deviation of the actions of `precision` from the true ones: as far as agents explore."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of `blindsr bench`.

    Attributes:
        parts: what to measure, any of `generator` (bare forward passes), `niqe`, `env` (reset and step beside the bare
            forward pass), `loops` (whole episodes against other ways to run them), `precision` (rewards in half
            precision), `inference` (predictor and generator, the paper's Table 6) and `memory` (growth over many
            steps).
        batch: batch size: LR patches of a forward pass, 256x256 pictures that NIQE scores at once, parallel
            environments of `loops`.
        envs: numbers of parallel environments in `env`, each measured by itself.
        singles: single environments in `loops`, where time grows with their number, and scenes of `precision`.
        patch_size: side of the LR patches, in pixels.
        inference_batches: batch sizes of 64x64 photos in `inference`.
        memory_steps: total steps of `memory`, over all parallel environments; growth is counted after the first
            hundredth.
        rounds: how often each contestant is timed, after one round to warm up.
        rival: metric that NIQE is timed against; `pyiqa:niqe@FILE` takes its weights from a file.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`).
        dtype: precision of rendering in `env` and `inference`.
        compile: also time `generator` and `env` with the generator compiled, which needs a C++ compiler; see
            `BlindSREnv`.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        output: results file, JSON; null writes none.
        seed: random seed of the scenes.
    """

    parts: tuple[str, ...] = ("generator", "niqe", "env", "loops", "precision", "inference", "memory")
    batch: int = 64
    envs: tuple[int, ...] = (1, 16, 64, 256)
    singles: int = 8
    patch_size: int = 64
    inference_batches: tuple[int, ...] = (1, 32)
    memory_steps: int = 100_000
    rounds: int = 7
    rival: str = "pyiqa:niqe"
    generator: str = "amnet_s"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    compile: bool = False
    device: str = "auto"
    output: str | None = "results/bench.json"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown parts, none or one twice, and counts below 1."""
        if not self.parts:
            raise ValueError(f"give at least one part, of {', '.join(PARTS)}")
        labels.distinct(self.parts, "part")
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(unknown("part of the benchmark", part, PARTS))
        check_seed(self)
        at_least(1, self, "batch", "singles", "patch_size", "memory_steps", "rounds")
        if min((*self.envs, *self.inference_batches), default=1) < 1:
            raise ValueError(
                f"envs and inference_batches must be at least 1, got {self.envs}, {self.inference_batches}"
            )


def bench(settings: Bench) -> dict[str, Any]:
    """Measure what the settings name; print a table, write JSON.

    Returns:
        By part: figures of each contestant (see `stopwatch.race`), their ratios, and `peak_memory`, bytes: of a GPU the
        part's, else the process's so far.
    """
    device = pick_device(settings.device)
    config = _named(settings)
    identity = {
        "generator": digests.of_generator(settings.generator),
        "rival": digests.of_metric(settings.rival),
        "device": str(device),  # timings of another machine are another run's
        **{key: value for key, value in environment().items() if key in MACHINE},
    }
    output = ResultsFile(settings.output, config, settings.seed, identity)
    figures: dict[str, Any] = {"device": str(device), "threads": torch.get_num_threads()}
    for part in settings.parts:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        figures[part] = PARTS[part](settings, device) | {"peak_memory": memory_peak(device)}
        print(table(part, figures[part]))
        output.keep(figures, whole=part == settings.parts[-1])
    if output.path is not None:
        print(f"written to {output.path}")
    return figures


def _named(settings: Bench) -> dict[str, Any]:
    """Give the settings with the bare names of files, since paths tell about a machine."""
    metric, at, weights = settings.rival.partition("@")
    files = {
        "generator": labels.short(settings.generator),
        "rival": metric + at + Path(weights).name,
    }
    return {key: value for key, value in (asdict(settings) | files).items() if key != "output"}


def _generator(settings: Bench, device: torch.device) -> dict[str, Any]:
    every = contestants.forwards(settings.generator, settings.batch, settings.patch_size, device, settings.compile)
    return {"contestants": race(every, settings.rounds, device, "generator")}


def _niqe(settings: Bench, device: torch.device) -> dict[str, Any]:
    every = contestants.scorers(settings.batch, settings.rival, device, settings.seed)
    rows = race(every, settings.rounds, device, "niqe")
    ours, *others = every
    ratios = {
        f"{ours.name} over {other.name}": rows[other.name]["median"] / rows[ours.name]["median"] for other in others
    }
    return {"contestants": rows, "ratios": ratios}


def _env(settings: Bench, device: torch.device) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    ratios = {}
    for n in settings.envs:
        every = contestants.environments(
            settings.generator, n, settings.patch_size, settings.dtype, device, settings.seed, settings.compile
        )
        rows |= race(every, settings.rounds, device, f"env, {n}")
        for way in contestants.ways(device, settings.compile):
            ratio = rows[f"bare forward {n}{way}"]["median"] / rows[f"step {n}{way}"]["median"]
            ratios[f"step rate over bare forward rate, {n}{way}"] = ratio
    return {"contestants": rows, "ratios": ratios}


def _loops(settings: Bench, device: torch.device) -> dict[str, Any]:
    every = contestants.loops(
        settings.generator,
        settings.batch,
        settings.singles,
        settings.patch_size,
        settings.rival,
        device,
        settings.seed,
    )
    rows = race(every, settings.rounds, device, "loops")
    ours, *others = (contestant.name for contestant in every)
    rate = rows[ours]["images_per_second"]
    ratios = {f"{ours} over {other}": rate / rows[other]["images_per_second"] for other in others}
    return {"contestants": rows, "ratios": ratios}


def _precision(settings: Bench, device: torch.device) -> dict[str, Any]:
    if is_entry_point(settings.generator):
        print("precision: left out, since your own generators render in their own precision")
        return {}
    rng = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(settings.singles, 15, generator=rng).to(device)
    rewards = {}
    for dtype in ("float32", "float16", "bfloat16"):
        env = contestants.vector_env(
            settings.singles, device, generator=settings.generator, patch_size=settings.patch_size, dtype=dtype
        )
        _, info = env.reset(seed=settings.seed)
        rewards[dtype] = env.step((info["true_action"] + PRECISION_NOISE * noise).clamp(-1, 1))[1].double()
    exact = rewards.pop("float32")
    differences = {
        f"mean_absolute_difference_of_the_reward_in_{dtype}": (reward - exact).abs().mean().item()
        for dtype, reward in rewards.items()
    }
    return {"scenes": settings.singles, "mean_absolute_reward": exact.abs().mean().item(), **differences}


def _inference(settings: Bench, device: torch.device) -> dict[str, Any]:
    every = [
        contestants.blind(settings.generator, batch, 64, settings.dtype, device) for batch in settings.inference_batches
    ]
    figures: dict[str, Any] = {"contestants": race(every, settings.rounds, device, "inference")}
    for contestant in every[:1]:
        figures["multiply_adds_of_one_photo"] = contestant.flops / contestant.images / 2
    return figures | {"multiply_adds_in_the_paper_for_AMNet-RL": PAPER_MULTIPLY_ADDS}


def _memory(settings: Bench, device: torch.device) -> dict[str, Any]:
    env = contestants.tiny_env(MEMORY_ROWS, device)
    env.reset(seed=settings.seed)
    action = torch.zeros(env.action_space.shape, device=device)
    calls = -(-settings.memory_steps // env.num_envs)
    settled = -(-calls // 100)
    start = 0
    for done in tqdm(range(calls), desc="memory", unit="step"):
        if done == settled:
            start = memory_now(device)
        env.step(action)
    end = memory_now(device)
    start = start or end
    rows = env.num_envs
    figures: dict[str, Any] = {"rows": rows, "steps": calls * rows, "first": settled * rows}
    return figures | {"bytes_after_first": start, "bytes_at_the_end": end, "growth": end / start - 1}


PARTS: dict[str, Callable[[Bench, torch.device], dict[str, Any]]] = {
    "generator": _generator,
    "niqe": _niqe,
    "env": _env,
    "loops": _loops,
    "precision": _precision,
    "inference": _inference,
    "memory": _memory,
}


def table(part: str, figures: dict[str, Any]) -> str:
    """Lay out one part's figures for reading."""
    lines = [part]
    for name, row in figures.get("contestants", {}).items():
        spread = f"[{1e3 * min(row['seconds']):.1f}, {1e3 * max(row['seconds']):.1f}]"
        line = f"  {name:32} median {1e3 * row['median']:9.1f} ms  {spread:22}"
        if "images_per_second" in row:
            line += f" {row['images_per_second']:9.1f} images/s"
        if "gflops_per_second" in row:
            line += f" {row['gflops_per_second']:8.1f} GFLOP/s, {100 * row['share_of_matmul']:.0f}% of matmul"
        lines.append(line.rstrip())
    lines += [f"  {name}: {ratio:.2f}" for name, ratio in figures.get("ratios", {}).items()]
    others = {key: value for key, value in figures.items() if key not in ("contestants", "ratios", "peak_memory")}
    lines += [f"  {key.replace('_', ' ')}: {value:.4g}" for key, value in others.items()]
    return "\n".join([*lines, f"  peak memory so far: {figures['peak_memory'] / 2**20:.0f} MiB"])
