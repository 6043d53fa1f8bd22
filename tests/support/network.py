"""Refuses every connection that would leave this machine."""

import ipaddress
import socket
from typing import Any

_connect = socket.socket.connect


def is_local(address: Any) -> bool:
    """Whether a socket address is a path or on loopback."""
    if isinstance(address, str | bytes):
        return True
    host = address[0]
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def stay_at_home() -> None:
    """From now on `socket.connect` raises for any address outside this machine."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not is_local(address):
            raise AssertionError(f"A test tried to reach {address!r} outside this machine")
        _connect(self, address)

    socket.socket.connect = connect  # type: ignore[method-assign]
