"""Import what a configuration file names as `module:attribute`, with errors fit for its reader."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from bridge.errors import BridgeError
from bridge.yamlfile import did_you_mean

__all__ = ["ImportFailed", "import_callable"]


class ImportFailed(BridgeError):
    """What a file names cannot be imported; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


def import_callable(name: str, what: str = "handler") -> Any:
    """The function or application `module:attribute`; `what` it is, for messages. Raises
    ImportFailed when that fails, whatever the module does."""
    module_name, _, attribute = name.partition(":")
    importlib.invalidate_caches()  # a mended file must be seen by the next attempt
    is_old = module_name in sys.modules
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ImportFailed(
                f"there is no module `{error.name}` for {what} `{name}`",
                f"{_where_modules_are()}; mend the name, put it there, or set PYTHONPATH",
            ) from None
        raise ImportFailed(
            f"{what} `{name}` needs the module `{error.name}`, which is not installed",
            f"pip install the package that has `{error.name}`",
        ) from None
    except (Exception, SystemExit) as error:
        line = _line_of(error, module_name)
        raise ImportFailed(
            f"{what} `{name}` fails to import: {type(error).__name__}: {error}{line}",
            "mend the module; `bridgectl check` shows it again",
        ) from None
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [n for n in dir(found) if not n.startswith("_")]
            hint = did_you_mean(part, public) or f"define `{part}` in {module_name}"
            if is_old:
                hint += "; if it is there, this process is older than the file: restart it"
            raise ImportFailed(f"`{module_name}` has no `{part}`", hint) from None
    if not callable(found):
        raise ImportFailed(f"`{name}` is not callable", "name a function or an application")
    return found


def _where_modules_are() -> str:
    """In the words of docs/deploy.md, "Where handlers are imported from"; the folder of the
    command's own program, which Python has in its path, too, is nobody's place for modules."""
    here = os.getcwd()
    places = [f"in {here}"] if {here, ""} & set(sys.path) else []
    named = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    said = ", ".join(named) or "which is not set"
    places.append(f"in PYTHONPATH ({said})")
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    if packages:
        places.append(f"in {', '.join(packages)}")
    return f"modules are looked for {', '.join(places[:-1])} and {places[-1]}"


def _line_of(error: BaseException, module_name: str) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its text has file and line
    traceback, where = error.__traceback__, ""
    while traceback:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == module_name:
            where = f" ({frame.f_code.co_filename}:{traceback.tb_lineno})"
        traceback = traceback.tb_next
    return where
