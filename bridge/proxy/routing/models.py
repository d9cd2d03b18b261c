"""What may stand in routes.yaml, key by key.

Frozen pydantic models that forbid unknown keys. They check what can be seen within one value;
what needs the whole file (names that must exist, handlers that must import) is checked in
`bridge.proxy.routing.table`. The JSON Schema for editors is generated from here.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from bridge import jsonpath
from bridge.entity import ENTITY
from bridge.proxy.http.compress import available
from bridge.proxy.request.hosts import as_ascii
from bridge.proxy.request.superglobals import php_name
from bridge.units import Duration, Model, Rate, Size, Written, text

__all__ = ["Backend", "File", "Group", "Model", "Route", "Site", "Sticky"]

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)\s*%")
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,6})?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")
_HOST = re.compile(r"(?:\*|(?:\*\.)?[a-z0-9._\u0080-\uffff-]+|\[[0-9a-f:.]+\])(?::(?:\d{1,5}|\*))?")
_OWN_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COOKIE = re.compile(r"[A-Za-z0-9_.-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS = re.compile(r"default|[45]\d\d")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_HANDLER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PROBED = re.compile(r"/[!-~]*")
_MOUNT = re.compile(r"(/[^/?#]+)+")


def _host(value: str) -> str:
    return as_ascii(value).lower()


def parse_percent(value: object) -> int:
    """Thousandths of a percent of `12.5%`. A number without its sign is none: 0.05 could be a
    twentieth of a percent, or five. Raises ValueError."""
    if _NUMBER.fullmatch(str(value)) and (number := float(str(value))) <= 100:
        other = f" or {number * 100:g}%, whichever is meant" if 0 < number <= 1 else ""
        raise ValueError(f"{value!r} is no share without its %; write {number:g}%{other}")
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if not match or float(match[1]) > 100:
        raise ValueError(f"{value!r} is no share; write 0% to 100%, at most three decimals")
    return round(float(match[1]) * 1000)


Share = Annotated[int, Written(_PERCENT, "a share of the visitors: 0% to 100%", parse_percent)]
Name = Annotated[str, text(_NAME, "name of small letters, digits, `.`, `_`, `-`", "project-page")]
HeaderName = Annotated[str, text(_TOKEN, "header name (no _ in it)", "X-Requested-With")]
HeaderValue = Annotated[str, text(_VALUE, "header value (no line break in it)", "nosniff")]
CookieName = Annotated[str, text(_COOKIE, "cookie name", "visitor_id")]
Host = Annotated[
    str, text(_HOST, "host", "www.example.org, '*.example.org' or 127.0.0.1:8080", _host)
]
OwnHost = Annotated[str, text(_OWN_HOST, "host name", "preserve, old.example.org or [::1]:8080")]
Method = Annotated[str, text(_METHOD, "HTTP method", "GET", str.upper)]
HandlerName = Annotated[str, text(_HANDLER, "handler", "mysite.views:project")]
ProbePath = Annotated[str, text(_PROBED, "path (a slash first, no space in it)", "/health")]
Mount = Annotated[str, text(_MOUNT, "prefix of paths (a slash first, none at its end)", "/shop")]
EntityName = Annotated[str, text(ENTITY, "entity of sync.yaml", "project")]


def _network(value: object) -> object:
    if value == "unix":
        return value
    try:
        ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(
            f"{value!r} is no network; write for example 10.0.0.0/8, 127.0.0.1 or unix"
        ) from None
    return value


def _error_status(value: object) -> str:
    if not _STATUS.fullmatch(str(value)):
        raise ValueError(f"{value!r} is no error status; write 400 to 599, or default")
    return str(value)


ErrorStatus = Annotated[str, Written(_STATUS, "an HTTP error status, or default", _error_status)]
Network = Annotated[str, BeforeValidator(_network), WithJsonSchema({"type": "string"})]


def _backend_url(value: object) -> object:
    example = (
        "write for example http://127.0.0.1:8090, https://old.example.org or unix:/run/php.sock"
    )
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no URL; {example}")
    if _CONTROL.search(value):
        raise ValueError(f"{value!r} has a control character in it; {example}")
    try:
        parts = urlsplit(value)
        bad = parts.scheme not in ("http", "https", "unix") or parts.port == 0
    except ValueError:
        bad = True
    if bad:
        raise ValueError(f"{value!r} is no URL of a backend; {example}")
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(
                f"{value!r} has no absolute path; write for example unix:/run/php.sock"
            )
        return value
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{value!r} must be scheme, host and port only; {example}")
    if not parts.path.isascii() or " " in parts.netloc + parts.path:
        raise ValueError(f"{value!r} has a path that no request line can have; write it as %XX")
    return value


def _backend_urls(value: object) -> object:
    """One URL, or several of servers that can stand for each other."""
    found = value if isinstance(value, list | tuple) else [value]
    if not found:
        raise ValueError("has no URL; write the address of a server")
    urls = [str(_backend_url(one)) for one in found]
    if len({urlsplit(one).path.rstrip("/") for one in urls if not one.startswith("unix:")}) > 1:
        raise ValueError("has URLs with different paths; servers of a backend are alike")
    if len({urlsplit(one).scheme == "https" for one in urls}) > 1:
        raise ValueError("has URLs with and without TLS; servers of a backend are alike")
    if len({one.startswith("unix:") for one in urls}) > 1:
        raise ValueError("has sockets and addresses; keep to one kind")
    if len(set(urls)) < len(urls):
        raise ValueError("names a server twice; keep it once")
    return tuple(urls)


BackendUrls = Annotated[
    tuple[str, ...],
    BeforeValidator(_backend_urls),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


def _site(value: object) -> object:
    return None if value == "*" else value


class Timeouts(Model):
    """How long each stage of a request to a backend may take."""

    wait: Duration = Field(default=2.0, description="wait for a place; then 503")
    connect: Duration = Field(default=2.0, description="time to connect; then 504")
    send: Duration = Field(default=30.0, description="time to send a piece of the body; then 504")
    first_byte: Duration = Field(default=60.0, description="time until the answer begins; then 504")
    between_bytes: Duration = Field(
        default=60.0, description="time between two pieces of the answer"
    )
    idle: Duration = Field(default=30.0, description="how long an unused connection is kept")


class Limits(Model):
    """What one worker process may ask of a backend, and take from it."""

    max_in_flight: int | None = Field(
        default=None, ge=1, le=100_000, description="requests at the same time; others wait"
    )
    connections: int = Field(
        default=500, ge=1, le=100_000, description="at the same time, unused ones included"
    )
    waiting: int = Field(
        default=1000, ge=0, le=1_000_000, description="requests that wait; more get a 503"
    )
    tunnels: int = Field(
        default=1000, ge=0, le=100_000, description="WebSockets, besides these; more get a 503"
    )
    response_head: Size = Field(default=64 * 1024, description="largest status line and headers")

    @model_validator(mode="after")
    def _fits(self) -> Limits:
        both = {"max_in_flight", "connections"} <= self.model_fields_set
        if both and (self.max_in_flight or 0) > self.connections:
            raise ValueError(
                "max_in_flight is more than connections, and each request needs one; "
                "raise connections, or remove it"
            )
        return self

    @cached_property
    def at_once(self) -> int:
        """How many requests may be in flight."""
        return self.max_in_flight or self.connections

    @cached_property
    def sockets(self) -> int:
        """How many connections there may be, unused ones included."""
        if "connections" in self.model_fields_set:
            return self.connections
        return max(self.connections, self.at_once)

    @property
    def busy(self) -> str:
        """In words, why a request has to wait."""
        if self.max_in_flight:
            return f"{self.max_in_flight} requests are in flight, as many as may be"
        return f"all {self.connections} connections are busy"


_OURS = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def _not_ours(name: object) -> object:
    """Names that say how a message ends, or what its connection is, are of each hop's own."""
    if isinstance(name, str) and (name.lower() in _OURS or name.lower().startswith("x-bridge-")):
        raise ValueError(f"{name} is the bridge's own on each side; remove it here")
    return name


