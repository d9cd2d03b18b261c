"""Coverage-guided fuzzing of the whole engine, with bytes of visitors and of legacy.

    python -m tests.fuzz.engine_bytes -max_total_time=600 CORPUS

All options are libFuzzer's. The first byte of an input says who sends it, the second how it is
cut into pieces; the rest are the bytes. What must hold is `tests.proxy.engine.hostile`'s.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["bridge.proxy.http.wire", "bridge.proxy.engine", "bridge.proxy.request.target"]
):
    from tests.proxy.engine.hostile import check_answer, check_request
    from tests.proxy.engine.wired import Wired

from tests.fuzz.seeds import ANSWERS, REQUESTS, WORDS

_METHODS = (b"GET", b"HEAD", b"POST")


def write_seeds(directory: Path) -> None:
    """The corpus to begin with, one input a file."""
    for kind, seeds in enumerate((REQUESTS, ANSWERS)):
        for number, raw in enumerate(seeds):
            for cut in (0, 7):
                name = directory / f"seed-{kind}-{number}-{cut}"
                name.write_bytes(bytes((kind, cut)) + raw)


def main() -> None:
    """Run until libFuzzer's limits are reached, or something is found."""
    places = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    for place in places[:1]:
        place.mkdir(parents=True, exist_ok=True)
        write_seeds(place)
        words = place.with_name(f"{place.name}.words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS), encoding="ascii")
        sys.argv.append(f"-dict={words}")
    wired = Wired()

    def one_input(data: bytes) -> None:
        if len(data) < 2:
            return
        kind, cut, raw = data[0], data[1], data[2:]
        cuts = list(range(cut, len(raw), cut))[:64] if cut else []
        if kind % 2 == 0:
            check_request(wired, raw, cuts, sends_no_more=bool(kind // 2 % 2))
        else:
            check_answer(wired, raw, cuts, _METHODS[kind // 2 % len(_METHODS)])

    os.environ.setdefault("PYTHONHASHSEED", "0")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
