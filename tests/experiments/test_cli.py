"""The `blindsr` command: what is mistyped gives exit code 2 and one line that helps, never a traceback."""

import importlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from experiments import cli
from experiments.arguments import completed
from experiments.evaluate import Evaluate
from experiments.failure import TOO_LARGE
from experiments.train_generator import TrainGenerator
from generators import CheckpointError
from generators.compiled import CompileError


def parse(*arguments):
    return cli.parse(TrainGenerator, arguments, prog="blindsr train-generator")


@pytest.fixture
def config(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def fails(capsys):
    def check(*arguments):
        assert cli.main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("blindsr: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    return check


GOOD = "data: [a, b]\nsteps: 7\nbatch_size: 3\nbetas: [0.8, 0.9]\n"


@pytest.mark.parametrize(("name", "near"), [("trian-generator", "train-generator"), ("eval", "evaluate")])
def test_unknown_commands(fails, name, near):
    assert f"unknown command {name!r}: did you mean" in (error := fails(name)) and near in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stepz", "3"], "unknown setting 'stepz': did you mean 'steps'"),
        (["--data", "[a]", "--step", "3"], "unknown setting 'step': did you mean 'steps'"),  # no abbreviations
        (["--data", "[a]", "--batch-sizes", "3"], "unknown setting 'batch_sizes': did you mean 'batch_size'"),
        (["stray"], "'stray' belongs to no option: write --data stray"),
        ([], "missing setting data: give it as --data or in the config file"),
        (["--data"], "expected one argument"),
        (["--config"], "--config: expected one argument"),
        (["--data", "[a]", "--steps"], "--steps: expected one argument"),
        (["--data", "[a]", "--steps", "many"], 'setting "steps": expected int, got many'),
        (["--data", "[a]", "--steps", "1.5"], 'setting "steps": expected int, got 1.5'),
        (["--data", "[a]", "--ema", "much"], 'setting "ema": expected float, got much'),
        (["--data", "[a]", "--betas", "much"], 'setting "betas": Expected a tuple with 2 elements'),
        (["--data", "[a]", "--schedule", "linear"], "expected one of 'cosine', 'halving', got linear"),
        (
            ["--data", "[a]", "--patch_size", "[48]"],
            'setting "patch_size": expected int or a list, as [A, B], got [48]',
        ),
        (
            ["--data", "[a]", "--compile", "graphs"],
            'setting "compile": expected bool or one of default, reduce-overhead',
        ),
        (["--data", "[a]", "--steps", "0"], "steps must be at least 1, got 0"),
        (["--config", "missing.yaml"], "no file missing.yaml; unknown config 'missing': there are 'amgan', "),
        (["--config", "configs/amnett.yaml"], "unknown config 'amnett': did you mean 'amnet'"),
        (["--config", "."], "config . is a folder"),
        (["--data", "[a]", "--device", "gpu"], "device must be auto, cpu or cuda, got 'gpu'"),
        (["--data", "[a]", "--arch", "amnetx"], "unknown architecture 'amnetx': did you mean 'amnet'"),
        (["--data", ""], "--data is given an empty value: a shell variable that is not set?"),
    ],
)
def test_mistakes_on_the_command_line(fails, arguments, message):
    assert message in fails("train-generator", *arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [a]\nstepz: 3\n", "unknown setting 'stepz': did you mean 'steps'"),
        ("data: [a]\nsteps: many\n", "expected int, got many"),
        ("steps: 3\n", "missing setting data"),
        ("data: [a\n", "the config file is not valid YAML"),
        ("- data\n- a\n", "the config file holds no settings"),
        ("", "the config file holds no settings"),
        (b"\x00\xff\xfe", "decode"),
    ],
)
def test_mistakes_in_the_config(fails, config, text, message):
    assert message in fails("train-generator", "--config", config(text))


def test_the_command_line_wins_over_the_config(config):
    path = config(GOOD)
    assert parse("--config", path) == TrainGenerator(data=["a", "b"], steps=7, batch_size=3, betas=(0.8, 0.9))
    settings = parse("--config", path, "--steps", "9", "--data", "[c]", "--amp", "true")
    assert settings == TrainGenerator(data=["c"], steps=9, batch_size=3, betas=(0.8, 0.9), amp=True)
    assert parse("--steps", "9", "--config", path).steps == 9, "wherever the config stands"
    later = config("steps: 11\n", "later.yaml")
    assert parse("--config", path, "--config", later).steps == 11
    assert parse("--data", "[a]") == TrainGenerator(data=["a"])


def test_what_may_be_left_out(config, tmp_path, monkeypatch):
    assert parse("--data", "photos").data == parse("--data=photos").data == ["photos"]
    assert parse("--data", "a, b").data == ["a, b"] and parse("--data", "[a, b]").data == ["a", "b"]
    assert parse("--data", "007").data == ["007"] and parse("--data", "yes").data == ["yes"]
    assert parse("--data", "a", "--validation_widths", "1.8").validation_widths == (1.8,)
    assert parse("--data", "a", "--amp").amp is True and parse("--amp", "--data", "a").amp is True
    assert parse("--data", "a", "--compile").compile is True and parse("--data", "a", "--amp", "false").amp is False
    assert parse("--config", "amnet_s").arch == "amnet_s" and parse("--config=amnet_s").code_noise == 1.0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "amnet_s").mkdir()
    assert parse("--config", "amnet_s").arch == "amnet_s", "a folder of that name is none"
    assert parse("--config", "amnet_s.yaml").arch == "amnet_s"
    (tmp_path / "amnet_s").rmdir()
    config("data: [mine]", "amnet_s")
    assert parse("--config", "amnet_s").data == ["mine"], "a user's own file wins"


