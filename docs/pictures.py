"""Draws overview.png, generators.png and price.png of this folder: `python docs/pictures.py`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from numpy.typing import NDArray

import agents
from blindsr_env import degradation, images, kernels, metrics
from blindsr_env.env import BlindSREnv
from experiments.charts import Plot, plot
from generators.atomic import atomic_write

FOLDER = Path(__file__).parent
PHOTOS = {photo.name: photo.pixels for photo in images.builtin("test")}  # no shipped network was trained on them
INK, ACCENT = "#222222", "#b03a2e"


def blurred(photo: NDArray[np.uint8], width: float) -> tuple[NDArray[np.uint8], torch.Tensor]:
    """Crop a photo to a multiple of 4, blur it and shrink it: HR `(H, W, 3)`, LR `(1, h, w, 3)` uint8."""
    photo = photo[: photo.shape[0] // 4 * 4, : photo.shape[1] // 4 * 4]
    hr = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    lr = degradation.degrade(hr, kernels.gaussian_profile(torch.tensor([width])), 4)
    return photo, (lr * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def save(figure: Figure, name: str) -> None:
    """Write a figure beside this script."""
    with atomic_write(FOLDER / name) as partial:
        figure.savefig(partial, facecolor="white")


def overview() -> None:
    """Draw one episode: photo, blur, observation, action, render, reward."""
    env = BlindSREnv(metric="niqe", generator="amgan", split="test")
    core = env.core
    fixed = core.sampler.fix({"image": "china", "crop": (60, 80), "flip": 0, "width": 2.2}, 1)
    scene = core.scenes([np.random.default_rng(0)], fixed)
    action, _ = agents.load("amgan_rl@0.5", env).predict(scene.lr)
    rewards, scores = core.play(scene, torch.as_tensor(action))
    reward, score, true = rewards.item(), scores["score"].item(), scores["true_score"].item()
    shown = {name: pictures[0] for name, pictures in core.pictures(scene, torch.as_tensor(action)).items()}

    wide, high = 10.0, 3.3
    figure = Figure(figsize=(wide, high), dpi=110)

    def place(left: float, middle: float, size: float, title: str) -> Any:
        """Add a square, its size a share of the figure's width."""
        axes = figure.add_axes((left, middle - size * wide / high / 2, size, size * wide / high))
        axes.set_title(title, fontsize=9.5, color=INK, pad=4)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    def arrow(*corners: tuple[float, float]) -> None:
        """Draw a line through corners, with a head at its end."""
        for start, end in pairwise(corners):
            style = "-|>" if end == corners[-1] else "-"
            where = "figure fraction"
            figure.add_artist(ConnectionPatch(start, end, where, where, arrowstyle=style, color=INK, linewidth=1.1))

    middle = 0.62
    place(0.01, middle, 0.185, "HR photo").imshow(shown["hr"])
    place(0.222, middle, 0.075, "unknown kernel").imshow(shown["kernel"], cmap="gray")
    figure.text(0.26, middle - 0.185, "blur, shrink 4x", ha="center", fontsize=8.5, color=INK)
    place(0.325, middle, 0.125, "observation: LR").imshow(shown["lr"])
    bars = place(0.49, middle, 0.095, "action: 15 numbers")
    bars.set_box_aspect(0.8)
    bars.bar(np.arange(15), action[0], color=ACCENT, width=0.8)
    bars.axhline(0, color=INK, linewidth=0.6)
    bars.set_ylim(-1, 1)
    bars.set_yticks([-1, 0, 1], ["-1", "0", "1"], fontsize=7)
    figure.text(0.5375, middle - 0.185, "the agent's choice", ha="center", fontsize=8.5, color=ACCENT)
    box = place(0.645, middle, 0.105, "")
    box.set_facecolor("#e8eef4")
    box.text(0.5, 0.5, "frozen\ngenerator\nG", ha="center", va="center", fontsize=10, color=INK)
    place(0.805, middle, 0.185, "SR").imshow(shown["sr"])
    for start, end in ((0.197, 0.22), (0.299, 0.323), (0.452, 0.473), (0.587, 0.643), (0.752, 0.803)):
        arrow((start, middle), (end, middle))
    below = middle - 0.30
    arrow((0.3875, middle - 0.195), (0.3875, below), (0.6975, below), (0.6975, middle - 0.17))
    terms = rf"-({score:.2f} - {true:.2f}) = {reward:+.2f}"
    figure.text(
        0.5,
        0.13,
        r"reward $= \zeta\,(M(\mathrm{SR}) - M(\mathrm{SR\ with\ the\ true\ kernel's\ code}))$"
        "\n" + rf"Here $M$ is NIQE, lower is better, so $\zeta = -1$: ${terms}$",
        ha="center",
        va="center",
        fontsize=10.5,
        color=INK,
        linespacing=1.6,
    )
    save(figure, "overview.png")


