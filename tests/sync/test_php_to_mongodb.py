"""What PHP says is what MongoDB says: odd values, through the real producer and worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymongo.database import Database

from stack.php import run_php
from stack.redis import Redis

PRODUCER = Path(__file__).parents[2] / "php" / "BridgeProducer.php"

ODD_VALUES = r"""<?php
error_reporting(-1);
ini_set('display_errors', '1');
require $argv[1];
$bridge = new BridgeProducer(array('port' => (int) $argv[2]));
$nothing = new stdClass;
$data = array(
    'latin1' => "caf\xe9 \x93quoted\x94 \x80 5",
    'half_utf8' => "caf\xc3\xa9 \xc3",
    'utf8' => "\xe2\x80\x9c\xf0\x9f\x90\x98",
    "cl\xe9" => 'a name in Latin-1',
    'one' => 1.0,
    'tenth' => 0.1,
    'huge' => 1.5e300,
    'largest' => PHP_INT_MAX,
    'smallest' => PHP_INT_MIN,
    'digits' => '123456789012345678901234567890',
    'nul' => "a\0b",
    'dollar' => '$PATH',
    'root' => '$$ROOT',
    'dotted.name' => array('inner.name' => 1),
    '' => 'an empty name',
    'empty_object' => $nothing,
    'empty_list' => array(),
    'list' => array(1, array(), $nothing),
    'gaps' => array(1 => 'one', 3 => 'three'),
    'true' => true,
    'null' => null,
    'updated' => '2026-01-02T03:04:05Z',
    'moment' => new DateTime('2026-01-02 03:04:05', new DateTimeZone('Europe/Berlin')),
    'control' => "\x01\x1f\x7f\r\n\t\"\\/",
);
$done = $bridge->publish('project', 'changed', "caf\xe9", '9223372036854775807', $data);
echo $done ? 'published' : $bridge->error();
"""


def test_odd_values_arrive_equal(
    tmp_path: Path,
    redis_url: str,
    redis_server: Redis,
    mongodb_url: str,
    clean_mongodb: Database[dict[str, Any]],
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    script = tmp_path / "odd.php"
    script.write_text(ODD_VALUES, encoding="utf-8")
    worker = start_worker(redis_url, mongodb_url)

    assert run_php(script, str(PRODUCER), str(redis_server.port)) == "published"
    found = wait_for(lambda: clean_mongodb.projects.find_one())

    worker.stop()
    assert worker.counters.dead == 0
    del found["_at"]
    expected = {
        "_id": "café",
        "_v": 2**63 - 1,
        "latin1": "café “quoted” € 5",
        "half_utf8": "café Ã",
        "utf8": "“🐘",
        "clé": "a name in Latin-1",
        "one": 1.0,
        "tenth": 0.1,
        "huge": 1.5e300,
        "largest": 2**63 - 1,
        "smallest": -(2**63),
        "digits": "123456789012345678901234567890",
        "nul": "a\0b",
        "dollar": "$PATH",
        "root": "$$ROOT",
        "dotted.name": {"inner.name": 1},
        "": "an empty name",
        "empty_object": {},
        "empty_list": [],
        "list": [1, [], {}],
        "gaps": {"1": "one", "3": "three"},
        "true": True,
        "null": None,
        "updated": "2026-01-02T03:04:05Z",
        "moment": "2026-01-02T03:04:05+01:00",
        "control": '\x01\x1f\x7f\r\n\t"\\/',
    }
    # repr tells 1 from 1.0 and True, and keeps the order of the names.
    assert repr(found) == repr(expected)
