"""The import of an app by its import string, with one clear line for what stands in the way."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from pathlib import Path

from actors.api.app import App, loading
from actors.errors import ConfigurationError

PACKAGE = Path(__file__).resolve().parents[1]


def load(import_string: str, app_dir: str = ".") -> App:
    """The app at `MODULE:APP` (`MODULE` alone means `MODULE:app`), sought first in `app_dir`.

    A module that is imported already is used as it is. Raises `ConfigurationError`.
    """
    module_name, colon, attribute = import_string.partition(":")
    if not module_name or (colon and not attribute):
        raise ConfigurationError(f"app {import_string!r}: must be MODULE:APP")
    if module_name.endswith(".py") or "/" in module_name:
        raise ConfigurationError(f"app {import_string!r}: {_as_module(module_name, attribute)}")
    _put_on_path(app_dir)
    token, before = loading.set(True), set(threading.enumerate())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _explained(error, import_string, module_name, app_dir) from error
    finally:
        loading.reset(token)
    found = getattr(module, attribute or "app", None)
    if isinstance(found, App):
        begun = [thread.name for thread in threading.enumerate() if thread not in before]
        found.import_threads = found.import_threads or tuple(begun)
        return found
    apps = [
        f"{module_name}:{name}" for name, value in vars(module).items() if isinstance(value, App)
    ]
    problem = "does not exist" if found is None else f"is a {type(found).__name__}, not an App"
    hint = f"; apps of this module: {', '.join(apps)}" if apps else "; this module has no App"
    raise ConfigurationError(f"app {module_name}:{attribute or 'app'} {problem}{hint}")


def _as_module(file: str, attribute: str) -> str:
    """How to name the app of a file."""
    path = Path(file)
    place = "" if path.parent == Path() else f" --app-dir {path.parent}"
    return f"name the module, not its file: {path.stem}:{attribute or 'app'}{place}"


def _put_on_path(app_dir: str) -> None:
    directory = Path(app_dir).absolute()
    if not directory.is_dir():
        raise ConfigurationError(f"app-dir {app_dir!r} is no directory")
    for rival in (directory / "actors", directory / "actors.py"):
        if rival.exists() and rival.resolve() != PACKAGE:
            mended = "rename it"
            if (rival / "py.typed").exists():  # a checkout, beside a copy that is installed
                mended = "install the checkout with pip install -e, or run elsewhere"
            raise ConfigurationError(f"{rival} hides the package actors of Callboard: {mended}")
    if sys.path[:1] != [str(directory)]:
        sys.path.insert(0, str(directory))


def _explained(
    error: BaseException, import_string: str, module_name: str, app_dir: str
) -> ConfigurationError:
    directory = Path(app_dir).absolute()
    if isinstance(error, ModuleNotFoundError) and _is_on_the_way(error.name, module_name):
        return ConfigurationError(
            f"app {import_string!r}: no module {error.name!r} in {directory} or on the Python path"
        )
    place = _place(error, directory)
    if isinstance(error, ConfigurationError):
        return type(error)(f"{error} ({place})")
    text = " ".join(str(error).split())
    return ConfigurationError(f"app {import_string!r}: {type(error).__name__}: {text} ({place})")


def _is_on_the_way(missing: str | None, module_name: str) -> bool:
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")


def _place(error: BaseException, directory: Path) -> str:
    """File and line that the error comes from, below the directory where there is one."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    ours = f"{PACKAGE}/"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen"))
    ]
    below = f"{directory}/"
    users = [
        frame
        for frame in frames
        if frame.filename.startswith(below)
        and "/site-packages/" not in frame.filename.removeprefix(below)  # of a .venv beside it
    ]
    last = (users or frames)[-1]
    return f"{last.filename}, line {last.lineno}"
