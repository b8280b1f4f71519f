"""Speed, measured in one process with the competitors taking turns, so that a drifting machine slows all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import torch
from tqdm import tqdm

import blindsr_env  # noqa: F401  registers the environment
from blindsr_env import images, metrics
from blindsr_env.pool import PhotoPool
from experiments.run_folder import write_results
from experiments.training import pick_device


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of `blindsr bench`.

    Attributes:
        batch: pictures of 256x256 that NIQE scores at once, and rows of the environment.
        rounds: how often each is timed; one more round warms up.
        rival: the metric that NIQE is timed against; `pyiqa:niqe@FILE` takes its weights from a file.
        generator: name or checkpoint; None for the best that ships.
        device: `auto`, `cpu` or `cuda`.
        output: results file, JSON; None writes none.
        seed: of the scenes.
    """

    batch: int = 64
    rounds: int = 7
    rival: str = "pyiqa:niqe"
    generator: str | None = None
    device: str = "auto"
    output: str | None = "results/bench.json"
    seed: int = 0


def bench(settings: Bench) -> dict[str, Any]:
    """Time NIQE (ours, and pyiqa's where it is installed), the bare generator, and the vector environment's steps.

    Returns:
        By name, seconds of each round; and ratios of medians of what took turns.
    """
    device = pick_device(settings.device)
    pictures = _crops(settings.batch, device, settings.seed)
    niqe = metrics.get("niqe")
    contestants: dict[str, Callable[[], Any]] = {"NIQE": lambda: niqe(pictures)}
    try:
        theirs: Any = metrics.get(settings.rival)
        contestants[theirs.name] = lambda: theirs(pictures)
    except (ImportError, OSError) as error:
        theirs = None
        print(f"without {settings.rival}: {error}")
    env: Any = gymnasium.make_vec(
        "BlindSR-v0",
        num_envs=settings.batch,
        generator=settings.generator,
        device=str(device),
        output="torch",
        autoreset_mode="disabled",
    ).unwrapped
    observation, _ = env.reset(seed=settings.seed)
    action = torch.zeros(env.action_space.shape, device=device)
    lr = observation.permute(0, 3, 1, 2).float() / 255
    generator = env.core.generator

    def render() -> None:
        with torch.inference_mode():
            generator(lr, action)

    def step() -> None:
        env.reset()
        started = time.perf_counter()
        env.step(action)
        _wait(device)
        durations.append(time.perf_counter() - started)

    durations: list[float] = []
    contestants |= {"generator forward": render, "env.reset and env.step": step}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for lap in tqdm(range(settings.rounds + 1), desc="timing", unit="round"):
        for name, run in contestants.items():
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            if lap:
                seconds[name].append(time.perf_counter() - started)
    seconds["env.step"] = durations[1:]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {"step rate over generator forward rate": median["generator forward"] / median["env.step"]}
    if theirs is not None:
        ratios[f"seconds of {theirs.name} over NIQE's"] = median[theirs.name] / median["NIQE"]
    threads = torch.get_num_threads()
    print(f"{generator.name} on {device}, {threads} threads, batch {settings.batch}, {settings.rounds} rounds")
    for name, values in seconds.items():
        print(f"{name:24} median {1e3 * median[name]:9.1f} ms   [{1e3 * min(values):.1f}, {1e3 * max(values):.1f}]")
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f}")
    figures = {"seconds": seconds, "ratios": ratios}
    if settings.output is not None:
        write_results(Path(settings.output), figures, settings, settings.seed)
    return figures


def _crops(count: int, device: torch.device, seed: int) -> torch.Tensor:
    """Random 256x256 crops of the built-in photos, `(count, 3, 256, 256)` float32 in [0, 1]."""
    pool = PhotoPool(images.builtin("train"), device)
    rng = torch.Generator(device).manual_seed(seed)
    u = torch.rand(3, count, generator=rng, device=device)
    image = (u[0] * len(pool)).long()
    top, left = (u[1] * (pool.heights[image] - 255)).long(), (u[2] * (pool.widths[image] - 255)).long()
    return pool.crops(image, top, left, 256, torch.zeros_like(image)).float().div_(255)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
