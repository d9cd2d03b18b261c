"""The Composer package file: what it names is there."""

from __future__ import annotations

import json
import re

from tests.php.page_site import PRODUCER

PACKAGE = json.loads((PRODUCER.parent / "composer.json").read_text(encoding="utf-8"))


def test_the_package_has_a_name_a_licence_and_the_oldest_php() -> None:
    assert re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+", PACKAGE["name"])
    assert PACKAGE["license"] == "MIT"
    assert PACKAGE["require"] == {"php": ">=5.2.17"}


def test_every_file_that_is_loaded_is_there_and_holds_the_class() -> None:
    [file] = PACKAGE["autoload"]["classmap"]

    assert "class BridgeProducer\n" in (PRODUCER.parent / file).read_text(encoding="utf-8")


def test_nothing_but_php_is_required_and_the_clients_are_suggested() -> None:
    assert {"ext-redis", "predis/predis"} <= PACKAGE["suggest"].keys()
