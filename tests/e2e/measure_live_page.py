"""What the live page costs with many sessions, and how fast a revocation silences them. Not part of the tests; run it by hand:

    STAUNCH_BIN=target/release/staunch SESSIONS=8000 tests/.tools/venv/bin/python -m pytest -s -q tests/e2e/measure_live_page.py

Raw sessions of one client certificate stand, each with TLS on both legs; fifty of them, in a process of their own that takes no part
in the ends of the others, send and get back a byte twenty times a second. Printed: the processor time of the gateway's operator threads and of its workers, without the page and with the page open three times; a
probe's round trip through the gateway in both cases, whose longest is the upper bound of a worker's stall; and the time from the
order to revoke until the last byte came.
"""

import asyncio
import datetime
import http.client
import json
import multiprocessing
import os
import resource
import ssl
import statistics
import time

import httpx
from support import parts
from test_operator import Operator
from test_tls import client_context, connect, raw_config, raw_route

SESSIONS = int(os.environ.get("SESSIONS", (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 2_000) // 2))
SECONDS = float(os.environ.get("SECONDS", "20"))
AT_ONCE = 40
SPEAKING = 50
LOOKERS = 3


def more_descriptors():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def echoes(port, chain, key):
    """The upstream, a process of its own."""
    more_descriptors()

    async def serve(reader, writer):
        try:
            while data := await reader.read(4096):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def run():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, backlog=1024)
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    asyncio.run(run())


def clients(gateway_port, ca, pair, count, speak, opened, last, ended):
    """Sessions, a process of their own. `last`: when a byte came last; `ended`: how many sessions are over."""
    more_descriptors()
    if speak:
        # What it sees must not wait for those that see nothing.
        os.nice(-10)

    async def one(context, turn):
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway_port, ssl=context, server_hostname="raw.gw.test", ssl_handshake_timeout=60)
            writer.write(b"x")
            await reader.readexactly(1)
        with opened.get_lock():
            opened.value += 1
        try:
            while speak:
                await asyncio.sleep(0.05)
                writer.write(b"x")
                await reader.readexactly(1)
                last.value = time.monotonic()
            while await reader.read(1):
                last.value = time.monotonic()
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        with ended.get_lock():
            ended.value += 1
        writer.close()

    async def run():
        context, turn = ssl.create_default_context(cafile=ca), asyncio.Semaphore(AT_ONCE)
        context.load_cert_chain(*pair)
        await asyncio.gather(*(one(context, turn) for _ in range(count)), return_exceptions=True)

    asyncio.run(run())


def look(admin, stop, seen):
    """A browser that has the list open."""
    with httpx.stream("GET", f"http://127.0.0.1:{admin}/events", params={"view": "/?per_page=50"}, timeout=30) as answer:
        for data in answer.iter_raw():
            seen.value += len(data)
            if stop.is_set():
                return


def threads(pid) -> dict[str, float]:
    """Processor seconds by thread name."""
    spent, tick = {}, os.sysconf("SC_CLK_TCK")
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = open(f"/proc/{pid}/task/{thread}/stat").read()
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        spent[name] = spent.get(name, 0.0) + (int(rest[11]) + int(rest[12])) / tick
    return spent


def observe(gateway, context, words):
    """Probes for a while; prints who spent what, and the probe's round trips."""
    before, trips, began = threads(gateway.process.popen.pid), [], time.monotonic()
    with connect(gateway, context) as probe:
        while time.monotonic() - began < SECONDS:
            at = time.perf_counter()
            probe.sendall(b"x")
            probe.recv(1)
            trips.append(time.perf_counter() - at)
            time.sleep(0.0005)
    took, after = time.monotonic() - began, threads(gateway.process.popen.pid)
    shares = {name: 100 * (after[name] - before.get(name, 0.0)) / took for name in after}
    told = ", ".join(f"{name} {share:.2f} %" for name, share in sorted(shares.items()) if share >= 0.01)
    trips.sort()
    at = lambda share: trips[int(share * (len(trips) - 1))] * 1e3
    print(f"{words}: of a core: {told}")
    print(f"{words}: round trip of {len(trips)} probes: median {statistics.median(trips) * 1e3:.3f} ms, p99 {at(0.99):.3f}, p99.9 {at(0.999):.3f}, longest {at(1):.3f}")


def test_the_page_with_many_sessions(world, start):
    spawn = multiprocessing.get_context("spawn")
    port, opened, ended, last = spawn.Value("i", 0), spawn.Value("i", 0), spawn.Value("i", 0), spawn.Value("d", 0.0)
    upstream = spawn.Process(target=echoes, args=(port, *world.upstream_pair), daemon=True)
    upstream.start()
    parts.until(lambda: port.value, 20)
    pair = world.authority.leaf("measured", ["ann.clients.test"])
    limits = {"half_open_per_address": 0, "connections": SESSIONS * 6 // 5 + 100}
    gateway = start(raw_config(world, raw_route(world, port.value)) | {"limits": limits})
    operator, context = Operator(gateway), client_context(world, pair)
    runs = [
        spawn.Process(target=clients, args=(gateway.port, world.ca, pair, count, speak, opened, last, ended), daemon=True)
        for count, speak in ((SESSIONS - SPEAKING, False), (SPEAKING, True))
    ]
    for run in runs:
        before = opened.value
        run.start()
        parts.until(lambda: opened.value >= (SESSIONS if before else SESSIONS - SPEAKING) or ended.value, 300)
    live = operator.get("/api/sessions?per_page=1")["live"]
    print(f"\n{live} live sessions of {SESSIONS} wanted")
    observe(gateway, context, "page closed")
    stop, seen = spawn.Event(), spawn.Value("i", 0)
    lookers = [spawn.Process(target=look, args=(gateway.admin, stop, seen), daemon=True) for _ in range(LOOKERS)]
    [looker.start() for looker in lookers]
    parts.until(lambda: seen.value > 10_000, 20)
    observe(gateway, context, f"page open {LOOKERS} times")
    stop.set()
    # On a connection that stands: what is measured is the gateway's time, not that of the client's first steps.
    asking = http.client.HTTPConnection("127.0.0.1", gateway.admin, timeout=60)
    asking.connect()
    body, fields = json.dumps({"subject": "ann.clients.test"}), {"content-type": "application/json"}
    ordered, posted = time.monotonic(), time.time()
    asking.request("POST", "/api/revoke", body, fields)
    revoked = json.loads(asking.getresponse().read())["sessions"]
    answered = time.monotonic() - ordered
    parts.until(lambda: ended.value >= live, 60)
    silence = max(last.value - ordered, 0.0)
    print(f"revoke: {revoked} sessions, answered in {answered * 1e3:.1f} ms, the last byte {silence * 1e3:.1f} ms after the order")
    # Where the time went, by the gateway's own clock.
    parts.until(lambda: gateway.process.text().count('"reason":"revoked"') >= revoked, 60)
    when = lambda line: (datetime.datetime.fromisoformat(line["time"]).timestamp() - posted) * 1e3
    closings = sorted(when(line) for line in gateway.lines() if line["event"] == "session closed" and line["reason"] == "revoked")
    told = when(gateway.line("order", order="revoke"))
    print(f"revoke: obeyed after {told:.1f} ms; sessions closed from {closings[0]:.1f} to {closings[-1]:.1f} ms, half by {closings[len(closings) // 2]:.1f}")
    for process in (*runs, upstream, *lookers):
        process.terminate()