def _not_host(name: object) -> object:
    if isinstance(name, str) and name.lower() == "host":
        raise ValueError("Host is what `host:` of the backend says; write it there")
    if isinstance(name, str) and name.lower() == "x-request-id":
        raise ValueError("X-Request-Id is what a request is found by in every log; remove it here")
    return _not_ours(name)


RequestHeaderName = Annotated[HeaderName, BeforeValidator(_not_host)]
ResponseHeaderName = Annotated[HeaderName, BeforeValidator(_not_ours)]


class RequestHeaders(Model):
    """Changes to every request to a backend, after what the bridge itself adds."""

    remove: tuple[RequestHeaderName, ...] = Field(default=(), description="such as Accept-Encoding")
    set: dict[RequestHeaderName, HeaderValue] = Field(default={}, description="replaces the header")

    @cached_property
    def gone(self) -> frozenset[str]:
        """The names, in small letters, that do not stay as they came."""
        return frozenset(name.lower() for name in (*self.remove, *self.set))


class Health(Model):
    """Probes: a server that does not answer them with a status below 500 gets no requests."""

    path: ProbePath = Field(default="/", description="path that is asked for by GET")
    every: Duration = Field(default=5.0, description="time between two probes of a server")
    timeout: Duration = Field(default=2.0, description="time for the answer")
    host: OwnHost | None = Field(default=None, description="Host header of the probe")


