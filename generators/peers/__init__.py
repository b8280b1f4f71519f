"""Published networks to compare with, as generators: written anew, with their authors' weights, which do not ship.

| name | network | files in the folder | from |
| --- | --- | --- | --- |
| `srmdnf@FOLDER` | SRMDNF | `srmdnf_x4.pth`, and its basis `srmd_pca_matlab.mat` or `srmd_pca.npz` | cszn/KAIR |
| `usrnet_tiny@FOLDER` | USRNet, tiny | `usrnet_tiny.pth` | cszn/KAIR |
| `imdn@FOLDER` | IMDN, for bicubic downsampling only | `IMDN_x4.pth` | Zheng222/IMDN |

All are of scale 4. Each `.pth` may be a `.safetensors` of the same names.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from generators import state_dict
from generators.by_kernel import ByKernel
from generators.peers.imdn import IMDN
from generators.peers.srmdnf import SRMDNF
from generators.peers.usrnet import USRNetTiny

__all__ = ["IMDN", "PEERS", "SRMDNF", "USRNetTiny", "files", "is_peer", "load"]

PEERS: dict[str, type[SRMDNF] | type[USRNetTiny] | type[IMDN]] = {
    "srmdnf": SRMDNF,
    "usrnet_tiny": USRNetTiny,
    "imdn": IMDN,
}
"""Networks by name."""


def is_peer(source: str | os.PathLike[str]) -> bool:
    """Say whether this is `NAME@FOLDER` of a peer."""
    name, at, _ = os.fspath(source).partition("@")
    return bool(at) and name in PEERS


def files(source: str | os.PathLike[str]) -> list[Path]:
    """Find the files of `NAME@FOLDER`.

    Raises:
        ValueError: one is not there.
    """
    name, _, folder = os.fspath(source).partition("@")
    place = Path(folder).expanduser()  # which no shell does behind an @
    there = {path.name.lower(): path for path in sorted(place.iterdir())} if place.is_dir() else {}
    found = []
    for alike in PEERS[name].files:
        here = [there[each] for each in alike if each in there]
        if not here:
            raise ValueError(
                f"{name} needs {' or '.join(alike)}, which the package does not ship, in {folder!r}: "
                f"ask for {name}@FOLDER with the folder that holds its authors' weights"
            )
        found.append(here[0])
    return found


@torch.inference_mode(False)  # the caller's, whose tensors no gradient could pass later
def load(
    source: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ByKernel:
    """Load a peer, frozen and in evaluation mode.

    Args:
        source: `NAME@FOLDER`, see the package.
        device: where it runs.
        dtype: of its convolutions; in half precision the last one, which makes the picture, stays float32, as does what
            is no convolution.

    Raises:
        ValueError: a file is missing, damaged, or of another network.
    """
    name = os.fspath(source).partition("@")[0]
    network = PEERS[name]()
    network.fill(*files(source))
    generator = ByKernel(network, name)
    generator.fingerprint = state_dict.fingerprint(network)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    halved = dtype.itemsize < torch.float32.itemsize
    for place, part in network.named_modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and not (halved and place.startswith(network.exact)):
            part.to(dtype)
    return generator
