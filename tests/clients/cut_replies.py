"""A proxy that loses a reply, as a network may: the request arrives, its answer does not.

It knows no client and no protocol.
"""

import socket
import threading


class Proxy:
    """Forwards to `port`. While `cuts` is over 0, the answer to a request that holds `mark` is
    thrown away, the connection is ended, and `cuts` goes down by one."""

    def __init__(self, port, mark):
        self.target, self.mark, self.cuts, self.seen = port, mark, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        """Serve each client with a thread of its own."""
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        """One request at a time: the clients here wait for each answer."""
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            while request := client.recv(1 << 16):
                server.sendall(request)
                answer = server.recv(1 << 16)
                if self.mark in request:
                    self.seen += 1
                    if self.cuts > 0:
                        self.cuts -= 1
                        return
                client.sendall(answer)