class Backend(Model):
    """A legacy server, or several equal ones."""

    urls: BackendUrls = Field(
        alias="url",
        description="http://, https:// or unix:/path; a path is put in front. A list names several "
        "servers, and the least busy one is asked",
    )
    host: OwnHost = Field(
        default="preserve", description="Host header: `preserve` for the visitor's, or a fixed name"
    )
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    via: bool = Field(
        default=False, description="add Via to requests; nginx then stops compressing"
    )
    accel: bool = Field(default=False, description="pass X-Accel-* and X-Sendfile on")
    request_headers: RequestHeaders = RequestHeaders()
    keep_alive: bool = Field(
        default=True, description="false: a new connection for each request, with Connection: close"
    )
    health: Health | None = Field(default=None, description="probes of its servers")

    @model_validator(mode="after")
    def _probed(self) -> Backend:
        if self.health is not None and self.url.startswith("unix:"):
            raise ValueError("has health and unix sockets, which cannot be probed; remove health")
        return self

    @property
    def url(self) -> str:
        """Of its first server: they differ in host and port only."""
        return self.urls[0]

    @cached_property
    def prefix(self) -> str:
        """The path in its URL, which is put in front; without a slash at the end."""
        parts = urlsplit(self.url)
        return "" if parts.scheme == "unix" else parts.path.rstrip("/")

    @property
    def own(self) -> str:
        """What it knows itself as, where its `host` is not the visitor's."""
        return f"{'https' if self.url.startswith('https:') else 'http'}://{self.host}"

    @cached_property
    def hidden(self) -> frozenset[tuple[str, int]]:
        """Host and port pairs that name it and must not reach a visitor."""
        hidden: set[tuple[str, int]] = set()
        for parts in map(urlsplit, self.urls):
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
            if parts.hostname:
                hidden.add((parts.hostname.lower(), port))
        if self.host != "preserve":
            name = urlsplit(f"//{self.host}")
            hidden |= {((name.hostname or "").lower(), name.port or known) for known in (port, 80)}
        return frozenset(hidden)


class Sticky(Model):
    """Which key keeps a visitor on one side. Exactly one of the three, or none for our cookie."""

    cookie: CookieName | None = Field(default=None, description="a cookie of the site")
    header: HeaderName | None = Field(default=None, description="a request header")
    address: Literal[True] | None = Field(default=None, description="the visitor's address")

    @model_validator(mode="after")
    def _one(self) -> Sticky:
        if sum(x is not None for x in (self.cookie, self.header, self.address)) > 1:
            raise ValueError("several keys; keep one of cookie, header and address")
        return self


