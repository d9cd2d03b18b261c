"""What `bench.queue` found, as the table for people and the figures for programs."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.queue_brokers import Contender
from bench.report import Report, spread
from stack.process import Server

__all__ = ["MongoRows", "Row", "report"]


@dataclass
class Row:
    """A contender, what it is given, and what was found: one value a round, or all of them.

    server: whose processor time counts; its CPU in seconds is in `seconds`.
    messages: of a round, for each second of load. consumers: processes that share the work.
    *_rate: messages/s. delays: ms, of every message that was timed alone.
    """

    server: Server
    contender: Contender
    messages: int = 0
    consumers: int = 1
    sent: int = 0
    seconds: float = 0.0
    publish_rate: list[float] = field(default_factory=list)
    consume_rate: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the server have used so far."""
        ticks = 0
        for pid in self.server.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass
class MongoRows:
    """Events/s into MongoDB, one value a round; visible: ms, of every event."""

    events: int = 0
    stock: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)


def report(rows: dict[str, Row], delays: dict[str, Row], mongo: MongoRows) -> Report:
    """Medians over the rounds; ratios are medians of the ratios of each round."""
    made = Report(
        "messages/s, median (smallest–largest) of the rounds; CPU of the server in µs a message; "
        "delay in ms",
        ("", "messages", "publish", "consume and ack", "CPU", "delay p50", "p99"),
    )
    figures = made.figures
    for name, row in rows.items():
        figures[f"{name}_publish_per_s"] = round(statistics.median(row.publish_rate))
        figures[f"{name}_consume_per_s"] = round(statistics.median(row.consume_rate))
        rates = spread(row.publish_rate), spread(row.consume_rate)
        figures[f"{name}_server_cpu_us"] = round(row.seconds * 1e6 / row.sent, 1)
        cpu = f"{figures[f'{name}_server_cpu_us']:.0f}"
        made.rows.append((name, f"{row.sent:,}", *rates, cpu, "", ""))
    for name, row in delays.items():
        figures[f"{name}_delay_p50_ms"] = _part(row.delays, 50)
        figures[f"{name}_delay_p99_ms"] = _part(row.delays, 99)
        found = f"{_part(row.delays, 50):.2f}", f"{_part(row.delays, 99):.2f}"
        made.rows.append((f"{name}, one by one", f"{len(row.delays):,}", "", "", "", *found))
    figures["e2e_stock_per_s"] = round(statistics.median(mongo.stock))
    figures["e2e_events_per_s"] = round(statistics.median(mongo.worker))
    figures["visible_p50_ms"] = _part(mongo.visible, 50)
    figures["visible_p99_ms"] = _part(mongo.visible, 99)
    figures["visible_events"] = len(mongo.visible)
    every = (*rows.values(), *delays.values())
    figures["messages"] = sum(row.sent for row in every) + mongo.events
    made.rows.append(("stock, into MongoDB", "", "", spread(mongo.stock), "", "", ""))
    seen = f"{_part(mongo.visible, 50):.2f}", f"{_part(mongo.visible, 99):.2f}"
    made.rows.append(("bridgectl worker, into MongoDB", "", "", spread(mongo.worker), "", *seen))
    made.ratios = _ratios(rows, mongo)
    return made


def _ratios(rows: dict[str, Row], mongo: MongoRows) -> dict[str, float]:
    ours, stock = rows["streams_100"], rows["stock"]
    return {
        "publish_over_stock": _over(ours.publish_rate, stock.publish_rate),
        "publish_1_over_stock": _over(rows["streams_1"].publish_rate, stock.publish_rate),
        "consume_over_stock": _over(ours.consume_rate, stock.consume_rate),
        "consume_over_sql": _over(ours.consume_rate, _better(rows["sql"], rows["sql_4"])),
        "consume_over_sql_batched": _over(
            ours.consume_rate, _better(rows["sql_batched"], rows["sql_batched_4"])
        ),
        "e2e_over_stock": _over(mongo.worker, mongo.stock),
    }


def _better(one: Row, four: Row) -> list[float]:
    """The rates of the number of consumers that is faster as a rule."""
    pair = one.consume_rate, four.consume_rate
    return max(pair, key=statistics.median)


def _over(rates: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(rates, others, strict=True)), 2)


def _part(times: Sequence[float], percent: int) -> float:
    """The time within which so many percent were done, to 10 µs."""
    return round(sorted(times)[(len(times) - 1) * percent // 100], 2)
