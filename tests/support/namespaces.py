"""Hosts on one machine: network namespaces, joined by veth pairs and a switch.

Whatever is opened or started in `with host:` is on that host: its sockets, and the
processes that it forks. Nothing of it touches the machine's own network.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """One namespace with an address on the switch, and loopback."""

    def __init__(self, name: str, namespace: str, address: str, port: str) -> None:
        self.name = name
        self.address = address
        self._path = Path("/run/netns", namespace)
        self._port = port  # of the switch
        self._outside: list[int] = []

    def __enter__(self) -> Self:
        self._outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        inside = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        _enter(inside)
        os.close(inside)
        return self

    def __exit__(self, *_: object) -> None:
        outside = self._outside.pop()
        _enter(outside)
        os.close(outside)


class Tap:
    """Records TCP on one port of a switch, in a thread of its own."""

    def __init__(self, port: str) -> None:
        self._segments: dict[tuple[str, int, str, int], dict[int, bytes]] = {}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.bind((port, 0))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def streams(self) -> dict[tuple[str, int, str, int], bytes]:
        """What was sent, by (source, its port, destination, its port); ends the recording."""
        self._over.set()
        self._thread.join()
        self._socket.close()
        return {
            ends: b"".join(data for _, data in sorted(segments.items()))
            for ends, segments in self._segments.items()
        }

    def _listen(self) -> None:
        while True:
            over = self._over.is_set()  # and what came before that is still to be read
            try:
                self._take(self._socket.recv(65536))
            except TimeoutError:
                if over:
                    return

    def _take(self, frame: bytes) -> None:
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
            return
        packet = frame[14 : 14 + int.from_bytes(frame[16:18])]
        source, destination = map(socket.inet_ntoa, (packet[12:16], packet[16:20]))
        segment = packet[4 * (packet[0] & 15) :]
        ports = int.from_bytes(segment[:2]), int.from_bytes(segment[2:4])
        if data := segment[4 * (segment[12] >> 4) :]:
            stream = self._segments.setdefault((source, ports[0], destination, ports[1]), {})
            stream[int.from_bytes(segment[4:8])] = data


class Network:
    """A switch with hosts on it, whose links can be cut and healed.

    Raises `PermissionError` where namespaces may not be made.
    """

    def __init__(self) -> None:
        self._mark = f"cb{secrets.token_hex(2)}"  # an interface's name has 15 characters
        self._switch = f"{self._mark}-switch"
        self._namespaces: list[str] = []
        self.hosts: dict[str, Host] = {}
        self._add_namespace(self._switch)
        try:
            self._in_switch("link", "add", "switch", "type", "bridge")
            self._in_switch("link", "set", "switch", "up")
        except PermissionError:
            self.close()
            raise

    def add(self, name: str) -> Host:
        """A new host with the next address."""
        namespace, port = f"{self._mark}-{name}", f"to-{name}"
        address = f"10.77.0.{len(self.hosts) + 1}"
        self._add_namespace(namespace)
        self._in_switch(
            *("link", "add", port, "type", "veth", "peer", "name", "eth0"), "netns", namespace
        )
        self._in_switch("link", "set", port, "master", "switch", "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        self.hosts[name] = Host(name, namespace, address, port)
        return self.hosts[name]

    def cut(self, host: Host) -> None:
        """Packets from and to a host vanish; no end of a link notices anything."""
        self._in_switch("link", "set", host._port, "nomaster")

    def heal(self, host: Host) -> None:
        self._in_switch("link", "set", host._port, "master", "switch")

    def tap(self, host: Host) -> Tap:
        """Listen to all that passes a host's port of the switch, from now on."""
        switch = Host("switch", self._switch, "", "")
        with switch:
            return Tap(host._port)

    def close(self) -> None:
        for namespace in self._namespaces:
            _ip("netns", "delete", namespace)

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _in_switch(self, *arguments: str) -> None:
        _ip("-n", self._switch, *arguments)


@contextmanager
def switch() -> Iterator[Network]:
    """A network for a test, which where there can be none is skipped; in CI it fails."""
    try:
        network = Network()
    except PermissionError as refusal:
        if os.environ.get("CI"):
            pytest.fail(str(refusal))
        pytest.skip(str(refusal))
    yield network
    network.close()


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise PermissionError("no network namespaces: the package iproute2 is missing") from None
    except subprocess.CalledProcessError as error:
        raise PermissionError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from None


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
