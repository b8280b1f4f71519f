"""Training of an agent on the native vector environment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium

import blindsr_env  # noqa: F401  registers the environment
from agents import agent_file, policies
from agents.agent import Agent
from agents.baselines import PredictorPolicy
from agents.checkpoints import load_predictor, shipped_predictor
from agents.config import AgentConfig
from agents.meaning import ActionMeaning, translated
from agents.networks import PREDICTORS, UNTRAINED
from blindsr_env import metrics
from blindsr_env.actions import check_kind
from blindsr_env.core import dtype_of
from blindsr_env.env import BlindSREnv
from blindsr_env.patch import PatchSize, sides
from experiments import digests, labels
from experiments.counts import at_least, check_seed
from experiments.devices import pick_device
from experiments.disjoint import check_disjoint
from experiments.extremes import extremes
from experiments.held_out import PRICE, HeldOut
from experiments.intervals import Interval
from experiments.recipes import AGENT
from experiments.results_file import commit
from experiments.run_folder import RunFolder
from generators import checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainAgent:
    """Settings of `blindsr train-agent`.

    Attributes:
        algorithm: `ddpg` (the paper's), `group-pg` (group-relative policy gradient), `pathwise` (follows the reward's
            own gradient; for metrics that have one), or one of Stable-Baselines3's: `sb3-ppo`, `sb3-a2c`, `sb3-sac`,
            `sb3-td3`, `sb3-ddpg`.
        agent: settings of the algorithm, for example `--agent.actor_lr 1e-4`. To list those that algorithms share:
            `python -m pydoc agents.config`; those of one in addition: `agents.ddpg.DDPGConfig`,
            `agents.group_pg.GroupPGConfig`, `agents.pathwise.PathwiseConfig` or `agents.sb3_agents.SB3Config`.
        actor: network to start from: the checkpoint of a predictor or agent, the name of a shipped agent (`amgan_rl`),
            or one with random weights, `untrained:predictor` or `untrained:predictor_s`. Without it, training starts
            from the predictor that ships for the generator.
        total_timesteps: total renders (training budget).
        num_envs: parallel environments.
        repeats: how many parallel environments share each scene; `group-pg` needs an even number.
        metric: reward metric, for example `niqe` or `niqe+0.1*psnr`, which may also be written `{niqe: 1, psnr: 0.1}`.
            The reward is how much better the picture scores than one rendered with the true kernel's code.
        images: folder of HR photos to train on; without it, the built-in ones.
        held_out: folder of HR photos on which the agent is scored at the end; without it, the built-in ones.
        held_out_scenes: number of held-out scenes.
        generator: generator that renders: a name (`amnet`, `amnet_l`, `amnet_s`, `amgan`, `amgan_s`, `amnet_s_open`,
            `amnet_s_x2`), a checkpoint file, `srmdnf@FOLDER` (or `usrnet_tiny`, `imdn`) or `module:function` (see
            `generators.load`).
        action: what the agent chooses. `code`: 15 numbers that describe the blur kernel, scaled so that Gaussian
            kernels fill 80% of the box [-1, 1]; `free-code`: the same 15 numbers, scaled so that they also reach codes
            that no kernel has; `width`: one number, the Gaussian's width.
        patch_size: side of a scene's LR patch, in pixels, or its height and width, `[80, 120]`. At scale
            4, 72 has nine of NIQE's blocks; 64, the paper's, has four, as 48 has. At scale 2 take twice as many pixels.
        dtype: precision of rendering during training, `float32`, `float16` (faster on GPUs) or `bfloat16` (faster on
            CPUs with AMX or AVX-512 BF16); held-out scenes are rendered in float32.
        cuda_graphs: on a GPU, launch rendering and scoring as recorded CUDA graphs, which is faster; see `BlindSREnv`.
        compile: fuse what the generator does between its convolutions, by `torch.compile`: on several cores of a
            CPU renders take 0.6 to 0.8 of the time, after half a minute to two minutes of compiling, anew for photos of
            other sizes. Needs a C++ compiler.
        output: folder of the run; if it already holds one, that run is resumed.
        checkpoint_seconds: seconds between saved checkpoints of the agent.
        device: where to compute: `auto` (a GPU if there is one), `cpu` or `cuda`.
        seed: random seed of scenes, exploration and updates.
    """

    algorithm: str = "group-pg"
    agent: dict[str, Any] = field(default_factory=dict)
    actor: str | None = None
    total_timesteps: int = 28_800
    num_envs: int = 48
    repeats: int = 6
    metric: dict[str, float] | str = "niqe"
    images: str | None = None
    held_out: str | None = None
    held_out_scenes: int = 192
    generator: str = "amgan_s"
    action: str = "code"
    patch_size: PatchSize = 72
    dtype: str = "float32"
    cuda_graphs: bool = False
    compile: bool = False
    output: str = "runs/agent"
    checkpoint_seconds: float = 60.0
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        at_least(1, self, "total_timesteps", "num_envs", "repeats", "held_out_scenes")
        at_least(0, self, "checkpoint_seconds")
        sides(self.patch_size)
        check_seed(self)
        dtype_of(self.dtype)
        check_kind(self.action)
        self.agent_config()

    def agent_config(self) -> AgentConfig:
        """Read the algorithm's own settings.

        Raises:
            ValueError: an unknown algorithm or setting of it.
        """
        kind = policies.algorithm(self.algorithm)
        try:
            return kind.config_class.from_dict(self.agent)
        except ValueError as error:
            raise ValueError(
                f"{error}; `agent` holds {self.algorithm}'s settings, another algorithm needs its own config"
            ) from None

    def check_machine(self) -> None:
        """Raise a ValueError if this machine cannot train with these settings."""
        device = pick_device(self.device)
        if device.type == "cpu" and (self.cuda_graphs or self.dtype == "float16"):
            raise ValueError(
                f"float16 and cuda_graphs are for a GPU, and device is {device}: take another config, such as "
                "pathwise_cpu, or give --dtype float32 --cuda_graphs false"
            )

    def environment(self) -> dict[str, Any]:
        """Arguments that the training environment and the held-out one share."""
        return {
            "generator": self.generator,
            "action": self.action,
            "patch_size": self.patch_size,
            "device": str(pick_device(self.device)),
        }

    def held_out_set(self, scenes: int | None = None) -> HeldOut:
        """Render the held-out scenes, or so many, which report a mixed metric's parts and the price of the reward."""
        return HeldOut.crops(
            self.held_out_scenes if scenes is None else scenes,
            metric=self.metric,
            report=(*metrics.parts(self.metric), *PRICE),
            environment={"images": self.held_out, "split": "test", **self.environment()},
        )