class ResponseHeaders(Model):
    """Changes to every response of a site or a route, whichever side answered."""

    remove: tuple[ResponseHeaderName, ...] = Field(default=(), description="names, such as Server")
    set: dict[ResponseHeaderName, HeaderValue] = Field(
        default={}, description="replaces the header"
    )

    @cached_property
    def gone(self) -> frozenset[str]:
        """The names, in small letters, that do not stay as they came."""
        return frozenset(name.lower() for name in (*self.remove, *self.set))

    def over(self, site: ResponseHeaders) -> ResponseHeaders:
        """Both; what these, of a route, say of a header counts."""
        kept = {name: value for name, value in site.set.items() if name.lower() not in self.gone}
        return ResponseHeaders(remove=(*site.remove, *self.remove), set=kept | self.set)


_TEXTS = (
    "text/html",
    "text/css",
    "text/plain",
    "text/xml",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/xml",
    "application/rss+xml",
    "application/atom+xml",
    "image/svg+xml",
)
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/(?:\*|[a-z0-9.+-]+)")
MediaType = Annotated[str, text(_MEDIA_TYPE, "media type", "text/html or text/*", str.lower)]


class Compression(Model):
    """Which answers of Python are compressed: what the web server does for PHP's."""

    encodings: tuple[Literal["gzip", "br", "zstd"], ...] = Field(
        default=("gzip",), min_length=1, description="the best first; br and zstd need a library"
    )
    min_size: Size = Field(default=256, description="smaller answers are not compressed")
    types: tuple[MediaType, ...] = Field(default=_TEXTS, description="media types; text/* is valid")

    @cached_property
    def usable(self) -> tuple[str, ...]:
        """The encodings whose library is installed."""
        return tuple(one for one in self.encodings if available(one))

    @cached_property
    def _kinds(self) -> frozenset[str]:
        return frozenset(self.types)

    def takes(self, kind: str) -> bool:
        """Whether answers of this media type are compressed."""
        return kind in self._kinds or f"{kind.partition('/')[0]}/*" in self._kinds


class Site(Model):
    """One web site: its hosts, and what answers them."""

    hosts: tuple[Host, ...] = Field(min_length=1, description="any other Host gets a 421")
    legacy: str = Field(description="backend that answers requests that no route takes")
    sticky: Sticky = Sticky()
    response_headers: ResponseHeaders = ResponseHeaders()
    compress: Compression | None = Field(
        default=None, description="compresses Python's answers: `{}` for gzip of the usual types"
    )
    error_pages: dict[ErrorStatus, str] = Field(
        default={}, description="HTML file for a status or `default`, relative to this file"
    )
    max_body: Size | None = Field(default=None, description="largest request body; then 413")


class Group(Model):
    """Routes that flip together."""

    python: Share = Field(description="share of the visitors that Python answers")


def _condition(value: object) -> object:
    if not isinstance(value, str | bool):
        written = "null" if value is None else value
        raise ValueError(
            f'{written} is neither a text nor true or false; write "{written}" for the exact '
            "value, true for present, false for absent"
        )
    return value


def _parameter(name: str) -> str:
    if php_name(name.removesuffix("*")) is None:
        raise ValueError(
            f"{name!r} is no name that PHP has a single value under; "
            "write the name alone, and true or false where it is an array's"
        )
    return name


Condition = Annotated[str | bool, BeforeValidator(_condition)]
Parameter = Annotated[str, AfterValidator(_parameter)]


class Shadow(Model):
    """Which of legacy's answers are compared with what Python would have answered, while visitors
    come."""

    share: Share = Field(description="share of the visitors, by their bucket, with all their pages")
    rate: Rate = Field(default=10.0, description="most requests of a worker process")
    body: Size = Field(
        default=2**20,
        le=16 * 2**20,
        description="larger answers are compared by length and digest alone",
    )


class RouteCompare(Model):
    """How a route is compared."""

    again: bool = Field(
        default=True,
        description="false: legacy is not asked a second time, as a GET of it has effects; "
        "then noise cannot be told",
    )


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    return value


def _selector(value: str) -> str:
    # Here, and not above: whoever serves visitors needs no parser of HTML.
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        LexborHTMLParser("<p>").css(value)
    except (SelectolaxError, ValueError):
        raise ValueError(
            f'{value!r} is no CSS selector; write `#id`, `.class`, `div > p` or `[name="value"]`'
        ) from None
    return value


