"""What `blindsr bench` times: bare generators, metrics, environments, and the loop one would write without them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

import blindsr_env  # noqa: F401  registers the environment
from agents import networks
from blindsr_env import images, metrics, sharing
from blindsr_env.core import BlindSRCore
from blindsr_env.degradation import blur, downsample, quantize
from blindsr_env.kernels import gaussian
from blindsr_env.pool import PhotoPool
from blindsr_env.recording import Recordings
from experiments.stopwatch import Contestant, count_flops
from generators import AMNet, Architecture, Generator, KernelCodec
from generators.entry_point import is_entry_point


def vector_env(rows: int, device: torch.device, **settings: Any) -> Any:
    """Make the native vector environment with tensors in and out; the caller resets it."""
    fixed = {"device": str(device), "output": "torch", "autoreset_mode": "disabled"}
    return gymnasium.make_vec("BlindSR-v0", num_envs=rows, **(fixed | settings)).unwrapped


def forwards(
    generator: str | None, batch: int, size: int, device: torch.device, compiles: bool = False
) -> list[Contestant]:
    """Bare forward passes, channels_last; compiled; on a GPU also in bfloat16, and that compiled, with CUDA graphs.

    A generator of one's own (`module:function`) renders in its own precision alone.
    """
    lr, action = _inputs(batch, size, device)
    plain = sharing.generator(generator, device, torch.float32)
    flops = batch * count_flops(plain, lr[:1], action[:1])
    every = [Contestant(f"forward {batch}", lambda: plain(lr, action), batch, flops)]
    if compiles:
        fused = sharing.generator(generator, device, torch.float32, compiled=True)
        every.append(Contestant(f"forward {batch} compiled", lambda: fused(lr, action), batch, flops))
    if device.type == "cuda" and not is_entry_point(generator or ""):
        half = sharing.generator(generator, device, torch.bfloat16)
        compiled = torch.compile(half, mode="reduce-overhead")
        small = lr.bfloat16()
        every.append(Contestant(f"forward {batch} bfloat16", lambda: half(small, action), batch, flops, "bfloat16"))
        name = f"forward {batch} bfloat16 compiled"
        every.append(Contestant(name, lambda: compiled(small, action), batch, flops, "bfloat16"))
    return [_without_gradients(contestant) for contestant in every]


def scorers(batch: int, rival: str, device: torch.device, seed: int) -> list[Contestant]:
    """NIQE of 256x256 pictures: ours, and the rival's if it is installed."""
    pictures = crops(batch, device, seed)
    every = [metrics.get("niqe")]
    found = rival_metric(rival)
    every += [] if found is None else [found]
    return [Contestant(f"score {m.name}", lambda m=m: m(pictures), batch) for m in every]  # type: ignore[misc]


def rival_metric(rival: str) -> metrics.Metric | None:
    """Get the metric to race against, or print why there is none."""
    try:
        return metrics.get(rival)
    except (ImportError, OSError) as error:
        print(f"without {rival}: {error}")
        return None


def environments(
    generator: str | None, rows: int, size: int, dtype: str, device: torch.device, seed: int, compiles: bool = False
) -> list[Contestant]:
    """The bare forward pass, and `reset` (with the true code's score) and `step` of the vector environment.

    Each of the three in all `ways` of running them.
    """
    lr, action = _inputs(rows, size, device)
    plain = sharing.generator(generator, device, getattr(torch, dtype))
    flops = rows * count_flops(plain, lr[:1], action[:1])
    every = []
    for way, settings in ways(device, compiles).items():
        label = f"{rows}{way}"
        env = vector_env(rows, device, generator=generator, patch_size=size, dtype=dtype, **settings)
        env.reset(seed=seed)
        network = sharing.generator(generator, device, getattr(torch, dtype), compiled="compile" in settings)
        forward = _forward(network, lr, action, Recordings() if "cuda_graphs" in settings else None)
        every += [
            _without_gradients(Contestant(f"bare forward {label}", forward, rows, flops, dtype)),
            Contestant(f"reset {label}", env.reset, rows, flops, dtype),
            Contestant(f"step {label}", functools.partial(env.step, action), rows, flops, dtype),
        ]
    return every


def ways(device: torch.device, compiles: bool) -> dict[str, dict[str, bool]]:
    """List how environments can run: settings by what is said of them, plain ones first."""
    graphs = {"": {}, ", graphs": {"cuda_graphs": True}} if device.type == "cuda" else {"": {}}
    fused = {f", compiled{way}": {"compile": True} | settings for way, settings in graphs.items()}
    return graphs | fused if compiles else graphs


def _forward(network: Generator, lr: Tensor, action: Tensor, graphs: Recordings | None) -> Callable[[], Any]:
    def forward(lr: Tensor, action: Tensor) -> tuple[Tensor]:
        return (network(lr, action),)

    return lambda: forward(lr, action) if graphs is None else graphs(forward, lr, action)


