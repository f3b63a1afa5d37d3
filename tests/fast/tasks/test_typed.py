"""What type checkers see of a task: the types of its function, through every call."""

from __future__ import annotations

from typing import Any, assert_type

from actors import App, Job, JobContext, Reply, TaskActor, Unique

app = App()


@app.task("resize", timeout=60, unique=Unique("{path}"))
def resize(path: str, width: int = 800) -> str:
    return f"{path} {width}"


@app.task("train")
async def train(ctx: JobContext, model: str) -> dict[str, float]:
    return {model: ctx.deadline}


@app.bulk_task("embed", bulk=8)
async def embed(texts: list[str]) -> list[int | Exception]:
    return [len(text) for text in texts]


@app.bulk_task("score")
def score(texts: list[str]) -> list[float]:
    return [0.0 for _ in texts]


@app.task("stat")
class Stat(TaskActor):
    def run(self, ctx: JobContext) -> int:
        return ctx.attempt


async def calls() -> None:
    assert_type(await resize.call("a.png", width=100), str)
    assert_type(await resize.send("a.png"), Job[str])
    assert_type(await (await resize.send("a.png")).result(wait=1), str)
    assert_type(await resize.options(delay=5).request("a.png"), Reply[str])
    assert_type(resize("a.png"), str)
    assert_type(await train.call("m"), dict[str, float])
    assert_type(await embed.call("hello"), int)
    assert_type(await score.call("hello"), float)
    assert_type(await Stat.call(), Any)
    await resize.call(1)  # type: ignore[arg-type]
    await resize.call("a", height=1)  # type: ignore[call-arg]
    await train.send()  # type: ignore[call-arg]
    app.task("x", timeot=1)  # type: ignore[call-arg]


def test_the_file_is_read_by_the_type_checker() -> None:
    assert resize.name == "resize"
