"""Tasks of Callboard that are called; `python calls_app.py NAME N` calls one."""

import asyncio
import sys
import time

from actors import App

app = App()


@app.task("double")
async def double(number: int) -> int:
    return 2 * number


@app.bulk_task("model", bulk=32, flush=0.01, concurrency=1)
def model(numbers: list[int]) -> list[int]:
    time.sleep(0.01)
    return [2 * number for number in numbers]


if __name__ == "__main__":
    from benchmarks.calling import drive

    task = {"double": double, "model": model}[sys.argv[1]]
    asyncio.run(drive(lambda number: task.call(number), int(sys.argv[2])))
    app.close()