def _json_path(value: str) -> str:
    jsonpath.read(value)
    return value


class Ignore(Model):
    """One rule against noise: what is not compared. Exactly one of the four."""

    header: HeaderName | None = Field(default=None, description="a response header")
    css: Annotated[str, Field(min_length=1), AfterValidator(_selector)] | None = Field(
        default=None, description="a CSS selector: these elements with all that is in them"
    )
    json_path: Annotated[str, Field(min_length=1), AfterValidator(_json_path)] | None = Field(
        default=None, alias="json", description="a path in JSON: $.items[*].seen"
    )
    regex: Annotated[str, Field(min_length=1), AfterValidator(_regex)] | None = Field(
        default=None, description="a regular expression: what it matches in texts"
    )
    routes: tuple[Name, ...] = Field(default=(), description="only on these; none: on all")

    @model_validator(mode="after")
    def _one(self) -> Ignore:
        given = (self.header, self.css, self.json_path, self.regex)
        if sum(one is not None for one in given) != 1:
            raise ValueError("needs exactly one of header, css, json and regex")
        return self


class Kept(Model):
    """How much is kept of what was found."""

    samples: int = Field(default=3, ge=1, le=100, description="samples of each difference")
    size: Size = Field(default=64 * 2**20, description="of all samples together")
    age: Duration = Field(default=30 * 86400.0, description="then a sample is removed")


class Compare(Model):
    """How the answers of both sides are compared, and what is kept of it."""

    ignore: tuple[Ignore, ...] = Field(default=(), description="what differs and means nothing")
    hide: tuple[Annotated[str, AfterValidator(_regex)], ...] = Field(
        default=(), description="regular expressions: what they match is blacked out in samples"
    )
    keep: Kept = Kept()


_REQUIRED = re.compile(r"different\s*<\s*(\d{1,2}(?:\.\d{1,4})?)\s*%")


def parse_required(value: object) -> float:
    """The share, as a number from 0 to 1, of `different<0.1%`. Raises ValueError."""
    match = _REQUIRED.fullmatch(value) if isinstance(value, str) else None
    if not match or float(match[1]) == 0:
        raise ValueError(f"{value!r} is no rule; write for example different<0.1%")
    return float(match[1]) / 100


Required = Annotated[float, Written(_REQUIRED, "a rule: different<0.1%", parse_required)]


class Flips(Model):
    """What `bridgectl flip` asks for before it raises a share."""

    require: Required | None = Field(
        default=None, description="evidence, at 95%, that fewer answers than this are different"
    )


