"""Folder of a run: resolved config, exactly resumable training state, TensorBoard log, results."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from operator import eq
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from experiments.results_file import commit, of_config, plain, write_results
from generators import checkpoint
from generators.atomic import atomic_write
from generators.checkpoint import CheckpointError

STATE = "training-state"  # kind of checkpoint

MARKS = {"outcomes": "train-gan", "arch": "train-generator", "loss": "train-predictor", "algorithm": "train-agent"}
"""Settings by which a config tells whose it is, the first that it has, since train-gan's has train-generator's too."""


PLACES = ("data", "images", "validation", "held_out", "perceptual")
"""Settings that are places of photos or files, whose names may be written in several ways."""


class RunFolder:
    """Files of one run.

    Training state is a folder `state-<step>` of one safetensors file per part (weights, EMA, each moment, ...), written
    under another name beside the last one, flushed and renamed, so a kill at any moment leaves a complete state.

    Args:
        path: the folder.
        create: make the folder; false for processes that only read.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool = True) -> None:
        commit()  # as it is now, not when the run ends
        self.path = Path(path)
        if create:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OSError(f"cannot make the folder {self.path} ({error.strerror}): give another output") from error

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep the folder for this process for a while, or until it dies, by a lock on its file `.lock`.

        Raises:
            OSError: another process trains in it: both would replace each other's states.
        """
        with open(self.path / ".lock", "w") as file:  # network file systems lock files, not folders
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OSError(
                    f"another process is training in {self.path}: wait for it, stop it, or give another output"
                ) from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                print(f"{self.path} cannot be locked ({error.strerror}): do not train twice in it at the same time")
            yield

    def write_config(self, config: Any) -> None:
        """Write the resolved config (a dataclass) as `config.yaml`."""
        with atomic_write(self.path / "config.yaml") as partial:
            partial.write_text(yaml.safe_dump(plain(config), sort_keys=False))

    def check_kind(self, config: Any) -> None:
        """Refuse a folder where a run of another command lies, whose config, state and results would be replaced.

        Raises:
            ValueError: the folder's config is another command's, or has settings that `config` has not.
            CheckpointError: it is damaged.
        """
        theirs, ours = self._config(), plain(config)
        if theirs and (its := _command(theirs)) and its != (own := _command(ours)):
            raise ValueError(f"{self.path} holds a run of {its}, not of {own}: give another output folder")
        foreign = [key for key in theirs if key not in ours]
        if foreign:
            raise ValueError(f"{self.path} holds another run, with {foreign[0]}: give another output folder")

    def check_config(self, config: Any, free: Collection[str] = ()) -> None:
        """Refuse to resume a run of another command, or with settings other than those it was started with.

        Args:
            config: a dataclass of settings.
            free: names of settings that may change from one stretch of a run to the next.

        Raises:
            ValueError: it is another command's; or another setting changed, and the message names it with both values.
            CheckpointError: the folder's config is damaged.
        """
        self.check_kind(config)
        theirs = self._config()
        if not theirs:
            return
        # A setting that an older version did not know was at its default.
        before, now = _defaults(config) | theirs, plain(config)
        for key, value in now.items():
            if key not in free and not (_same if key in PLACES else eq)(before.get(key), value):
                raise ValueError(
                    f"the run in {self.path} was begun with {key}={before.get(key)!r}, not {value!r}: "
                    "give another output folder, or that setting"
                )

    def _config(self) -> dict[str, Any]:
        """Read the config; empty where there is none."""
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        try:
            content = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} is damaged: copy it again, or remove it to go on with what is given now")
        return content

    def save_state(self, step: int, parts: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, Any]) -> None:
        """Write the training state of a step and remove all others.

        Args:
            step: optimiser steps done. A state of that very step stays as it is: it is the same, and a folder cannot be
                replaced in one go.
            parts: tensors by name, by part.
            metadata: plain values, given back by `load_state`.
        """
        target = self.path / f"state-{step:09d}"
        if not target.exists():
            partial = self.path / ".state-partial"
            shutil.rmtree(partial, ignore_errors=True)
            content = {**metadata, "kind": STATE, "step": step, "parts": sorted(parts)}
            for name, tensors in parts.items():
                checkpoint.save(partial / f"{name}.safetensors", tensors, content)
            partial.replace(target)
        gone = self.path / ".state-gone"  # renamed first: a kill amid its removal must not leave half a state
        shutil.rmtree(gone, ignore_errors=True)
        for old in self.states():
            if old != target:
                old.replace(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def states(self) -> list[Path]:
        """List complete training states, oldest first."""
        return sorted(path for path in self.path.glob("state-*") if path.is_dir())

    def load_state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
        """Read the newest training state.

        Returns:
            Tensors by name, by part, and the metadata, with `step`; None where there is no state.

        Raises:
            CheckpointError: it is damaged.
        """
        states = self.states()
        if not states:
            return None
        parts: dict[str, dict[str, Tensor]] = {}
        metadata: dict[str, Any] = {}
        try:
            for file in sorted(states[-1].glob("*.safetensors")):
                parts[file.stem], metadata = checkpoint.read(file)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; or remove {states[-1]} to start again") from None
        if metadata.get("kind") != STATE or sorted(parts) != metadata.get("parts", sorted(parts)):
            raise CheckpointError(f"{states[-1]} holds no whole training state: remove it to start again")
        return parts, metadata

    def log(self, done: int, write: bool = True) -> Any:
        """Open a TensorBoard writer; a silent stand-in if this run must not write or tensorboard is not installed.

        Args:
            done: the step that the run goes on from. What an earlier stretch, which crashed, logged of later ones is
                shown no more.
            write: whether to write.
        """
        if not write:
            return _Silent()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return _Silent()
        return SummaryWriter(str(self.path / "tensorboard"), purge_step=done + 1)

    def finished(self, config: Any, identity: Mapping[str, Any] | None = None) -> bool:
        """Tell whether the folder holds the results of this config.

        Args:
            config: a dataclass of settings.
            identity: digests of files, see `experiments.digests`; results of others are not those. What older results
                do not tell is passed over. None does not look at them.
        """
        path = self.path / "results.json"
        if not path.exists() or not of_config(path, config):
            return False
        before = json.loads(path.read_text()).get("identity", {})
        return identity is None or all(identity.get(key) == value for key, value in before.items())

    def figures(self) -> dict[str, Any]:
        """Read the figures of the results file; empty where there is none, or another file of that name."""
        try:
            return dict(json.loads((self.path / "results.json").read_text())["figures"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write_results(
        self, figures: Mapping[str, Any], config: Any, seed: int | None, identity: Mapping[str, Any] | None = None
    ) -> Path:
        """Write a results file: figures, config, environment, seed, commit, identity."""
        path = self.path / "results.json"
        write_results(path, figures, config, seed, identity)
        return path


class _Silent:
    def add_scalar(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _defaults(config: Any) -> dict[str, Any]:
    """Give the defaults of a dataclass's settings that have one."""
    return {field.name: plain(field.default) for field in fields(config) if field.default is not MISSING}


def _command(config: Mapping[str, Any]) -> str | None:
    """Say which command a config is of."""
    return next((command for key, command in MARKS.items() if key in config), None)


def _same(before: Any, now: Any) -> bool:
    """Say whether two values of a setting are equal, or name the same place: `photos/` is `./photos`."""
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_same, before, now))
    both_text = isinstance(before, str) and isinstance(now, str)
    return before == now or both_text and os.path.realpath(before) == os.path.realpath(now)
