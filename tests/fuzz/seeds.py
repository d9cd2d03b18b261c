"""What fuzzing begins with: a few sound messages of each kind, and words of the protocol."""

from __future__ import annotations

__all__ = ["ANSWERS", "REQUESTS", "WORDS"]

_HOST = b"Host: forge.example\r\n"

REQUESTS = [
    b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET /a?b=c HTTP/1.0\r\n" + _HOST + b"Connection: keep-alive\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\n" + _HOST + b"\r\nGET /b HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + _HOST + b"Content-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n"
    + _HOST
    + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n2;x=y\r\nab\r\n0\r\nX-T: 1\r\n\r\nGET /b HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"PUT /a HTTP/1.1\r\n" + _HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"Max-Forwards: 3\r\n\r\n",
    b"GET http://forge.example/a HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET /a HTTP/1.1\r\n" + _HOST + b"Cookie: a=b\r\nCookie: c=d\r\nConnection: X-A, close\r\n"
    b"X-A: b\r\nTE: trailers\r\n\r\n",
    b"GET /ws HTTP/1.1\r\n" + _HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"\r\n\r\nGET /a HTTP/1.1\r\n" + _HOST + b"\r\n",
]

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nok\r\n1;a=b\r\n!\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 9\r\n\r\n',
    b"HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:8090/a\r\nSet-Cookie: a=b; Domain=x\r\n"
    b"Set-Cookie: c=d; Path=/\r\nRefresh: 1; url=/b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\nX: 1\n  folded\n\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\nok",
]

WORDS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\t", b" ", b"\x00", b"\x0b", b"\x85", b"\xa0", b":",
    b"HTTP/1.1", b"HTTP/1.0", b"GET ", b"HEAD ", b"POST ", b"OPTIONS ", b"CONNECT ", b"TRACE ",
    b"Host: forge.example\r\n", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked",
    b"Transfer-Encoding: chunked\r\n", b"identity", b"gzip", b"Connection: ", b"close",
    b"keep-alive", b"Upgrade: ", b"websocket", b"h2c", b"Expect: 100-continue\r\n",
    b"0\r\n\r\n", b"1\r\na\r\n", b"ffffffffffffffff\r\n", b";ext=1", b"http://forge.example",
    b"*", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 204 \r\n", b"Trailer: ",
]  # fmt: skip
