"""What `bridgectl doctor` finds in a RabbitMQ: every URL of it, its queues, and on how many nodes
these are.

Members of a queue are not to be had over AMQP: the HTTP API of `rabbitmq_management` is asked,
where BRIDGE_RABBITMQ_API names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import requests

from bridge.errors import BridgeError
from bridge.findings import Finding
from bridge.queue.broker.connection import DEAD_QUEUE, EVENTS_QUEUE, Link, connect
from bridge.settings import redact_url

__all__ = ["examine"]

PATIENCE = 5.0  # seconds
SLOW_TICK = 20
"""Seconds of `net_ticktime`, after which nodes notice that another hangs."""
GROW = r"rabbitmq-queues grow NODE all --queue-pattern '^bridge\.'"


def examine(url: str, api: str) -> Iterator[Finding]:
    """Look at each of the URLs in `url`, then at the queues. api: URL of the HTTP API, or empty."""
    urls, answers = url.split(";"), []
    for one in urls:
        try:
            connect(one).release()
        except BridgeError as error:
            says = f"does not answer: {error}"
            yield Finding("bad", "broker", redact_url(one), says, "systemctl start rabbitmq-server")
        else:
            answers.append(one)
            yield Finding("ok", "broker", redact_url(one), "answers")
    if not answers:
        return
    where = redact_url(answers[0])
    if error_text := _use(answers[0]):
        says, do = f"its queues cannot be used: {error_text}", "rabbitmqctl cluster_status"
        yield Finding("bad", "broker", where, says, do)
    if api:
        yield from _members(api, unquote(urlsplit(answers[0]).path[1:]) or "/", len(urls))
    elif len(urls) > 1:
        says = "on how many nodes the queues are is not known"
        yield Finding("note", "broker", where, says, "set BRIDGE_RABBITMQ_API, see docs/scaling.md")


def _use(url: str) -> str:
    """What is wrong with the queues; empty where nothing is."""
    try:
        with Link(url, socket_timeout=PATIENCE) as link:
            link.do(lambda broker: broker.counts())
    except BridgeError as error:
        return str(error)
    return ""


def _members(api: str, vhost: str, urls: int) -> Iterator[Finding]:
    where = redact_url(api)
    try:
        nodes = _ask(api, "nodes", allowed=(401, 403))
        queues = {
            name: _ask(api, f"queues/{quote(vhost, safe='')}/{name}", allowed=(404,))
            for name in (EVENTS_QUEUE, DEAD_QUEUE)
        }
    except (requests.RequestException, ValueError) as error:
        says = f"the HTTP API cannot be asked: {type(error).__name__}"
        do = "rabbitmq-plugins enable rabbitmq_management; the user needs the tag monitoring"
        yield Finding("bad", "broker", where, says, do)
        return
    wanted = max(urls, len(nodes or ()))
    for name, queue in queues.items():
        if queue is not None:
            yield _member(f"{where} {name}", queue, wanted)
    slow = max((int(node.get("net_ticktime") or 0) for node in nodes or ()), default=0)
    if wanted > 1 and slow > SLOW_TICK:
        says = f"a node that hangs stops all queues for up to {slow * 5 // 4} s"
        do = "net_ticktime = 15 in rabbitmq.conf of every node"
        yield Finding("note", "broker", where, says, do)


def _member(where: str, queue: dict[str, Any], wanted: int) -> Finding:
    members, online = len(queue.get("members") or ()), len(queue.get("online") or ())
    says = f"is on {members} of {wanted} nodes"
    if members < min(wanted, 3):
        return Finding("bad", "queue", where, f"{says}: its loss may stop everything", GROW)
    if online < members:
        says += f", {members - online} of them away"
        return Finding("bad", "queue", where, says, "start the other nodes")
    return Finding("ok", "queue", where, says)


def _ask(api: str, path: str, *, allowed: tuple[int, ...]) -> Any:
    """What the API says; None where the status is one of `allowed`."""
    answer = requests.get(f"{api.rstrip('/')}/api/{path}", timeout=PATIENCE, allow_redirects=False)
    if answer.status_code in allowed:
        return None
    answer.raise_for_status()
    return answer.json()
