"""Who may import whom: the rules that the layout of the project stands on."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import actors

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("actors", "handlers") for path in (ROOT / folder).rglob("*.py"))

#: Imports point to the left, those in functions and for type checkers too.
LAYERS = (
    "logic", "errors", "log", "api", "plan", "roles", "connectors", "usercode", "tasks", "stages",
    "ops",
    "cli",
)  # fmt: skip

#: Modules that lie in no folder of a layer, or in one of another name.
ELSEWHERE = {
    "actors.version": "errors",
    "actors.metrics": "logic",
    "actors.publisher": "ops",
    "actors.testing": "cli",
    "actors.__main__": "cli",
    "actors.asyncworker": "cli",
}

#: Imports that point to the right, each with its reason.
EXCEPTIONS = {
    ("actors.api.app", "actors.cli"): "App.run is the command line for scripts",
    ("actors.api.app", "actors.tasks.declare"): "App.task, when it is first asked for",
    ("actors.api.app", "actors.tasks.task"): "the same",
    ("actors.api.app", "actors.tasks.jobs"): "App.jobs, when it is first asked for",
    ("actors.api.app", "actors.tasks.job"): "the type of what App.send returns",
    ("actors.api.app", "actors.tasks.options"): "the types of its keywords",
    ("actors.api.app", "actors.tasks.topics"): "App.topic, when it is first asked for",
    ("actors.api.outlet", "actors.usercode.publisher_thread"): "a put before any system runs",
}

#: Actors meet in messages, never in code.
SUPERVISORS = {f"actors.roles.supervision.{name}" for name in ("system", "pipeline")}
ACTORS = (
    SUPERVISORS
    | {f"actors.roles.supervision.{name}" for name in ("supervisor", "node")}
    | {f"actors.roles.{name}" for name in ("connection", "batcher", "handler", "clock")}
)

#: The world: who may import these.
WORLD = {
    "pika": ("connectors/rabbitmq", "connectors/memory"),
    "httpx": ("connectors/sse",),
    "sseclient": ("connectors/sse",),
    "sqlite3": ("connectors/spool",),
    "prometheus_client": ("metrics.py", "usercode/metrics_registry.py", "ops/exposition.py"),
    "thespian": ("stages/thespian",),
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements(node: ast.AST, functions: bool, typing: bool) -> Iterator[ast.AST]:
    """All nodes; those in functions and those only for type checkers on request."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not functions:
            continue
        if is_type_checking(child) and not typing:
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield other
                yield from statements(other, functions, typing)
            continue
        yield child
        yield from statements(child, functions, typing)


@cache
def imports(path: Path, *, functions: bool = True, typing: bool = False) -> set[str]:
    """The full names of the modules that a file imports when it runs, or is checked."""
    found: set[str] = set()
    for node in statements(tree_of(path), functions, typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            base = node.module or ""
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {base}
    return found


def roots(path: Path, *, functions: bool = True) -> set[str]:
    return {name.partition(".")[0] for name in imports(path, functions=functions)}


def below(path: Path, *folders: str) -> bool:
    return any(path.is_relative_to(ROOT / "actors" / folder) for folder in folders)


IN_ACTORS = [path for path in FILES if path.is_relative_to(ROOT / "actors")]


def test_the_framework_knows_no_handlers() -> None:
    assert [path for path in IN_ACTORS if "handlers" in roots(path)] == []


def test_actors_do_not_import_each_other() -> None:
    wrong = {}
    for path in IN_ACTORS:
        if (module := module_of(path)) in ACTORS:
            base = {"actors.roles.supervision.supervisor"} if module in SUPERVISORS else set()
            wrong[module] = (imports(path) & ACTORS) - base
    assert {module: names for module, names in wrong.items() if names} == {}


def test_logic_imports_only_the_standard_library_and_itself() -> None:
    wrong = {}
    for path in IN_ACTORS:
        if below(path, "logic"):
            foreign = {
                name
                for name in imports(path)
                if name.partition(".")[0] not in sys.stdlib_module_names
                and not name.startswith("actors.logic")
            }
            io = roots(path) & {"socket", "sqlite3", "asyncio", "threading", "subprocess", "time"}
            wrong[module_of(path)] = foreign | io
    assert {module: names for module, names in wrong.items() if names} == {}


def test_the_world_is_touched_by_the_rooms_that_it_belongs_to() -> None:
    wrong = [
        f"{module_of(path)} imports {package}"
        for path in IN_ACTORS
        for package in roots(path) & WORLD.keys()
        if not below(path, *WORLD[package])
    ]
    assert wrong == []


def layer_of(module: str) -> str:
    for prefix, layer in ELSEWHERE.items():
        if f"{module}.".startswith(f"{prefix}."):
            return layer
    return module.split(".")[1]


def test_imports_point_to_the_layers_on_the_left() -> None:
    wrong = []
    for path in IN_ACTORS:
        if (module := module_of(path)) != "actors":
            own = layer_of(module)
            wrong += [
                f"{module} ({own}) imports {name} ({layer_of(name)})"
                for name in imports(path, typing=True) & MODULES - {"actors"}
                if LAYERS.index(layer_of(name)) > LAYERS.index(own)
                and (module, name) not in EXCEPTIONS
            ]
    assert wrong == []


def test_every_exception_of_the_layers_is_needed() -> None:
    found = {(module_of(path), name) for path in IN_ACTORS for name in imports(path, typing=True)}
    assert set(EXCEPTIONS) <= found


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): imports(path, functions=False) & MODULES for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_publisher_on_a_spool_loads_neither_thespian_nor_pika(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from actors.publisher import Publisher\n"
        f"Publisher('spool://{tmp_path}/s.db').put('words', 'a')\n"
        "heavy = {'thespian', 'pika', 'httpx', 'sseclient', 'click'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} loaded' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_is_there() -> None:
    known = {name: getattr(actors, name) for name in actors.__all__}
    assert known.pop("UndecodableMessageException") is known["InvalidMessage"]
    assert {name for name, value in known.items() if value.__name__ != name} == set()
    with pytest.raises(AttributeError, match="module 'actors' has no attribute 'nothing'"):
        _ = actors.nothing  # type: ignore[attr-defined]
