"""Lines of several processes on one pipe: whole, in turn, and waiting for nobody for long."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.log.lines import LOCK_TIMEOUT_S, SharedLines

LONG = 200_000  #: bytes; more than a pipe holds
FORK = multiprocessing.get_context("fork")


def notice(dropped: int) -> bytes:
    return json.dumps({"dropped": dropped}).encode() + b"\n"


def line(writer: int, number: int, size: int) -> bytes:
    return json.dumps({"writer": writer, "number": number, "x": "x" * size}).encode() + b"\n"


def write_all(lines: SharedLines, writer: int, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        lines.write(line(writer, number, size), notice)


def read_slowly(fd: int, read: list[bytes], pause: Callable[[], None]) -> None:
    while data := os.read(fd, 4096):
        read.append(data)
        pause()


def told(read: list[bytes]) -> tuple[list[dict[str, int]], int]:
    """What was read, each line of it whole, and how many were told as dropped."""
    found = [json.loads(each) for each in b"".join(read).splitlines()]
    dropped = sum(each.get("dropped", 0) for each in found)
    return [each for each in found if "writer" in each], dropped


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        try:
            os.close(end)
        except OSError:
            continue


@pytest.mark.parametrize("sizes", [[10, 5000, 70_000], [12_000] * 30, [LONG] * 3])
def test_lines_of_several_processes_are_whole_however_long_and_slow(
    pipe: tuple[int, int], sizes: list[int]
) -> None:
    lines, read = SharedLines(pipe[1]), list[bytes]()
    writers = [FORK.Process(target=write_all, args=(lines, n, sizes)) for n in range(4)]
    for writer in writers:
        writer.start()
    reader = threading.Thread(
        target=read_slowly, args=(pipe[0], read, lambda: time.sleep(0.0005)), daemon=True
    )
    reader.start()
    for writer in writers:
        writer.join(60)
    lines.flush(notice)
    os.close(pipe[1])
    reader.join(60)
    found, dropped = told(read)
    assert len(found) + dropped == 4 * len(sizes)
    for name in range(4):
        numbers = [each["number"] for each in found if each["writer"] == name]
        assert numbers == sorted(numbers)


def test_a_reader_that_stops_costs_one_wait_and_finds_whole_lines_when_it_goes_on(
    pipe: tuple[int, int],
) -> None:
    lines, read = SharedLines(pipe[1]), list[bytes]()
    began = time.monotonic()
    write_all(lines, 1, [LONG] * 50)  # nobody reads: the first stops in its midst
    assert time.monotonic() - began < 10 * LOCK_TIMEOUT_S
    assert lines.dropped == 49
    go_on = threading.Event()
    reader = threading.Thread(target=read_slowly, args=(pipe[0], read, go_on.wait), daemon=True)
    reader.start()
    go_on.set()
    while lines.dropped:
        write_all(lines, 2, [10])
    os.close(pipe[1])
    reader.join(60)
    found, dropped = told(read)
    assert found[0]["number"] == 0
    assert dropped >= 49
    assert [each["writer"] for each in found][-1] == 2


def test_a_process_that_dies_in_the_midst_of_a_line_leaves_it_to_the_next(
    pipe: tuple[int, int],
) -> None:
    lines, read = SharedLines(pipe[1]), list[bytes]()
    writer = FORK.Process(target=write_all, args=(lines, 1, [LONG]))
    writer.start()
    writer.join(60)
    reader = threading.Thread(target=read_slowly, args=(pipe[0], read, lambda: None), daemon=True)
    reader.start()
    write_all(lines, 2, [10])
    os.close(pipe[1])
    reader.join(60)
    assert [each["writer"] for each in told(read)[0]] == [1, 2]


def test_who_keeps_its_turn_keeps_the_others_for_a_moment_only(pipe: tuple[int, int]) -> None:
    lines = SharedLines(pipe[1])
    held, release = FORK.Event(), FORK.Event()

    def keep() -> None:
        assert lines._turn()
        held.set()
        release.wait(60)

    registry = FORK.Process(target=keep)
    registry.start()
    assert held.wait(60)
    began = time.monotonic()
    write_all(lines, 1, [10])
    assert time.monotonic() - began < 4 * LOCK_TIMEOUT_S
    assert lines.dropped == 1
    release.set()
    registry.join(60)
    write_all(lines, 1, [10])
    os.close(pipe[1])
    assert told([os.read(pipe[0], 1 << 16)]) == ([{"writer": 1, "number": 0, "x": "x" * 10}], 1)


@pytest.mark.parametrize("closed", ["the reader", "the descriptor"])
def test_where_nobody_reads_nobody_waits(pipe: tuple[int, int], closed: str) -> None:
    lines = SharedLines(pipe[1])
    os.close(pipe[0 if closed == "the reader" else 1])
    write_all(lines, 1, [10, LONG])
    assert lines.dropped == 2


def test_user_code_that_closes_all_descriptors_costs_no_line(pipe: tuple[int, int]) -> None:
    lines = SharedLines(pipe[1])
    os.close(lines._file)
    with open(os.devnull, "wb") as other:  # has its number
        assert other.fileno() == lines._file
        write_all(lines, 1, [10])
    assert len(told([os.read(pipe[0], 1 << 16)])[0]) == 1


def test_a_file_a_terminal_and_a_socket_take_lines_too(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        write_all(SharedLines(file.fileno()), 1, [10, LONG])
    assert len(told([(tmp_path / "log").read_bytes()])[0]) == 2
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write_all(SharedLines(ours.fileno()), 1, [10, 5000])
        ours.shutdown(socket.SHUT_WR)
        read = list[bytes]()
        read_slowly(theirs.fileno(), read, lambda: None)
    assert len(told(read)[0]) == 2
    master, slave = pty.openpty()
    write_all(SharedLines(slave), 1, [10])
    assert b'"number": 0' in os.read(master, 1 << 16)
    os.close(slave)
    os.close(master)


def test_a_terminal_that_was_stopped_is_not_waited_for() -> None:
    master, slave = pty.openpty()
    lines = SharedLines(slave)
    began = time.monotonic()
    write_all(lines, 1, [LONG] * 5)  # nobody reads its other end
    assert time.monotonic() - began < 10 * LOCK_TIMEOUT_S
    assert lines.dropped == 4
    os.close(slave)
    os.close(master)
