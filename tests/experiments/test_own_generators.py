"""Generators of one's own in commands, named `module:function`."""

import itertools
import json
import sys

import numpy as np
import pytest
import torch

import generators
from blindsr_env.env import BlindSREnv
from experiments import cli
from experiments.digests import of_file, of_generator, of_policy

counter = itertools.count()

MODULE = """
import torch
from torch.nn import functional as F

from generators import ByKernel


class Soft(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, lr, kernel):
        middle = kernel[:, 10, 10, None, None, None].to(lr.dtype)
        return F.interpolate(lr, scale_factor=4, mode="bicubic") * self.gain + 0.01 * middle


def network():
    return ByKernel(Soft(), "soft")


def number():
    return 3


def bare():
    return Soft()


def broken():
    return 1 / 0


def tiled():
    from generators import Tiled

    return Tiled(network())


class Half(Soft):
    def forward(self, lr, kernel):
        return super().forward(lr.bfloat16(), kernel).float()


def half():
    return ByKernel(Half().bfloat16(), "half")


def weighted():
    made = network()
    made.network.load_state_dict(torch.load("gain.pth"))
    return made
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"their_generator_{next(counter)}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    yield name
    sys.modules.pop(name, None)


def test_a_function_gives_a_frozen_generator(module):
    generator = generators.load(f"{module}:network")
    assert generator.name == "soft" and not generator.training
    assert not generator.network.gain.requires_grad and len(generator.fingerprint) == 12
    assert generators.files(f"{module}:network")[0].name == f"{module}.py"


def test_agents_learn_on_it_and_are_scored(module, tmp_path, capsys):
    shared = ["--generator", f"{module}:network", "--device", "cpu"]
    small = [
        "--num_envs",
        "2",
        "--repeats",
        "1",
        "--total_timesteps",
        "4",
        "--held_out_scenes",
        "2",
        "--patch_size",
        "48",
    ]
    train = ["train-agent", "--algorithm", "pathwise", "--metric", "psnr", *shared, *small, "--output", "run"]
    assert cli.main(train) == 0, capsys.readouterr().err
    score = ["evaluate", *shared, "--policies", "[run]", "--metrics", "[psnr]", "--widths", "[1.3]"]
    assert cli.main([*score, "--output", "scores.json"]) == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "scores.json").read_text())
    assert results["figures"]["generator"] == "soft" and results["figures"]["architecture"] == {"scale": 4}
    assert results["config"]["generator"] == f"{module}:network" and len(results["identity"]["generators"][0]) == 12
    (tmp_path / f"{module}.py").write_text(MODULE + "\n")  # another generator, as far as one can tell
    assert cli.main([*score, "--output", "scores.json"]) == 0, capsys.readouterr().err
    assert (tmp_path / "scores_2.json").exists()


def test_new_weights_are_another_generator(module, tmp_path, capsys):
    score = ["evaluate", "--generator", f"{module}:weighted", "--policies", "[true-code]", "--metrics", "[psnr]"]
    score += ["--widths", "[1.3]", "--device", "cpu", "--output", "scores.json"]
    means = []
    for gain, file in ((1.0, "scores"), (0.5, "scores_2")):
        torch.save({"gain": torch.tensor(gain)}, tmp_path / "gain.pth")
        assert cli.main(score) == 0, capsys.readouterr().err
        means.append(
            json.loads((tmp_path / f"{file}.json").read_text())["figures"]["policies"]["true-code"]["psnr"]["mean"]
        )
    assert means[0] > means[1] + 3


def test_environments_share_one_network_in_use(module):
    first, second = (BlindSREnv(metric="psnr", generator=f"{module}:network", split="test") for _ in range(2))
    assert first.core.generator is second.core.generator


def test_a_wrapper_of_ones_own(module):
    generator = generators.load(f"{module}:tiled")
    assert isinstance(generator, generators.Tiled) and len(generator.fingerprint) == 12


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "gave a int: it should give a generator"),
        ("bare", "the generator Soft lacks scale, codec, name, render: give it"),
        ("broken", "broken() failed with ZeroDivisionError: division by zero"),
        ("nothing", "has no function 'nothing'"),
    ],
)
def test_what_is_no_generator_is_said_in_one_line(module, capsys, function, message):
    assert cli.main(["evaluate", "--generator", f"{module}:{function}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobodys:network", "generator 'nobodys:network': there is no module nobodys: is it in the working directory?"),
        ("nobodys.py:network", "there is no module nobodys.py: leave .py out"),
        ("folder/nobodys:network", "folder/nobodys:network is no file: of a function of your own give module:function"),
        ("wrong:network", "generator 'wrong:network': importing wrong failed with SyntaxError"),
    ],
)
def test_a_module_that_is_not_there_or_wrong(module, tmp_path, capsys, name, message):
    (tmp_path / "wrong.py").write_text("def network(:")
    assert cli.main(["evaluate", "--generator", name]) == 2
    assert message in capsys.readouterr().err


def test_it_has_a_precision_of_its_own(module):
    env = BlindSREnv(metric="psnr", generator=f"{module}:half")
    _, info = env.reset(seed=0)
    assert next(env.core.generator.parameters()).dtype == torch.bfloat16
    assert np.isfinite(env.step(info["true_action"])[1])


def test_it_is_neither_converted_nor_compiled(module, capsys):
    with pytest.raises(ValueError, match="in its own precision: leave dtype out"):
        generators.load(f"{module}:network", dtype=torch.bfloat16)
    assert cli.main(["upscale", "--images", ".", "--generator", f"{module}:network", "--compile", "true"]) == 2
    assert "takes an AMNet, not ByKernel" in capsys.readouterr().err


def test_peers_are_known_to_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "--generator", "srmdnf@weights"]) == 2
    assert "srmdnf needs srmdnf_x4.safetensors or srmdnf_x4.pth" in capsys.readouterr().err
    assert cli.main(["ship", "--generator", "srmdnf@weights", "--images", "."]) == 2
    assert "srmdnf@weights is no AMNet, which is needed here" in capsys.readouterr().err


def test_an_edit_in_what_the_module_imports_is_another_generator(tmp_path, monkeypatch):
    package = f"mine{next(counter)}"
    monkeypatch.chdir(tmp_path)
    files = {
        f"{package}/__init__.py": f"import numpy\nfrom {package}.network import network, zero\n",
        f"{package}/network.py": "from torch import ops\nfrom .deep import factor\n"
        + MODULE.replace("* self.gain", "* self.gain * factor.factor()")
        + "\n\ndef zero(env):\n    import numpy\n\n    return lambda seen: numpy.zeros((len(seen), 15))\n",
        f"{package}/deep/factor.py": f"from {package}_constants import GAIN\n\n\ndef factor():\n    return GAIN\n",
        f"{package}_constants.py": "GAIN = 1.0\n",
        "beside.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    digests = [(of_generator(f"{package}:network"), of_policy(f"{package}:zero"))]
    for name in ("beside.py", f"{package}/deep/factor.py", f"{package}_constants.py", f"{package}/__init__.py"):
        (tmp_path / name).write_text(files[name] + "# edited\n")
        digests.append((of_generator(f"{package}:network"), of_policy(f"{package}:zero")))
    assert digests[0] == digests[1], "which is none of its business"
    for column in zip(*digests[1:], strict=True):
        assert len(set(column)) == 4


def test_a_module_without_others_has_its_files_digest(module, tmp_path):
    (tmp_path / f"{module}.py").write_text("def zero(env):\n    return len\n")
    assert of_policy(f"{module}:zero") == of_file(tmp_path / f"{module}.py")
    assert of_policy("json.tool:main") != of_policy("json.scanner:py_make_scanner"), "installed ones have texts too"
