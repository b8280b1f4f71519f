"""The `blindsr` command: one subcommand a module, settings from a YAML file and from the command line.

Our own modules are imported when they are needed: torch takes seconds, and the list of commands should not wait for it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives; imported only when it is asked for.

    Attributes:
        module: in `experiments`.
        settings: its frozen dataclass of settings.
        function: takes the settings.
        summary: one line for the help.
    """

    module: str
    settings: str
    function: str
    summary: str


COMMANDS: dict[str, Command] = {
    "quickstart": Command("quickstart", "Quickstart", "quickstart", "train an agent with NIQE on built-in photos"),
    "train-generator": Command("train_generator", "TrainGenerator", "train_generator", "train G with the true code"),
    "train-gan": Command("train_gan", "TrainGan", "train_gan", "train AMGAN from AMNet, against a discriminator"),
    "train-predictor": Command("train_predictor", "TrainPredictor", "train_predictor", "train the predictor (Eq. 3)"),
    "train-agent": Command("train_agent", "TrainAgent", "train_agent", "train an agent on BlindSR-v0"),
    "benchmark": Command("benchmark", "Benchmark", "benchmark", "train several seeds, score them on whole photos"),
    "evaluate": Command("evaluate", "Evaluate", "evaluate", "score policies on a folder of photos"),
    "upscale": Command("upscale", "Upscale", "upscale", "render your own low-resolution photos"),
    "hack": Command("hack", "Hack", "hack", "measure what one constant offset of the true code wins"),
    "leaderboard": Command(
        "leaderboard", "Leaderboard", "leaderboard", "rank policies by what they gain, and its price"
    ),
    "tables": Command("tables", "Tables", "tables", "lay results out beside the paper's, as Markdown"),
    "plot": Command("charts", "Plot", "plot", "draw results beside the paper's"),
    "ship": Command("ship", "Ship", "ship", "write a generator's weights in half precision"),
    "search": Command("search", "Search", "search", "search each image's best code, from policies and from scratch"),
    "data": Command("data", "Data", "data", "say what a folder of photos is good for"),
    "bench": Command("bench", "Bench", "bench", "measure speed: metrics, renders, environments"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code: 0, 2 for an error that the user can mend, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from importlib.metadata import version

        print(f"blindsr {version('blindsr')}")
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


def _run(command: Command, name: str, rest: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f"experiments.{command.module}")
        settings = parse(getattr(module, command.settings), rest, prog=f"blindsr {name}", summary=command.summary)
        getattr(module, command.function)(settings)
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        return _fail(str(error) or type(error).__name__)
    return 0


def parse(settings: type, arguments: Sequence[str], *, prog: str, summary: str = "") -> Any:
    """Read settings from `--config FILE.yaml` and from options, which win.

    Args:
        settings: a frozen dataclass.
        arguments: of the command line.
        prog: shown in the help.
        summary: shown in the help.

    Returns:
        An instance of `settings`.

    Raises:
        ValueError: an unknown key (the nearest names are listed), a missing one or a wrong value, or a config that is
            not there; one line.
    """
    from experiments.arguments import completed

    parser = ArgumentParser(prog=prog, description=summary, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of settings, or the name of one that ships")
    parser.add_class_arguments(settings)
    try:
        parsed = parser.parse_args(completed(settings, arguments))
    except ArgumentError as error:
        raise ValueError(_explain(str(error), [field.name for field in fields(settings)])) from None
    values = {field.name: parsed[field.name] for field in fields(settings)}
    return settings(**values)


def _explain(message: str, known: list[str]) -> str:
    from generators.nearest import unknown

    refused = re.search(r"Option '([^']+)' is not accepted|unrecognized arguments: -*([\w.-]+)", message)
    if refused:
        return unknown("setting", (refused.group(1) or refused.group(2)).replace("-", "_"), known)
    missing = re.search(r"arguments are required: (.+)", message)
    if missing:
        name = missing.group(1)
        return f"missing setting {name}: give it as --{name.split(',')[0]} or in the config file"
    message = " ".join(message.replace('Parser key "config": ', "").replace("Parser key", "setting").split())
    for pattern, plain in _PLAIN.items():
        message = re.sub(pattern, plain, message)
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
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    usage = "usage: blindsr COMMAND [--config FILE.yaml] [--KEY VALUE ...]"
    return "\n".join([usage, "", *lines, "", "blindsr COMMAND --help lists its keys"])


def _say(message: Warning | str, *_: Any) -> None:
    """Show a warning as one line, without where in the source it was raised."""
    print(f"blindsr: {message}", file=sys.stderr)


def _fail(message: str, code: int = 2) -> int:
    print(f"blindsr: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