def test_names_of_ones_own_keep_their_dashes():
    given = ["--images.BSD-100", "a", "--self-ensemble", "true"]
    assert completed(Evaluate, given) == ["--images.BSD-100", "a", "--self_ensemble", "[true]"]


def test_a_switch_of_several_ways_needs_no_value():
    assert cli.parse(Evaluate, ["--self_ensemble"], prog="").self_ensemble == (True,)
    assert cli.parse(Evaluate, ["--self_ensemble", "false, true"], prog="").self_ensemble == (False, True)


def test_warnings_are_one_line(monkeypatch, capsys):
    def warn(settings):
        warnings.warn("photo left out", stacklevel=1)

    monkeypatch.setattr("experiments.train_generator.train_generator", warn)
    assert cli.main(["train-generator", "--data", "[a]"]) == 0
    assert capsys.readouterr().err == "blindsr: photo left out\n"


def test_types(config):
    settings = parse("--config", config(GOOD), "--learning_rate", "1e-3", "--validation", "null")
    assert settings.learning_rate == 1e-3 and settings.validation is None and settings.betas == (0.8, 0.9)
    assert isinstance(settings.betas, tuple)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    command = cli.COMMANDS[name]
    settings = getattr(importlib.import_module(f"experiments.{command.module}"), command.settings)
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and out.startswith(f"usage: blindsr {name}") and command.summary in out
    for field in settings.__dataclass_fields__:
        assert f"--{field}" in out
    words = " ".join(out.split())
    assert all(config in words.partition("--print_config")[0] for config in command.configs)
    assert not re.search(r"\btype: |Union\[|\| null|default: null|\(None", words), "types are noise to users"


def test_the_help_shows_defaults_as_one_types_them(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train-generator", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    for option, ending in (
        ("seed", "(default: 0)"),
        ("clip_norm", "(default: 1.0)"),
        ("amp", "(default: false)"),
        ("betas", "(default: [0.9, 0.99])"),
        ("data+ [ITEM,...]", "(required)"),
        ("validation", "no validation."),
    ):
        assert re.split(r" --\w", words.partition(f" --{option} ")[2])[0].endswith(ending)


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"blindsr \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_overview(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(name in out and command.summary in out for name, command in cli.COMMANDS.items())
    assert "CVPR 2021" in out and "blindsr quickstart" in out and "--version" in out


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CheckpointError("c.pt is a pickle: convert it"), 2, "c.pt is a pickle: convert it"),
        (FileNotFoundError("no photo"), 2, "no photo"),
        (FloatingPointError("the loss is nan"), 2, "the loss is nan"),
        (ImportError("pip install pyiqa"), 2, "pip install pyiqa"),
        (ValueError(), 2, "ValueError"),
        (MemoryError(), 2, TOO_LARGE),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), 2, TOO_LARGE),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_work(monkeypatch, capsys, error, code, message):
    def fail(settings):
        raise error

    monkeypatch.setattr("experiments.train_generator.train_generator", fail)
    assert cli.main(["train-generator", "--data", "[a]"]) == code
    assert capsys.readouterr().err == f"blindsr: {message}\n"
    monkeypatch.setenv("BLINDSR_TRACEBACK", "1")
    if code == 2:
        with pytest.raises(type(error)):
            cli.main(["train-generator", "--data", "[a]"])


def test_ctrl_c_while_torch_is_imported_is_no_crash():
    code = """
import importlib.abc, sys
class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("torch is imported", flush=True)
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from experiments import cli
sys.exit(cli.main(["bench", "--parts", "[niqe]"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "blindsr: interrupted\n")
    assert ended.stdout == "torch is imported\n", "once: it must not be tried again"


@pytest.mark.parametrize("error", [AttributeError("a bug"), RuntimeError("shapes differ")])
def test_mistakes_of_the_program_are_not_hidden(monkeypatch, error):
    def fail(settings):
        raise error

    monkeypatch.setattr("experiments.train_generator.train_generator", fail)
    with pytest.raises(type(error)):
        cli.main(["train-generator", "--data", "[a]"])


def test_shipped_configs_are_valid():
    shipped = {path.stem for path in (Path(cli.__file__).parent / "configs").glob("*.yaml")}
    assert shipped == {config for command in cli.COMMANDS.values() for config in command.configs}
    for name, command in cli.COMMANDS.items():
        settings = getattr(importlib.import_module(f"experiments.{command.module}"), command.settings)
        for config in command.configs:
            assert cli.parse(settings, ["--config", config], prog=name).output == f"runs/{config}"


@pytest.mark.parametrize(
    ("error", "says"), [(CompileError("no"), "interrupted while"), (OSError("disk full"), "disk full")]
)
def test_ctrl_c_ends_a_compiler_too(monkeypatch, capsys, error, says):
    from agents.interruption import Interruption

    def compile_and_fail(settings):
        Interruption.last = 2
        raise error

    monkeypatch.setattr("experiments.evaluate.evaluate", compile_and_fail)
    assert cli.main(["evaluate"]) == (130 if says.startswith("interrupted") else 2)
    assert says in capsys.readouterr().err


def test_another_projects_package_of_our_name_is_said(tmp_path):
    """`agents` is also what other projects call theirs."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    home = str(Path(cli.__file__).parents[1])
    path = os.pathsep.join([str(tmp_path), home])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "experiments.cli", "upscale", "--images", "x"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"the package 'agents' in {tmp_path / 'agents'} is another project's and hides blindsr's" in done.stderr