REPLAY_SECONDS = 600.0
"""Time between two files of a replay, which is large. A stop writes one too; after a crash the agent goes on with the
last, which lacks the transitions since."""

FREE = (
    *("total_timesteps", "held_out", "held_out_scenes", "output", "checkpoint_seconds", "device", "cuda_graphs"),
    *("compile", "generator"),
)
"""Settings that may change when a run is resumed; `generator` may only move: its fingerprint is in the agent."""


def train_agent(settings: TrainAgent) -> Path:
    """Train an agent, or resume the one in the output folder, and score it on held-out scenes.

    The scenes with the highest and lowest rewards are drawn in `extremes.png` beside it.

    Returns:
        The agent's file, `agent.safetensors` in the output folder.

    Raises:
        ValueError: unknown names, photos or files that cannot be used.
        CheckpointError: the folder's agent is of another algorithm, basis or action space.
        OSError: another process is training in the folder.
    """
    settings.check_machine()
    check_resumed(settings, RunFolder(settings.output, create=False))  # before photos are decoded
    check_disjoint(settings.images, settings.held_out)
    start(settings, settings.held_out_set(1).env)  # what could not be scored is not trained first
    folder = RunFolder(settings.output)
    with folder.taken():
        return _trained(settings, folder)


def _trained(settings: TrainAgent, folder: RunFolder) -> Path:
    """Train and score the agent of a folder, as `train_agent` says."""
    learned_from = identity(settings)  # of the files as they are now
    agent = learn(settings, folder)
    path = folder.path / AGENT
    if agent.interrupted:
        what = "goes on from" if agent.num_timesteps < settings.total_timesteps else "scores"
        print(f"stopped after {agent.num_timesteps} renders: the same command {what} {path}")
        return path
    held_out = settings.held_out_set()
    begun = start(settings, held_out.env)
    before = None if begun is None else held_out.score(begun).figures(settings.seed)
    played = held_out.score(agent)
    scored = played.figures(settings.seed)
    photos = f"{scored['scenes']} scenes of {Interval(**scored['reward']).count} photos"
    earlier = "" if before is None else f"before {Interval(**before['reward'])}, "
    print(
        f"held-out reward, {held_out.core.metric.name} gained over the true code [95% over photos], {photos}: "
        f"{earlier}after {Interval(**scored['reward'])}"
    )
    shown = []
    for name, gain in scored["gain"].items():
        title, unit = labels.in_units(name)
        shown.append(f"{title} {Interval(**gain).times(unit)}")
    print(f"with it, gained over the true code: {'; '.join(shown)}")
    figures = {"timesteps": agent.num_timesteps, "photos": held_out.photos, "before": before, **scored}
    folder.write_results(figures, settings, settings.seed, learned_from)
    extremes(folder.path / "extremes.png", held_out, played, "scenes of the highest and of the lowest reward")
    print(f"agent, log, figures and extremes.png: {folder.path}/")
    return path


