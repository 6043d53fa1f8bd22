"""Cutting a client's connection, for faults that leave a caller without an answer."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

DESCRIPTORS = Path("/dev/fd")


def close_connection(peer: tuple[str, int | str]) -> bool:
    """Shuts down the socket whose other end is `peer`; returns whether it was found.

    The server does not hand out its sockets, so the one with the caller's address
    is looked up among this process's open files.
    """
    wanted = (peer[0], str(peer[1]))  # granian gives the port as text
    for entry in os.listdir(DESCRIPTORS):
        try:
            if not stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                continue
            duplicate = socket.socket(fileno=os.dup(int(entry)))
        except OSError:
            continue
        try:
            name = duplicate.getpeername()
            if isinstance(name, tuple) and (name[0], str(name[1])) == wanted:
                duplicate.shutdown(socket.SHUT_RDWR)
                return True
        except OSError:
            continue
        finally:
            duplicate.close()
    return False
