#!/usr/bin/env python3
"""Finds what masks overwrote in a recording, written from config/recording-format.md alone.

    recording_spans.py FOLDER IDENTITY      prints each span with the bytes that stand there, as JSON

Knows HTTP/1.1, HTTP/2, WebSocket behind a 101, PostgreSQL, MySQL and Redis, as far as bodies and messages are told apart.
"""

import json
import pathlib
import struct
import sys

from recording_reader import Fault, read, want

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def heads(text):
    """The first line and the fields of a head, and where it ends."""
    end = text.index(b"\r\n\r\n") + 4
    first, *lines = text[: end - 4].split(b"\r\n")
    fields = {}
    for line in lines:
        name, value = line.split(b":", 1)
        fields[name.strip().lower()] = value.strip()
    return first, fields, end


def body(text, fields, to_the_end=False):
    """A body without chunk lines, and where it ends."""
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        found, at = b"", 0
        while True:
            line = text.index(b"\r\n", at)
            length = int(text[at:line].split(b";")[0], 16)
            if length == 0:
                return found, text.index(b"\r\n", line + 2) + 2
            found, at = found + text[line + 2 : line + 2 + length], line + 4 + length
    length = len(text) if to_the_end else int(fields.get(b"content-length", b"0"))
    return text[:length], min(length, len(text))


def http1(up, down):
    """Bodies by request: both directions."""
    bodies, methods, rest = {"up": {}, "down": {}}, {}, up
    while rest:
        first, fields, at = heads(rest)
        number = len(methods) + 1
        methods[number] = first.split(b" ")[0]
        tunnel = b"upgrade" in fields
        text, end = (unmask(rest[at:]), len(rest) - at) if tunnel else body(rest[at:], fields)
        bodies["up"][number], rest = text, rest[at + end :]
    rest, number = down, 1
    while rest:
        first, fields, at = heads(rest)
        status = int(first.split(b" ")[1])
        if 100 <= status < 200 and status != 101:
            rest = rest[at:]
            continue
        none = status in (204, 304) or methods.get(number) == b"HEAD"
        endless = b"content-length" not in fields and b"transfer-encoding" not in fields
        text, end = (b"", 0) if none else body(rest[at:], fields, endless)
        bodies["down"][number], rest, number = text, rest[at + end :], number + 1
    return bodies


def unmask(text):
    """A client's frames of a WebSocket with their payloads unmasked in place (RFC 6455 section 5.3)."""
    text, at = bytearray(text), 0
    while at + 2 <= len(text):
        length, at = text[at + 1] & 0x7F, at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(text[at : at + size], "big"), at + size
        key, at = text[at : at + 4], at + 4
        for place in range(at, min(at + length, len(text))):
            text[place] ^= key[(place - at) % 4]
        at += length
    return bytes(text)


def http2_direction(text):
    """Payloads of DATA frames by stream, without padding."""
    bodies, at = {}, 0
    while at + 9 <= len(text):
        length, kind, flags, stream = int.from_bytes(text[at : at + 3], "big"), text[at + 3], text[at + 4], int.from_bytes(text[at + 5 : at + 9], "big")
        payload, at = text[at + 9 : at + 9 + length], at + 9 + length
        if kind == 0:
            padding = 1 + payload[0] if flags & 8 else 0
            payload = payload[1 : len(payload) - padding + 1] if padding else payload
            bodies[stream] = bodies.get(stream, b"") + payload
    return bodies


def behind_login(route_protocol, down):
    """Where the offsets of a database's answers begin."""
    if route_protocol == "postgres":
        # Behind the first ReadyForQuery.
        at = 0
        while down[at : at + 1] != b"Z":
            at += 1 + struct.unpack(">I", down[at + 1 : at + 5])[0]
        return at + 6
    if route_protocol == "mysql":
        # Behind the first OK packet: a packet of the greeting's phase has its sequence number behind that of the one before.
        at = 0
        while True:
            length = int.from_bytes(down[at : at + 3], "little")
            first, at = down[at + 4], at + 4 + length
            if first == 0:
                return at
    # Behind the first reply that is no error.
    at = 0
    while down[at : at + 1] == b"-":
        at = down.index(b"\r\n", at) + 2
    return resp_end(down, at)


def resp_end(text, at):
    """Where a value of RESP ends."""
    line = text.index(b"\r\n", at)
    kind, rest, at = text[at : at + 1], text[at + 1 : line], line + 2
    if kind in b"$=!" and int(rest) >= 0:
        return at + int(rest) + 2
    if kind in b"*~>%|":
        for _ in range(int(rest) * (2 if kind in b"%|" else 1)):
            at = resp_end(text, at)
    return at


def protocol_of(up, down):
    if up.startswith(PREFACE):
        return "http2"
    if down.startswith(b"HTTP/1."):
        return "http1"
    if down[:1] in b"RSZK" and b"server_version\0" in down:
        return "postgres"
    return "redis" if down[:1] in b"+-:$*%" else "mysql"


def spans(session):
    """Each span: direction, request, rule, mode, and the bytes that stand there."""
    up, down = (session.planes[plane].text for plane in (4, 3))
    lines = [json.loads(fact) for fact in session.facts]
    masked = [line for line in lines if line.get("event") == "masked"]
    if not masked:
        return []
    protocol = protocol_of(up, down)
    if protocol == "http1":
        bodies = http1(up, down)
    elif protocol == "http2":
        bodies = {"up": http2_direction(up[len(PREFACE) :]), "down": http2_direction(down)}
    else:
        with_certificate = any(line.get("proof") == "certificate" for line in lines)
        start = 0 if with_certificate else behind_login(protocol, down)
        bodies = {"up": {None: up}, "down": {None: down[start:]}}
    found = []
    for line in masked:
        text = bodies[line["direction"]][line.get("request")]
        for rule, offset, length in line["spans"]:
            want(offset + length <= len(text), "a span behind the end:", line, len(text))
            bytes_ = text[offset : offset + length].decode("latin-1")
            context = text[max(0, offset - 8) : offset + length + 8].decode("latin-1")
            found.append({"direction": line["direction"], "protocol": protocol, "rule": rule, "mode": line["mode"], "bytes": bytes_, "context": context})
    return found


def main():
    sessions = read(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print(json.dumps({f"{number:016x}": spans(session) for number, session in sessions.items()}))


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"recording_spans: {fault}")
