"""Rules against noise that cannot work are errors of routes.yaml, at their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.proxy.routing.load import load_text
from bridge.proxy.tools.lint import lint_the_rest
from tests.proxy.site import TOP


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("css: 'li['", "'li[' is no CSS selector"),
        ("json: items", "it begins with $"),
        ("json: '$.a['", "from '[' on"),
        ("regex: '('", "is no regular expression"),
    ],
)
def test_a_rule_that_is_none_is_named_with_line_and_column(
    tmp_path: Path, rule: str, says: str
) -> None:
    text = TOP + f"compare:\n  ignore:\n    - {rule}\nroutes: []\n"
    text = text.replace("routes:\ncompare", "compare")
    with pytest.raises(ConfigError) as error:
        load_text(text, tmp_path / "routes.yaml")
    [problem] = error.value.problems
    assert says in problem.message + problem.hint
    assert text.splitlines()[problem.line - 1].strip().endswith(rule)
    assert problem.column == 8 + len(rule.split()[0])


def test_a_file_with_errors_and_no_route_is_linted(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("version: 1\nroutes: []\nwrong: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_text(path.read_text(encoding="utf-8"), path)
    assert lint_the_rest(path, error.value.problems) == []
