"""A Flask application, as someone would mount it beside a PHP site."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context, url_for

app = Flask(__name__)


@app.get("/page")
def page() -> Response:
    response = Response(
        "flask page\n"
        f"link={url_for('page')}\n"
        f"absolute={url_for('page', _external=True)}\n"
        f"visitor={request.remote_addr}\n"
        f"word={request.args.get('word', '')}\n"
        f"cookie={request.cookies.get('basket', '')}\n",
        mimetype="text/plain",
    )
    response.set_cookie("basket", "apples", path="/flask", httponly=True)
    response.set_cookie("colour", "red")
    return response


@app.post("/echo")
def echo() -> Response:
    return Response(request.get_data(), mimetype=request.mimetype)


@app.post("/form")
def form() -> str:
    return f"name={request.form['name']} file={len(request.files['file'].read())}"


@app.get("/stream")
def stream() -> Response:
    def lines() -> Iterator[str]:
        for number in range(5):
            yield f"{request.path} {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.route("/broken", methods=["GET", "POST"])
def broken() -> Response:
    raise RuntimeError("on purpose")


@app.route("/decline", methods=["GET", "POST"])
def decline() -> Response:
    request.get_data()
    return Response(headers={"X-Bridge-Use-Legacy": "not ready"})
