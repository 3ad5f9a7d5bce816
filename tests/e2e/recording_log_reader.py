#!/usr/bin/env python3
"""Reads the log of recordings, written from config/recording-format.md and the specifications that it names alone.

    recording_log_reader.py FOLDER [WITNESS-KEY-FILE …]      prints what was found, as JSON

Checks signatures of the checkpoint and of every epoch, the tree from its tiles, an inclusion proof of every entry, chunks and
segments against the files, cosignatures of witnesses, and time-stamps. Exits 1 with the first thing that is wrong.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from recording_reader import Fault, want

LOG_KEY, COSIGNATURE = 1, 4


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Signed notes (c2sp.org/signed-note), checkpoints (c2sp.org/tlog-checkpoint), cosignatures (c2sp.org/tlog-cosignature)


def key_number(name, algorithm, key):
    return sha256(name.encode() + b"\n", bytes([algorithm]), key)[:4]


def public_key(verifier, algorithm):
    name, number, key = verifier.strip().split("+", 2)
    key = base64.b64decode(key, validate=True)
    want(key[0] == algorithm and len(key) == 33, name, "is no such key")
    want(key_number(name, algorithm, key[1:]).hex() == number, name, "key and number do not agree")
    return name, key[1:]


class Note:
    def __init__(self, path):
        self.path, self.text = path, path.read_bytes()
        body, _, lines = self.text.decode().partition("\n\n")
        self.body = body + "\n"
        self.signatures = []
        for line in lines.splitlines():
            dash, name, signature = line.split(" ")
            want(dash == "—", path, "is no signed note")
            self.signatures.append((name, base64.b64decode(signature, validate=True)))
        self.origin, size, root, *_ = body.split("\n")
        self.size, self.root = int(size), base64.b64decode(root, validate=True)

    def verify(self, name, key, algorithm=LOG_KEY):
        """Wants a good signature by this key; gives the time of a cosignature."""
        for signer, signature in self.signatures:
            if signer != name or signature[:4] != key_number(name, algorithm, key):
                continue
            time, message = None, self.body.encode()
            signature = signature[4:]
            if algorithm == COSIGNATURE:
                time, signature = struct.unpack(">Q", signature[:8])[0], signature[8:]
                message = f"cosignature/v1\ntime {time}\n".encode() + message
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
            except InvalidSignature:
                raise Fault(f"{self.path}: the signature of {name} is not good") from None
            return time
        raise Fault(f"{self.path}: not signed by {name}")


# The tree (RFC 6962 section 2.1), from its tiles (c2sp.org/tlog-tiles)


def tile_path(index):
    parts = [f"{index % 1000:03}"]
    while index := index // 1000:
        parts.insert(0, f"x{index % 1000:03}")
    return "/".join(parts)


def tile(log, level, index, width, size):
    """The bytes of a tile of which `width` places are wanted: the full one, or the partial one."""
    base = log / "tile" / str(level) / tile_path(index)
    partial = base.with_name(base.name + ".p") / str(width)
    path = base if base.is_file() else partial
    want(path.is_file(), base, "is missing")
    data = path.read_bytes()
    return data[: width * size] if size else data


def widths(size):
    """Tiles of a level with so many places: index and width."""
    return [(index, min(256, size - index * 256)) for index in range((size + 255) // 256)]


def entries(log, size):
    found = []
    for index, width in widths(size):
        data, at = tile(log, "entries", index, width, 0), 0
        for _ in range(width):
            length = struct.unpack(">H", data[at : at + 2])[0]
            want(len(data) >= at + 2 + length, "bundle", index, "is cut")
            found.append(data[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def root_of(hashes):
    if len(hashes) <= 1:
        return hashes[0] if hashes else sha256()
    middle = 1 << ((len(hashes) - 1).bit_length() - 1)
    return sha256(b"\1", root_of(hashes[:middle]), root_of(hashes[middle:]))


class Tree:
    """Hashes of all levels of tiles; each above the first is held against the one below."""

    def __init__(self, log, size):
        self.levels, self.size = [], size
        count, level = size, 0
        while count:
            data = b"".join(tile(log, level, index, width, 32) for index, width in widths(count))
            hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
            want(len(hashes) == count, "level", level, "of the tree has", len(hashes), "hashes of", count)
            if level:
                below = self.levels[-1]
                again = [root_of(below[at : at + 256]) for at in range(0, count * 256, 256)]
                want(hashes == again, "level", level, "of the tree is not that of the one below")
            self.levels.append(hashes)
            count, level = count // 256, level + 1

    def subtree(self, start, end):
        """The root of leaves from `start` to `end`: of a stored hash where there is one."""
        width = end - start
        for level in range(len(self.levels) - 1, -1, -1):
            if width == 256**level and start % width == 0:
                return self.levels[level][start // width]
        middle = 1 << ((width - 1).bit_length() - 1)
        return sha256(b"\1", self.subtree(start, start + middle), self.subtree(start + middle, end))

    def root(self, size):
        return self.subtree(0, size) if size else sha256()

    def inclusion(self, place, size):
        """The hashes that lead from a leaf to the root (RFC 6962 section 2.1.1), the leaf's neighbour first."""
        path, start, end = [], 0, size
        while end - start > 1:
            middle = start + (1 << ((end - start - 1).bit_length() - 1))
            if place < middle:
                path, end = [self.subtree(middle, end), *path], middle
            else:
                path, start = [self.subtree(start, middle), *path], middle
        return path


