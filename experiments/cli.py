"""The `blindsr` command: one subcommand a module, settings from a YAML file and from the command line.

Our own modules are imported when they are needed: torch takes seconds to load, and `blindsr --help` should not wait.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import warnings
from argparse import Action
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

CONFIG = "NAME|FILE.yaml"
"""What `--config` takes, in the help."""


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives; imported only when it is called.

    Attributes:
        module: in `experiments`.
        settings: its frozen dataclass of settings.
        function: takes the settings.
        summary: one line for the help.
        configs: names of the shipped configs that are made for it.
    """

    module: str
    settings: str
    function: str
    summary: str
    configs: tuple[str, ...] = ()


AGENTS = ("constant_cpu", "ddpg_cpu", "ddpg_paper", "group_pg_cpu", "pathwise", "pathwise_cpu", "sb3_cpu")
"""Shipped configs of agents."""

GROUPS: dict[str, dict[str, Command]] = {
    "start": {
        "quickstart": Command(
            "quickstart", "Quickstart", "quickstart", "train an agent on built-in photos in a few minutes"
        ),
        "upscale": Command("upscale", "Upscale", "upscale", "upscale your own low-resolution photos"),
        "demo": Command("demo", "Demo", "demo", "serve a web page to upscale photos and to be the agent yourself"),
        "data": Command("data", "Data", "data", "check a folder of photos before training on it"),
    },
    "train": {
        "train-generator": Command(
            "train_generator",
            "TrainGenerator",
            "train_generator",
            "train a super-resolution network that is told the blur kernel",
            ("amnet", "amnet_cpu", "amnet_s"),
        ),
        "train-gan": Command(
            "train_gan",
            "TrainGan",
            "train_gan",
            "train a generator further against a discriminator, for sharper pictures",
            ("amgan", "amgan_s_cpu"),
        ),
        "train-predictor": Command(
            "train_predictor",
            "TrainPredictor",
            "train_predictor",
            "train a network that recognizes the blur kernel in a photo",
            ("predictor_s", "predictor_s_image"),
        ),
        "train-agent": Command(
            "train_agent",
            "TrainAgent",
            "train_agent",
            "train an agent to choose the kernel code that a quality metric likes best",
            AGENTS,
        ),
        "ship": Command("ship", "Ship", "ship", "save a trained generator in half precision"),
    },
    "evaluate": {
        "evaluate": Command("evaluate", "Evaluate", "evaluate", "score predictors and agents on whole photos"),
        "benchmark": Command(
            "benchmark",
            "Benchmark",
            "benchmark",
            "train an agent with several random seeds and score all of them on whole photos",
            AGENTS,
        ),
        "search": Command("search", "Search", "search", "search for each photo's best code, to compare agents with"),
        "hack": Command(
            "hack", "Hack", "hack", "measure how far one constant change of the code can fool a quality metric"
        ),
        "bench": Command("bench", "Bench", "bench", "measure speed and memory"),
    },
    "analyze": {
        "leaderboard": Command(
            "leaderboard", "Leaderboard", "leaderboard", "rank agents by their gain, with its price in other metrics"
        ),
        "tables": Command("tables", "Tables", "tables", "make Markdown tables of results, beside the paper's figures"),
        "plot": Command("charts", "Plot", "plot", "draw charts of results, beside the paper's figures"),
    },
}
"""Commands by name, in groups as the help lists them."""

COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code: 0, 2 for an error that the user can mend, which is shown as one line.

    It is 130 after Ctrl-C and 143 after SIGTERM, also where a training saved its state and can go on. With
    BLINDSR_TRACEBACK=1 in the environment errors are raised instead of shown.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if foreign := _foreign_package():
        return _fail(foreign)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"blindsr {version('blindsr')}")
        except PackageNotFoundError:
            print("blindsr, from a source tree that is not installed")
        return 0
    if not sys.stderr.isatty():  # a log file needs no ten progress bars a second; tqdm reads this when torch imports it
        os.environ.setdefault("TQDM_MININTERVAL", "30")
    if name not in COMMANDS:
        from generators.nearest import unknown

        return _fail(unknown("command", name, COMMANDS))
    command = COMMANDS[name]
    with warnings.catch_warnings():
        warnings.showwarning = _say  # type: ignore[assignment]
        return _run(command, name, rest)


def _foreign_package() -> str:
    """Say which of our packages is another project's: their names are not ours alone; "" where none is."""
    home = Path(__file__).resolve().parents[1]
    for name in ("agents", "blindsr_env", "generators"):
        spec = importlib.util.find_spec(name)
        place = None if spec is None or not spec.origin else Path(spec.origin).resolve()
        if place is not None and home not in place.parents:
            return (
                f"the package {name!r} in {place.parent} is another project's and hides blindsr's: give blindsr an "
                "environment of its own, or start Python elsewhere"
            )
    return ""