def generators() -> None:
    """Draw two held-out photos as each generator and policy renders them, with a detail of each."""
    columns = (
        ("bicubic", None, None),
        ("amnet\npredictor", "amnet", "predictor"),
        ("amgan\npredictor", "amgan", "predictor"),
        ("amgan\namgan_rl@0.5", "amgan", "amgan_rl@0.5"),
        ("amgan\namgan_rl", "amgan", "amgan_rl"),
        ("amgan\ntrue code", "amgan", None),
        ("original", None, None),
    )
    crops = (("china", 60, 80, 30, 95), ("chelsea", 60, 90, 40, 70))  # photo, top, left of 160; top, left of the detail
    side, detail, width = 160, 48, 1.8
    niqe, psnr = metrics.get("niqe", scale=4), metrics.get("psnr", scale=4)
    figure = Figure(figsize=(1.55 * len(columns), 1.72 * 2 * len(crops)), dpi=130, layout="constrained")
    grid: Any = figure.subplots(2 * len(crops), len(columns))
    for row, (name, top, left, y, x) in enumerate(crops):
        photo, seen = blurred(PHOTOS[name], width)
        hr = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
        for column, (title, generator, policy) in enumerate(columns):
            if generator is not None:
                env = BlindSREnv(metric="psnr", generator=generator, split="test")
                if policy is None:
                    code = env.core.codec.encode(kernels.gaussian(torch.tensor([width], dtype=torch.float64)))
                    sr = env.core.render_code(seen, code)
                else:
                    sr = env.core.render(seen, torch.as_tensor(agents.load(policy, env).predict(seen)[0]))
            elif title == "bicubic":
                lr = seen.permute(0, 3, 1, 2).float() / 255
                sr = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bicubic", antialias=True)  # MATLAB's
                sr = degradation.quantize(sr)
            else:
                sr = hr
            picture = (sr[0].permute(1, 2, 0) * 255).round().byte().numpy()[top : top + side, left : left + side]
            whole, close = grid[2 * row, column], grid[2 * row + 1, column]
            whole.imshow(picture, interpolation="lanczos")
            whole.add_patch(Rectangle((x, y), detail, detail, fill=False, edgecolor="yellow", linewidth=0.9))
            close.imshow(picture[y : y + detail, x : x + detail], interpolation="nearest")
            scores = f"NIQE {niqe(sr).item():.2f}"
            scores += "" if title == "original" else f"\n{psnr(sr, hr).item():.1f} dB"
            close.set_xlabel(scores, fontsize=8)
            if row == 0:
                whole.set_title(title, fontsize=9)
            for axes in (whole, close):
                axes.set_xticks([])
                axes.set_yticks([])
    save(figure, "generators.png")


def price() -> None:
    """Draw what agents on amgan gain in NIQE on BSD100 against what that costs in PSNR."""
    shown = ("predictor", "amgan_rl*", "*, 24000 renders", "*, 16000 renders")
    chosen = {"set": "BSD100", "generator": "amgan", "action": "code", "policies": shown}
    plot(Plot(results=str(FOLDER.parent / "experiments/results"), output=str(FOLDER), charts=("price",), **chosen))


if __name__ == "__main__":
    overview()
    generators()
    price()
