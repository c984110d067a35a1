#!/usr/bin/env python3
"""An independent reader of Bulla envelopes, written from envelope-v1.md alone; checks its test vectors.

Section references (§) are to envelope-v1.md beside this file, the format of the vectors is described in
vectors/README.md.  Nothing is shared with vectors/generate.py.  AES, AES-GCM and AES-GCM-SIV are those of the
package `cryptography` (requirements.txt); XAES and the key derivation are composed here.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import hmac
import json
import os
import pathlib
import sys
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

Pairs = Sequence[Tuple[bytes, bytes]]
KINDS = (0x01, 0x02, 0x11, 0x12)
CONTEXT, MALFORMED, UNSUPPORTED, NOT_ACCEPTED, UNKNOWN_KEY, AUTHENTICATION, OUT_OF_RANGE = (
    "context error", "malformed", "unsupported", "not accepted", "unknown key", "authentication error", "out of range",
)  # §8.2
KMS = "kms error"  # §8.2, last paragraph: the failure of a KEK, reported as what it is
REFUSED = "refused"  # a rewrap that must not be done; the document names no class


class Refused(Exception):
    """An envelope that is not opened: the class of §8.2 and, for a KMS failure, which one."""

    def __init__(self, result: str, detail: str = "") -> None:
        super().__init__(f"{result}: {detail}" if detail else result)
        self.result, self.detail = result, detail


def require(condition: bool, result: str) -> None:
    if not condition:
        raise Refused(result)


# ------------------------------------------------------------------ contexts, §3


def encode_context(pairs: Pairs) -> bytes:
    """CTX, §3.1."""
    out = len(pairs).to_bytes(2, "big")
    for key, value in sorted(pairs):
        out += len(key).to_bytes(2, "big") + key + len(value).to_bytes(2, "big") + value
    return out


def checked_context(pairs: Pairs, max_pairs: int, max_bytes: int, text: bool) -> bytes:
    """CTX of a caller's context, after the rules of §3.1 and §3.2 and the limits of §10."""
    require(len(pairs) <= max_pairs, CONTEXT)
    require(len({key for key, _ in pairs}) == len(pairs), CONTEXT)
    for key, value in pairs:
        require(1 <= len(key) <= 64 and len(value) <= 1024 and not key.startswith(b"bulla"), CONTEXT)
        if text:
            try:
                key.decode("utf-8"), value.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(CONTEXT) from None
    encoded = encode_context(pairs)
    require(len(encoded) <= max_bytes, CONTEXT)
    return encoded


def kms_context(scope: Pairs, version: int) -> bytes:
    """CTX of the KMS context, §3.2."""
    return encode_context([*scope, (b"bulla-format", b"1"), (b"bulla-dek-version", b"%d" % version)])


# ------------------------------------------------------------------ primitives, §4 and §5


def derive(key: bytes, label: bytes, parameters: bytes, length: int) -> bytes:
    """The function X of §4.1: HKDF-Expand with SHA-256."""
    info = b"bulla.v1/" + label + b"\x00" + parameters
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:length]


def aes(key: bytes, block: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b))