def included(leaf, place, size, path):
    """The root to which a proof leads (RFC 9162 section 2.1.3.2)."""
    node, last, path = place, size - 1, list(path)
    while last:
        if node & 1 or node == last:
            leaf = sha256(b"\1", path.pop(0), leaf)
            while not node & 1:
                node, last = node >> 1, last >> 1
        else:
            leaf = sha256(b"\1", leaf, path.pop(0))
        node, last = node >> 1, last >> 1
    want(not path, "a proof is too long")
    return leaf


# Entries


class Entry:
    def __init__(self, line):
        self.verb, *fields = line.decode().split(" ")
        self.fields = dict(field.split("=", 1) for field in fields)
        want(fields and fields[-1].startswith("time="), "an entry without a time:", line)

    def __getitem__(self, name):
        return self.fields[name]

    def number(self, name):
        return int(self.fields[name])


def chunk_digest(data, start, end):
    """What a chunk's SHA-256 is over."""
    digest, at = hashlib.sha256(), start
    if at == 0:
        at = 96 + sum(struct.unpack(">II", data[80:88]))
        digest.update(data[:at])
    while at < end:
        length, kind = struct.unpack(">IB", data[at : at + 5])
        digest.update(data[at : at + 32])
        payload, at = data[at + 32 : at + 32 + length], at + 32 + length
        if kind not in (3, 4):
            digest.update(payload)
            continue
        while payload:
            record = 5 + struct.unpack(">H", payload[3:5])[0]
            digest.update(payload[:5] + payload[:record][-16:])
            payload = payload[record:]
    want(at == end, "a chunk does not end at a frame")
    return digest.hexdigest()


# Time-stamps (RFC 3161): as much DER as is needed


def der(data):
    """The elements of some DER: tag and content of each."""
    found, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        found.append((tag, data[at : at + length]))
        at += length
    return found


def stamped(answer):
    """SHA-256, nonce and time (UTC, whole seconds) of an authority's answer."""
    [(_, whole)] = der(answer)
    (_, status), (_, token) = der(whole)
    want(der(status)[0][1] in (b"\0", b"\1"), "a time-stamp that was refused")
    (_, kind), (_, content) = der(token)
    want(kind.hex() == "2a864886f70d010702", "no signed data")
    [(_, signed)] = der(content)
    inside = der(signed)[2][1]
    (_, kind), (_, octets) = der(inside)
    want(kind.hex() == "2a864886f70d0109100104", "no TSTInfo")
    [(_, octets)] = der(octets)
    [(_, info)] = der(octets)
    fields = der(info)
    imprint, time = der(fields[2][1])[1][1], fields[4][1].decode()
    nonces = [content for tag, content in fields[5:] if tag == 2]
    return imprint, nonces[0] if nonces else None, time.split(".")[0].rstrip("Z")


def asked(query):
    [(_, whole)] = der(query)
    fields = der(whole)
    return der(fields[1][1])[1][1], next((content for tag, content in fields[2:] if tag == 2), None)