def identity(settings: TrainAgent) -> dict[str, Any]:
    """Give the digests of what an agent learns from, and begins at if that is a file."""
    start = settings.actor if settings.actor is not None and Path(settings.actor).exists() else None
    return {
        **({} if start is None else {"actor": digests.of_policy(start)}),
        "generator": digests.of_generator(settings.generator),
        "images": digests.of_photos(settings.images),
        "metric": digests.of_metric(settings.metric),
    }


def schedule(settings: TrainAgent) -> list[int]:
    """Give the ends that the schedule of the agent in the output folder will have had, in turn; see `Agent`."""
    path = Path(settings.output, AGENT)
    metadata = checkpoint.read(path)[1] if path.is_file() else {}
    before = agent_file.schedule(metadata) if metadata.get("kind") == "agent" else []
    return before if before[-1:] == [settings.total_timesteps] else [*before, settings.total_timesteps]


def start(settings: TrainAgent, env: BlindSREnv) -> policies.Policy | None:
    """Give the policy that the agent started from; None for an untrained actor."""
    if settings.actor is None:
        shipped = shipped_predictor(env.core)
        return None if shipped is None else PredictorPolicy(shipped, device=env.core.device)
    # Older runs named untrained networks without the prefix; in a new run the agent refuses such a name.
    if settings.actor.startswith(UNTRAINED) or settings.actor in PREDICTORS:
        return None
    predictor, learned = load_predictor(settings.actor)
    return PredictorPolicy(translated(settings.actor, predictor, learned, env.core), device=env.core.device)


def learn(settings: TrainAgent, folder: RunFolder) -> Agent[Any]:
    """Train the agent of a run's folder: checkpoints, TensorBoard log and progress bar on the way.

    Returns:
        The agent, saved; `interrupted` says whether it stopped before its end.

    Raises:
        ValueError: see `train_agent`.
    """
    env = _environment(settings)
    agent = _agent(settings, folder, env)
    folder.write_config(settings)
    path, log = folder.path / AGENT, folder.log(agent.num_timesteps)
    keeper = _Keeper(path, log, settings)
    left = settings.total_timesteps - agent.num_timesteps
    if left > 0:
        agent.learn(left, keeper, progress_bar=True, reset_num_timesteps=False)
        finished = agent.num_timesteps >= settings.total_timesteps
        if finished:  # and no longer needs what it saw
            agent.replay_mark = None
        keeper.save(agent, with_replay=not finished)
    else:
        done = f"{path} has learned from {agent.num_timesteps} renders already"
        print(f"{done}: nothing left to learn; with a larger budget of renders it goes on")
    if agent.num_timesteps >= settings.total_timesteps:
        agent_file.replay_file(path).unlink(missing_ok=True)
    log.close()
    env.close()
    return agent


