"""Generators: networks that turn (photo, kernel code) into a picture, and the code's language.

`Generator` says what one is. `load` gives a trained, frozen one; `build` an untrained one; `names` lists what ships.
`ByKernel` makes a generator of your own network for known blur; `peers` are published ones.
"""

from __future__ import annotations

from generators import checkpoint, peers
from generators.amnet import AMNet, Architecture
from generators.by_kernel import ByKernel
from generators.catalogue import DEFAULT_SCALE, build, files, find, is_checkpoint, load, load_amnet, names, save
from generators.checkpoint import CheckpointError
from generators.codec import KernelCodec
from generators.compiled import Compiled
from generators.generator import Generator
from generators.self_ensemble import SelfEnsemble
from generators.tiles import Tiled
from generators.wrapper import Wrapper

__all__ = [
    "AMNet",
    "Architecture",
    "ByKernel",
    "CheckpointError",
    "Compiled",
    "DEFAULT_SCALE",
    "Generator",
    "KernelCodec",
    "SelfEnsemble",
    "Tiled",
    "Wrapper",
    "build",
    "checkpoint",
    "files",
    "find",
    "is_checkpoint",
    "load",
    "load_amnet",
    "names",
    "peers",
    "save",
]