def loops(
    generator: str | None, rows: int, singles: int, size: int, rival: str, device: torch.device, seed: int
) -> list[Contestant]:
    """Whole episodes, resets included: ours in one batch; single environments under two libraries; one by one."""
    env = vector_env(rows, device, generator=generator, patch_size=size)
    env.reset(seed=seed)
    _, action = _inputs(rows, size, device)
    settings: dict[str, Any] = {"generator": generator, "patch_size": size, "device": str(device)}
    sync = gymnasium.make_vec("BlindSR-v0", num_envs=singles, vectorization_mode="sync", **settings)
    few = np.zeros((singles, 15), dtype=np.float32)
    every = [
        Contestant(f"vector env of {rows}", lambda: (env.reset(), env.step(action)), rows),
        Contestant(f"SyncVectorEnv of {singles}", lambda: (sync.reset(), sync.step(few)), singles),
        Contestant(f"DummyVecEnv of {singles}", _dummy(singles, settings), singles),
    ]
    theirs = rival_metric(rival)
    if theirs is not None:
        name = f"one by one, {theirs.name}"
        every.append(Contestant(name, _one_by_one(env.core, theirs, singles, seed), singles))
    return every


def _dummy(rows: int, settings: dict[str, Any]) -> Callable[[], Any]:
    """Stable-Baselines3's vector environment over single ones; it resets within the step."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([lambda: gymnasium.make("BlindSR-v0", **settings)] * rows)
    env.reset()
    action = np.zeros((rows, 15), dtype=np.float32)
    return lambda: env.step(action)


def _one_by_one(core: BlindSRCore, metric: metrics.Metric, count: int, seed: int) -> Callable[[], None]:
    """The loop that a user would write: a crop, its blur, two renders and two scores, one picture at a time."""
    photos = [torch.from_numpy(photo.pixels.copy()).permute(2, 0, 1) for photo in images.builtin("train")]
    rng = np.random.default_rng(seed)
    low, high = core.codec.width_range

    def episode() -> Tensor:
        photo = photos[rng.integers(len(photos))]
        side, _ = core.crop  # square
        top, left = (int(rng.integers(whole - side + 1)) for whole in photo.shape[1:])
        hr = photo[None, :, top : top + side, left : left + side].to(core.device).float() / 255
        kernel = gaussian(torch.tensor([rng.uniform(low, high)], dtype=torch.float64, device=core.device))
        lr = quantize(downsample(blur(hr, kernel.float()), core.scale))
        chosen = torch.zeros(1, core.codec.t, device=core.device)
        true, score = (metric(quantize(core.generator(lr, code))) for code in (core.codec.encode(kernel), chosen))
        return true - score

    def run() -> None:
        with torch.no_grad():
            for _ in range(count):
                episode()

    return run


def blind(generator: str | None, batch: int, size: int, dtype: str, device: torch.device) -> Contestant:
    """The paper's AMNet-RL, predictor and generator, on LR photos of one size; weights do not matter for speed."""
    kind = getattr(torch, dtype)
    predictor = networks.build("predictor").eval().requires_grad_(False)
    predictor = predictor.to(device, kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = sharing.generator(generator, device, kind)
    lr = _inputs(batch, size, device)[0].to(kind)

    def run(photos: Tensor) -> Tensor:
        sr: Tensor = network(photos, predictor(photos))
        return sr

    flops = batch * count_flops(run, lr[:1])
    return _without_gradients(
        Contestant(f"predictor and {network.name}, {batch}", lambda: run(lr), batch, flops, dtype)
    )


def tiny_env(rows: int, device: torch.device) -> Any:
    """Make a vector environment of `rows` rows whose step costs next to nothing, to watch memory over many steps.

    It resets itself.
    """
    network = AMNet(Architecture(blocks=1, width=4), KernelCodec.isotropic(), name="tiny").eval().requires_grad_(False)
    return vector_env(
        rows, device, generator=network.to(device), patch_size=8, metric="psnr", autoreset_mode="same step"
    )


def crops(count: int, device: torch.device, seed: int) -> Tensor:
    """Random 256x256 crops of the built-in photos, `(count, 3, 256, 256)` float32 in [0, 1]."""
    pool = PhotoPool(images.builtin("train"), device)
    rng = torch.Generator(device).manual_seed(seed)
    u = torch.rand(3, count, generator=rng, device=device)
    image = (u[0] * len(pool)).long()
    top, left = (u[1] * (pool.heights[image] - 255)).long(), (u[2] * (pool.widths[image] - 255)).long()
    return pool.crops(image, top, left, (256, 256), torch.zeros_like(image)).float().div_(255)


def _inputs(batch: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    lr = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    return lr, torch.zeros(batch, 15, device=device)


def _without_gradients(contestant: Contestant) -> Contestant:
    """Run without gradients."""
    run = torch.no_grad()(contestant.run)
    return Contestant(contestant.name, run, contestant.images, contestant.flops, contestant.dtype)
