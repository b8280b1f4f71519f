"""The web page: what its two halves compute, and, where gradio is there, the page itself over HTTP."""

import builtins
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import generators
from agents import policies
from blindsr_env import images
from experiments import cli, upscale
from experiments.demo import (
    AGENTS,
    OURS,
    WAYS,
    Demo,
    demo,
    environment,
    page,
    played,
    renderer,
    rewards,
    sample,
    shown,
    upscaled,
)

ROOT = Path(__file__).parents[2]

SETTINGS = Demo(generator="amnet_s", device="cpu")


@pytest.fixture
def lr(photo, tmp_path):
    """The file of a photo of 30x20."""
    images.write(tmp_path / "lr.png", photo(20, 30, 0))
    return str(tmp_path / "lr.png")


def test_photos_become_four_times_as_wide_and_high(lr, photo, monkeypatch):
    (plain, sr), said = upscaled(lr, "fast: amnet_s", None, "cpu")
    assert plain.shape == sr.shape == (80, 120, 3) and sr.dtype == np.uint8 and said == "30x20 to 120x80"
    (_, sharper), _ = upscaled(lr, "fast: amnet_s", 3.5, "cpu")
    assert np.abs(sharper.astype(float) - sr).mean() > 0.5
    assert np.array_equal(plain, cv2.resize(images.read(lr), (120, 80), interpolation=cv2.INTER_CUBIC))
    assert upscaled(None, "fast: amnet_s", None, "cpu") == (None, "")
    monkeypatch.setattr("experiments.demo.LARGEST", 16)
    (_, sr), said = upscaled(lr, "fast: amnet_s", 1.0, "cpu")
    assert sr.shape == (44, 64, 3) and "30x20, **shrunk to 16x11**" in said and said.endswith(" to 64x44")
    images.write(lr, photo(30, 14, 0))
    assert "14x30, **shrunk to 7x16**" in upscaled(lr, "fast: amnet_s", 1.0, "cpu")[1]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_one_of_upscale(way):
    generator, policy = WAYS[way]
    upscale.Upscale(images=".", generator=generator, policy=policy)
    assert renderer(way, "cpu").scale == generators.load(generator).scale == (2 if "twice" in way else 4)


def test_the_true_width_earns_nothing_and_far_ones_cost_psnr():
    env = environment(SETTINGS)
    observation, info = env.reset(seed=5)
    seen, _ = shown(SETTINGS, 5)
    assert np.array_equal(seen[::4, ::4], observation)
    picture, said = played(SETTINGS, 5, info["width"])
    assert picture.ndim == 3 and f"true width was {info['width']:.2f}" in said
    assert abs(float(said.split("**")[1].removeprefix("Reward "))) < 0.05
    far = 3.9 if info["width"] < 2 else 0.3
    assert float(played(SETTINGS, 5, far)[1].split("PSNR ")[1].split(" dB")[0]) < -0.5


def test_agents_play_the_visitors_scene():
    settings = Demo(generator="amgan_s", device="cpu")
    earned = rewards(settings, 5)
    assert list(earned) == ["predictor", AGENTS["amgan_s"]]
    _, theirs = environment(settings).reset(seed=5)
    env = environment(settings, "code")
    observation, info = env.reset(seed=5)
    assert info["width"] == theirs["width"]
    action, _ = policies.load("predictor", env).predict(observation)
    assert earned["predictor"] == env.step(action)[1]
    assert f"predictor {earned['predictor']:+.2f}" in played(settings, 5, 2.0)[1]
    assert list(rewards(SETTINGS, 5)) == ["predictor"]  # none ships for amnet_s


def test_where_codes_are_others_nobody_plays_along(monkeypatch):
    monkeypatch.setattr("experiments.demo.shipped_predictor", lambda core: None)
    assert rewards(SETTINGS, 5) == {} and played(SETTINGS, 5, 2.0)[1].endswith(".")


def test_photos_of_ours_come_in_turn():
    photos = [sample(number, 4) for number in range(5)]
    core = environment(SETTINGS).core
    assert core.sampler.names == [photo.name for photo in images.builtin("test")], "no training photos are played"
    for each, photo in zip(photos, images.builtin("test"), strict=False):
        assert np.array_equal(each, core.whole(photo.pixels, [OURS]).lr[0].numpy())
    assert np.array_equal(photos[0], photos[4]) and photos[0].shape != photos[1].shape


def test_any_metric_pays(photo):
    _, said = played(Demo(generator="amnet_s", metric="psnr", device="cpu"), 5, 2.0)
    assert "** psnr. The true width" in said


