"""The compiled generator against the plain one."""

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys

import gymnasium
import pytest
import torch
from torch._dynamo.utils import counters

import blindsr_env  # noqa: F401  registers the environments
import generators
from blindsr_env import sharing
from generators import AMNet, Compiled, SelfEnsemble, Tiled
from generators.compiled import CompileError

needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")


def inputs(count, height, width):
    rng = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, height, width, generator=rng), torch.rand(count, 15, generator=rng) * 2 - 1


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_pictures_are_the_plain_ones(tiny_checkpoint, dtype, tolerance):
    plain = generators.load(tiny_checkpoint, dtype=dtype)
    fused = Compiled(plain)
    assert (fused.name, fused.scale, fused.codec) == (plain.name, plain.scale, plain.codec)
    assert fused.fingerprint == plain.fingerprint and not fused.training
    for count, new in ((3, True), (2, False), (5, False)):  # compiled once for any number
        lr, code = inputs(count, 20, 13)
        before = counters["stats"]["unique_graphs"]
        for way in ("forward", "render"):
            with torch.no_grad():
                sr, expected = getattr(fused, way)(lr, code), getattr(plain, way)(lr, code)
            assert sr.dtype == torch.float32
            torch.testing.assert_close(sr, expected, rtol=0, atol=tolerance)
        assert counters["stats"]["unique_graphs"] - before == new
    again = pickle.loads(pickle.dumps(fused))
    with torch.no_grad():
        again.generator.tail.bias += 0.5
        torch.testing.assert_close(again(lr, code), fused(lr, code) + 0.5, rtol=0, atol=2 * tolerance)


@needs_compiler
def test_environments_share_it_and_reward_alike(tiny_checkpoint, tiny_photos):
    settings = {"generator": tiny_checkpoint, "images": tiny_photos, "patch_size": 24, "gradient": True}
    settings |= {"num_envs": 3, "output": "torch", "report": ("psnr",)}
    plain, fused, other = (
        gymnasium.make_vec("BlindSR-v0", compile=compiled, **settings).unwrapped for compiled in (False, True, True)
    )
    assert isinstance(fused.core.generator, Compiled) and fused.core.generator is other.core.generator
    played = []
    for env in (plain, fused):
        _, info = env.reset(seed=0)
        _, reward, _, _, after = env.step(info["true_action"] * 0.8)
        played.append((reward, after["final_info"]["gradient"], after["final_info"]["gain_psnr"]))
    for one, two in zip(*played, strict=True):  # rewards, gradients and gains in PSNR
        assert one.abs().max() > 0.01
        torch.testing.assert_close(one, two, rtol=0.01, atol=0.001)


def test_a_backward_pass_that_cannot_be_compiled_is_said_too(tiny_checkpoint, tiny_photos, monkeypatch, uncompilable):
    monkeypatch.setattr("generators.compiled._layers", lambda: lambda *inputs: uncompilable(AMNet.layers(*inputs)))
    settings = {"generator": tiny_checkpoint, "images": tiny_photos, "patch_size": 24, "metric": "psnr"}
    env = gymnasium.make_vec("BlindSR-v0", num_envs=2, compile=True, gradient=True, **settings)
    env.reset(seed=0)
    with pytest.raises(CompileError, match="there is no C.* compiler.*, or leave compile=True out"):
        env.step(env.action_space.sample())


@needs_compiler
def test_a_forked_process_compiles_for_itself(tiny_checkpoint, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config, "force_disable_caches", True)  # else the child would find what an earlier run compiled
    fused = Compiled(generators.load(tiny_checkpoint))

    def render(*shape):
        with torch.no_grad():
            return fused(*inputs(*shape))

    render(2, 8, 8)  # by helpers that the child has not
    child = multiprocessing.get_context("fork").Process(target=render, args=(2, 9, 10))
    child.start()
    child.join(120)
    stuck = child.is_alive()
    child.kill()
    assert not stuck and child.exitcode == 0


@pytest.mark.gpu
def test_on_a_gpu_it_can_be_recorded(tiny_checkpoint, tiny_photos):
    settings = {"generator": tiny_checkpoint, "images": tiny_photos, "patch_size": 24, "metric": "psnr"}
    settings |= {"num_envs": 4, "output": "torch", "device": "cuda"}
    rewards = []
    for changes in ({}, {"compile": True}, {"compile": True, "cuda_graphs": True}):
        env = gymnasium.make_vec("BlindSR-v0", **settings, **changes)
        env.reset(seed=0)
        rewards.append(torch.stack([env.step(torch.zeros(4, 15, device="cuda"))[1] for _ in range(4)]))
    for reward in rewards[1:]:
        torch.testing.assert_close(reward, rewards[0], rtol=0, atol=0.02)


def test_tiles_and_ensembles_go_around_it(tiny_generator, compiled):
    around = Tiled(SelfEnsemble(Compiled(tiny_generator)), 16, 4)
    lr, code = inputs(1, 20, 20)
    torch.testing.assert_close(around(lr, code), Tiled(SelfEnsemble(tiny_generator), 16, 4)(lr, code))
    assert compiled == [AMNet.layers]

    class Flat(AMNet):
        def render(self, lr, code):
            return super().render(lr, code) * 0

    flat = Flat(tiny_generator.architecture, tiny_generator.codec)
    for wrong in (SelfEnsemble(tiny_generator), torch.nn.Identity(), flat):
        with pytest.raises(TypeError, match=f"takes an AMNet, not {type(wrong).__name__}: wrap the compiled one"):
            Compiled(wrong)
    for made in (Compiled(tiny_generator), around):
        assert sharing.generator(made, "cpu", torch.float32, compiled=True) is made


@pytest.mark.parametrize("fused", [False, True])
def test_the_shared_one_is_wrapped_as_asked(tiny_checkpoint, compiled, fused):
    made = sharing.wrapped(tiny_checkpoint, 24, True, "cpu", torch.bfloat16, fused)
    assert type(made) is Tiled and made.tile == 24 and type(made.generator) is SelfEnsemble
    bare = made.generator.generator
    assert bare is sharing.generator(tiny_checkpoint, "cpu", torch.bfloat16, compiled=fused)
    assert isinstance(bare, Compiled) == fused
    assert sharing.wrapped(tiny_checkpoint, None, False, "cpu", torch.bfloat16, fused) is bare


def test_a_copy_has_weights_of_its_own(tiny_generator, compiled):
    fused = Compiled(tiny_generator)
    lr, code = inputs(1, 8, 8)
    for again in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        again.generator.tail.bias.add_(0.5)
        torch.testing.assert_close(again(lr, code), fused(lr, code) + 0.5)


@pytest.mark.parametrize("broken", [False, pytest.param(True, marks=needs_compiler)])
def test_without_a_compiler_it_says_what_to_install(tiny_checkpoint, tmp_path, broken):
    compiler = tmp_path / "c++"
    if broken:
        compiler.write_text("#!/bin/sh\n[ $# -lt 2 ] && exec g++ $*\necho 'fatal error: no Python.h' >&2; exit 1\n")
        compiler.chmod(0o755)
    script = f"""
import generators, torch
fused = generators.Compiled(generators.load({tiny_checkpoint!r}))
try:
    fused(torch.rand(1, 3, 8, 8), torch.zeros(1, 15))
except ValueError as error:
    print(error)
"""
    environment = os.environ | {"CXX": str(compiler), "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    cause = "fatal error: no Python.h): mend that" if broken else "there is no C++ compiler): install one, such as g++"
    assert done.stdout == f"the network cannot be compiled here ({cause}, or leave compile=True out\n", done.stderr
