#!/usr/bin/env python3
"""Reads recordings, written from config/recording-format.md alone: a second opinion on the first reader.

    recording_reader.py FOLDER IDENTITY      prints what is in each session, as JSON

Checks what a reader can check on its way: checksums, order, secrets against KEY frames, tags, totals. Exits 1 with the first
thing that is wrong. The envelopes are opened as age's specification (age-encryption.org/v1) has it.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY, FACT, DOWN, UP, END, GAP = range(1, 7)
FIRST, LAST, SEALED = 1, 2, 4
PLANES = {3: "down", 4: "up"}
# suite: (AEAD, key length, hash, secret length)
SUITES = {1: (AESGCM, 16, "sha256", 32), 2: (AESGCM, 32, "sha384", 48), 3: (ChaCha20Poly1305, 32, "sha256", 32)}


class Fault(Exception):
    pass


def want(condition, *what):
    if not condition:
        raise Fault(" ".join(map(str, what)))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# HKDF (RFC 5869) and TLS 1.3's labels


def expand(prk, info, length, algorithm="sha256"):
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([counter]), algorithm).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def hkdf(secret, salt, info):
    return expand(hmac.new(salt or bytes(32), secret, "sha256").digest(), info, 32)


def expand_label(secret, label, length, algorithm):
    label = b"tls13 " + label
    return expand(secret, struct.pack(">HB", length, len(label)) + label + b"\0", length, algorithm)


# age: identities, X25519 stanzas, the payload of one chunk


def bech32_bytes(text):
    charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    text = text.lower()
    words = [charset.index(c) for c in text[text.rindex("1") + 1 : -6]]
    bits = "".join(f"{word:05b}" for word in words)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8))


def identities(text):
    lines = [line.strip() for line in text.splitlines()]
    return [X25519PrivateKey.from_private_bytes(bech32_bytes(l)) for l in lines if l.startswith("AGE-SECRET-KEY-1")]


def unbase64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


def age_open(data, keys):
    """The plaintext of an age file of one chunk, or None if no key is among its recipients."""
    want(data.startswith(b"age-encryption.org/v1\n"), "not an age file")
    match = re.search(rb"\n--- ([A-Za-z0-9+/]{43})\n", data)
    want(match, "age file without MAC")
    header, payload = data[: match.start() + 4], data[match.end() :]
    lines = data[: match.start()].decode().split("\n")[1:]
    for place, line in enumerate(lines):
        if not line.startswith("-> X25519 "):
            continue
        share, body = unbase64(line.split(" ")[2]), unbase64(lines[place + 1])
        for key in keys:
            public = key.public_key().public_bytes_raw()
            shared = key.exchange(X25519PublicKey.from_public_bytes(share))
            wrap = hkdf(shared, share + public, b"age-encryption.org/v1/X25519")
            try:
                file_key = ChaCha20Poly1305(wrap).decrypt(bytes(12), body, b"")
            except Exception:
                continue
            mac = hmac.new(hkdf(file_key, b"", b"header"), header, "sha256").digest()
            want(mac == unbase64(match.group(1).decode()), "an age header was changed")
            stream = hkdf(file_key, payload[:16], b"payload")
            return ChaCha20Poly1305(stream).decrypt(bytes(11) + b"\1", payload[16:], b"")
    return None


class Segment:
    """A segment's head, and its frames."""

    def __init__(self, path, keys):
        self.path, self.data = path, path.read_bytes()
        head = self.data[:96]
        want(len(head) == 96 and head[:8] == b"STAUNSEG", path, "is no segment")
        want(struct.unpack(">I", head[92:])[0] == crc32c(head[:92]), path, "head: checksum")
        version, self.worker, self.klass = struct.unpack(">HHI", head[8:16])
        want(version == 1, path, "version", version)
        self.gateway = head[16:32]
        self.number, self.opened, self.previous = struct.unpack(">QQQ", head[32:56])
        want(head[56:80] == bytes(24) and head[88:92] == bytes(4), path, "reserved bytes")
        one, two = struct.unpack(">II", head[80:88])
        self.start = 96 + one + two
        self.k_bytes = age_open(self.data[96 : 96 + one], keys)
        self.k_facts = age_open(self.data[96 + one : self.start], keys)
        self.keys = path.with_suffix(".keys").read_bytes()

    def frames(self):
        at, last = self.start, 0
        while at < len(self.data):
            head = self.data[at : at + 32]
            if len(head) < 32:
                return  # torn
            length, kind, flags, epoch, session, time, number, crc = struct.unpack(">IBBHQQII", head)
            want(crc == crc32c(head[:28]), self.path, at, "frame: checksum")
            want(1 <= kind <= 6 and flags < 8 and length <= 1 << 20, self.path, at, "frame")
            payload = self.data[at + 32 : at + 32 + length]
            if len(payload) < length:
                return
            want(time > last, self.path, at, "times do not grow")
            yield at, head, kind, flags, epoch, session, time, number, payload
            at, last = at + 32 + length, time

    def fact(self, at, head, payload):
        aad = self.gateway + struct.pack(">Q", self.number) + head
        return AESGCM(self.k_facts).decrypt(bytes(4) + struct.pack(">Q", at), payload, aad)

    def secret(self, session, place, plane, suite, digest):
        """The secret of a plane; None if it is erased."""
        entry = self.keys[place * 88 : place * 88 + 88]
        if entry == bytes(88):
            return None
        want(hashlib.sha256(entry).digest() == digest, self.path, "entry", place, "was changed")
        owner, its_plane, its_suite, state, zero = struct.unpack(">QBBBB", entry[:12])
        want((owner, its_plane, its_suite, state, zero) == (session, plane, suite, 1, 0), "entry", place)
        aad = self.gateway + struct.pack(">Q", self.number) + entry[:12]
        padded = AESGCM(self.k_bytes).decrypt(entry[12:24], entry[24:], aad)
        length = SUITES[suite][3]
        want(padded[length:] == bytes(48 - length), "entry", place, "padding")
        return padded[:length]


