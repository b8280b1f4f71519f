"""A web page to try both sides: upscale a photo of your own, and be the agent of the environment."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from agents import policies
from agents.checkpoints import shipped_predictor
from agents.interruption import Interruption
from agents.upscaler import Upscaler
from blindsr_env import images, sharing
from blindsr_env.degradation import degrade
from blindsr_env.env import BlindSREnv
from blindsr_env.kernels import gaussian_profile
from experiments.devices import pick_device

Picture = NDArray[np.uint8]

WAYS: dict[str, tuple[str, str]] = {
    "faithful: amnet": ("amnet", "predictor"),
    "sharper: amgan": ("amgan", "predictor"),
    "half of the way to NIQE's optimum: amgan_rl@0.5": ("amgan", "amgan_rl@0.5"),
    "optimised for NIQE: amgan_rl": ("amgan", "amgan_rl"),
    "fast: amnet_s": ("amnet_s", "predictor"),
    "fast, optimised for NIQE: amgan_rl_s": ("amgan_s", "amgan_rl_s"),
    "fast, free for all uses: amnet_s_open": ("amnet_s_open", "predictor"),
    "twice as large only: amnet_s_x2": ("amnet_s_x2", "predictor"),
}
"""What renders and what chooses the code, by what the page calls it."""

AGENTS = {"amgan_s": "amgan_rl_s", "amgan": "amgan_rl"}
"""The shipped agent of a generator, which plays the visitor's scenes as well."""

OURS = 1.8
"""Width, HR pixels, of the blur of the page's own photos."""

LARGEST = 512
"""LR pixels on the long side of what the page renders; larger photos are shrunk first."""

PATCH = 288
"""Side of a scene's picture where the visitor is the agent: nine of NIQE's blocks."""

UPLOAD = "50mb"
"""Largest file that the page takes."""

KEPT = 3600
"""Seconds for which visitors' photos and pictures are kept; the end of the server removes them, too."""

RENDERS: dict[str, Any] = {"concurrency_id": "render", "concurrency_limit": 1}
"""How events that render are called: one at a time, whoever asks for which; gradio limits each event by itself."""

