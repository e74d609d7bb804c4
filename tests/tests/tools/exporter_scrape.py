"""Prints what the exporter at a port of this node exports, once it listens and has been warm.
Arguments: port, seconds to wait for it."""
import select
import socket
import sys
import time
import urllib.request

port, limit = int(sys.argv[1]), float(sys.argv[2])
end = time.monotonic() + limit
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"nobody listens at {port}: {error}")
        select.select([], [], [], 0.02)
url = f"http://127.0.0.1:{port}/metrics"
sys.stdout.write(urllib.request.urlopen(url, timeout=limit).read().decode())
