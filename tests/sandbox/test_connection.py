"""Cutting a connection: the right one, and nothing is left open by it."""

import os
import socket

from billing.stripe_sandbox.connection import DESCRIPTORS, close_connection


def test_only_the_connection_of_that_peer_is_cut():
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        other = socket.create_connection(server.getsockname())
        far, peer = server.accept()
        still, _ = server.accept()
        with near, other, far, still:
            assert close_connection((peer[0], str(peer[1])))
            assert near.recv(1) == b""
            still.sendall(b"x")
            assert other.recv(1) == b"x"
    assert not close_connection(("127.0.0.1", 1))


def test_looking_for_a_connection_leaves_no_file_open(tmp_path):
    reading, writing = os.pipe()
    with (tmp_path / "file").open("w"):
        before = len(os.listdir(DESCRIPTORS))
        for _ in range(3):
            close_connection(("127.0.0.1", 1))
        assert len(os.listdir(DESCRIPTORS)) == before
    os.close(reading)
    os.close(writing)
