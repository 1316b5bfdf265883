"""docs/models.md: every section's Python, executed as it is printed there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
SECTIONS = {section.partition("\n")[0]: section for section in PAGE.split("\n## ")[1:]}
#: What each section prints, as a regular expression.
EXPECTED = {
    "Classify a photograph with EfficientNet-Lite0": r"30\.7% daisy\n(\d+\.\d% .+\n){4}",
    "Fine-tune its head": r"0\.9\d+\n",
    "Chat with SmolLM2": r"The capital of France is Paris\.",
    "Embed sentences with MiniLM": r"\[\[ *1\. +0\.[5-9] .*\]\]\n",
    "Train a character GPT and sample from it": r"(?s)The Zen of Python.*?\n[ -~\n]{60}\n",
}


@pytest.mark.weights
@pytest.mark.parametrize("title", SECTIONS)
def test_the_section_runs(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program = "\n".join(re.findall(r"```python\n(.*?)```", SECTIONS[title], re.DOTALL))
    assert len([line for line in program.splitlines() if line.strip()]) < 20
    exec(compile(program, f"docs/models.md: {title}", "exec", dont_inherit=True), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert re.fullmatch(EXPECTED[title], printed, re.DOTALL), printed
