"""Generators on disk: what is saved is loaded, and what is no generator is refused in one line."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import generators
from generators import CheckpointError, checkpoint, state_dict
from generators.generator import ATTRIBUTES, lacking
from generators.state_dict import fingerprint

README = Path(__file__).parents[2] / "README.md"


def lr_and_action():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 6, 7, generator=rng), torch.rand(2, 15, generator=rng) * 2 - 1


def test_what_is_exported_as_a_generator_lacks_nothing_of_one(tiny_generator):
    network = torch.nn.Identity()
    for each in (
        tiny_generator,
        generators.ByKernel(network, "mine"),
        generators.Tiled(tiny_generator),
        generators.SelfEnsemble(tiny_generator),
        generators.Compiled(tiny_generator),
    ):
        assert lacking(each) == "" and each.scale == 4 and callable(each.render)
    assert ATTRIBUTES == ("scale", "codec", "name", "render") and set(ATTRIBUTES) < set(dir(generators.Generator))
    network.scale, network.name = 4, "bare"
    assert lacking(network).startswith("the generator Identity lacks codec, render: give it scale, codec, name, render")


def test_round_trip(tiny_generator, tmp_path):
    path = tmp_path / "new" / "g.safetensors"
    generators.save(path, tiny_generator, {"data": ["photos"], "steps": 3, "figures": {"psnr": 30.5}, "commit": None})
    loaded = generators.load(path)
    assert loaded.architecture == tiny_generator.architecture and loaded.name == "tiny" and loaded.scale == 4
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in tiny_generator.codec.state().items():
        assert torch.equal(tensor, getattr(loaded.codec, name)), name
    assert loaded.codec.fingerprint == tiny_generator.codec.fingerprint
    assert loaded.codec.width_range == tiny_generator.codec.width_range
    lr, action = lr_and_action()
    assert torch.equal(loaded(lr, action), tiny_generator(lr, action))
    assert loaded.head.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_file_describes_itself(tiny_checkpoint):
    _, metadata = checkpoint.read(tiny_checkpoint)
    assert metadata["kind"] == "generator" and metadata["format_version"] == checkpoint.FORMAT_VERSION
    assert metadata["architecture"] == {"blocks": 1, "width": 8, "scale": 4, "modulation": "amlayer"}
    assert metadata["training"] == {"data": "none"} and metadata["width_range"] == [0.2, 4.0]


@pytest.mark.parametrize("modulation", ["amlayer", "adain"])
@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales_and_modulations_come_back(tmp_path, scale, modulation):
    network = generators.build("amnet_s", scale=scale, modulation=modulation).eval()
    path = tmp_path / "g.safetensors"
    generators.save(path, network, {})
    loaded = generators.load(path)
    lr, action = lr_and_action()
    assert torch.allclose(loaded(lr, action), network(lr, action), atol=1e-5)
    assert loaded.scale == scale and loaded.codec.fingerprint == network.codec.fingerprint


def test_weights_stored_in_half_are_loaded_in_full(tiny_checkpoint, tiny_generator, tmp_path):
    tensors, metadata = checkpoint.read(tiny_checkpoint)
    halved = {name: tensor if name.startswith("codec.") else tensor.half() for name, tensor in tensors.items()}
    path = tmp_path / "half.safetensors"
    checkpoint.save(path, halved, metadata)
    loaded = generators.load(path)
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    assert loaded.codec.basis.dtype == torch.float64
    lr, action = lr_and_action()
    assert (loaded(lr, action) - tiny_generator(lr, action)).abs().max() < 0.01


def test_tensors_may_share_memory(tmp_path):
    whole = torch.arange(6.0).view(2, 3)
    checkpoint.save(tmp_path / "c.safetensors", {"whole": whole, "row": whole[1], "turned": whole.T}, {})
    tensors, _ = checkpoint.read(tmp_path / "c.safetensors")
    assert torch.equal(tensors["whole"], whole) and torch.equal(tensors["turned"], whole.T)
    assert torch.equal(tensors["row"], whole[1])


def test_metadata_are_plain_values(tmp_path):
    path = tmp_path / "c.safetensors"
    values = {"numpy": np.float32(0.5), "count": np.int64(3), "torch": torch.tensor(2.0), "place": Path("a/b")}
    checkpoint.save(path, {"x": torch.ones(1)}, values)
    kept = checkpoint.read(path)[1]
    assert {name: kept[name] for name in values} == {"numpy": 0.5, "count": 3, "torch": 2.0, "place": "a/b"}
    with pytest.raises(TypeError, match="metadata cannot hold ndarray: give plain values"):
        checkpoint.save(path, {"x": torch.ones(1)}, {"many": np.zeros(2)})


def test_headers_of_every_length_are_read(tmp_path):
    """A safetensors file begins with a length whose first byte may be that of a pickle (0x80)."""
    path, first = tmp_path / "c.safetensors", set()
    for length in range(0, 512, 4):
        checkpoint.save(path, {"x": torch.ones(1)}, {"text": "a" * length})
        first.add(path.read_bytes()[0])
        assert checkpoint.read(path)[1]["text"] == "a" * length
    assert 0x80 in first


def test_shipped_generators_load_by_name_and_have_cards():
    assert generators.load().name == generators.names()[0] == "amnet"
    for name in generators.names():
        network, path = generators.load(name), generators.find(name)
        assert network.name == name and network.scale == (2 if name.endswith("_x2") else 4)
        # One predictor serves all of a scale.
        assert network.codec.fingerprint == generators.KernelCodec.isotropic(network.scale).fingerprint
        assert path.stat().st_size < 15 * 2**20
        card = path.with_suffix(".md").read_text()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        assert card.startswith(f"# {name}\n") and f"{parameters:,} parameters" in " ".join(card.split())
        assert all(word in card for word in ("**Licence**", "| training", "device", "Limits:"))
        assert ("research use" in card) == ("BSDS500's" in card), "what was trained on BSDS500 is for research"
        assert "HACK" not in card and "TABLE" not in card, "a figure is still to be filled in"
        assert f"({path.relative_to(README.parent).with_suffix('.md')})" in README.read_text()


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match="unknown generator 'amnets': did you mean 'amnet_s'") as error:
        generators.load("amnets")
    assert "\n" not in str(error.value)


def _pickle(path, whole):
    torch.save({"weights": torch.ones(3)}, path)


def _old_pickle(path, whole):
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))


def _truncated(path, whole):
    path.write_bytes(whole[: len(whole) // 2])


def _header_only(path, whole):
    path.write_bytes(whole[:4])


def _empty(path, whole):
    path.write_bytes(b"")


def _text(path, whole):
    path.write_text("version https://git-lfs.github.com/spec/v1\n" * 3)


def _foreign(path, whole):
    save_file({"x": torch.ones(2)}, path)


def _bad_json(path, whole):
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt", checkpoint.METADATA_KEY: "{"})


def _json_list(path, whole):
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt", checkpoint.METADATA_KEY: "[1]"})


def _newer(path, whole):
    text = json.dumps({"format_version": checkpoint.FORMAT_VERSION + 1})
    save_file({"x": torch.ones(2)}, path, metadata={"format": "pt", checkpoint.METADATA_KEY: text})


def _agent(path, whole):
    checkpoint.save(path, {"x": torch.ones(2)}, {"kind": "predictor"})


def _without_weights(path, whole):
    checkpoint.save(path, {}, {"kind": "generator", "architecture": {}, "width_range": [0.2, 4.0], "name": "g"})


def _other_network(path, whole):
    full = path.with_name("whole.safetensors")
    full.write_bytes(whole)
    tensors, metadata = checkpoint.read(full)
    checkpoint.save(path, tensors, metadata | {"architecture": {"blocks": 2, "width": 8}})


def _unknown_setting(path, whole):
    full = path.with_name("whole.safetensors")
    full.write_bytes(whole)
    tensors, metadata = checkpoint.read(full)
    checkpoint.save(path, tensors, metadata | {"architecture": {"blocks": 1, "width": 8, "heads": 3}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_pickle, "is a pickle"),
        (_old_pickle, "is a pickle"),
        (_truncated, "truncated"),
        (_header_only, "truncated"),
        (_empty, "is empty"),
        (_text, "no safetensors file"),
        (_foreign, "not written by blindsr"),
        (_bad_json, "not written by blindsr"),
        (_json_list, "not written by blindsr"),
        (_newer, "format version 2, this blindsr reads version 1"),
        (_agent, "holds a predictor, not a generator"),
        (_without_weights, "not a whole generator"),
        (_other_network, "not a whole generator"),
        (_unknown_setting, "not a whole generator"),
    ],
)
def test_bad_files_give_one_line(make, message, tmp_path, tiny_checkpoint):
    path = tmp_path / "bad.safetensors"
    with open(tiny_checkpoint, "rb") as file:
        make(path, file.read())
    with pytest.raises(CheckpointError, match=message) as error:
        generators.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and ": " in str(error.value)


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pth", "folder/missing", "."])
def test_missing_files_give_one_line(name, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        generators.load(tmp_path / name)


def test_weights_have_a_fingerprint(tmp_path):
    shipped, again = generators.load("amnet_s"), generators.load("amnet_s", dtype=torch.bfloat16)
    assert shipped.fingerprint == again.fingerprint and len(shipped.fingerprint) == 12
    assert generators.load("amgan_s").fingerprint != shipped.fingerprint
    assert generators.build("amnet_s").fingerprint is None
    with torch.no_grad():
        shipped.tail.bias[0] += 1e-6
    generators.save(tmp_path / "other.safetensors", shipped, {})
    assert generators.load(tmp_path / "other.safetensors").fingerprint != shipped.fingerprint


def test_a_fingerprint_is_of_names_too():
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    one, other = (torch.nn.ModuleDict(dict(zip(names, layers, strict=True))) for names in ("ab", "ac"))
    assert fingerprint(one) != fingerprint(other) and len(fingerprint(one)) == 12


def test_weights_that_would_be_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"file has weight of shape \(1, 3\), not \(2, 3\): it belongs to another"):
        state_dict.fill(torch.nn.Linear(3, 2), {"weight": torch.zeros(1, 3), "bias": torch.zeros(2)}, "file")


@pytest.mark.parametrize(
    "content",
    [b"", b".", b"hello world", b"<html>", b"\x80\x02X\x04\x00", b"\x80\x02X\x01\x00\x00\x00\xff."],
)
def test_a_damaged_state_dict_is_one_line_that_names_the_file(tmp_path, content):
    """Whatever its pickle's remains raise: IndexError, struct.error, UnicodeDecodeError and more."""
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth cannot be read \(\w+\): it is damaged, or holds more") as error:
        state_dict.read(path)
    assert "\n" not in str(error.value)


def test_the_default_dtype_changes_no_generator(tiny_checkpoint):
    dtypes = (torch.float32, torch.bfloat16)
    plain = [generators.load(tiny_checkpoint, dtype=dtype) for dtype in dtypes]
    for default in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(default)
        try:
            others = [generators.load(tiny_checkpoint, dtype=dtype) for dtype in dtypes]
        finally:
            torch.set_default_dtype(torch.float32)
        for one, other in zip(plain, others, strict=True):
            assert other.fingerprint == one.fingerprint
            assert torch.equal(other(*lr_and_action()), one(*lr_and_action()))
