"""A first handler. `bridgectl`, also as `serve`, imports it from the folder it is started in."""

from markupsafe import escape
from werkzeug.wrappers import Request, Response


def hello(request: Request, name: str) -> Response:
    """Greets; `name` comes from the path, and may be anything."""
    return Response(f"<h1>Hello {escape(name)}</h1>", mimetype="text/html")
