"""A task: declared once, called from anywhere, run by workers."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from actors.api.annotations import name_of
from actors.errors import ConfigurationError, InvalidRoute
from actors.logic.jobs.store import check_id
from actors.tasks.arguments import Signature
from actors.tasks.context import JobContext
from actors.tasks.options import CallKeywords, CallOptions, TaskOptions

if TYPE_CHECKING:
    from actors.api.app import App
    from actors.tasks.job import Job
    from actors.tasks.jobs import Reply

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")


@dataclass(frozen=True)
class Declared:
    """A task as it was declared."""

    name: str
    queue: str
    function: Callable[..., Any]
    signature: Signature
    options: TaskOptions
    actor: type[TaskActor] | None = None  #: of a task that is a class
    is_bulk: bool = False

    @functools.cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def encode_result(self, result: Any) -> bytes:
        """The result as JSON. Raises whatever its serializer does."""
        return self.signature.result.serializer.to_json(result, warnings="error")


def declared(name: str, thing: Any, options: TaskOptions, *, is_bulk: bool = False) -> Declared:
    """A task as it is declared. Raises `InvalidRoute` for what cannot be one."""
    actor: type[TaskActor] | None = None
    function = thing
    if isinstance(thing, type):
        if not issubclass(thing, TaskActor) or not callable(getattr(thing, "run", None)):
            raise InvalidRoute(
                f"task {name}: class {name_of(thing)} must derive from TaskActor and have a run()"
            )
        actor, function = thing, thing.run
    elif not callable(thing):
        raise InvalidRoute(f"task {name}: must be a function or a TaskActor class, not {thing!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidRoute(f"task {name}: {name_of(function)} yields: a task returns")
    signature = Signature(name, function, is_method=actor is not None)
    if is_bulk and len(signature.parameters) != 1:
        raise InvalidRoute(
            f"bulk task {name}: {name_of(function)} must take one argument, the list of what"
            " callers call with"
        )
    if is_bulk:
        signature = signature.of_items()
    return Declared(name, options.queue or name, function, signature, options, actor, is_bulk)


def check_name(name: Any) -> str:
    """The name of a task. Raises `InvalidRoute`."""
    if callable(name):
        raise InvalidRoute('a task needs a name: @app.task("name")')
    try:
        return check_id(name)
    except ValueError as error:
        raise InvalidRoute(f"task {name!r}: {str(error).replace('job', 'task', 1)}") from None


class Task(Generic[P, R]):
    """A declared task, by which it is called.

    As a function it is what was decorated; `call` and the others put a job, and need a worker.
    """

    def __init__(self, app: App, task: Declared, options: CallOptions | None = None) -> None:
        self._app = app
        self.declared = task
        self._options = options or CallOptions()
        self.__doc__ = task.function.__doc__
        self.__name__ = task.name

    @property
    def name(self) -> str:
        """The name under which workers know it."""
        return self.declared.name

    @property
    def queue(self) -> str:
        """The queue that its jobs wait in."""
        return self.declared.queue

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The plain function, run here and now."""
        if self.declared.actor is not None:
            raise TypeError(f"task {self.name} is a class: call it with .call(…) or .send(…)")
        return self.declared.function(*args, **kwargs)  # type: ignore[no-any-return]

    def options(self, **options: Unpack[CallKeywords]) -> Task[P, R]:
        """The same task with options for the calls that are made of what is returned.

            await resize.options(delay=60, priority=5).send("a.png")

        Raises `ConfigurationError`.
        """
        given = {name: getattr(self._options, name) for name in self._options.model_fields_set}
        try:
            merged = CallOptions(**{**given, **options})
        except ConfigurationError as error:
            raise ConfigurationError(f"task {self.name}: {error}") from None
        return Task(self._app, self.declared, merged)

    def job(self, *args: P.args, **kwargs: P.kwargs) -> NewCall[R]:
        """A call that is not made yet: for `app.jobs.send_many` and `app.gather`.

        Raises TypeError where the arguments do not fit, `InvalidArguments` where one is not of its
        type.
        """
        return NewCall(self, self._app.jobs.new(self.declared, self._options, args, kwargs))

    async def send(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Puts a job, and returns once it is stored. Raises as `job`, and `UnreachableError`."""
        return await self.job(*args, **kwargs).send()

    def send_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`send` where there is no `await`."""
        return self.job(*args, **kwargs).send_sync()

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Puts a job and returns its result, within the option `wait`, 30 s by default.

        Raises as `job`, what the task raised where `raises` lists it, else `TaskFailed`;
        `TaskTimeout` where it goes on, `TaskExpired` where nobody began it, `TaskStopped`,
        `TaskCanceled`, and `UnreachableError`.
        """
        return (await self.request(*args, **kwargs)).value

    def call_sync(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """`call` where there is no `await`. Raises RuntimeError on a running event loop."""
        return self.request_sync(*args, **kwargs).value

    async def request(self, *args: P.args, **kwargs: P.kwargs) -> Reply[R]:
        """`call`, with the job beside the result."""
        return await self._app.jobs.request(self.job(*args, **kwargs))

    def request_sync(self, *args: P.args, **kwargs: P.kwargs) -> Reply[R]:
        """`request` where there is no `await`."""
        return self._app.jobs.request_sync(self.job(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<Task {self.name}{self.declared.signature.described()}>"


class TaskActor:
    """The base of tasks with a life of their own: one instance in each worker process.

    `run` is the task; it and the two others may be `def` or `async def`. The class is called as a
    `Task` is: `await Train.call("m")`.
    """

    task: ClassVar[Task[..., Any]]  #: set by `@app.task`

    app: App  #: set before `on_start`, as is `log`
    log: logging.Logger

    run: Callable[..., Any]  #: the task itself: its signature is the arguments

    def on_start(self) -> Awaitable[None] | None:
        """Before the first job, after the start-up hooks of the app."""
        return None

    def on_stop(self) -> Awaitable[None] | None:
        """After the last job, before the shutdown hooks of the app."""
        return None

    @classmethod
    def options(cls, **options: Unpack[CallKeywords]) -> Task[..., Any]:
        """The task with options for the calls that are made of what is returned."""
        return cls.task.options(**options)

    @classmethod
    def job(cls, *args: Any, **kwargs: Any) -> NewCall[Any]:
        """A call that is not made yet."""
        return cls.task.job(*args, **kwargs)

    @classmethod
    async def send(cls, *args: Any, **kwargs: Any) -> Job[Any]:
        """Puts a job, and returns once it is stored."""
        return await cls.task.send(*args, **kwargs)

    @classmethod
    def send_sync(cls, *args: Any, **kwargs: Any) -> Job[Any]:
        """`send` where there is no `await`."""
        return cls.task.send_sync(*args, **kwargs)

    @classmethod
    async def call(cls, *args: Any, **kwargs: Any) -> Any:
        """Puts a job and returns its result."""
        return await cls.task.call(*args, **kwargs)

    @classmethod
    def call_sync(cls, *args: Any, **kwargs: Any) -> Any:
        """`call` where there is no `await`."""
        return cls.task.call_sync(*args, **kwargs)

    @classmethod
    async def request(cls, *args: Any, **kwargs: Any) -> Reply[Any]:
        """`call`, with the job beside the result."""
        return await cls.task.request(*args, **kwargs)

    @classmethod
    def request_sync(cls, *args: Any, **kwargs: Any) -> Reply[Any]:
        """`request` where there is no `await`."""
        return cls.task.request_sync(*args, **kwargs)


ActorT = TypeVar("ActorT", bound=TaskActor)


class NewCall(Generic[R]):
    """A call of a task that is not made yet: checked, and not stored."""

    def __init__(self, task: Task[..., R], prepared: Any) -> None:
        self.task = task
        self.prepared = prepared

    async def send(self) -> Job[R]:
        """Puts it."""
        (job,) = await self.task._app.jobs.send_many([self])
        return job

    def send_sync(self) -> Job[R]:
        """Puts it where there is no `await`."""
        (job,) = self.task._app.jobs.send_many_sync([self])
        return job


class TaskDecorator(Protocol):
    """Makes a `Task` of a function or a `TaskActor`; a `JobContext` that comes first is no
    argument."""

    @overload  # a class is a callable, too
    def __call__(  # type: ignore[overload-overlap]
        self, function: type[ActorT], /
    ) -> type[ActorT]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /
    ) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BulkTaskDecorator(Protocol):
    """Makes a `Task` of one argument of a function that takes and returns a list."""

    @overload
    def __call__(
        self, function: Callable[[list[A]], Coroutine[Any, Any, list[R | Exception]]], /
    ) -> Task[[A], R]: ...

    @overload
    def __call__(
        self, function: Callable[[list[A]], Coroutine[Any, Any, list[R]]], /
    ) -> Task[[A], R]: ...

    @overload
    def __call__(self, function: Callable[[list[A]], list[R | Exception]], /) -> Task[[A], R]: ...

    @overload
    def __call__(self, function: Callable[[list[A]], list[R]], /) -> Task[[A], R]: ...