class Route(Model):
    """One route. Without a handler it belongs to legacy, whatever other routes say."""

    name: Name
    path: Annotated[str, Field(min_length=1)] = Field(description="Werkzeug rule: /project/<name>")
    site: Annotated[str | None, BeforeValidator(_site)] = Field(
        default=None, description="only for this site; `*`: for all sites, on purpose"
    )
    methods: tuple[Method, ...] = Field(default=("GET", "HEAD"), min_length=1)
    host: Host | None = None
    query: dict[Parameter, Condition] = Field(
        default={}, description="parameter: exact value, true for present, false for absent"
    )
    cookies: dict[Parameter, Condition] = Field(
        default={}, description="cookie, or name* for all that begin so: as for query"
    )
    headers: dict[HeaderName, Condition] = Field(
        default={}, description="header: exact value, true for present, false for absent"
    )
    handler: HandlerName | None = Field(default=None, description="module:view, a Werkzeug view")
    wsgi: HandlerName | None = Field(default=None, description="module:app, a WSGI application")
    mount: Mount | None = Field(
        default=None, description="prefix that becomes the SCRIPT_NAME of the WSGI application"
    )
    python: Share | None = Field(default=None, description="share of visitors that Python answers")
    group: str | None = Field(default=None, description="take share and bucket from this group")
    legacy: str | None = Field(default=None, description="another legacy backend than the site's")
    timeout: Duration = Field(default=10.0, description="time until the handler's first byte")
    fallback: bool = Field(default=True, description="legacy answers a GET when Python fails")
    response_headers: ResponseHeaders | None = Field(
        default=None, description="changes to its answers, after those of the site"
    )
    compress: bool = Field(default=True, description="false: not for this route")
    decline_on: tuple[Annotated[int, Field(ge=400, le=599)], ...] = Field(
        default=(), description="when Python answers with such a status, legacy answers instead"
    )
    reads: tuple[EntityName, ...] = Field(
        default=(),
        description="entities of sync.yaml that must be as new as the visitor's own edits",
    )
    writes: bool = Field(
        default=False, description="true: legacy may write, also when it answers a GET with a page"
    )
    shadow: Shadow | None = Field(
        default=None, description="compare both sides while visitors come"
    )
    compare: RouteCompare = RouteCompare()

    @model_validator(mode="after")
    def _fits(self) -> Route:
        if self.handler and self.wsgi:
            raise ValueError("has handler and wsgi; keep one")
        if self.mount and not self.wsgi:
            raise ValueError("has mount without wsgi; remove mount")
        if self.mount and not f"{self.path}/".startswith(f"{self.mount}/"):
            raise ValueError(
                f"path does not begin with mount; write path: {self.mount}/<path:rest>"
            )
        python_side = self.handler or self.wsgi
        if python_side and self.group is None and self.python is None:
            raise ValueError("has a handler but no share; add `python: 0%`")
        if self.group is not None and self.python is not None:
            raise ValueError("has group and python; the number belongs to the group, remove python")
        if not python_side and (self.python is not None or self.group is not None):
            raise ValueError("has a share but no handler; add handler: or wsgi:")
        if not python_side and self.decline_on:
            raise ValueError("has decline_on but no handler; legacy is asked anyway, remove it")
        if not python_side and self.reads:
            raise ValueError("has reads but no handler; legacy always shows the newest")
        if not python_side and self.shadow:
            raise ValueError("has shadow but no handler; there is nothing to compare legacy with")
        return self


class RedirectLoops(Model):
    """When a redirect loop is stopped with a page."""

    rounds: int = Field(default=5, ge=2, le=20, description="so many of one cycle are a loop")
    within: Duration = Field(default=10.0, description="time for so many rounds")
    legacy: bool = Field(default=False, description="also stop loops between pages of legacy alone")
    to_legacy: bool = Field(
        default=False, description="flipped routes of the cycle go back to legacy for a while"
    )


class Visitors(Model):
    """How much time and room a visitor may take."""

    head: Duration = Field(default=30.0, description="time for a head; then 408")
    body: Duration = Field(default=60.0, description="time without a byte of a body; then 408")
    idle: Duration = Field(default=60.0, description="time between two requests of a connection")
    stall: Duration = Field(default=60.0, description="time without taking a byte of an answer")
    slowest: Size = Field(
        default=128, description="least bytes a second of a body or an answer; then it is ended"
    )
    buffer: Size = Field(
        default=64 * 1024,
        le=256 * 1024,
        description="a body up to this size is complete before legacy is asked",
    )
    share: Share = Field(
        default=75_000, description="most of a backend's scarce places for one address"
    )
    tunnel_idle: Duration = Field(default=3600.0, description="how long an unused WebSocket stays")
    request_line: Size = Field(default=8190, ge=1024, le=2**20, description="then 414")
    request_head: Size = Field(default=64 * 1024, ge=2048, le=2**20, description="then 431")
    request_header: Size = Field(default=16380, ge=1024, le=2**20, description="longest line of it")
    request_headers: int = Field(default=100, ge=10, le=10_000, description="most lines of a head")


class File(Model):
    """routes.yaml."""

    version: Literal[1]
    sites: dict[Name, Site] = Field(min_length=1)
    backends: dict[Name, Backend] = Field(min_length=1)
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="networks whose X-Forwarded-* are believed; `unix` for a socket"
    )
    redirect_loops: RedirectLoops = RedirectLoops()
    visitors: Visitors = Visitors()
    compare: Compare = Compare()
    flips: Flips = Flips()
    groups: dict[Name, Group] = Field({})
    routes: tuple[Route, ...] = ()

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """The patterns of hosts of all sites, by name."""
        return {name: site.hosts for name, site in self.sites.items()}
