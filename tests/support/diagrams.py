"""The state machines of the package, and the page that draws them.

`python -m tests.support.diagrams` writes `docs/state-machines.md` anew.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

import actors
from actors.logic.state_machine import Table

PAGE = Path(__file__).parents[2] / "docs/state-machines.md"

HEAD = """# State machines

The tables that decide what may follow what. An event that its state does not provide for raises
`IllegalEvent`. This page is generated: `python -m tests.support.diagrams`.
"""


def tables() -> dict[str, Table[Any, Any]]:
    """Every table of the package, by "module:NAME"."""
    found: dict[str, Table[Any, Any]] = {}
    for module in pkgutil.walk_packages(actors.__path__, "actors."):
        spec = importlib.util.find_spec(module.name)
        if not spec or not spec.origin or "Table" not in Path(spec.origin).read_text():
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Table):
                found[f"{module.name}:{name}"] = value
    return found


def page() -> str:
    parts = [HEAD]
    for name, table in sorted(tables().items(), key=lambda item: item[1].name):
        module = name.partition(":")[0].replace(".", "/")
        parts.append(f"## {table.name[0].upper()}{table.name[1:]}\n")
        parts.append(f"`{module}.py`\n\n```mermaid\n{table.diagram()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
