"""A generator of your own in commands: what a function of your module makes, named `module:function`."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from generators import entry_point, state_dict
from generators.generator import Generator, lacking
from generators.wrapper import Wrapper


@torch.inference_mode(False)  # the caller's, whose tensors no gradient could pass later
def load(name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Generator:
    """Import a module, from the working directory too, and have its function make a generator; freeze it.

    Args:
        name: `module:function`; the function is called without arguments and gives a generator, see `generators.load`.
        device: where it runs.
        dtype: float32, since modules of your own are not converted.

    Raises:
        ValueError: there is no such module or function, what it gives is no generator, or another dtype is wanted.
    """
    if dtype != torch.float32:
        raise ValueError(f"generator {name!r} renders in its own precision: leave dtype out")
    function, called = entry_point.find(name, "generator"), name.partition(":")[2]
    try:
        made = function()
    except Exception as error:
        raise ValueError(
            f"generator {name!r}: {called}() failed with {entry_point.described(error)}; "
            "it is called without arguments, and should give a generator"
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"generator {name!r} gave a {type(made).__name__}: it should give a generator, a torch module")
    if lack := lacking(made):
        raise ValueError(f"generator {name!r}: {lack}")
    made.to(device).eval().requires_grad_(False)
    inner: Any = made
    while isinstance(inner, Wrapper):  # has the fingerprint of what it wraps
        inner = inner.generator
    if getattr(inner, "fingerprint", None) is None:  # other weights or another text are another network
        text = entry_point.text_of(name)
        inner.fingerprint = hashlib.sha256(text + state_dict.fingerprint(inner).encode()).hexdigest()[:12]
    return made  # type: ignore[return-value]  # it lacks nothing
