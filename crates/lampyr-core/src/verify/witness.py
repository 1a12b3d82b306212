"""Writes down what a machine sees while it is forked, and goes on.

Its words are the gateway and a port of the host's. It prints the port that it
listens on and the digest of a file that it wrote, and then stays.
"""

import hashlib
import os
import socket
import sys
import threading
import time

HOME = "/var/tmp/verify-fork"


def note(name, text):
    with open(f"{HOME}/{name}", "a") as file:
        file.write(text)


def serve(listener):
    while True:
        client, _ = listener.accept()
        client.sendall(b"served\n")
        client.close()


def hear(connection):
    try:
        while data := connection.recv(100):
            note("heard", data.decode())
        note("ended", "by the other end\n")
    except OSError as error:
        note("ended", f"{error.strerror}\n")


def tick():
    ticks = os.open(f"{HOME}/ticks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    while True:
        number += 1
        with open("/proc/sys/kernel/random/uuid") as random:
            uuid = random.read().strip()
        os.write(ticks, b"%d %s %d\n" % (number, uuid.encode(), time.monotonic_ns()))
        time.sleep(0.01)


def main(gateway, port):
    os.makedirs(HOME)
    data = os.urandom(4 << 20)
    with open(f"{HOME}/data", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    listener = socket.create_server(("127.0.0.1", 0))
    connection = socket.create_connection((gateway, int(port)), timeout=20)
    connection.settimeout(None)
    print(listener.getsockname()[1], hashlib.sha256(data).hexdigest(), flush=True)
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    threading.Thread(target=hear, args=(connection,), daemon=True).start()
    tick()


main(*sys.argv[1:])
