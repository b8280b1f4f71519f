"""The examples of the README and of the environment's page run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    pytest.param(example, page, id=f"{page}: {example.strip().splitlines()[-1][:40]}")
    for page in ("README.md", "docs/environment.md")
    for example in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
]


def test_there_are_examples():
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("example, page", EXAMPLES)
def test_example_runs(example, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page, "exec"), {"__name__": "example"})
