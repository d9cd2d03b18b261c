"""A program of its own: masks in texts what patterns match. It may be killed at any moment.

The patterns are the site's, and one that backtracks does not end in a lifetime; Python cannot stop
one in a thread. So it is run by `hiding`, as a file, without any module of ours. Standard input:
`{"patterns": […], "texts": […], "mask": "●●●", "seconds": 2}`; standard output: the texts.
"""

import json
import re
import resource
import sys

_MEMORY = 2**30  # bytes


def main() -> None:
    """Read, mask, write."""
    asked = json.load(sys.stdin)
    # Whoever has started this may be gone, and then nobody kills it.
    seconds = int(asked["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    mask = asked["mask"]
    patterns = [re.compile(pattern) for pattern in asked["patterns"]]

    def masked(match: "re.Match[str]") -> str:
        return mask if match[0] else ""

    texts = []
    for text in asked["texts"]:
        for pattern in patterns:
            text = pattern.sub(masked, text)
        texts.append(text)
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
