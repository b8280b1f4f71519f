"""On a bare GPU machine there is PyTorch, and hardly more: training starts there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

PRESENT = {"torch", "numpy", "safetensors", "yaml", "cv2", "tqdm"}
"""What training needs; PyTorch brings some more of its own."""

BLOCKED = (
    *("gymnasium", "stable_baselines3", "pyiqa", "jsonargparse", "tensorboard", "matplotlib", "accelerate"),
    *("skimage", "sklearn", "scipy", "pandas", "PIL", "rich", "imageio"),
)

BARE = """
import runpy, sys

class Without:  # a finder of modules that does not find some
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {blocked!r} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("what", ["generator", "predictor", "gan"])
def test_training_starts_on_a_bare_machine(what, data, held_out, tmp_path, tiny_checkpoint):
    assert not PRESENT & set(BLOCKED)
    settings = {"data": [data], "steps": 2, "patch_size": 8, "batch_size": 2, "device": "cpu", "learning_rate": 1e-3}
    settings |= {"validation": held_out, "betas": [0.9, 0.98]}
    settings |= {
        "generator": {"arch": "amnet_s"},
        "predictor": {"network": "predictor_s", "generator": tiny_checkpoint},
        "gan": {"arch": "amnet_s", "init": "amnet_s", "perceptual_weight": 0.0, "discriminator_warmup": 0},
    }[what]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    output = tmp_path / "run"
    arguments = [what, "--config", str(config), "--output", str(output)]
    program = BARE.format(blocked=BLOCKED, arguments=arguments, module=f"experiments.train_{what}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finished after 2 steps" in done.stdout and "patches/s" in done.stdout
    name = "predictor" if what == "predictor" else "generator"
    assert (output / f"{name}.safetensors").is_file() and (output / "results.json").is_file()