class Plane:
    """The records of one direction of a session."""

    def __init__(self):
        self.secret = self.suite = None
        self.key_epoch = 0
        self.next = None  # (epoch, number)
        self.text = b""
        self.bytes = self.records = 0
        self.erased = False

    def take_key(self, secret, suite, epoch, number):
        self.erased |= secret is None
        self.secret, self.suite, self.key_epoch = secret, suite, epoch
        self.next = self.next or (epoch, number)

    def follow(self, epoch, number, records):
        want(self.next, "records before a KEY frame")
        fits = (epoch, number) == self.next or (epoch > self.next[0] and number == 0)
        want(fits, "records are missing before", (epoch, number), "after", self.next)
        self.next = (epoch, number + records)

    def take(self, epoch, number, payload):
        records = []
        at = 0
        while at < len(payload):
            length = 5 + struct.unpack(">H", payload[at + 3 : at + 5])[0]
            want(len(payload) >= at + length >= at + 21, "a record is cut")
            records.append(payload[at : at + length])
            at += length
        self.follow(epoch, number, len(records))
        self.bytes, self.records = self.bytes + len(payload), self.records + len(records)
        if self.secret is None:
            return
        aead, key_length, algorithm, _ = SUITES[self.suite]
        while self.key_epoch < epoch:
            self.secret = expand_label(self.secret, b"traffic upd", len(self.secret), algorithm)
            self.key_epoch += 1
        key = aead(expand_label(self.secret, b"key", key_length, algorithm))
        iv = int.from_bytes(expand_label(self.secret, b"iv", 12, algorithm), "big")
        for place, record in enumerate(records):
            nonce = (iv ^ (number + place)).to_bytes(12, "big")
            inner = key.decrypt(nonce, record[5:], record[:5]).rstrip(b"\0")
            if inner[-1] == 23:
                self.text += inner[:-1]


class Session:
    def __init__(self):
        self.planes = {3: Plane(), 4: Plane()}
        self.facts, self.segments, self.fact_count = [], [], 0
        self.lost = [0, 0]
        self.begun = self.ended = False

    def end(self, payload):
        down, up = self.planes[3], self.planes[4]
        found = (down.bytes, down.records, up.bytes, up.records, *self.lost, self.fact_count, len(self.segments))
        want(struct.unpack(">QQQQQQII", payload) == found, "totals", struct.unpack(">QQQQQQII", payload), "found", found)
        self.ended = True

    def show(self):
        show = {"facts": self.facts, "segments": self.segments, "complete": self.begun and self.ended, "lost": self.lost[0]}
        for code, name in PLANES.items():
            plane = self.planes[code]
            text = hashlib.sha256(plane.text).hexdigest() if len(plane.text) > 200 else plane.text.decode("latin-1")
            show[name] = {"length": len(plane.text), "records": plane.records, "erased": plane.erased, "text": text}
        return show


def take_frame(segment, session, frame):
    at, head, kind, flags, epoch, number_of_session, _, number, payload = frame
    want(not session.ended, "frames behind the end")
    session.begun |= bool(flags & FIRST)
    if segment.number not in session.segments:
        session.segments.append(segment.number)
    if kind == KEY:
        place, plane, suite, zero, _, digest = struct.unpack(">IBBHQ32s", payload)
        want(plane in PLANES and suite in SUITES and zero == 0, "KEY")
        secret = segment.secret(number_of_session, place, plane, suite, digest) if segment.k_bytes else None
        session.planes[plane].take_key(secret, suite, epoch, number)
    elif kind == FACT:
        session.fact_count += 1
        if not flags & SEALED:
            session.facts.append(payload.decode())
        elif segment.k_facts:
            session.facts.append(segment.fact(at, head, payload).decode())
    elif kind in (DOWN, UP):
        session.planes[kind].take(epoch, number, payload)
    elif kind == GAP:
        plane, zero, lost, records = struct.unpack(">B7sQQ", payload)
        want(plane in PLANES and zero == bytes(7), "GAP")
        session.lost = [session.lost[0] + lost, session.lost[1] + records]
        session.planes[plane].follow(epoch, number, records)
    else:
        want(flags & LAST, "END without its flag")
        session.end(payload)


def read(folder, identity):
    """The sessions of a directory, by number."""
    keys = identities(identity.read_text())
    gateway = bytes.fromhex((folder / "gateway").read_text().strip())
    sessions = {}
    for path in sorted(folder.glob("segments/*.seg"), key=lambda path: int(path.stem)):
        segment = Segment(path, keys)
        want(segment.gateway == gateway and segment.number == int(path.stem), path, "is another's")
        for frame in segment.frames():
            session = sessions.setdefault(frame[5], Session())
            try:
                take_frame(segment, session, frame)
            except Exception as error:
                raise Fault(f"{path}: at byte {frame[0]}: {error!r}") from error
    return sessions


def main():
    sessions = read(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print(json.dumps({f"{number:016x}": session.show() for number, session in sessions.items()}))


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"recording_reader: {fault}")
