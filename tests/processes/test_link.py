"""What somebody sees who reads along on the link between two hosts, and what can be made of it."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack

from actors.plan import network
from actors.stages.thespian.launcher import Launcher
from tests.support.namespaces import Host, Network
from tests.support.peers import is_hung_up_on
from tests.support.thespian_cast import Play, on_stage, report, until

KEY = os.urandom(32)
ETH_P_ALL = 3
SECRET = "the word that nobody may read"


def started(host: Host, stack: ExitStack, *leaders: str) -> Launcher:
    with host:
        given = network.Network(host.address, 0, (KEY,), leaders)
        return stack.enter_context(on_stage(given))


def heard(host: Host, system: Launcher) -> int:
    with host:
        return int(report(system)["heard"].count(f"{SECRET} self"))


def streams(sniffer: socket.socket) -> dict[tuple[str, int, str, int], bytes]:
    """What was sent on each TCP connection, by (address, port) of both ends, as it came."""
    found: dict[tuple[str, int, str, int], bytes] = {}
    sniffer.setblocking(False)
    while True:
        try:
            packet = sniffer.recv(65536)[14:]
        except BlockingIOError:
            return found
        if packet[9:10] != b"\x06":  # of TCP alone
            continue
        header = 4 * (packet[0] & 15)
        source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        ports = struct.unpack_from("!HH", packet, header)
        payload = packet[header + 4 * (packet[header + 12] >> 4) : int.from_bytes(packet[2:4])]
        key = source, ports[0], target, ports[1]
        found[key] = found.get(key, b"") + payload


def test_a_link_shows_no_word_and_what_was_recorded_there_opens_nothing(hosts: Network) -> None:
    one, other, eve = hosts.add("one"), hosts.add("two"), hosts.add("eve")
    with ExitStack() as stack:
        with Host("switch", hosts._switch, "", ""):
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            sniffer.bind((one._port, 0))
        stack.enter_context(sniffer)
        leader = started(one, stack)
        there = f"{one.address}:{leader.admin_port}"
        member = started(other, stack, there)
        with other:
            member.send(Play("send", (there, Play("remind", (0.0, SECRET)))))
            report(member)
        until(lambda: heard(one, leader) == 1)

        seen = streams(sniffer)
        recorded = {
            key: data for key, data in seen.items() if key[2:] == (one.address, leader.admin_port)
        }
        assert recorded
        assert all(SECRET.encode() not in data for data in seen.values())
        for data in recorded.values():
            with eve, socket.create_connection((one.address, leader.admin_port), 5.0) as attacker:
                attacker.sendall(data)
                assert is_hung_up_on(attacker)
        assert heard(one, leader) == 1
