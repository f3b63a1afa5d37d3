"""The version of Callboard."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    try:
        return metadata.version("callboard")
    except metadata.PackageNotFoundError:
        return "of a checkout"
