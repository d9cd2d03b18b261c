"""What only a look at whole documents shows: contents, and tombstones that are none.

The rows are read once more, as events, and each document is compared with what its event makes;
children with their parents, because that is one event. What comes out is only a doubt: who asked
looks at both sides of these keys again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from pymongo.database import Database

from bridge.sync.bare import without_time, without_version
from bridge.sync.checksums import is_dead, version_in
from bridge.sync.documents import Document, Mirror
from bridge.sync.guard import Encoded, make_ready
from bridge.sync.mongodb import decode
from bridge.sync.reconcile.contents import differences, of_version
from bridge.sync.reconcile.mirrored import Mirrored
from bridge.sync.reconcile.sides import Sides

__all__ = ["Deep"]

ROWS_PER_STEP = 500
MOST_DOUBTS = 200_000
"""Of one entity. Where there are more, a snapshot is the better repair."""

Progress = Callable[[int], None]


class Deep:
    """Contents of one family: an entity and those of its children.

    doubtful: by entity, the keys that may differ. compared: by entity, how many documents were.
    more: whether there are even more doubtful keys.
    """

    def __init__(self, database: Database[Document], mirror: Mirror, owner: str) -> None:
        self._mirror, self._owner = mirror, owner
        source = mirror.entities[owner].source
        self._in_log = source is not None and source.owner == "log"
        self._children = [name for name, parent in mirror.parent_of.items() if parent == owner]
        family = [owner, *self._children]
        self._mirrored = {name: Mirrored(database, mirror.collection_of(name)) for name in family}
        self._places = {mirror.collection_of(name): name for name in family}
        self.doubtful: dict[str, dict[str, None]] = {name: {} for name in family}
        self.compared: Counter[str] = Counter()
        self.more = False

    def compare(self, sides: Sides, progress: Progress) -> None:
        """All rows with their documents. `progress` is told how many rows more were looked at."""
        position = None
        while True:
            chunk = sides.source.chunk(position, ROWS_PER_STEP)
            ready, rejected = make_ready(self._mirror, chunk.events)
            refused = [*(one.key for one in chunk.bad), *(one.event.key for one in rejected)]
            self._doubt(self._owner, refused)
            for name in self._children if refused else ():
                # No event says what they must be.
                self._doubt(name, self._mirrored[name].children_of(refused))
            writes: dict[str, dict[str, Encoded]] = {}
            deleted = []
            for one in ready:
                if one.event.data is None:
                    deleted.append(one.own.key)
                    continue
                for write in (one.own, *one.children):
                    writes.setdefault(self._places[write.collection], {})[write.key] = write
            for name, expected in writes.items():
                self._compare_some(name, expected)
            held = self._mirrored[self._owner].find(deleted)
            self._doubt(self._owner, [key for key, one in held.items() if one.state.alive])
            progress(chunk.rows)
            if chunk.rows < ROWS_PER_STEP:
                return
            position = chunk.last

    def examine(self, sides: Sides, progress: Progress) -> None:
        """All tombstones of the entity of `sides`, which is one of the family. `progress` is told
        how many more were looked at."""
        for found in self._mirrored[sides.name].tombstones(ROWS_PER_STEP):
            self._doubt(sides.name, sides.faulty(found))
            progress(len(found))

    def _compare_some(self, name: str, expected: Mapping[str, Encoded]) -> None:
        # Most documents are equal to the byte, and need no decoding.
        bare = without_version if self._in_log else without_time
        same = {bare(bytes(write.document.raw)): key for key, write in expected.items()}
        left = dict(expected)
        for raw in self._mirrored[name].raws(list(expected)):
            if (key := same.get(bare(raw))) is not None:
                self.compared[name] += 1
                del left[key]
                continue
            found = decode(raw)
            write = expected[found["_id"]]
            ours = bytes(write.document.raw)
            if self._in_log:
                ours = of_version(ours, raw)
            if not is_dead(found) and (self._in_log or version_in(found) == write.version):
                self.compared[name] += 1
                if not differences(ours, raw, 1):
                    del left[write.key]
        self._doubt(name, left)

    def _doubt(self, name: str, keys: Iterable[str]) -> None:
        doubtful = self.doubtful[name]
        doubtful |= dict.fromkeys(keys)
        self.more = self.more or len(doubtful) > MOST_DOUBTS
