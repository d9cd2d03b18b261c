"""A first handler. `bridgectl` and `bridgectl serve` import it from the folder they are started in."""

from markupsafe import escape
from werkzeug.wrappers import Request, Response


def hello(request: Request, name: str) -> Response:
    """Greets; `name` comes from the path, and may be anything."""
    return Response(f"<h1>Hello {escape(name)}</h1>", mimetype="text/html")