ABOUT = """A photo was blurred by a Gaussian kernel that you do not know, and shrunk. Choose a width: the network
renders with that kernel, and your reward is how much better the metric likes the picture than that with the true
kernel. 0 is as good as the truth. Then see what those earn who look at the photo and choose 15 numbers."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Settings of `blindsr demo`.

    Attributes:
        host: address to listen at; `0.0.0.0` lets other machines in.
        port: port to listen at; null takes the first free one from 7860, or from the environment variable
            GRADIO_SERVER_PORT.
        generator: generator that renders where you are the agent: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`,
            `amgan_s`, `amnet_s_open`, `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or
            `module:function` (see `generators.load`).
        metric: metric that pays you there.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    generator: str = "amgan_s"
    metric: str = "niqe"
    device: str = "auto"


def demo(settings: Demo) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        ValueError: unknown names.
        ImportError: gradio is not installed.
        OSError: the host is not this machine's, or the port is taken.
    """
    environment(settings)  # what cannot be is said before the page opens
    _check_address(settings.host, settings.port)
    blocks = page(settings)
    try:
        blocks.launch(
            server_name=settings.host,
            server_port=settings.port,
            max_file_size=UPLOAD,
            footer_links=[],
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise OSError(f"no free port at {settings.host}: give another --port") from error
    print(f"the page is at {blocks.local_url} (Ctrl-C ends it)", flush=True)
    try:
        with Interruption() as stop:  # a SIGTERM would end us at once otherwise, with visitors' files still there
            while not stop.requested:
                time.sleep(0.2)
    finally:
        blocks.close(verbose=False)


def _check_address(host: str, port: int | None) -> None:
    """Raise an OSError that says why nothing can listen at an address: gradio takes every reason for a taken port."""
    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gradio: one who has just left is no one
            probe.bind(address)
    except OSError as error:
        of_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        where, cure = (f"{host}:{port}", "another --port") if of_port else (host, "--host an address of this machine")
        raise OSError(f"cannot listen at {where} ({error.strerror}): give {cure}") from error


def page(settings: Demo) -> Any:
    """Make the page, a `gradio.Blocks`.

    Raises:
        ImportError: gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise ImportError('the page needs gradio: pip install -e ".[demo]" in a clone of blindsr') from error
    with gradio.Blocks(title="blindsr", delete_cache=(KEPT // 6, KEPT)) as blocks:
        gradio.Markdown("# Blind super-resolution")
        with gradio.Tab("Upscale a photo"):
            _upscale_tab(settings.device)
        with gradio.Tab("Be the agent"):
            _agent_tab(settings, blocks)
    return blocks


def _upscale_tab(device: str) -> None:
    """Lay out and wire the tab where visitors upscale a photo."""
    import gradio

    narrowest, widest = renderer(next(iter(WAYS)), device).codec.width_range
    with gradio.Row():
        with gradio.Column(scale=1):
            photo: Any = gradio.Image(  # the file itself: Pillow makes 16-bit grey white
                type="filepath",
                image_mode=None,
                format="png",
                label="a small, blurred photo",
                sources=["upload", "clipboard"],
            )
            number = gradio.State(0)
            ours = gradio.Button("take one of ours")
            way = gradio.Dropdown(list(WAYS), value=next(iter(WAYS)), label="how")
            known = gradio.Checkbox(label="the blur's width is known")
            width = gradio.Slider(
                narrowest, widest, value=OURS, step=0.1, label="width, pixels of the result", interactive=False
            )
            start = gradio.Button("upscale", variant="primary")
        with gradio.Column(scale=2):
            pair = gradio.ImageSlider(label="bicubic | rendered", type="numpy", format="png")
            sizes = gradio.Markdown()
    photo.preprocess = partial(_opened, photo.preprocess)  # for a subclass gradio would write a .pyi beside this file
    ours.click(partial(_taken, device), [number, way], [photo, number], api_name="sample")
    way.change(partial(_narrowed, device), [way, width], [width], api_visibility="private")
    known.change(lambda known: gradio.update(interactive=known), [known], [width], api_visibility="private")
    start.click(partial(_answered, device), [photo, way, known, width], [pair, sizes], api_name="upscale", **RENDERS)


def _agent_tab(settings: Demo, blocks: Any) -> None:
    """Lay out and wire the tab where visitors are the agent; `blocks` is the page."""
    import gradio

    low, high = environment(settings).core.codec.width_range
    gradio.Markdown(ABOUT)
    seed = gradio.State(0)
    guess = gradio.Slider(low, high, value=OURS, step=0.1, label="width that you choose, HR pixels")
    with gradio.Row():
        act = gradio.Button("render", variant="primary")
        another = gradio.Button("another scene")
    said = gradio.Markdown()
    picture = gradio.Image(
        type="numpy", format="png", show_label=False, interactive=False, buttons=["download", "fullscreen"]
    )
    act.click(partial(played, settings), [seed, guess], [picture, said], api_name="play", **RENDERS)
    another.click(partial(_next, settings), [seed], [seed, picture, said], api_name="scene", **RENDERS)
    blocks.load(partial(shown, settings), [seed], [picture, said], api_visibility="private", **RENDERS)


def _opened(preprocess: Callable[[Any], Any], payload: Any) -> Any:
    """Open a visitor's photo by gradio's own function, whose error would tell where the file lies here."""
    import gradio

    try:
        return preprocess(payload)
    except Exception as error:  # what Pillow does not know
        what = f"{payload.orig_name or 'the photo'} cannot be opened"
        raise gradio.Error(f"{what}: give a PNG or a JPEG", print_exception=False) from error


def _answered(device: str, path: str | None, way: str, known: bool, width: float) -> Any:
    """Upscale a visitor's photo, see `upscaled`, or say what is wrong with it."""
    import gradio

    least, most = renderer(way, device).codec.width_range
    if known and not least <= width <= most:  # the slider does not offer it, but an address can be called by hand
        raise gradio.Error(f"{way} knows widths from {least:g} to {most:g}", print_exception=False)
    try:
        return upscaled(path, way, width if known else None, device)
    except images.ImageError as error:  # the visitor's name of the photo, not where it lies here
        raise gradio.Error(str(error).replace(str(path), Path(str(path)).name), print_exception=False) from error


def _taken(device: str, number: int, way: str) -> tuple[Picture, int]:
    """Take a photo of ours, and the number of the one after it."""
    return sample(number, renderer(way, device).scale), number + 1


def _narrowed(device: str, way: str, width: float) -> Any:
    """Keep the slider within the widths that a way knows."""
    import gradio

    widest = renderer(way, device).codec.width_range[1]
    return gradio.update(maximum=widest, value=min(width, widest))


def _next(settings: Demo, seed: int) -> tuple[int, Picture, str]:
    """Show the scene after one: its seed, picture and text."""
    return seed + 1, *shown(settings, seed + 1)


def renderer(way: str, device: str) -> Any:
    """Give the generator of a way, whose scale and widths the page needs."""
    return sharing.generator(WAYS[way][0], pick_device(device), torch.float32)


def upscaled(
    path: str | Path | None, way: str, width: float | None, device: str = "auto"
) -> tuple[tuple[Picture, Picture] | None, str]:
    """Upscale a photo by bicubic interpolation, and by a generator.

    Args:
        path: of the photo, see `blindsr_env.images.read`; None where there is none yet.
        way: a key of `WAYS`.
        width: of the kernel, pixels of the result, if it is known; a policy chooses otherwise.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        Both pictures, `(s H, s W, 3)` uint8, and what became of the photo's size.

    Raises:
        ImageError: the photo cannot be read.
    """
    if path is None:
        return None, ""
    photo = images.read(path)
    said = _size(photo)
    long = max(photo.shape[:2])
    if long > LARGEST:
        size = [max(1, round(side * LARGEST / long)) for side in photo.shape[1::-1]]
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        said += f", **shrunk to {_size(photo)}** (`blindsr upscale` renders larger photos as they are),"
    generator, policy = WAYS[way]
    upscaler = Upscaler(policy if width is None else None, generator, device=pick_device(device))
    sr = upscaler(photo, width)
    plain = cv2.resize(photo, sr.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return (np.asarray(plain, dtype=np.uint8), sr), f"{said} to {_size(sr)}"


def _size(picture: Picture) -> str:
    return "{1}x{0}".format(*picture.shape)


def sample(number: int, scale: int) -> Picture:
    """Blur and shrink a held-out photo of the package, `(h, w, 3)` uint8, for visitors without one; they take turns."""
    photos = images.builtin("test")
    photo = photos[number % len(photos)].pixels
    height, width = (side - side % scale for side in photo.shape[:2])
    hr = torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    lr = degrade(hr, gaussian_profile(torch.tensor([OURS], dtype=torch.float64)), scale)
    return (lr[0] * 255).round().byte().permute(1, 2, 0).numpy()


def environment(settings: Demo, action: str = "width") -> BlindSREnv:
    """Make the environment in which the visitor is the agent, on held-out photos.

    Args:
        settings: generator, metric and device.
        action: the action space; scenes are the same in all.
    """
    device = pick_device(settings.device)
    scale = sharing.generator(settings.generator, device, torch.float32).scale
    return BlindSREnv(
        metric=settings.metric,
        generator=settings.generator,
        action=action,
        report=() if settings.metric == "psnr" else ("psnr",),
        device=device,
        split="test",
        render_mode="rgb_array",
        patch_size=PATCH // scale,
    )


def shown(settings: Demo, seed: int) -> tuple[Picture, str]:
    """Show a scene before it is played: the photo that the agent sees, enlarged without smoothing."""
    env = environment(settings)
    seen, _ = env.reset(seed=seed)
    return seen.repeat(env.core.scale, axis=0).repeat(env.core.scale, axis=1), f"Scene {seed}. How wide was the blur?"


def played(settings: Demo, seed: int, width: float) -> tuple[Picture | None, str]:
    """Play a scene by choosing a kernel's width, HR pixels: the picture of the episode, and what it earned."""
    env = environment(settings)
    _, info = env.reset(seed=seed)
    low, high = env.core.codec.width_range
    _, reward, *_, after = env.step(np.array([2 * (width - low) / (high - low) - 1], np.float32))
    said = f"**Reward {reward:+.2f}** {env.core.metric.name}"
    if "gain_psnr" in after:
        said += f"; PSNR {after['gain_psnr']:+.2f} dB against the true kernel's picture"
    said = f"{said}. The true width was {info['width']:.2f}."
    others = [f"{name} {reward:+.2f}" for name, reward in rewards(settings, seed).items()]
    return env.render(), said + (f" On the same photo: {', '.join(others)}." if others else "")


def rewards(settings: Demo, seed: int) -> dict[str, float]:
    """Let the predictor, and the agent that ships for the generator, play a scene: what each earns.

    None plays where the generator's codes are not those that they learned.
    """
    env = environment(settings, "code")
    earned: dict[str, float] = {}
    if shipped_predictor(env.core) is None:
        return earned
    for name in filter(None, ("predictor", AGENTS.get(settings.generator))):
        seen, info = env.reset(seed=seed)
        action, _ = policies.load(name, env).predict(seen, info)
        earned[name] = float(env.step(action)[1])
    return earned
