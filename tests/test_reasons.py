"""Every fixed word has its line in the operator's guide, and none is there that does not exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bridge.reasons import Reason, Stage

GUIDE = (Path(__file__).parents[1] / "docs" / "operators-guide.md").read_text(encoding="utf-8")


def words(beginning: str) -> list[str]:
    """The words in backticks, and in no brackets, of the line that begins so."""
    (line,) = [one for one in GUIDE.splitlines() if one.startswith(beginning)]
    return re.findall(r"`([a-z0-9_-]+)`", re.sub(r"\([^)]*\)", "", line[len(beginning) :]))


def test_the_guide_lists_every_reason() -> None:
    assert sorted(words("Reasons in the log")) == sorted(Reason)


def test_the_guide_lists_every_stage() -> None:
    failing = [stage for stage in Stage if stage is not Stage.HANDLER]

    assert words("| `bridge_backend_failures_total` | `backend`, `stage` |") == failing
    assert set(words("| `bridge_stage_seconds` | `backend`, `stage` |")) <= set(Stage)


@pytest.mark.parametrize("word", [*Reason, *Stage])
def test_a_word_is_its_text_for_logs_and_counters(word: Reason | Stage) -> None:
    text = str(word.value)

    assert json.dumps({"reason": word}) == f'{{"reason": "{text}"}}'
    assert f"{word}" == word == text
    assert {text: 1}[word] == 1
    assert word.says