class Log:
    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log"
        self.gateway = (folder / "gateway").read_text().strip()
        self.name = f"staunch/{self.gateway}"
        name, self.stable = public_key((self.log / "log.pub").read_text(), LOG_KEY)
        want(name == self.name, "log.pub is another's")
        self.checkpoint = Note(self.log / "checkpoint")
        size = self.checkpoint.size
        self.lines = entries(self.log, size)
        self.entries = [Entry(line) for line in self.lines]
        self.tree = Tree(self.log, size)

    def of(self, *verbs):
        return [(place, entry) for place, entry in enumerate(self.entries) if entry.verb in verbs]

    def check_tree(self):
        size, root = self.checkpoint.size, self.checkpoint.root
        want(self.tree.root(size) == root, "the root is not that of the tiles")
        for place, line in enumerate(self.lines):
            leaf = sha256(b"\0", line)
            want(leaf == self.tree.levels[0][place], "entry", place, "is not the one that was hashed")
            proof = self.tree.inclusion(place, size)
            want(included(leaf, place, size, proof) == root, "entry", place, "is not in the tree")

    def check_epochs(self):
        self.checkpoint.verify(self.name, self.stable)
        want(self.checkpoint.origin == self.name, "the checkpoint is another log's")
        want(self.entries[0].verb == "log" and self.entries[0]["gateway"] == self.gateway, "the first entry")
        epochs = self.of("epoch")
        keys = {entry.number("number"): (place, bytes.fromhex(entry["key"])) for place, entry in epochs}
        want(list(keys) == list(range(1, len(keys) + 1)), "epochs are not in order")
        identity = sha256(b"staunch-gateway-v1", self.stable, keys[1][1])[:16].hex()
        want(identity == self.gateway, "the gateway's identity is not that of its keys")
        self.checkpoint.verify(f"{self.name}/epoch/{len(keys)}", keys[len(keys)][1])
        for number in range(1, len(keys)):
            note = Note(self.log / "epochs" / str(number))
            want(note.origin == self.name and note.size == keys[number + 1][0] + 1, "epoch", number, "ends elsewhere")
            want(note.root == self.tree.root(note.size), "epoch", number, "had other entries")
            note.verify(self.name, self.stable)
            note.verify(f"{self.name}/epoch/{number}", keys[number][1])
        return len(keys)

    def check_segments(self):
        retired = {entry.number("segment") for _, entry in self.of("retire")}
        sums = None
        ends = {}
        for _, entry in self.of("start", "chunk", "stop", "heartbeat"):
            new = None if entry.verb == "start" else [entry.number(f) for f in ("sessions", "recorded", "unrecorded", "lost")]
            want(not sums or not new or all(a <= b for a, b in zip(sums, new, strict=True)), "sums that shrink")
            sums = new
        chunks = 0
        for _, entry in self.of("chunk"):
            number, start, end = (entry.number(field) for field in ("segment", "from", "to"))
            want(start == ends.get(number, 0), "segment", number, "a chunk that does not go on at", start)
            ends[number] = end
            if number not in retired:
                data = (self.folder / f"segments/{number}.seg").read_bytes()
                want(chunk_digest(data, start, end) == entry["sha256"], "segment", number, "chunk from", start)
                chunks += 1
        whole = 0
        for _, entry in self.of("segment", "recovered"):
            if (number := entry.number("number")) in retired:
                continue
            data = (self.folder / f"segments/{number}.seg").read_bytes()
            want(len(data) == entry.number("size"), "segment", number, "has another size")
            want(hashlib.sha256(data).hexdigest() == entry["sha256"], "segment", number, "is another")
            whole += 1
        return chunks, whole

    def check_witnesses(self, verifiers):
        found = {}
        for verifier in verifiers:
            name, key = public_key(verifier, COSIGNATURE)
            note = Note(self.log / "witnesses" / key_number(name, COSIGNATURE, key).hex())
            time = note.verify(name, key, COSIGNATURE)
            note.verify(self.name, self.stable)
            want(note.size <= self.checkpoint.size, name, "has seen a longer log")
            want(note.root == self.tree.root(note.size), name, "has seen another log")
            found[name] = {"size": note.size, "time": time}
        return found

    def check_timestamps(self):
        told = {entry.number("size"): entry for _, entry in self.of("timestamp")}
        files = {int(path.stem) for path in (self.log / "timestamps").glob("*.tsr")}
        want(set(told) <= files, "a time-stamp is missing")
        found = {}
        for size in sorted(files):
            note = Note(self.log / f"timestamps/{size}.note")
            answer = note.path.with_suffix(".tsr").read_bytes()
            want(note.size == size and note.root == self.tree.root(size), size, "a stamp of another log")
            note.verify(self.name, self.stable)
            imprint, nonce, time = stamped(answer)
            want(imprint == sha256(note.text), size, "a stamp of another checkpoint")
            want(asked(note.path.with_suffix(".tsq").read_bytes()) == (imprint, nonce), size, "another question's answer")
            if entry := told.get(size):
                want(hashlib.sha256(answer).hexdigest() == entry["sha256"], size, "another answer")
            found[size] = {"time": time, "at": told[size].number("at") if size in told else None}
        return found


def main():
    log = Log(pathlib.Path(sys.argv[1]))
    log.check_tree()
    epochs = log.check_epochs()
    chunks, segments = log.check_segments()
    witnesses = log.check_witnesses([pathlib.Path(path).read_text() for path in sys.argv[2:]])
    found = {"entries": len(log.entries), "epochs": epochs, "chunks": chunks, "segments": segments}
    print(json.dumps(found | {"witnesses": witnesses, "timestamps": log.check_timestamps()}))


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"recording_log_reader: {fault}")
