"""Upscaling of a user's own photos: the kernel is unknown, so a policy chooses the code."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

import generators
from agents import policies
from agents.checkpoints import shipped_predictor_file
from agents.part import parted
from agents.upscaler import Upscaler, check_blind, check_tile
from blindsr_env import images
from blindsr_env.core import BlindSRCore, dtype_of
from experiments import digests, labels
from experiments.devices import pick_device
from experiments.provenance import NOTE, Provenance, identity
from experiments.recipes import AGENT

UNWRITTEN = {".avif", ".gif", ".heic", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm", ".tga"}
"""Endings of pictures in formats that are not written here."""


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Settings of `blindsr upscale`.

    Attributes:
        images: a low-resolution photo, or a folder of them. Transparent photos are laid on white; 16-bit photos become
            8-bit. Pictures made before, of which a `made_by.json` in it or in its folders tells, are left out.
        output: folder for the pictures, which are called `NAME_x4.png` (`NAME_x2.png` at scale 2), with the photo's
            ending in NAME where two photos differ in nothing else; or, for a single photo, the picture's file. Without
            it, a folder in `upscaled/` named after the generator and the policy.
        overwrite: render pictures again that already exist. Otherwise those of a folder's photos are kept, unless the
            photo was changed, so that the same command continues where it was stopped. `made_by.json` records what made
            them.
        policy: what chooses the code: `predictor`, `mean-code`, a shipped agent (`amgan_rl`, `amgan_rl_niqe`,
            `amgan_rl_s`), the file or run folder of a predictor or an agent, or `module:function` of your own.
            `NAME@0.5` goes half of the way from the prediction to what NAME chooses. Without it, `predictor`.
        width: width of the Gaussian blur kernel (standard deviation, pixels of the result) if you know it; it replaces
            the policy.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`); without it, the one that the agent was trained on, or `amnet`.
        action: what the policy chooses. `code`: 15 numbers that describe the blur kernel, scaled so that Gaussian
            kernels fill 80% of the box [-1, 1]; `free-code`: the same 15 numbers, scaled so that they also reach codes
            that no kernel has; `width`: one number, the Gaussian's width.
        tile: side, in pixels of the photo, of the tiles in which larger photos are rendered; `auto` is that of the
            generators' training, 64 at scale 4 and 128 at scale 2; null renders them whole, which costs memory and
            PSNR, the more the larger they are. See `generators.tiles`.
        self_ensemble: render each photo flipped and turned in eight ways and take the mean, which gains about 0.1 dB of
            PSNR, softens a little, and takes eight times as long.
        dtype: precision of rendering, `float32`, `float16` or `bfloat16`. On a GPU `float16`, and on a CPU with AMX
            `bfloat16`, is several times as fast, with AVX-512 BF16 up to twice, and changes pixels by a few tenths of a
            grey level on average.
        compile: fuse what the generator does between its convolutions, by `torch.compile`: on several cores of a
            CPU photos take 0.6 to 0.8 of the time, after half a minute to two minutes of compiling, anew for photos of
            other sizes. Needs a C++ compiler.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
    """

    images: str
    output: str | None = None
    overwrite: bool = False
    policy: str | None = None
    width: float | None = None
    generator: str | None = None
    action: str = "code"
    tile: int | Literal["auto"] | None = "auto"
    self_ensemble: bool = False
    dtype: str = "float32"
    compile: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse policies that would need more than the photo, and tiles that could not overlap."""
        check_tile(self.tile)
        dtype_of(self.dtype)
        if self.policy is not None and self.width is not None:
            raise ValueError("give policy or width, not both: a known kernel needs nobody to choose")
        if self.policy is not None:
            check_blind(self.policy)


def upscale(settings: Upscale) -> list[Path]:
    """Render each photo and write it as PNG; photos are read one by one, so a folder may be large.

    Returns:
        The files that were written, in the order of the photos.

    Raises:
        ImageError: there is no photo, or some could not be read.
        ValueError: unknown names; a width that no kernel of the generator has; a photo and a picture that is there
            already would share a file; pictures are there that something else made; or some photos were too large for
            the memory. All other photos are rendered all the same.
        CheckpointError: a file that cannot be used.
    """
    chooser = settings.policy or "predictor"
    upscaler = Upscaler(
        None if settings.width is not None else chooser,
        settings.generator,
        action=settings.action,
        tile=settings.tile,
        self_ensemble=settings.self_ensemble,
        dtype=settings.dtype,
        compile=settings.compile,
        device=pick_device(settings.device),
    )
    core = upscaler.core
    chosen_by = chooser if settings.width is None else f"width {settings.width:g}"
    marks = ["self_ensemble"] if settings.self_ensemble else []
    marks += [] if settings.dtype == "float32" else [settings.dtype]
    renderer = _renderer(settings.generator, core.generator.name)
    output = Path(settings.output or Path("upscaled", "_".join([renderer, _plain(chosen_by), *marks])))
    pairs = targets(settings, output, core.scale)
    if settings.width is not None:
        core.check_width(settings.width)
    note = None if _is_file(output) else Provenance(output)
    how = _how(settings, core)
    photos = {target: source for source, target in pairs}
    folder = Path(settings.images) if Path(settings.images).is_dir() else Path(settings.images).parent
    entries = {
        target: {"photo": identity(source, source.relative_to(folder).as_posix()), **how}
        for target, source in photos.items()
    }
    kept = set[Path]() if note is None or settings.overwrite else note.kept(entries, photos)
    todo = {target: source for target, source in photos.items() if target not in kept}
    known = f"{chooser} chooses the code" if settings.width is None else f"the kernel's {chosen_by} is known"
    print(f"{renderer} renders, {known}; pictures go to {output}")
    if unseen := left_out(Path(settings.images)):
        print(f"left out: {unseen}")
    if kept:
        print(f"{len(kept)} of {len(pairs)} pictures are there already and kept: --overwrite renders them again")
    coming = {target: entries[target] for target in todo}
    with nullcontext(set[Path]()) if note is None else note.rendering(coming) as written:
        failed = _render(upscaler, settings, todo, written)
    if failed:
        raise ValueError(f"{len(failed)} of {len(todo)} photos could not be rendered: {'; '.join(failed)}")
    return [target for target in todo if target in written]


def _render(upscaler: Upscaler, settings: Upscale, todo: dict[Path, Path], written: set[Path]) -> list[str]:
    """Render photos, which their pictures' files name, one after another.

    Args:
        upscaler: makes them larger.
        settings: of the command.
        todo: photos by the files of their pictures.
        written: gets each file as soon as it is there.

    Returns:
        Why the others could not be rendered.
    """
    cure = "cut it in parts" if settings.tile is not None else "leave tiles in"
    failed = []
    for target, source in tqdm(todo.items(), desc="rendering", unit="photo", leave=False, disable=not todo):
        try:
            pixels = images.read(source)
            picture = upscaler(pixels, settings.width)
            images.write(target, picture)
        except MemoryError:
            failed.append(f"{source} needs more memory than there is: {cure}")
            continue
        except (images.ImageError, OSError) as error:
            failed.append(str(error))
            continue
        written.add(target)
        small, large = (f"{side[1]}x{side[0]}" for side in (pixels.shape, picture.shape))
        tqdm.write(f"{source}: {small} to {large}, {target}")
    return failed


def targets(settings: Upscale, output: Path, scale: int) -> list[tuple[Path, Path]]:
    """Pair photos with the files that they become.

    Args:
        settings: whose `images` to pair.
        output: folder, or of one photo the file.
        scale: of the pictures, for their names.

    Raises:
        ImageError: there is no photo.
        ValueError: a photo would become a photo itself; one photo's picture is there already and may not be
            overwritten; or `output` cannot be.
    """
    source = Path(settings.images)
    one_file = _is_file(output)
    if source.is_dir():
        if one_file:
            raise ValueError(f"output {output} is one picture, {source} a folder of photos: give a folder")
        every, own = images.find(source), Provenance(source).pictures()
        found = [path for path in every if not _made(source, path, own)]
        found = found or [path for path in every if not _made(source, path, set())]  # pictures, if asked for
        if not found:
            raise images.ImageError(f"{source} holds only pictures made before, by {NOTE} beside them: give photos")
        inside = output.resolve().is_relative_to(source.resolve())
        if inside and any(path.parent.resolve().is_relative_to(output.resolve()) for path in found):
            raise ValueError(f"output {output} holds photos of {source}: give another one")
        names = [path.relative_to(source) for path in found]
    elif source.is_file():
        found, names = [source], [Path(source.name)]
    else:
        raise images.ImageError(f"no image at {source}: check the path")
    if output.suffix.lower() in UNWRITTEN and not output.is_dir():
        raise ValueError(
            f"output {output} would be a folder: pictures are written as {', '.join(sorted(images.SUFFIXES))}"
        )
    if not one_file and output.exists() and not output.is_dir():
        raise ValueError(f"output {output} is a file: give a folder, or a name that ends in .png")
    taken = Counter([*names, *(name.with_suffix("") for name in names)])
    stems = [name if taken[name.with_suffix("")] > 1 else name.with_suffix("") for name in names]  # a.png, a.bmp
    pictures = [output if one_file else output / stem.with_name(f"{stem.name}_x{scale}.png") for stem in stems]
    photos = {path.resolve() for path in found}
    for path, picture in zip(found, pictures, strict=True):
        if picture.exists() and picture.samefile(path):
            raise ValueError(f"the picture of {path} would replace it: give another output")
        if picture.resolve() in photos:
            raise ValueError(
                f"the picture of {path} would replace the photo {picture.resolve().name}: give another output"
            )
        if picture.exists() and not source.is_dir() and not settings.overwrite:
            raise ValueError(f"{picture} is there already: give another output, or --overwrite to render it again")
    return list(zip(found, pictures, strict=True))


def left_out(folder: Path) -> str:
    """Say how many files of a folder are not taken for photos, and why; "" where all are."""
    made, endings, own = 0, Counter[str](), Provenance(folder).pictures()
    for path in folder.rglob("*"):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if _made(folder, path, own):
            made += path.name != NOTE
        elif path.suffix.lower() not in images.SUFFIXES and path.name != NOTE:
            endings[path.suffix.lower() or "without an ending"] += 1
    others = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    said = [f"{others} (photos end in {', '.join(sorted(images.SUFFIXES))})"] if others else []
    said += [f"{made} in folders with a {NOTE} (pictures made before)"] if made else []
    return "; ".join(said)


def _made(folder: Path, path: Path, own: set[str]) -> bool:
    """Say whether a file of a folder is one of its `own` pictures, or lies in a folder of pictures below it."""
    inside = path.relative_to(folder)
    return inside.as_posix() in own or any((folder / above / NOTE).is_file() for above in list(inside.parents)[:-1])


def _is_file(output: Path) -> bool:
    return output.suffix.lower() in images.SUFFIXES and not output.is_dir()


def _how(settings: Upscale, core: BlindSRCore) -> dict[str, Any]:
    """Say what pictures are made by: other generators, policies or widths make others."""
    policy = None if settings.width is not None else settings.policy or "predictor"
    file = policies.file_of(policy, core.generator) if policy else None
    in_part = policy is not None and parted(policy)[1] is not None
    begun = {"predictor_file": digests.of_file(shipped_predictor_file(core.generator))} if in_part else {}
    return {
        "generator": core.generator.name,
        "weights": getattr(core.generator, "fingerprint", None),
        "policy": policy and labels.of_policies([policy])[0],
        "policy_file": digests.of_file(file) if file else policy and digests.of_policy(policy),
        **begun,  # where its way begins
        "width": settings.width,
        "action": settings.action,
        "tile": getattr(core.generator, "tile", None),
        "self_ensemble": settings.self_ensemble,
        "dtype": settings.dtype,
    }


def _renderer(source: str | None, name: str) -> str:
    """Give a generator's name; of a file also the file's or the run's, where it is another one than the name."""
    if source is None or source == name or not generators.is_checkpoint(source):
        return name
    path = Path(source).absolute()
    own = path.parent.name if path.stem == "generator" else path.stem
    if own != name:
        return f"{name}_{own}"
    return f"{name}_{path.parent.name}" if name in generators.names() else name  # a shipped one's: another network


def _plain(name: str) -> str:
    """Give a policy's name as one that a folder can have; of a file or a run, after the folder that it is in, too."""
    whole = parted(name)[0]
    if whole in (*policies.NAMES, *policies.NAMED):
        return name
    path = Path(whole).resolve()
    path = path.parent if path.name == AGENT else path  # a run, however it is named
    if path.is_dir() or path.suffix == ".safetensors":
        plain = f"{path.parent.name}_{path.name if path.is_dir() else path.stem}"
    else:
        plain = Path(whole).name
    return (plain + name.removeprefix(whole)).replace(":", "_").replace(" ", "_")