def test_what_is_transparent_lies_on_white(photo, tmp_path):
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([photo(20, 30, 0), np.zeros((20, 30), np.uint8)]))
    (plain, sr), _ = upscaled(tmp_path / "clear.png", "fast: amnet_s", 1.0, "cpu")
    assert plain.min() == 255 and sr.mean() > 250


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    imported = builtins.__import__

    def without(name, *arguments, **more):
        if name == "gradio":
            raise ImportError("No module named 'gradio'")
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli.main(["demo", "--generator", "amnet_s", "--device", "cpu"]) == 2
    assert 'pip install -e ".[demo]" in a clone' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", "taken", r"at 127.0.0.1:\d+ \(Address already in use\): give another --port"),
        ("192.0.2.1", None, r"at 192.0.2.1 \(Cannot assign .*\): give --host an address of this machine"),
        ("no.such.host.invalid", None, r"at no.such.host.invalid \(.*\): give --host an address of this machine"),
    ],
)
def test_why_nothing_can_listen_is_said(host, port, message):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match=message):
        demo(Demo(generator="amnet_s", device="cpu", host=host, port=port and other.getsockname()[1]))


def test_unknown_names_are_said_before_the_page_opens():
    with pytest.raises(ValueError, match="did you mean 'amnet_s'"):
        demo(Demo(generator="amnet_x", device="cpu"))


def test_the_page_answers(lr, photo, tmp_path):
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    blocks = page(SETTINGS)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(address, verbose=False)
        grey = photo(20, 30, 0)[..., 0]
        cv2.imwrite(str(tmp_path / "grey.png"), grey.astype(np.uint16) * 257)  # 16 bits
        for path in (lr, str(tmp_path / "grey.png")):
            pair, said = client.predict(handle_file(path), "fast: amnet_s", True, 1.0, api_name="/upscale")
            served = [images.read(each) for each in pair]
            expected, _ = upscaled(path, "fast: amnet_s", 1.0, "cpu")
            assert all(np.array_equal(*both) for both in zip(served, expected, strict=True))  # to the last bit
        assert served[0].std() > 10 and said == "30x20 to 120x80"
        cut = tmp_path / "cut.png"
        cut.write_bytes((tmp_path / "lr.png").read_bytes()[:200])
        with pytest.raises(Exception, match="^cut.png is not a readable image: convert it"):
            client.predict(handle_file(cut), "fast: amnet_s", True, 1.0, api_name="/upscale")
        twice = next(way for way in WAYS if "twice" in way)
        assert client.predict(handle_file(lr), twice, True, 1.0, api_name="/upscale")[1] == "30x20 to 60x40"
        with pytest.raises(Exception, match="amnet_s_x2 knows widths from 0.2 to 2"):
            client.predict(handle_file(lr), twice, True, 3.0, api_name="/upscale")
        shrunk = images.read(client.predict(twice, api_name="/sample"))  # half as much, and a photo further on
        assert np.array_equal(shrunk, sample(0, 2)) and shrunk.shape[0] > 1.9 * sample(0, 4).shape[0]
        assert np.array_equal(images.read(client.predict("fast: amnet_s", api_name="/sample")), sample(1, 4))
        _, said = client.predict(1.8, api_name="/play")
        assert "Reward" in said
        assert "Scene 1" in client.predict(api_name="/scene")[1]
    finally:
        blocks.close()


def test_one_picture_is_rendered_at_a_time(lr, monkeypatch):
    pytest.importorskip("gradio")
    from gradio_client import Client, handle_file

    rendering, together = threading.Lock(), []

    def slow(answer):
        def render(*arguments):
            together.append(not rendering.acquire(blocking=False))
            time.sleep(0.5)
            if not together[-1]:
                rendering.release()
            return answer

        return render

    monkeypatch.setattr("experiments.demo.upscaled", slow((None, "")))
    monkeypatch.setattr("experiments.demo.played", slow((None, "")))
    monkeypatch.setattr("experiments.demo.shown", slow((None, "")))
    blocks = page(SETTINGS)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(address, verbose=False)
        upscaling = client.submit(handle_file(lr), "fast: amnet_s", True, 1.0, api_name="/upscale")
        for job in (upscaling, client.submit(1.8, api_name="/play"), client.submit(api_name="/scene")):
            job.result(timeout=60)
    finally:
        blocks.close()
    assert together == [False] * 3


def test_the_end_removes_what_visitors_left(lr, tmp_path):
    pytest.importorskip("gradio")
    import httpx
    from gradio_client import Client, handle_file

    command = [sys.executable, "-m", "experiments.cli", "demo", "--generator", "amnet_s", "--device", "cpu"]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "cache")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[4]
            client = Client(address, verbose=False)
            client.predict(handle_file(lr), "fast: amnet_s", True, 1.0, api_name="/upscale")
            assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) >= 3
            client.predict("fast: amnet_s", api_name="/sample")
            (tmp_path / "text.png").write_text("no picture")
            with pytest.raises(Exception, match="^text.png cannot be opened: give a PNG or a JPEG"):
                client.predict(handle_file(tmp_path / "text.png"), "fast: amnet_s", True, 1.0, api_name="/upscale")
            large = httpx.post(f"{address}gradio_api/upload", files={"files": bytes(51 * 2**20)}, timeout=60)
            assert large.status_code == 413
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