def check_resumed(settings: TrainAgent, folder: RunFolder) -> None:
    """Refuse to go on with the folder's agent, if it has one, under other settings or for less than it has learned.

    Raises:
        ValueError: it began with other settings, or has learned from more renders than are asked for.
        CheckpointError: its file or config is damaged.
    """
    path = folder.path / AGENT
    if not path.exists():
        return
    folder.check_config(settings, FREE)
    metadata = checkpoint.read(path)[1]
    done, end = metadata.get("num_timesteps", 0), metadata.get("total_timesteps")
    if done >= settings.total_timesteps and end != settings.total_timesteps:
        raise ValueError(
            f"{path} has learned from {done} renders already, and {settings.total_timesteps} are asked for: "
            "ask for more, or give another output folder"
        )


def _environment(settings: TrainAgent) -> Any:
    """Make the vector environment to learn in."""
    return gymnasium.make_vec(
        "BlindSR-v0",
        num_envs=settings.num_envs,
        repeats=settings.repeats,
        metric=settings.metric,
        images=settings.images,
        split="train",
        output="torch",
        gradient=policies.algorithm(settings.algorithm).needs_gradient,
        dtype=settings.dtype,
        cuda_graphs=settings.cuda_graphs,
        compile=settings.compile,
        **settings.environment(),
    )


def _agent(settings: TrainAgent, folder: RunFolder, env: Any) -> Agent[Any]:
    """Read the folder's agent, to go on, or make a new one.

    Raises:
        ValueError: the folder's agent began with other settings or on another generator, or has learned more than is
            asked for.
    """
    kind = policies.algorithm(settings.algorithm)
    path = folder.path / AGENT
    if not path.exists():
        folder.check_kind(settings)
        return kind(env, settings.agent_config(), actor=settings.actor, seed=settings.seed)
    check_resumed(settings, folder)
    agent = kind.load(path, env)
    now = ActionMeaning.of(env)
    if agent.meaning is not None and now is not None and not agent.meaning.same_generator(now):
        raise ValueError(
            f"{path} began to learn on {agent.meaning.generator}, and {settings.generator} is not, or no longer, "
            "that network: give its checkpoint as --generator, or another output folder"
        )
    if agent.num_timesteps < settings.total_timesteps:
        print(f"{path} goes on from {agent.num_timesteps} renders", flush=True)
    return agent


class _Keeper:
    """Callback of a training: logs figures, and saves the agent from time to time, its replay more seldom."""

    def __init__(self, path: Path, log: Any, settings: TrainAgent) -> None:
        self.path, self.log, self.seconds = path, log, settings.checkpoint_seconds
        self.trained = {
            "metric": labels.short(settings.metric),  # wherever its weights lie
            "photos": Path(settings.images or "built-in").name,
            "num_envs": settings.num_envs,
            "repeats": settings.repeats,
            "dtype": settings.dtype,
            "actor": labels.short(settings.actor),
            "commit": commit(),
        }
        self.saved_at = self.replay_saved_at = time.monotonic()

    def __call__(self, agent: Agent[Any], figures: dict[str, float]) -> None:
        for name, value in figures.items():
            if name != "timesteps":
                self.log.add_scalar(f"train/{name}", value, agent.num_timesteps)
        now = time.monotonic()
        if now - self.saved_at > self.seconds:
            self.save(agent, with_replay=agent.replay_mark is None or now - self.replay_saved_at > REPLAY_SECONDS)

    def save(self, agent: Agent[Any], *, with_replay: bool) -> None:
        """Write the agent's file, with what it was trained on, and perhaps its replay's."""
        agent.save(self.path, with_replay=with_replay, training=self.trained)
        self.saved_at = time.monotonic()
        if with_replay:
            self.replay_saved_at = self.saved_at
