"""The examples of the README, of the environment's page and of docstrings run as they stand."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    pytest.param(example, page, id=f"{page}: {example.strip().splitlines()[-1][:40]}")
    for page in ("README.md", "docs/environment.md")
    for example in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
]
ROOMS = ("generators", "blindsr_env", "agents", "experiments")
DOCUMENTED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_there_are_examples():
    assert len(EXAMPLES) >= 8 and len(DOCUMENTED) >= 8


@pytest.mark.parametrize("example, page", EXAMPLES)
def test_example_runs(example, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("module", DOCUMENTED)
def test_docstrings_tell_what_comes_out(module):
    assert not doctest.testmod(importlib.import_module(module)).failed