def decrypt(suite: int, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Open ciphertext || tag with the AEAD of the suite, §5.3 and §7.1."""
    cipher = AESGCM(key) if suite == 1 else AESGCMSIV(key)
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Refused(AUTHENTICATION) from None


# ------------------------------------------------------------------ bytes of an envelope, §2 and §6.2


class Sparse:
    """A byte string of which runs of zeros are left out: `holes` are (offset, length) in the whole."""

    def __init__(self, data: bytes, holes: Iterable[Tuple[int, int]] = ()) -> None:
        self.segments: List[Tuple[int, bytes]] = []
        self.length = taken = 0
        for offset, length in sorted(holes):
            piece = data[taken:taken + offset - self.length]
            if len(piece) != offset - self.length:
                raise ValueError("hole beyond the data")
            self.segments.append((self.length, piece))
            taken += len(piece)
            self.length = offset + length
        self.segments.append((self.length, data[taken:]))
        self.length += len(data) - taken

    def __getitem__(self, part: slice) -> bytes:
        start, stop = part.start or 0, min(self.length if part.stop is None else part.stop, self.length)
        out = bytearray(max(stop - start, 0))
        for at, piece in self.segments:
            a, b = max(start, at), min(stop, at + len(piece))
            if a < b:
                out[a - start:b - start] = piece[a - at:b - at]
        return bytes(out)


@dataclass(frozen=True)
class Entry:
    """One wrap of a self-contained envelope, §6.1."""

    backend: int
    kek_id: bytes
    kek_version: bytes
    blob: bytes

    @property
    def order(self) -> Tuple[int, bytes, bytes]:
        """What entries are sorted by, and no two share."""
        return self.backend, self.kek_id, self.kek_version


@dataclass(frozen=True)
class Header:
    """What a parser knows without a key, §2.1 and §6.1."""

    raw: bytes
    kind: int
    suite: int
    codec: int
    chunk_log2: int
    version: int
    key_id: bytes
    nonce: bytes
    payload: int  # P
    generation: int = 0
    entries: Tuple[Entry, ...] = ()

    own = property(lambda self: self.kind in (0x11, 0x12), doc="self-contained")
    chunked = property(lambda self: self.kind in (0x02, 0x12))


def parse(env: Sparse) -> Header:
    """The steps of §2.5, in their order."""
    raw = env[0:68]
    require(len(raw) == 68, MALFORMED)  # 1
    require(raw[:3] == b"BUL", MALFORMED)  # 2
    require(raw[3] == 1, UNSUPPORTED)
    kind, suite, codec, chunk_log2 = raw[4:8]
    require(kind in KINDS, UNSUPPORTED)  # 3
    require(suite in (1, 2), UNSUPPORTED)  # 4
    require(not 3 <= codec <= 127, UNSUPPORTED)  # 5
    own, chunked = kind in (0x11, 0x12), kind in (0x02, 0x12)
    require(12 <= chunk_log2 <= 22 if chunked else chunk_log2 == 0, MALFORMED)  # 6
    version = int.from_bytes(raw[8:12], "big")
    require((version == 0) == own, MALFORMED)  # 7
    payload, generation, entries = parse_wraps(env) if own else (68, 0, ())  # 8
    rest = env.length - payload
    if not chunked:  # 9
        require(16 <= rest <= 2**30 + 16, MALFORMED)
    else:
        require(rest >= 32, MALFORMED)
        size = 1 << chunk_log2
        full, last = divmod(rest - 32, size + 16)
        chunks, plaintext = (full + 1, full * size + last - 16) if last >= 16 else (full, full * size)
        require(chunks <= 2**32 and plaintext <= 2**44, MALFORMED)
    return Header(raw, kind, suite, codec, chunk_log2, version, raw[12:44], raw[44:68], payload, generation, entries)


def parse_wraps(env: Sparse) -> Tuple[int, int, Tuple[Entry, ...]]:
    """§6.2: P, generation and entries."""
    require(env.length >= 70, MALFORMED)  # 1
    wraps_len = int.from_bytes(env[68:70], "big")
    require(45 <= wraps_len <= 16384 and env.length >= 70 + wraps_len, MALFORMED)
    section = env[70:38 + wraps_len]  # without the MAC
    at = 5

    def take(count: int) -> bytes:
        nonlocal at
        require(at + count <= len(section), MALFORMED)
        at += count
        return section[at - count:at]

    def take_field(width: int, least: int, most: int) -> bytes:
        length = int.from_bytes(take(width), "big")
        require(least <= length <= most, MALFORMED)
        return take(length)

    count = section[4]
    require(1 <= count <= 8, MALFORMED)  # 2
    entries: List[Entry] = []
    for _ in range(count):
        backend = take(1)[0]
        require(backend != 0, MALFORMED)  # 3
        entry = Entry(backend, take_field(2, 1, 512), take_field(1, 0, 255), take_field(2, 1, 1024))
        if entries:  # 4
            require(entry.order > entries[-1].order, MALFORMED)
        entries.append(entry)
    require(at == len(section), MALFORMED)  # 5
    return 70 + wraps_len, int.from_bytes(section[:4], "big"), tuple(entries)


# ------------------------------------------------------------------ opening, §6.4, §7 and §8.1


@dataclass
class Keks:
    """The opener's own list of KEKs, and what each of them answers."""

    own: List[Tuple[int, bytes]] = field(default_factory=list)
    answers: Dict[Tuple[int, bytes, bytes], Tuple[bytes, Optional[bytes]]] = field(default_factory=dict)
    unavailable: List[Tuple[int, bytes]] = field(default_factory=list)
    asked: List[bytes] = field(default_factory=list)

    def unwrap(self, entry: Entry, context: bytes) -> bytes:
        """The KEK of `entry` on its blob under a KMS context."""
        self.asked.append(entry.blob)
        if (entry.backend, entry.kek_id) in self.unavailable:
            raise Refused(KMS, "unavailable")
        dek, bound = self.answers.get((entry.backend, entry.kek_id, entry.blob), (None, None))
        if dek is None or bound not in (None, context):
            raise Refused(KMS, "refused")
        return dek

    def find(self, entries: Sequence[Entry], context: bytes) -> bytes:
        """The DEK from the first entry that unwraps, §6.4."""
        failure = Refused(UNKNOWN_KEY)
        for entry in entries:
            if (entry.backend, entry.kek_id) in self.own:
                try:
                    return self.unwrap(entry, context)
                except Refused as refusal:
                    failure = refusal
        raise failure


@dataclass
class Opener:
    """All that an opener is given besides the envelope, §8.1."""

    scope: Pairs
    record: Pairs
    kinds: Sequence[int]
    suites: Sequence[int]
    codec: Optional[int]  # None: whatever the header holds (§2.4)
    store: Callable[[int, bytes], Optional[bytes]]  # version, key id -> DEK
    keks: Keks = field(default_factory=Keks)
    values: Dict[str, List[str]] = field(default_factory=dict)  # every intermediate value, for comparison

    def note(self, **values: Union[bytes, int]) -> None:
        for name, value in values.items():
            text = value.hex() if isinstance(value, bytes) else str(value)
            self.values.setdefault(name.replace("_", "-"), []).append(text)

    def unlock(self, env: Sparse) -> Tuple[Header, bytes, bytes]:
        """Steps 1 to 6 of §8.1: header, DEK and CTX(record)."""
        scope = checked_context(self.scope, 8, 1024, text=True)  # 1
        record = checked_context(self.record, 32, 4096, text=False)
        header = parse(env)  # 2
        accepted = header.kind in self.kinds and header.suite in self.suites and self.codec in (None, header.codec)
        require(accepted, NOT_ACCEPTED)  # 3
        kms = kms_context(self.scope, header.version)
        dek = self.keks.find(header.entries, kms) if header.own else self.store(header.version, header.key_id)
        if dek is None or len(dek) != 32:  # 4
            raise Refused(UNKNOWN_KEY)
        key_id = derive(dek, b"key-id", header.raw[8:12] + scope, 32)
        require(key_id == header.key_id, UNKNOWN_KEY)  # 5
        self.note(ctx_scope=scope, ctx_record=record, kms_context=kms, key_id=key_id, payload_offset=header.payload)
        if header.own:  # 6
            wraps_key = derive(dek, b"wraps", key_id, 32)
            mac = hmac.new(wraps_key, env[0:header.payload - 32], hashlib.sha256).digest()
            require(hmac.compare_digest(mac, env[header.payload - 32:header.payload]), AUTHENTICATION)
            self.note(wraps_len=header.payload - 70, generation=header.generation, wraps_key=wraps_key, mac=mac)
            for e in header.entries:
                parts = (e.kek_id, e.kek_version, e.blob)
                self.values.setdefault("entry", []).append(" ".join([str(e.backend), *(p.hex() or "-" for p in parts)]))
        return header, dek, record

    def open(self, env: Sparse) -> bytes:
        """The whole plaintext."""
        header, dek, record = self.unlock(env)
        if header.chunked:
            stream = Stream(self, env, header, dek, record)
            return b"".join(stream.chunk(i) for i in range(stream.last + 1))
        # §5.2: XAES key derivation
        seal_key = derive(dek, b"seal", bytes([header.suite]) + header.key_id, 32)
        ell = aes(seal_key, bytes(16))
        shifted = int.from_bytes(ell, "big") << 1 & (1 << 128) - 1
        k1 = (shifted ^ (0x87 if ell[0] & 0x80 else 0)).to_bytes(16, "big")
        m1, m2 = b"\x00\x01X\x00" + header.nonce[:12], b"\x00\x02X\x00" + header.nonce[:12]
        kx, nx = aes(seal_key, xor(m1, k1)) + aes(seal_key, xor(m2, k1)), header.nonce[12:]
        aad = header.raw[:44] + record
        self.note(seal_key=seal_key, l=ell, k1=k1, m1=m1, m2=m2, kx=kx, nx=nx, aad=aad)
        return decrypt(header.suite, kx, nx, env[header.payload:], aad)

    def stream(self, env: Sparse) -> "Stream":
        header, dek, record = self.unlock(env)
        require(header.chunked, NOT_ACCEPTED)
        return Stream(self, env, header, dek, record)


class Stream:
    """An opened chunked payload, §7: the commitment is checked, chunks are opened when needed."""

    def __init__(self, opener: Opener, env: Sparse, header: Header, dek: bytes, record: bytes) -> None:
        self.env, self.header, self.size = env, header, 1 << header.chunk_log2
        stream_key = derive(dek, b"stream", bytes([header.suite]) + header.key_id, 32)
        out = derive(stream_key, b"chunks", header.raw + record, 76)
        self.key, self.nonce, commitment = out[:32], out[32:44], out[44:]
        require(hmac.compare_digest(commitment, env[header.payload:header.payload + 32]), AUTHENTICATION)
        self.last = (env.length - header.payload - 32) // (self.size + 16)  # m
        opener.note(stream_key=stream_key, chunk_key=self.key, base_nonce=self.nonce, commitment=commitment)
        opener.note(chunks=self.last + 1, last_nonce=self.chunk_nonce(self.last))

    def chunk_nonce(self, index: int) -> bytes:
        return self.nonce[:8] + xor(self.nonce[8:], index.to_bytes(4, "big"))

    def chunk(self, index: int) -> bytes:
        """Open chunk `index` up to m; one that has no tag is a truncation."""
        require(index < 2**32, AUTHENTICATION)
        start = self.header.payload + 32 + index * (self.size + 16)
        sealed = self.env[start:start + self.size + 16]
        require(len(sealed) >= 16, AUTHENTICATION)
        return decrypt(self.header.suite, self.key, self.chunk_nonce(index), sealed, b"")

    def length(self) -> int:
        """Length of the plaintext, which chunk m proves."""
        return self.last * self.size + len(self.chunk(self.last))

    def range(self, a: int, b: int) -> bytes:
        """Plaintext a..b, §7.3: opens the chunks needed and no others."""
        remainder = (self.env.length - self.header.payload - 32) % (self.size + 16)
        computed = self.last * self.size + max(remainder - 16, 0)
        if b > computed:
            self.chunk(self.last)
            raise Refused(OUT_OF_RANGE)
        first = a // self.size
        final = (b - 1) // self.size if b > a else first
        data = b"".join(self.chunk(i) for i in range(min(first, self.last), min(final, self.last) + 1))
        return data[a - first * self.size:][:b - a]


def rewrap(opener: Opener, env: Sparse, wraps: Sequence[Entry]) -> bytes:
    """§6.6: everything before the payload, with the new wraps."""
    header, dek, _ = opener.unlock(env)
    entries = sorted(wraps, key=lambda e: e.order)
    require(1 <= len(entries) <= 8 and len({e.order for e in entries}) == len(entries), REFUSED)
    require(header.generation < 2**32 - 1, REFUSED)
    body = (header.generation + 1).to_bytes(4, "big") + bytes([len(entries)])
    for e in entries:
        require(opener.keks.unwrap(e, kms_context(opener.scope, 0)) == dek, REFUSED)
        body += bytes([e.backend]) + len(e.kek_id).to_bytes(2, "big") + e.kek_id
        body += bytes([len(e.kek_version)]) + e.kek_version + len(e.blob).to_bytes(2, "big") + e.blob
    covered = header.raw + (len(body) + 32).to_bytes(2, "big") + body
    return covered + hmac.new(derive(dek, b"wraps", header.key_id, 32), covered, hashlib.sha256).digest()


# ------------------------------------------------------------------ typed values, §2.4


def decode_value(codec: int, data: bytes) -> object:
    """The struct of vectors/README.md, from bincode 2 (codec 1) or JSON (codec 2)."""
    if codec == 2:
        if data.startswith(b"\xef\xbb\xbf"):
            raise ValueError("byte-order mark")
        return json.loads(data.decode("utf-8"))
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        if at > len(data):
            raise ValueError("too short")
        return data[at - count:at]

    def number() -> int:
        first = take(1)[0]
        if first > 253:
            raise ValueError("integer of more than 64 bits")
        return first if first < 251 else int.from_bytes(take(2 << first - 251), "little")

    def text() -> str:
        return take(number()).decode("utf-8")

    def boolean() -> bool:
        return {0: False, 1: True}[take(1)[0]]

    value = {"id": number(), "name": text(), "tags": [text() for _ in range(number())], "flag": boolean()}
    zigzag = number()
    value["delta"] = -(zigzag + 1) // 2 if zigzag & 1 else zigzag // 2
    if at != len(data):
        raise ValueError("bytes after the value")
    return value


# ------------------------------------------------------------------ vectors, vectors/README.md

SINGLE = set("""bulla-vector comment spec expect also-conforming operation accept-kinds accept-suites codec kms-failure
    plaintext length rewrapped-head rewrapped-sha256 value-json value-invalid""".split())
REPEATED = set("scope record dek kek unwraps unavailable must-not-unwrap hole wrap".split())
VALUES = set("""ctx-scope ctx-record kms-context key-id payload-offset wraps-len generation entry wraps-key mac
    seal-key l k1 m1 m2 kx nx aad stream-key chunk-key base-nonce commitment chunks last-nonce""".split())


def unhex(text: str) -> bytes:
    return b"" if text == "-" else bytes.fromhex(text)


class Vector:
    """One file: header fields and envelope."""

    def __init__(self, data: bytes) -> None:
        head, blank, blob = data.partition(b"\n\n")
        if not blank or not head.startswith(b"bulla-vector: 1\n"):
            raise ValueError("not a vector of version 1")
        self.fields: Dict[str, List[str]] = {}
        for line in head.decode("utf-8").split("\n"):
            name, colon, value = line.partition(":")
            if not colon or name not in SINGLE | REPEATED | VALUES or (name in SINGLE and name in self.fields):
                raise ValueError(f"unexpected line {line!r}")
            self.fields.setdefault(name, []).append(value.strip(" "))
        self.env = Sparse(blob, [(int(a), int(b)) for a, b in self.rows("hole")])
        self.expect, self.operation = self.one("expect"), self.one("operation").split()

    def one(self, name: str) -> str:
        return self.fields[name][0]

    def rows(self, name: str) -> List[List[str]]:
        return [line.split() for line in self.fields.get(name, [])]

    def pairs(self, name: str) -> Pairs:
        split = [line.partition("=") for line in self.fields.get(name, [])]
        return [(bytes.fromhex(key), bytes.fromhex(value)) for key, _, value in split]

    def opener(self) -> Opener:
        deks = {(int(version), unhex(key_id)): unhex(dek) for version, key_id, dek in self.rows("dek")}
        keks = Keks([(int(b), unhex(k)) for b, k in self.rows("kek")],
                    unavailable=[(int(b), unhex(k)) for b, k in self.rows("unavailable")])
        for backend, kek, blob, dek, context in self.rows("unwraps"):
            bound = None if context == "any" else unhex(context)
            keks.answers[int(backend), unhex(kek), unhex(blob)] = unhex(dek), bound
        suites, codec = self.one("accept-suites"), self.one("codec")
        return Opener(
            self.pairs("scope"), self.pairs("record"), [int(kind, 16) for kind in self.one("accept-kinds").split()],
            [1] if suites == "default" else [int(suite) for suite in suites.split()],
            None if codec == "any" else int(codec), lambda version, key_id: deks.get((version, key_id)), keks,
        )

    def plaintext(self) -> bytes:
        notation, *arguments = self.one("plaintext").split()
        if notation == "hex":
            return unhex(arguments[0])
        if notation == "zeros":
            return bytes(int(arguments[0]))
        start, length = map(int, arguments)
        return bytes(j % 251 for j in range(start, start + length))

    def run(self, opener: Opener) -> List[str]:
        """Perform the operation; what disagrees with the header of the vector."""
        operation, *numbers = self.operation
        wrong: List[str] = []

        def same(what: str, got: object, wanted: object) -> None:
            if got != wanted:
                wrong.append(f"{what} is {got.hex() if isinstance(got, bytes) else got}")

        result: Optional[bytes] = None
        if operation == "parse":
            parse(self.env)
        elif operation == "rewrap":
            wraps = [Entry(int(b), unhex(k), unhex(v), unhex(blob)) for b, k, v, blob in self.rows("wrap")]
            head = rewrap(opener, self.env, wraps)
            whole = head + self.env[parse(self.env).payload:]
            if self.expect == "success":
                same("rewrapped-head", head.hex(), self.one("rewrapped-head"))
                same("rewrapped-sha256", hashlib.sha256(whole).hexdigest(), self.one("rewrapped-sha256"))
        elif operation == "open":
            result = opener.open(self.env)
        else:
            stream = opener.stream(self.env)
            a, b = (int(n) for n in numbers) if operation == "range" else (0, 0)
            if operation == "tail":
                b = stream.length()
                a = b - int(numbers[0])
            if operation == "length":
                length = str(stream.length())
                same("length", length, self.one("length") if self.expect == "success" else None)
            else:
                result = stream.range(a, b)
        if self.expect == "success":
            if result is not None:
                same("plaintext", result, self.plaintext())
            if operation in ("open", "range", "tail", "length"):
                for name in sorted(VALUES & (set(opener.values) | set(self.fields))):
                    same(name, opener.values.get(name), self.fields.get(name))
            if result is not None and {"value-json", "value-invalid"} & set(self.fields):
                wanted = json.loads(self.one("value-json")) if "value-json" in self.fields else None
                same("typed value", self.typed_value(result), wanted)
        return wrong

    def typed_value(self, plaintext: bytes) -> object:
        """The value that the plaintext decodes to, or None."""
        try:
            return decode_value(self.env[6:7][0], plaintext)
        except (ValueError, KeyError):
            return None

    def check(self) -> List[str]:
        """Every disagreement between this reader and the vector."""
        opener, detail = self.opener(), ""
        try:
            wrong, result = self.run(opener), "success"
        except Refused as refusal:
            wrong, result, detail = [], refusal.result, refusal.detail
        if result != self.expect:
            wrong = [f"{result} instead of {self.expect}"]
        elif "kms-failure" in self.fields and detail != self.one("kms-failure"):
            wrong.append(f"kms failure {detail!r} instead of {self.one('kms-failure')!r}")
        wrong += [f"unwrapped {blob}" for (blob,) in self.rows("must-not-unwrap") if unhex(blob) in opener.keks.asked]
        return wrong


def check_directory(directory: pathlib.Path) -> int:
    """Check every vector; 0 if there are some and none fails."""
    passed = failed = 0
    tally: Dict[str, Dict[str, int]] = {
        name: collections.Counter() for name in ("kind", "suite", "operation", "result")
    }
    for path in sorted(directory.glob("*.vec")):
        try:
            vector = Vector(path.read_bytes())
            wrong = vector.check()
            header = vector.env[4:6]
            tally["kind"][header[:1].hex() if header[:1] and header[0] in KINDS else "other"] += 1
            tally["suite"][str(header[1]) if header[1:] in (b"\x01", b"\x02") else "other"] += 1
            tally["operation"][vector.operation[0]] += 1
            tally["result"][vector.expect] += 1
        except (ValueError, KeyError, IndexError) as error:
            wrong = [f"cannot be read: {error!r}"]
        for line in wrong:
            print(f"{path.name}: {line}")
        passed, failed = passed + (not wrong), failed + bool(wrong)
    for name, counts in tally.items():
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts.items())))
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


