"""Metrics in Prometheus' text format (version 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

__all__ = ["Kind", "family", "header", "page", "sample"]

Kind = Literal["counter", "gauge", "histogram"]


def header(name: str, kind: Kind, text: str) -> list[str]:
    """The lines before the samples of a metric."""
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def sample(name: str, labels: Mapping[str, str]) -> str:
    """What stands before the value of one sample."""
    inside = ",".join(f'{label}="{_quoted(labels[label])}"' for label in sorted(labels))
    return f"{name}{{{inside}}}" if inside else name


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def family(
    name: str, kind: Kind, text: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> list[str]:
    """The lines of one metric.

    text: its HELP.
    samples: labels and a value each.
    """
    return [
        *header(name, kind, text),
        *(f"{sample(name, labels)} {value}" for labels, value in samples),
    ]


def page(lines: Iterable[str]) -> bytes:
    """What a scrape gets."""
    return "\n".join([*lines, ""]).encode()
