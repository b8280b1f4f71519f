"""What tables call things: no machine's paths, and no two things alike."""

import pytest

from experiments import labels


def test_short_keeps_no_folder():
    settings = {"images": {"Set5": "/data/eval/Set5/"}, "policies": ["predictor", "/runs/a/agent.safetensors"], "n": 2}
    expected = {"images": {"Set5": "Set5"}, "policies": ["predictor", "agent.safetensors"], "n": 2}
    assert labels.short(settings) == expected
    assert labels.short("pyiqa:lpips@/weights/lpips.pth") == "pyiqa:lpips"
    assert labels.short(None) is None
    assert labels.short(".") == ".", "results would call it the built-in photos"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lpips@/x/w", "lpips"),
        ("niqe+0.1*pyiqa:lpips@/a/w.pth", "niqe+0.1*pyiqa:lpips"),
        ("pyiqa:clipiqa+@/a/b+c.pth + 2*lpips@../w", "pyiqa:clipiqa++2*lpips"),
        ("niqe+0.1*psnr", "niqe+0.1*psnr"),
        ({"niqe": 1, "lpips@/x/w": 0.1}, {"niqe": 1, "lpips": 0.1}),
        (["0.1*lpips@/x/w", "psnr"], ["0.1*lpips", "psnr"]),
    ],
)
def test_metrics_keep_their_names_and_lose_their_weights(name, expected):
    assert labels.short(name) == expected


def test_tails_are_as_short_as_they_can_be():
    assert labels.tails(["/x/runs/a/g", "/x/runs/b/g", "/y/h"]) == ["a/g", "b/g", "h"]
    assert labels.tails(["g", "runs/g"]) == ["g", "runs/g"]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/x/runs/sac/seed_0/agent.safetensors", "sac/seed_0/agent.safetensors"),
        ("/x/runs/sac/seed_12", "sac/seed_12"),
        ("/x/runs/sac/agent.safetensors@0.5", "sac/agent.safetensors@0.5"),
        ("/data/Set5/HR", "Set5/HR"),
        ("agent.safetensors", "agent.safetensors"),
    ],
)
def test_what_every_run_has_names_none(path, label):
    """Alone in its run it would be called as another run's is in that one's results."""
    assert labels.tails([path]) == [label] and labels.tails([path, "/y/other"]) == [label, "other"]


def test_generators_of_one_name_are_told_apart_by_their_files():
    assert labels.of_generators(["amnet", "amnet_s"], ["/a/one.safetensors", "amnet_s"]) == ["amnet", "amnet_s"]
    files = ["/a/plain.safetensors", "/a/hard.safetensors"]
    assert labels.of_generators(["amnet", "amnet"], files) == ["amnet (plain)", "amnet (hard)"]
    runs = ["/a/generator.safetensors", "/b/generator.safetensors"]
    assert labels.of_generators(["amnet", "amnet"], runs) == ["amnet (a/generator)", "amnet (b/generator)"]


@pytest.mark.parametrize("sources", [["amnet_s", "amnet_s"], ["/a/g.safetensors", "/a/g.safetensors"]])
def test_one_generator_twice_is_refused(sources):
    with pytest.raises(ValueError, match="the generator 'amnet_s.*' is given twice"):
        labels.of_generators(["amnet_s", "amnet_s"], sources)


def test_copies_of_a_published_network_are_told_apart():
    assert labels.of_generators(["srmdnf"] * 2, ["srmdnf@a/w", "srmdnf@b/w"]) == ["srmdnf (a/w)", "srmdnf (b/w)"]