# ------------------------------------------------------------------ command line


def pair(text: str) -> Tuple[bytes, bytes]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("expected key=value")
    return os.fsencode(key), os.fsencode(value)


def open_one(options: argparse.Namespace) -> int:
    """--open: one envelope from standard input."""
    env = Sparse(sys.stdin.buffer.read())
    dek: bytes = options.dek

    class Given(Keks):
        """Every entry of a self-contained envelope unwraps to the DEK given."""

        def find(self, entries: Sequence[Entry], context: bytes) -> bytes:
            return dek

    opener = Opener(options.scope, options.context, options.kind or KINDS, options.suite or [1], options.codec,
                    lambda version, _: dek if version == options.version else None, Given())
    try:
        plaintext = opener.stream(env).range(*options.range) if options.range else opener.open(env)
    except Refused as refusal:
        print(refusal.result, file=sys.stderr)
        return 1
    finally:
        if options.values:
            for name, lines in opener.values.items():
                print("".join(f"{name}: {line}\n" for line in lines), end="", file=sys.stderr)
    sys.stdout.buffer.write(plaintext)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Check the test vectors (*.vec) in a directory, or open one envelope.",
        epilog="""\
checking:  verify.py vectors
    prints a line for each disagreement, counts, and last "N passed, M failed"; the exit status is 0 if there
    were vectors and none failed.

opening:   verify.py --open --dek 000102..1f --version 1 --scope tenant=acme --context row=42 < envelope > plaintext
    prints the error class of section 8.2 on standard error and exits 1 if the envelope does not open. For a
    self-contained envelope --dek is its unwrapped DEK; the wraps are checked and not used.

needs:     pip install -r requirements.txt""",
    )
    add = parser.add_argument
    add("directory", nargs="?", type=pathlib.Path, help="directory of vectors to check")
    add("--open", action="store_true", help="open the envelope on standard input")
    add("--dek", type=bytes.fromhex, metavar="HEX", help="the data key, 32 bytes")
    add("--version", type=int, default=1, metavar="N", help="the version of that key (default 1)")
    add("--scope", type=pair, action="append", default=[], metavar="K=V", help="a pair of the scope context")
    add("--context", type=pair, action="append", default=[], metavar="K=V", help="a pair of the record context")
    add("--suite", type=int, action="append", metavar="N", help="a suite to accept (default 1 alone)")
    add("--kind", type=lambda k: int(k, 16), action="append", metavar="HEX", help="a kind to accept (default all)")
    add("--codec", type=int, default=0, metavar="N", help="the codec to expect (default 0)")
    add("--range", type=int, nargs=2, metavar=("A", "B"), help="plaintext bytes A..B of a chunked envelope")
    add("--values", action="store_true", help="print the intermediate values on standard error")
    options = parser.parse_args()
    if options.open == (options.directory is not None) or (options.open and options.dek is None):
        parser.error("give a directory, or --open with --dek")
    if options.range and not 0 <= options.range[0] <= options.range[1]:
        parser.error("--range A B: 0 <= A <= B")
    return open_one(options) if options.open else check_directory(options.directory)


if __name__ == "__main__":
    sys.exit(main())
