"""Weights for users: half precision where it costs nothing, full where it would."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import generators
from blindsr_env import images
from experiments import ship
from experiments.ship import Ship
from generators import checkpoint


def settings(generator, data, tmp_path, **changes):
    return Ship(generator=generator, images=data, output=str(tmp_path / "out" / "g.safetensors"), **changes)


def test_half_precision_ships(tiny_checkpoint, tiny_generator, data, tmp_path, capsys):
    path = ship.ship(settings(tiny_checkpoint, data, tmp_path, widths=(0.2, 2.0)))
    tensors, metadata = checkpoint.read(path)
    original, before = checkpoint.read(tiny_checkpoint)
    assert metadata == before
    for name, tensor in tensors.items():
        codec = name.startswith("codec.")
        assert tensor.dtype == (torch.float64 if codec else torch.float16)
        assert torch.equal(tensor, original[name] if codec else original[name].half())
    assert generators.load(path).codec.fingerprint == tiny_generator.codec.fingerprint
    assert "half precision moves PSNR by 0.00" in capsys.readouterr().out


def test_a_generator_may_get_a_name_of_its_own(tiny_checkpoint, data, tmp_path):
    path = ship.ship(settings(tiny_checkpoint, data, tmp_path, name="mine"))
    assert generators.load(path).name == "mine" and generators.load(tiny_checkpoint).name == "tiny"
    for name in ("", "a/b", ".."):
        with pytest.raises(ValueError, match="name must begin with a letter, a digit or '_', .*, got"):
            settings(tiny_checkpoint, data, tmp_path, name=name)
    with pytest.raises(ValueError, match="^amnet is a generator that ships: give another name$"):
        settings(tiny_checkpoint, data, tmp_path, name="amnet")


def test_the_mean_of_several_ships(tiny_checkpoint, louder, data, tmp_path):
    path = ship.ship(settings([tiny_checkpoint, louder, louder], data, tmp_path, tolerance=-1.0))
    tensors, metadata = checkpoint.read(path)
    one, other = checkpoint.read(tiny_checkpoint), checkpoint.read(louder)
    for name, weight in one[0].items():
        mean = weight if name.startswith("codec.") else (weight + 2 * other[0][name]) / 3
        torch.testing.assert_close(tensors[name], mean)
    assert metadata["training"] == {**one[1]["training"], "mean_with": [other[1]["training"]] * 2}
    one = generators.load(tiny_checkpoint)
    others = [
        generators.build("amnet_s"),
        generators.AMNet(one.architecture, replace(one.codec, width_range=(0.2, 3.0)), "tiny"),
        generators.AMNet(one.architecture, one.codec, "another"),
    ]
    for number, other in enumerate(others):
        generators.save(tmp_path / f"{number}.safetensors", other, {})
        with pytest.raises(ValueError, match="are of different sizes or codecs: ship each by itself"):
            ship.ship(settings([tiny_checkpoint, str(tmp_path / f"{number}.safetensors")], data, tmp_path / "other"))


@pytest.mark.parametrize(
    ("after", "dtype"),
    [((30.01, 31.0), "float32"), ((29.99, 31.0), "float32"), ((30.0, 30.99), "float32"), ((30.003, 30.996), "float16")],
)
def test_any_width_that_moves_too_far_up_or_down_keeps_full_precision(
    tiny_checkpoint, data, tmp_path, monkeypatch, after, dtype
):
    scores = iter([(30.0, 31.0), after])
    monkeypatch.setattr(ship, "Validation", lambda *_: lambda network: dict(enumerate(next(scores))))
    tensors, _ = checkpoint.read(ship.ship(settings(tiny_checkpoint, data, tmp_path)))
    assert tensors["tail.bias"].dtype == getattr(torch, dtype)


def test_where_it_costs_quality_full_precision_ships(tiny_checkpoint, data, tmp_path):
    network = generators.load(tiny_checkpoint)
    lr, action = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 15)
    with torch.no_grad():  # a constant channel times 2049, which is 2048 in float16, and its cancellation
        network.conv.weight.zero_()
        network.modulate.embed.weight.zero_()
        network.head.weight[0], network.head.bias[0] = 0.0, 1.0
        network.tail.weight[:, 0, 1, 1] = 2049.0
        network.tail.bias -= (network(lr, action) - lr.repeat_interleave(4, 2).repeat_interleave(4, 3)).mean()
    source = tmp_path / "coarse.safetensors"
    generators.save(source, network, {"steps": 1})
    path = ship.ship(settings(str(source), data, tmp_path))
    assert all(tensor.dtype != torch.float16 for tensor in checkpoint.read(path)[0].values())


def test_a_weight_too_large_for_half_precision_ships_in_full(tiny_checkpoint, data, tmp_path, capsys):
    network = generators.load(tiny_checkpoint)
    with torch.no_grad():
        network.tail.bias[0] = 1e5
    with pytest.raises(ValueError, match="a weight of tiny is too large for torch.float16: save it in float32"):
        generators.save(tmp_path / "g.safetensors", network, {}, torch.float16)
    assert not (tmp_path / "g.safetensors").exists()
    source = tmp_path / "large.safetensors"
    generators.save(source, network, {"steps": 1})
    tensors, metadata = checkpoint.read(ship.ship(settings(str(source), data, tmp_path)))
    assert tensors["tail.bias"][0] == 1e5 and metadata["training"] == {"steps": 1}
    assert "half precision cannot hold a weight: weights in torch.float32" in capsys.readouterr().out


def test_no_generator_is_refused():
    with pytest.raises(ValueError, match="^give at least one generator, as its checkpoint's path$"):
        Ship(generator=[], images="photos")


def test_no_file_is_replaced(tiny_checkpoint, data, tmp_path):
    target = tmp_path / "out" / "g.safetensors"
    target.parent.mkdir()
    target.write_bytes(Path(tiny_checkpoint).read_bytes())
    for source in (tiny_checkpoint, str(target)):
        with pytest.raises(ValueError, match="g.safetensors exists already: give another --output, or remove it"):
            ship.ship(settings(source, data, tmp_path))
    assert target.read_bytes() == Path(tiny_checkpoint).read_bytes()


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((), "^give at least one width$"),
        ((1.0, 9.0), "^widths must lie in 0.2 to 4, as tiny's kernels do, got 9: give another$"),
        ((0.1,), "got 0.1"),
    ],
)
def test_widths_are_those_of_the_network(tiny_checkpoint, data, tmp_path, widths, message):
    with pytest.raises(ValueError, match=message):
        ship.ship(settings(tiny_checkpoint, data, tmp_path, widths=widths))
    assert not (tmp_path / "out").exists()


def test_a_photo_too_small_is_named(tiny_checkpoint, photo, tmp_path):
    for name, side in (("a", 12), ("deep/b", 11)):
        images.write(tmp_path / "photos" / f"{name}.png", photo(side, 30, 0))
        if side == 12:
            ship.ship(settings(tiny_checkpoint, str(tmp_path / "photos"), tmp_path)).unlink()
    with pytest.raises(images.ImageError, match="deep/b of 30x11 is too small to blur: .* at least 12"):
        ship.ship(settings(tiny_checkpoint, str(tmp_path / "photos"), tmp_path))


def test_what_does_not_fit(tiny_checkpoint, data, tmp_path, monkeypatch):
    """The whole file counts, with the codec and the header."""
    shipped = ship.ship(settings(tiny_checkpoint, data, tmp_path))
    size = shipped.stat().st_size
    shipped.unlink()
    shipped.parent.rmdir()
    monkeypatch.setattr(ship, "LARGEST", size - 1)
    with pytest.raises(ValueError, match="above 0 MB: ship a smaller network"):
        ship.ship(settings(tiny_checkpoint, data, tmp_path))
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(ship, "LARGEST", size)
    with pytest.raises(ValueError, match="ship a smaller network"):
        ship.ship(settings(tiny_checkpoint, data, tmp_path, tolerance=-1.0))  # in float32 it is larger
    assert ship.ship(settings(tiny_checkpoint, data, tmp_path)) == shipped
