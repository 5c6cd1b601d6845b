"""A real way to a server that breaks at a given moment: what was sent has arrived, and the answer is lost."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DONE = b"Z\0\0\0\x05I"
"""What a server's answer ends with when no transaction is open any more."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER, so that to close a connection breaks it."""


class Proxy:
    """Between clients and a server on loopback. lose: how many answers to a COMMIT are to be lost from now on."""

    def __init__(self, server_port: int) -> None:
        self.lose = self.lost = 0
        self._server = ("127.0.0.1", server_port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server, suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
                    if source is client and b"COMMIT\0" in data and self.lose > 0:
                        self.lose, self.lost = self.lose - 1, self.lost + 1
                        while not server.recv(65536).endswith(DONE):
                            pass
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        return


@contextmanager
def proxy(server_port: int) -> Iterator[Proxy]:
    way = Proxy(server_port)
    yield way
    way.listener.close()
