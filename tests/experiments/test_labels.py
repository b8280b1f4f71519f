"""What tables call things: no machine's paths, and no two things alike."""

from experiments import labels


def test_short_keeps_no_folder():
    settings = {"images": {"Set5": "/data/eval/Set5/"}, "policies": ["predictor", "/runs/a/agent.safetensors"], "n": 2}
    expected = {"images": {"Set5": "Set5"}, "policies": ["predictor", "agent.safetensors"], "n": 2}
    assert labels.short(settings) == expected
    assert labels.short("pyiqa:lpips@/weights/lpips.pth") == "pyiqa:lpips"
    assert labels.short(None) is None


def test_tails_are_as_short_as_they_can_be():
    assert labels.tails(["/x/runs/a/g", "/x/runs/b/g", "/y/h"]) == ["a/g", "b/g", "h"]
    assert labels.tails(["g", "runs/g"]) == ["g", "runs/g"]


def test_generators_of_one_name_are_told_apart_by_their_files():
    assert labels.of_generators(["amnet", "amnet_s"], ["/a/one.safetensors", None]) == ["amnet", "amnet_s"]
    files = ["/a/plain.safetensors", "/a/hard.safetensors"]
    assert labels.of_generators(["amnet", "amnet"], files) == ["amnet (plain)", "amnet (hard)"]
    runs = ["/a/generator.safetensors", "/b/generator.safetensors"]
    assert labels.of_generators(["amnet", "amnet"], runs) == ["amnet (a/generator)", "amnet (b/generator)"]
