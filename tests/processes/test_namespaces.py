"""The hosts that other tests play on are hosts: what is cut is silent, not refused."""

from __future__ import annotations

import socket

import pytest

from tests.support.namespaces import Network


def test_a_cut_host_hears_nothing_and_all_once_it_is_healed(hosts: Network) -> None:
    first, second = hosts.add("first"), hosts.add("second")
    with first, socket.create_server((first.address, 5000)) as server:
        with second:
            caller = socket.create_connection((first.address, 5000), 5.0)
        callee, _ = server.accept()
    with caller, callee:
        hosts.cut(second)
        callee.sendall(b"late")
        caller.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.recv(4)
        hosts.heal(second)
        caller.settimeout(10.0)
        assert caller.recv(4) == b"late"


def test_a_tap_hears_what_is_said_in_the_clear(hosts: Network) -> None:
    speaker, listener = hosts.add("speaker"), hosts.add("listener")
    tap = hosts.tap(speaker)
    with listener, socket.create_server((listener.address, 5000)) as server:
        with speaker, socket.create_connection((listener.address, 5000), 5.0) as caller:
            caller.sendall(b"a word")
        callee, _ = server.accept()
        with callee:
            assert callee.recv(6, socket.MSG_WAITALL) == b"a word"
    ((ends, data),) = tap.streams().items()
    assert (ends[0], ends[2:], data) == (speaker.address, (listener.address, 5000), b"a word")


def test_what_is_started_on_a_host_is_alone_with_its_loopback(hosts: Network) -> None:
    host = hosts.add("only")
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        with host, pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5.0)
        socket.create_connection(("127.0.0.1", port), 5.0).close()
