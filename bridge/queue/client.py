"""Sends events to the listener's `POST /events`: for Python programs outside the bridge.

Splits what it is given into batches, waits and tries again while the broker or the listener is
away, and says plainly what was refused. It needs only `requests` and the event's model.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from bridge.errors import BridgeError, IngestRefused, ServerAway
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.settings import redact_url

__all__ = ["IngestClient"]

_BATCH_EVENTS = 500  # half of what the listener takes
_BATCH_BYTES = 4 * 1024 * 1024  # a quarter
_AGAIN = (502, 503, 504)  # 502 and 504 come from a proxy in between
_LONGEST_WAIT = 30.0  # seconds
_SHOWN = 200  # characters of an answer that is not the listener's


class IngestClient:
    """A client of one listener. For one thread; a context manager.

    url: where the listener is, for example `https://bridge.example.org`; a path other than `/`
        is taken as it is, otherwise it is `/events`.
    token: BRIDGE_OPERATOR_TOKEN of the listener. It is in no message and no log.
    timeout: seconds to connect, and seconds without a byte of the answer.
    session: a `requests.Session` with settings of your own (proxies, certificates).
    tries: how often a batch is sent at most.
    sleep: called with the seconds between two tries.
    max_event: bytes of the largest event; more than 1 MiB where max_document of the listener's
        sync.yaml is.

    Raises BridgeError for a URL or token that cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 10,
        session: requests.Session | None = None,
        tries: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        max_event: int = MAX_EVENT_BYTES,
    ) -> None:
        self._url = _checked(url)
        self._auth = _Bearer(token)
        self._timeout, self._tries, self._sleep = timeout, max(1, tries), sleep
        self._own, self._max_event = session is None, max_event
        self._session = session or requests.Session()

    def __repr__(self) -> str:
        return f"<IngestClient of {redact_url(self._url)}>"

    def send(self, event: Event) -> None:
        """Send one event; the broker has it when this returns.

        Raises UndecodableMessage when it is too large, IngestRefused when the listener does not
        take it, and ServerAway when that could not be done in all tries: it may then be on the
        queue nevertheless, and sending it again is safe.
        """
        self._deliver(
            "application/cloudevents+json", event.to_json(self._max_event), count=1, before=0
        )

    def send_many(self, events: Iterable[Event]) -> int:
        """Send events in order, in batches; the broker has all when this returns. Their number.

        Raises as `send` does. The batches before the one that failed are accepted; an
        IngestRefused counts them in `accepted`, and its indexes count from the first event.
        """
        done = 0
        for batch in _batches(events, self._max_event):
            body = f"[{','.join(batch)}]"
            self._deliver("application/cloudevents-batch+json", body, count=len(batch), before=done)
            done += len(batch)
        return done

    def _deliver(self, kind: str, body: str, *, count: int, before: int) -> None:
        raw = body.encode()
        for number in range(1, self._tries + 1):
            answer: requests.Response | None = None
            try:
                answer = self._post(kind, raw)
            except requests.exceptions.SSLError as error:
                raise IngestRefused(f"{self._where()}: {error}", accepted=before) from None
            except (
                requests.ConnectionError,
                requests.Timeout,
                requests.exceptions.ChunkedEncodingError,
            ) as error:
                reason = _reason(error)
            except requests.RequestException as error:
                raise IngestRefused(f"{self._where()}: {error}", accepted=before) from None
            else:
                if answer.status_code not in _AGAIN:
                    _check(answer, self._where(), count, before)
                    return
                reason = f"it answered {answer.status_code}"
            if number < self._tries:
                self._sleep(_wait(number, answer))
        raise ServerAway(
            f"{self._where()} did not accept events in {self._tries} tries, the last time because "
            f"{reason}; {before} events before them were accepted. They may be on the queue: "
            "sending them again is safe"
        )

    def _post(self, kind: str, raw: bytes) -> requests.Response:
        return self._session.post(
            self._url,
            data=raw,
            headers={"Content-Type": kind},
            auth=self._auth,
            timeout=self._timeout,
            # A redirect would turn the POST into a GET, and could take the token elsewhere.
            allow_redirects=False,
        )

    def _where(self) -> str:
        return f"the listener at {redact_url(self._url)}"

    def close(self) -> None:
        """Close the session, unless it was given."""
        if self._own:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Bearer(AuthBase):
    """The token as an Authorization header. As `auth`, so that no ~/.netrc takes its place."""

    def __init__(self, token: str) -> None:
        if not token or token != token.strip() or not token.isprintable():
            raise BridgeError("the token is empty, or has spaces or control characters around it")
        # http.client sends Latin-1; so the bytes on the wire are the token's UTF-8.
        self._header = f"Bearer {token}".encode().decode("latin-1")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BridgeError(
            f"{redact_url(url)!r} is no listener; write for example https://bridge.example.org"
        )
    return parts._replace(path=parts.path if parts.path.strip("/") else "/events").geturl()


def _batches(events: Iterable[Event], max_event: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for event in events:
        text = event.to_json(max_event)
        length = len(text.encode()) + 1
        if batch and (len(batch) == _BATCH_EVENTS or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


def _check(answer: requests.Response, where: str, count: int, before: int) -> None:
    """Raises IngestRefused unless `answer` says that `count` events were accepted."""
    try:
        content = json.loads(answer.content)
    except ValueError:
        content = None
    content = content if isinstance(content, dict) else {}
    if answer.status_code == 202 and content.get("accepted") == count:
        return
    errors = _errors(content.get("errors"), before)
    if not errors:
        errors = [(None, " ".join(answer.text[:_SHOWN].split()) or "an empty answer")]
    message = f"{where} did not accept the events: status {answer.status_code}"
    raise IngestRefused(message, answer.status_code, errors, before)


def _errors(found: object, before: int) -> Sequence[tuple[int | None, str]]:
    errors = []
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            index = one.get("index")
            place = index + before if isinstance(index, int) else None
            errors.append((place, str(one.get("error"))))
    return errors


def _reason(error: requests.RequestException) -> str:
    # Without the text of urllib3, which has addresses of objects and the URL with its query.
    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    return "the connection failed"


def _wait(number: int, answer: requests.Response | None) -> float:
    """Seconds to wait after the try `number`: what the answer asks for, or longer each time."""
    asked = _retry_after(answer.headers.get("Retry-After", "")) if answer is not None else None
    # The spread keeps many clients from coming back together.
    own = 0.5 * 2 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311
    return max(0.0, min(own if asked is None else asked, _LONGEST_WAIT))


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3)."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
