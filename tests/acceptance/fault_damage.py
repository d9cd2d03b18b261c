"""Damage on both sides, and how `bridgectl reconcile` has to name it."""

from __future__ import annotations

import json
import time

from tests.acceptance.fault_commands import Difference
from tests.acceptance.fault_edits import OUT
from tests.acceptance.fault_site import FaultSite


def damage(site: FaultSite, first: int) -> set[Difference]:
    """Damage what no edit touches on both sides, eight keys from `quiet{first}` on; entity,
    kind and key of each difference that there is now. Both sides have version 1 of them."""
    q = [f"quiet{number:03}" for number in range(first, first + 8)]
    pages, projects = site.collection("pages"), site.collection("projects")
    releases = site.collection("releases")
    pages.delete_one({"_id": q[0]})
    pages.update_one({"_id": q[1]}, {"$set": {"body": "other"}})
    pages.update_one({"_id": q[2]}, {"$set": {"_v": 9}})
    pages.update_one({"_id": q[3]}, {"$set": {"_v": 0}})
    pages.replace_one({"_id": q[4]}, {"_id": q[4], "_v": 1, "_del": True})
    pages.insert_one({"_id": f"nobody{first}", "_v": 3, "name": "nobody"})
    projects.update_one({"_id": q[0]}, {"$set": {"title": "other"}})
    releases.delete_one({"_id": f"{q[1]}/1"})
    releases.insert_one({"_id": f"{q[2]}/9", "_v": 1, "_parent": q[2], "version": "9"})
    releases.update_one({"_id": f"{q[3]}/1"}, {"$set": {"file": "other"}})
    site.sql(
        f"UPDATE pages SET body = 'other' WHERE name = '{q[5]}'",
        f"UPDATE pages SET ver = 2 WHERE name = '{q[6]}'",
        f"DELETE FROM pages WHERE name = '{q[7]}'",
        f"INSERT INTO pages VALUES ('unheard{first}', 1, 'of')",
        f"UPDATE projects SET gone = 1, ver = 2 WHERE name = '{q[4]}'",
        f"INSERT INTO releases VALUES ('{q[5]}', '3', 'f', 0)",
        f"DELETE FROM releases WHERE project = '{q[6]}' AND version = '1'",
        f"UPDATE projects SET ver = 2 WHERE name = '{q[7]}'",
    )
    return {
        ("page", "missing", q[0]),
        ("page", "different", q[1]),
        ("page", "ahead", q[2]),
        ("page", "behind", q[3]),
        ("page", "ahead", q[4]),
        ("page", "orphan", f"nobody{first}"),
        ("page", "different", q[5]),
        ("page", "behind", q[6]),
        ("page", "orphan", q[7]),
        ("page", "missing", f"unheard{first}"),
        ("project", "different", q[0]),
        ("project", "orphan", q[4]),
        ("project", "behind", q[7]),
        ("release", "missing", f"{q[1]}/1"),
        ("release", "orphan", f"{q[2]}/9"),
        ("release", "different", f"{q[3]}/1"),
        ("release", "orphan", f"{q[4]}/1"),
        ("release", "orphan", f"{q[4]}/2"),
        ("release", "missing", f"{q[5]}/3"),
        ("release", "orphan", f"{q[6]}/1"),
        ("release", "behind", f"{q[7]}/1"),
        ("release", "behind", f"{q[7]}/2"),
    }


def overtake(site: FaultSite, *pages: str) -> None:
    """Edit these pages to a version above all that `damage` gave to MongoDB."""
    for name in pages:
        data = json.dumps({"name": name, "body": "first"})
        site.sql(
            "BEGIN",
            f"UPDATE pages SET ver = 20 WHERE name = '{name}'",
            f"UPDATE counters SET ver = 20 WHERE entity = 'page' AND name = '{name}'",
            f"{OUT} VALUES ('page', '{name}', 'page.changed', '{data}', 20, "
            f"{int(time.time() * 1000)})",
            "COMMIT",
        )