def _run(command: Command, name: str, rest: Sequence[str]) -> int:
    from agents.interruption import Interruption

    Interruption.last = None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be in another encoding
    try:
        module = importlib.import_module(f"experiments.{command.module}")
        kind = getattr(module, command.settings)
        settings = parse(kind, rest, prog=f"blindsr {name}", summary=command.summary, configs=command.configs)
        getattr(module, command.function)(settings)
        sys.stdout.flush()  # here, where a closed pipe is caught
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, Exception) as error:
        from experiments import failure

        told = failure.told(error)
        if told is None:
            raise
        return _fail(*told)
    return 0 if Interruption.last is None else 128 + Interruption.last


def parse(
    settings: type, arguments: Sequence[str], *, prog: str, summary: str = "", configs: Sequence[str] = ()
) -> Any:
    """Read settings from `--config FILE.yaml` and from options, which win.

    Args:
        settings: a frozen dataclass.
        arguments: of the command line.
        prog: shown in the help.
        summary: shown in the help.
        configs: shipped ones that the help names.

    Returns:
        An instance of `settings`.

    Raises:
        ValueError: an unknown key (the nearest names are listed), a missing one or a wrong value, or a config that is
            not there; one line.
    """
    from experiments.arguments import alternatives, completed
    from experiments.options import described

    file = CONFIG if configs else "FILE.yaml"
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} [--config {file}] [--KEY VALUE ...]",
        description=summary,
        formatter_class=_Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    shipped = f", or the name of a shipped config: {', '.join(configs)}" if configs else ""
    parser.add_argument("--config", action="config", metavar=file, help=f"YAML file of settings{shipped}")
    parser.add_class_arguments(settings)
    try:
        parsed = parser.parse_args(completed(settings, arguments))
    except ArgumentError as error:
        raise ValueError(_explain(str(error), settings)) from None
    values = {field.name: parsed[field.name] for field in fields(settings)}
    hints = get_type_hints(settings)
    for name, value in values.items():
        if value is None and NoneType not in alternatives(hints[name]):  # jsonargparse lets any setting be null
            raise ValueError(f'setting "{name}": expected {described(hints[name])}, got None')
    return settings(**values)


class _Help(DefaultHelpFormatter):
    """Shows what is required and every default, as one would type it; the texts say what else is allowed."""

    def _get_help_string(self, action: Action) -> str:
        text = super()._get_help_string(action)
        if "type: %(type)s" not in text:
            return text
        if action.required:
            return f"{action.help} (required)"
        return action.help or "" if action.default is None else f"{action.help} (default: {_plain(action.default)})"


def _plain(value: Any) -> str:
    """Write a default as YAML on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(each) for each in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _explain(message: str, settings: type) -> str:
    from experiments.arguments import unknown_setting
    from experiments.options import described

    known = [field.name for field in fields(settings)]
    refused = re.search(r"Option '([^']+)' is not accepted|unrecognized arguments: -*([\w.-]+)", message)
    if refused:
        return unknown_setting((refused.group(1) or refused.group(2)).replace("-", "_"), known)
    missing = re.search(r"arguments are required: (.+)", message)
    if missing:
        name = missing.group(1)
        return f"missing setting {name}: give it as --{name.split(',')[0]} or in the config file"
    message = " ".join(message.replace('Parser key "config": ', "").replace("Parser key", "setting").split())
    for pattern, plain in _PLAIN.items():
        message = re.sub(pattern, plain, message)
    union = re.fullmatch(r'setting "(\w+)": cannot be (.*)', message)
    if union and union[1] in known:
        return f'setting "{union[1]}": expected {described(get_type_hints(settings)[union[1]])}, got {union[2]}'
    return message


_PLAIN = {  # what jsonargparse says, and what it means to users
    r"Expected a <class '(list|tuple)'>\. Got value: (.*)": r"expected a list, as [A, B], got \2",
    r"Expected a <class '(\w+)'>\. Got value: ": r"expected \1, got ",
    r"Expected a typing\.Literal\[(.*?)\]\. Got value: ": r"expected one of \1, got ",
    r"Does not validate against any of the Union subtypes.*Given value type: .*Given value: (.*)": r"cannot be \1",
    r"^Problems parsing config: ": "the config file is not valid YAML: ",
    r"^Unexpected config:.*": "the config file holds no settings: it should have lines of KEY: VALUE",
}


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "Blind image super-resolution as a reinforcement-learning problem, after Hui et al., Learning the",
        "Non-differentiable Optimization for Blind Super-Resolution (CVPR 2021).",
        "",
        f"usage: blindsr COMMAND [--config {CONFIG}] [--KEY VALUE ...]",
        "",
        "examples:",
        "  blindsr quickstart",
        "  blindsr upscale --images photo.jpg --policy amgan_rl --output sharp.png",
    ]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}  {each.summary}" for name, each in commands.items())]
    lines += ["", "`blindsr COMMAND --help` lists a command's settings; `blindsr --version` shows the version."]
    return "\n".join(lines)


def _say(message: Warning | str, *_: Any) -> None:
    """Show a warning as one line, without where in the source it was raised."""
    print(f"blindsr: {message}", file=sys.stderr)


def _fail(message: str, code: int = 2) -> int:
    print(f"blindsr: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
