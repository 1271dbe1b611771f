#!/usr/bin/env bash
# A grpc.aio server that stops removes the file at its Unix address, even where that is another server's by now.
#
# Cleaners of temporary directories remove sockets of running servers. A second server at the same address makes the
# socket anew and can be called. When the first server is stopped later, it unlinks the path without looking whether
# the file there is the one that it made: the second server lives, and can't be called by anything new.
#
# Packages: grpcio==1.85.1
# Seen on 2026-11-30 with Python 3.11:
#   second server: there True
#   first server stopped: there False
# Exits non-zero where that changes.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet grpcio==1.85.1
cat > stop.py <<'PY'
import asyncio
import os

import grpc

PATH = os.path.abspath("s.sock")


async def started() -> grpc.aio.Server:
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{PATH}")
    await server.start()
    return server


async def main() -> None:
    first = await started()
    os.unlink(PATH)
    second = await started()
    before = os.path.exists(PATH)
    print("second server: there", before)
    await first.stop(None)
    for _ in range(50):  # the file goes soon after
        if not os.path.exists(PATH):
            break
        await asyncio.sleep(0.1)
    after = os.path.exists(PATH)
    print("first server stopped: there", after)
    await second.stop(None)
    assert (before, after) == (True, False)


asyncio.run(main())
PY
venv/bin/python stop.py
