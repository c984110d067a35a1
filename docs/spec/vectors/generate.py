#!/usr/bin/env python3
"""Make the test vectors of docs/spec/envelope-v1.md, section references (§) are to that document.

    generate.py            write every vector beside this file and remove those it does not make
    generate.py --check    compare instead of writing; exit 1 if anything differs

The result depends on nothing but this file: what an envelope takes from a random generator is taken
here from SHA-256 of the vector's name, or from the counting bytes of appendix B.  Expected results
are stated by hand, one by one; nothing here opens an envelope.  The reader, ../verify.py, shares no
code with this file and uses other primitives where it can (here HKDFExpand and CMAC, there HMAC and
AES-ECB).  The format of a vector is described in README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

Pair = Tuple[bytes, bytes]
HERE = pathlib.Path(__file__).resolve().parent

# ---------------------------------------------------------------- the inputs of appendix B

DEK = bytes(range(0x00, 0x20))
DEK_OWN = bytes(range(0x20, 0x40))
SCOPE = ((b"tenant", b"acme"), (b"purpose", b"customers"))
RECORD = ((b"table", b"customers"), (b"column", b"email"), (b"row", b"42"))
NONCE = bytes(range(0x40, 0x58))
SALT = bytes(range(0x60, 0x78))
ADA = b"ada@example.org"


def hashed(label: str, length: int) -> bytes:
    """`length` bytes (up to 32) that stand for random ones."""
    return hashlib.sha256(b"bulla test vectors/" + label.encode()).digest()[:length]


def counting(start: int, length: int) -> bytes:
    """Bytes start..start+length of 0, 1, ..., 250, 0, 1, ...: the period divides no chunk size."""
    return bytes(j % 251 for j in range(start, start + length))


# ---------------------------------------------------------------- sealing


def expand(key: bytes, label: bytes, parameters: bytes, length: int) -> bytes:
    """The function X of §4.1."""
    info = b"bulla.v1/" + label + b"\0" + parameters
    return HKDFExpand(SHA256(), length, info).derive(key)


def ctx(pairs: Iterable[Pair]) -> bytes:
    """The encoding CTX of §3.1, without its checks."""
    ordered = sorted(pairs)
    body = b"".join(struct.pack(">H", len(k)) + k + struct.pack(">H", len(v)) + v for k, v in ordered)
    return struct.pack(">H", len(ordered)) + body


def kms_ctx(scope: Iterable[Pair], version: int) -> bytes:
    """The KMS context of §3.2."""
    own = ((b"bulla-format", b"1"), (b"bulla-dek-version", str(version).encode()))
    return ctx(tuple(scope) + own)


def key_id_of(dek: bytes, version: int, scope: Iterable[Pair]) -> bytes:
    return expand(dek, b"key-id", struct.pack(">I", version) + ctx(scope), 32)


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def aead(suite: int, key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Suite 2 is AES-256-GCM-SIV; every other number, defined or not, seals with AES-256-GCM."""
    return (AESGCMSIV if suite == 2 else AESGCM)(key).encrypt(nonce, plaintext, aad)


@dataclass(frozen=True)
class Wrap:
    """One entry of a wraps section (§6.1)."""

    backend: int = 1
    kek: bytes = b"example-kek"
    kek_version: bytes = b""
    blob: bytes = bytes(range(0xA0, 0xB0))

    def encode(self) -> bytes:
        return (
            struct.pack(">BH", self.backend, len(self.kek)) + self.kek
            + struct.pack(">B", len(self.kek_version)) + self.kek_version
            + struct.pack(">H", len(self.blob)) + self.blob
        )


WRAP_1 = Wrap()
WRAP_3 = Wrap(3, b"transit/orders", b"7", bytes(range(0xB0, 0xC0)))


@dataclass(frozen=True)
class Sealed:
    """An envelope together with all that went into it. No rule of the document is enforced."""

    kind: int = 0x01
    suite: int = 1
    codec: int = 0
    log2: int = 0
    version: int = 1
    dek: bytes = DEK
    scope: Sequence[Pair] = SCOPE
    record: Sequence[Pair] = RECORD
    nonce: bytes = NONCE
    plaintext: bytes = ADA
    generation: int = 0
    wraps: Sequence[Wrap] = (WRAP_1, WRAP_3)
    section: Optional[bytes] = None  # instead of generation, count and entries
    wraps_len: Optional[int] = None  # instead of the true one

    def but(self, **changes: Any) -> "Sealed":
        return dataclasses.replace(self, **changes)

    @property
    def own(self) -> bool:
        """Self-contained."""
        return self.kind >= 0x11

    @property
    def chunked(self) -> bool:
        return self.kind in (0x02, 0x12)

    @property
    def size(self) -> int:
        """C, the length of a full chunk (§7.1)."""
        return 1 << self.log2

    @property
    def key_id(self) -> bytes:
        return key_id_of(self.dek, self.version, self.scope)

    @property
    def header(self) -> bytes:
        fixed = struct.pack(">3s5BI", b"BUL", 1, self.kind, self.suite, self.codec, self.log2, self.version)
        return fixed + self.key_id + self.nonce

    @property
    def entries(self) -> bytes:
        if self.section is not None:
            return self.section
        body = b"".join(w.encode() for w in self.wraps)
        return struct.pack(">IB", self.generation, len(self.wraps)) + body

    @property
    def head(self) -> bytes:
        """Everything before the payload."""
        if not self.own:
            return self.header
        length = len(self.entries) + 32 if self.wraps_len is None else self.wraps_len
        covered = self.header + struct.pack(">H", length) + self.entries
        wraps_key = expand(self.dek, b"wraps", self.key_id, 32)
        return covered + hmac.new(wraps_key, covered, "sha256").digest()

    @property
    def keys(self) -> dict[str, bytes]:
        """The derived values of the payload."""
        bound = bytes([self.suite]) + self.key_id
        if self.chunked:
            stream_key = expand(self.dek, b"stream", bound, 32)
            out = expand(stream_key, b"chunks", self.header + ctx(self.record), 76)
            return {"stream-key": stream_key, "chunk-key": out[:32], "base-nonce": out[32:44], "commitment": out[44:]}
        seal_key = expand(self.dek, b"seal", bound, 32)
        ell = Cipher(algorithms.AES(seal_key), modes.ECB()).encryptor().update(bytes(16))
        doubled = int.from_bytes(ell, "big") << 1
        k1 = (doubled ^ (0x87 | 1 << 128) if doubled >> 128 else doubled).to_bytes(16, "big")
        m1, m2 = b"\0\1X\0" + self.nonce[:12], b"\0\2X\0" + self.nonce[:12]
        return {
            "seal-key": seal_key, "l": ell, "k1": k1, "m1": m1, "m2": m2,
            "kx": cmac(seal_key, m1) + cmac(seal_key, m2),
            "nx": self.nonce[12:], "aad": self.header[:44] + ctx(self.record),
        }

    def chunk_nonce(self, index: int) -> bytes:
        low = int.from_bytes(self.keys["base-nonce"], "big") ^ index
        return low.to_bytes(12, "big")

    def chunk(self, index: int, plaintext: Optional[bytes] = None) -> bytes:
        """Chunk `index`, of its part of the plaintext or of another one."""
        if plaintext is None:
            plaintext = self.plaintext[index * self.size:(index + 1) * self.size]
        return aead(self.suite, self.keys["chunk-key"], self.chunk_nonce(index), plaintext, b"")

    @property
    def chunks(self) -> list[bytes]:
        return [self.chunk(i) for i in range(len(self.plaintext) // self.size + 1)]

    @property
    def payload(self) -> bytes:
        k = self.keys
        if self.chunked:
            return k["commitment"] + b"".join(self.chunks)
        return aead(self.suite, k["kx"], k["nx"], self.plaintext, k["aad"])

    @property
    def env(self) -> bytes:
        return self.head + self.payload

    def values(self, chunks: Optional[int] = None) -> list[tuple[str, str]]:
        """Every intermediate value, as header fields of a vector."""
        out = [
            ("ctx-scope", ctx(self.scope).hex()), ("ctx-record", ctx(self.record).hex()),
            ("kms-context", kms_ctx(self.scope, self.version).hex()), ("key-id", self.key_id.hex()),
            ("payload-offset", str(len(self.head))),
        ]
        if self.own:
            out += [("wraps-len", str(len(self.head) - 70)), ("generation", str(self.generation))]
            out += [("entry", entry_text(w)) for w in self.wraps]
            out += [("wraps-key", expand(self.dek, b"wraps", self.key_id, 32).hex()), ("mac", self.head[-32:].hex())]
        out += [(name, value.hex()) for name, value in self.keys.items()]
        if self.chunked:
            count = len(self.plaintext) // self.size + 1 if chunks is None else chunks
            out += [("chunks", str(count)), ("last-nonce", self.chunk_nonce(count - 1).hex())]
        return out


# ---------------------------------------------------------------- writing vectors

VECTORS: dict[str, bytes] = {}


def hexa(data: bytes) -> str:
    return data.hex() or "-"


def entry_text(w: Wrap) -> str:
    return f"{w.backend} {hexa(w.kek)} {hexa(w.kek_version)} {hexa(w.blob)}"


def describe(plaintext: bytes) -> str:
    """The shortest of the notations of README.md."""
    if len(plaintext) > 64:
        if plaintext == bytes(len(plaintext)):
            return f"zeros {len(plaintext)}"
        if plaintext == counting(plaintext[0], len(plaintext)):
            return f"counting {plaintext[0]} {len(plaintext)}"
    return f"hex {hexa(plaintext)}"


@dataclass(frozen=True)
class Unwraps:
    """What a KEK answers for a blob; context None means that it does not bind one."""

    wrap: Wrap
    dek: bytes
    context: Optional[bytes] = None

    def __str__(self) -> str:
        bound = "any" if self.context is None else self.context.hex()
        return f"{self.wrap.backend} {hexa(self.wrap.kek)} {hexa(self.wrap.blob)} {hexa(self.dek)} {bound}"


def unwraps(s: Sealed, *wraps: Wrap, bound: bool = True) -> list[Unwraps]:
    context = kms_ctx(s.scope, s.version) if bound else None
    return [Unwraps(w, s.dek, context) for w in wraps or s.wraps[:1]]


def vec(
    name: str, comment: str, spec: str, expect: str, s: Sealed, env: Optional[bytes] = None, *,
    op: str = "open", scope: Optional[Sequence[Pair]] = None, record: Optional[Sequence[Pair]] = None,
    kinds: Optional[str] = None, suites: Optional[str] = None, codec: Optional[str] = None,
    deks: Optional[Sequence[tuple[int, bytes, bytes]]] = None, keks: Optional[Sequence[Wrap]] = None,
    answers: Optional[Sequence[Unwraps]] = None, plaintext: Optional[bytes] = None,
    values: Optional[list[tuple[str, str]]] = None, extra: Sequence[tuple[str, str]] = (),
) -> None:
    """Add a vector. The opener is the one that opens `s`, except where an argument says otherwise."""
    fields = [("bulla-vector", "1"), ("comment", comment), ("spec", spec), ("expect", expect), ("operation", op)]
    fields.append(("accept-kinds", f"{s.kind:02x}" if kinds is None else kinds))
    fields.append(("accept-suites", str(s.suite) if suites is None else suites))
    fields.append(("codec", str(s.codec) if codec is None else codec))
    fields += [("scope", f"{k.hex()}={v.hex()}") for k, v in (s.scope if scope is None else scope)]
    fields += [("record", f"{k.hex()}={v.hex()}") for k, v in (s.record if record is None else record)]
    if deks is None:
        deks = [] if s.own else [(s.version, s.key_id, s.dek)]
    fields += [("dek", f"{v} {k.hex()} {d.hex()}") for v, k, d in deks]
    if s.own:
        keks = s.wraps[:1] if keks is None else keks
        known: list[str] = []
        for w in keks:
            line = f"{w.backend} {hexa(w.kek)}"
            if line not in known:
                known.append(line)
        fields += [("kek", line) for line in known]
        fields += [("unwraps", str(u)) for u in (unwraps(s) if answers is None else answers)]
    fields += extra
    if expect == "success" and (op == "open" or op.split()[0] in ("range", "tail")):
        fields.append(("plaintext", describe(s.plaintext if plaintext is None else plaintext)))
    if expect == "success" and op.split()[0] in ("open", "range", "tail", "length"):
        fields += s.values() if values is None else values
    text = "".join(f"{key}: {value}".rstrip(" ") + "\n" for key, value in fields)
    assert name not in VECTORS, name
    assert text.count("\n") == len(fields), name
    VECTORS[name] = text.encode() + b"\n" + (s.env if env is None else env)


def flip(env: bytes, offset: int, mask: int = 0x01) -> bytes:
    """`env` with bits of one byte inverted."""
    offset %= len(env)
    return put(env, offset, env[offset] ^ mask)


def put(env: bytes, offset: int, *values: int) -> bytes:
    """`env` with bytes replaced."""
    return env[:offset] + bytes(values) + env[offset + len(values):]


def fresh(name: str, **fields: Any) -> Sealed:
    """An envelope with a nonce of its own and, if self-contained, a DEK of its own."""
    kind = fields.get("kind", 1)
    fields.setdefault("nonce", hashed("nonce/" + name, 24))
    if kind in (0x02, 0x12):
        fields.setdefault("log2", 12)
    if kind >= 0x11:
        fields.setdefault("version", 0)
        fields.setdefault("dek", hashed("dek/" + name, 32))
    return Sealed(**fields)


KINDS = {0x01: "one-shot", 0x02: "chunked", 0x11: "own-one-shot", 0x12: "own-chunked"}
ALL = "01 02 11 12"

B1 = Sealed()
B2 = B1.but(suite=2)
B3 = Sealed(kind=2, log2=12, nonce=SALT, plaintext=b"hello")
B3_2 = B3.but(suite=2)
B3_4096 = B3.but(plaintext=bytes(4096))
B4 = Sealed(kind=0x11, version=0, dek=DEK_OWN)
B4_REWRAPPED = B4.but(generation=1, wraps=(WRAP_1,))
B5 = Sealed(kind=0x12, version=0, dek=DEK_OWN, log2=12, nonce=SALT, plaintext=b"hello")

# ---------------------------------------------------------------- good envelopes


def appendix_b() -> None:
    """The worked examples B.1 to B.5 and the refusals of B.6."""
    vec("b1", "appendix B.1: referenced one-shot, suite 1", "B.1, 5.2, 5.3", "success", B1)
    vec("b2", "appendix B.2: referenced one-shot, suite 2", "B.2, 5.3", "success", B2)
    vec("b3-suite1", "appendix B.3: referenced chunked, suite 1", "B.3, 7.1", "success", B3)
    vec("b3-suite2", "appendix B.3: referenced chunked, suite 2", "B.3, 7.1", "success", B3_2)
    vec("b3-4096", "appendix B.3: one full chunk and an empty one", "B.3, 7.1", "success", B3_4096)
    vec("b4", "appendix B.4: self-contained one-shot", "B.4, 6.1, 6.3", "success", B4)
    vec("b4-rewrapped", "appendix B.4: after the rewrap that drops the second entry", "B.4, 6.6", "success", B4_REWRAPPED)
    vec("b4-rewrap", "appendix B.4: the rewrap itself", "B.4, 6.6", "success", B4, op="rewrap", codec="any",
        extra=rewrapped(B4_REWRAPPED, [WRAP_1]))
    vec("b5", "appendix B.5: self-contained chunked", "B.5", "success", B5)

    def row(number: int, name: str, change: str, expect: str, s: Sealed, env: Optional[bytes] = None, **kw: Any) -> None:
        kw.setdefault("suites", "1")
        vec(f"b6-{number:02}-{name}", f"appendix B.6, row {number}: {change}", "B.6", expect, s, env, kinds=ALL, **kw)

    e1, e3, e4 = B1.env, B3_4096.env, B4.env
    cut = 75 + len(WRAP_1.encode())
    mac = len(B4.head) - 32
    row(1, "short", "B.1, only the first 67 bytes", "malformed", B1, e1[:67])
    row(2, "version", "B.1, byte 3 is 02", "unsupported", B1, put(e1, 3, 2))
    row(3, "kind-03", "B.1, byte 4 is 03", "unsupported", B1, put(e1, 4, 3))
    row(4, "kind-02", "B.1, byte 4 is 02", "malformed", B1, put(e1, 4, 2))
    row(5, "suite-03", "B.1, byte 5 is 03", "unsupported", B1, put(e1, 5, 3))
    row(6, "suite-02", "B.1, byte 5 is 02", "not accepted", B1, put(e1, 5, 2))
    row(7, "suite-02-accepted", "B.1, byte 5 is 02, suites 1 and 2 accepted", "authentication error", B1, put(e1, 5, 2), suites="1 2")
    row(8, "codec-03", "B.1, byte 6 is 03", "unsupported", B1, put(e1, 6, 3))
    row(9, "codec-01", "B.1, byte 6 is 01", "not accepted", B1, put(e1, 6, 1))
    row(10, "version-0", "B.1, byte 11 is 00", "malformed", B1, put(e1, 11, 0))
    row(11, "version-2", "B.1, byte 11 is 02", "unknown key", B1, put(e1, 11, 2))
    row(12, "nonce", "B.1, byte 44 is 41", "authentication error", B1, put(e1, 44, 0x41))
    row(13, "scope", "B.1, scope {tenant: acme}", "unknown key", B1, scope=SCOPE[:1])
    row(14, "record", "B.1, record context with row: 43", "authentication error", B1, record=(*RECORD[:2], (b"row", b"43")))
    row(15, "reserved-pair", "B.1, record context with another pair, bulla-x: 1", "context error", B1, record=(*RECORD, (b"bulla-x", b"1")))
    row(16, "cut-1", "B.1, last byte missing", "authentication error", B1, e1[:-1])
    row(17, "cut-16", "B.1, last 16 bytes missing", "malformed", B1, e1[:-16])
    row(18, "stream-cut", "B.3, 4096 bytes, last 16 bytes missing", "authentication error", B3_4096, e3[:-16])
    row(19, "stream-longer", "B.3, 4096 bytes, one byte added", "authentication error", B3_4096, e3 + b"\0")
    row(20, "generation", "B.4, byte 73 (generation) is 01", "authentication error", B4, put(e4, 73, 1))
    row(21, "entries-swapped", "B.4, the two entries change places", "malformed", B4, e4[:75] + e4[cut:mac] + e4[75:cut] + e4[mac:])
    row(22, "wraps-len", "B.4, byte 69 is 6c", "malformed", B4, put(e4, 69, 0x6C))


def good() -> None:
    """Every kind in both suites, at the lengths where something changes."""
    for kind, kind_name in KINDS.items():
        for suite in (1, 2):
            if kind in (0x01, 0x11):
                sizes = [("empty", 0), ("1", 1), ("16", 16), ("17", 17), ("300", 300)]
                if kind == 0x11:
                    sizes = [("empty", 0), ("100", 100)]
            else:
                sizes = [("empty", 0), ("1", 1), ("4095", 4095), ("4096", 4096), ("4097", 4097)]
                if (kind, suite) == (0x02, 2):
                    sizes = [("empty", 0), ("4096", 4096), ("4097", 4097)]
                elif kind == 0x02:
                    sizes += [("3-chunks", 8292)]
                else:
                    sizes = [("empty", 0), ("1", 1)] + ([("3-chunks", 8292)] if suite == 2 else [("4096", 4096)])
            for size_name, size in sizes:
                name = f"good-{kind_name}-s{suite}-{size_name}"
                s = fresh(name, kind=kind, suite=suite, plaintext=counting(0, size))
                vec(name, f"kind {kind:02x}, suite {suite}, plaintext of {size} bytes", "5.3, 7.1", "success", s)
    for log2 in range(13, 23):
        name = f"good-chunk-log2-{log2}"
        s = fresh(name, kind=2, log2=log2, plaintext=counting(0, 100))
        vec(name, f"chunk_log2 {log2} is allowed", "2.1, 2.5 step 6", "success", s)
    for log2, size in ((13, 8193), (16, 65536 + 5)):
        name = f"good-chunked-{log2}-two-chunks"
        s = fresh(name, kind=2, log2=log2, plaintext=counting(0, size))
        vec(name, f"chunk_log2 {log2}, a full chunk and a short one", "7.1", "success", s)
    for label, version in (("2", 2), ("256", 256), ("max", 2**32 - 1)):
        name = f"good-version-{label}"
        vec(name, f"DEK version {version}", "2.1", "success", fresh(name, version=version, plaintext=b"v"))
    for codec in (128, 255):
        name = f"good-codec-{codec}"
        vec(name, f"private codec {codec}, asked for", "2.4", "success", fresh(name, codec=codec, plaintext=b"private"))
    s = fresh("good-codec-any", codec=200, plaintext=b"moved")
    vec("good-codec-any", "a tool that moves payloads may ask for whatever codec the header holds", "2.4", "success", s, codec="any")
    s = fresh("good-default-suites", plaintext=b"default")
    vec("good-default-suites", "suite 1 is in the default list of suites", "2.3", "success", s, suites="default")
    s = fresh("good-two-suites", suite=2, plaintext=b"both")
    vec("good-two-suites", "suite 2, suites 1 and 2 accepted", "2.3", "success", s, suites="1 2")
    s = fresh("good-second-dek", version=2, dek=hashed("second", 32), plaintext=b"two")
    first = Sealed()
    vec("good-second-dek", "the lineage has versions 1 and 2; the header names 2", "8.1 step 4", "success", s,
        deks=[(1, first.key_id, first.dek), (2, s.key_id, s.dek)])
    s = fresh("good-same-version", dek=hashed("same-version", 32), plaintext=b"one")
    vec("good-same-version", "two DEKs of version 1 at hand; the key id tells which", "8.1 step 4", "success", s,
        deks=[(1, first.key_id, first.dek), (1, s.key_id, s.dek)])


def contexts() -> None:
    """§3: what a context may be, how it is encoded, and what it binds."""

    def fine(name: str, comment: str, given: Optional[dict[str, Any]] = None, **fields: Any) -> None:
        s = fresh("ctx-good-" + name, plaintext=b"context", **fields)
        vec("ctx-good-" + name, comment, "3.1, 3.2, 10", "success", s, **(given or {}))

    fine("both-empty", "empty scope and empty record context", scope=(), record=())
    fine("empty-stream", "empty scope and record context, chunked", kind=2, scope=(), record=())
    fine("empty-value", "a pair with an empty value", scope=((b"tenant", b""),), record=((b"row", b""),))
    fine("order", "pairs given in another order than the encoded one", given={
        "scope": tuple(reversed(SCOPE)), "record": (RECORD[2], RECORD[0], RECORD[1])})
    fine("key-order", "keys are ordered as bytes, not by length: aa before b, a before aa",
         scope=((b"b", b"1"), (b"aa", b"2"), (b"a", b"3")), record=((b"b", b"1"), (b"aa", b"2"), (b"a", b"3")))
    fine("key-order-unsigned", "bytes are unsigned: 7f before 80 before ff",
         record=((b"\xff", b"1"), (b"\x80", b"2"), (b"\x7f", b"3")))
    fine("key-order-utf16", "order of bytes, not of UTF-16 units: U+FFFD before U+10000",
         scope=(("\U00010000".encode(), b"1"), ("\ufffd".encode(), b"2")))
    fine("record-not-utf8", "a record context need not be UTF-8", record=((b"\xfe\xff", b"\xc3\x28\x00"),))
    fine("nul", "zero bytes in keys and values", scope=((b"a\0b", b"\0"),), record=((b"\0", b"\0\0"),))
    fine("almost-reserved", "keys that only resemble the reserved prefix",
         scope=((b"bull", b"1"), (b"Bulla", b"2"), (b" bulla", b"3")), record=((b"bull", b"1"), (b"BULLA", b"2"), (b"xbulla", b"3")))
    pairs32 = tuple((b"k%02d" % i, b"%d" % i) for i in range(32))
    fine("record-32-pairs", "a record context of 32 pairs", record=pairs32)
    fine("scope-8-pairs", "a scope context of 8 pairs", scope=tuple((b"k%d" % i, b"%d" % i) for i in range(8)))
    fine("key-64", "keys of 64 bytes", scope=((b"s" * 64, b"1"),), record=((b"r" * 64, b"1"),))
    fine("value-1024", "a record value of 1024 bytes", record=((b"r", b"v" * 1024),))
    largest = ((b"a", b"1" * 1024), (b"b", b"2" * 1024), (b"c", b"3" * 1024), (b"d", b"4" * 1002))
    assert len(ctx(largest)) == 4096
    fine("record-4096", "a record context that encodes to 4096 bytes", record=largest)
    fine("record-4096-stream", "the same in a stream, whose key derivation has 4180 bytes of info", kind=2, record=largest)
    fine("scope-1024", "a scope context that encodes to 1024 bytes", scope=((b"s", b"v" * 1017),))
    fine("scope-1024-own", "a KMS context of 1063 bytes: 8 pairs of scope that encode to 1024, and two more", kind=0x11,
         scope=tuple((b"k%d" % i, b"v" * (122 if i < 6 else 121)) for i in range(8)))

    base = Sealed()

    def bad(name: str, comment: str, section: str = "3.1", **fields: Any) -> None:
        """Sealed with the forbidden context: an opener that lets it pass opens the envelope."""
        s = fresh("ctx-bad-" + name, plaintext=b"context", **fields)
        vec("ctx-bad-" + name, comment, section, "context error", s)

    def given(which: str, *pairs: Pair) -> dict[str, Any]:
        return {which: pairs}

    for which, other in (("scope", (b"tenant", b"acme")), ("record", (b"row", b"42"))):
        bad(f"{which}-duplicate", f"{which} context: a key twice with different values", **given(which, (b"a", b"1"), (b"a", b"2")))
        bad(f"{which}-duplicate-equal", f"{which} context: a key twice with equal values", **given(which, (b"a", b"1"), (b"a", b"1")))
        vec(f"ctx-bad-{which}-duplicate-merged", f"{which} context: the sealed pair given twice, equal in value; merging them would open it",
            "3.1", "context error", base.but(**given(which, other)), **given(which, other, other))
        bad(f"{which}-empty-key", f"{which} context: an empty key", **given(which, (b"", b"1")))
        bad(f"{which}-reserved", f"{which} context: the key bulla", **given(which, (b"bulla", b"1")))
        bad(f"{which}-reserved-longer", f"{which} context: a key that begins with bulla", **given(which, (b"bullae", b"1")))
        bad(f"{which}-key-65", f"{which} context: a key of 65 bytes", section="3.1, 10", **given(which, (b"k" * 65, b"1")))
    bad("scope-format-pair", "scope context: bulla-format, a pair of the KMS context", scope=((b"bulla-format", b"1"),))
    bad("record-value-1025", "record context: a value of 1025 bytes", section="3.1, 10", record=((b"r", b"v" * 1025),))
    bad("record-33-pairs", "record context: 33 pairs", section="3.1, 10", record=tuple((b"k%02d" % i, b"") for i in range(33)))
    bad("record-4097", "record context: an encoding of 4097 bytes", section="3.1, 10", record=(*largest[:3], (b"d", b"4" * 1003)))
    bad("scope-9-pairs", "scope context: 9 pairs", section="3.1, 10", scope=tuple((b"k%d" % i, b"") for i in range(9)))
    bad("scope-1025", "scope context: an encoding of 1025 bytes", section="3.1, 10", scope=((b"s", b"v" * 1018),))
    for name, raw in (("lone-byte", b"\xff"), ("overlong", b"\xc0\x80"), ("surrogate", b"\xed\xa0\x80"),
                      ("beyond", b"\xf4\x90\x80\x80"), ("cut", b"\xe2\x82")):
        bad(f"scope-value-utf8-{name}", f"scope context: a value that is not UTF-8 ({name})", section="3.2", scope=((b"tenant", raw),))
    bad("scope-key-utf8", "scope context: a key that is not UTF-8", section="3.2", scope=((b"\xff", b"1"),))
    bad("scope-own", "scope context with a reserved key, self-contained", kind=0x11, scope=((b"bulla-dek-version", b"0"),))

    def differs(name: str, comment: str, **given: Any) -> None:
        """Allowed, but not what was sealed."""
        expect = "unknown key" if "scope" in given else "authentication error"
        vec("ctx-other-" + name, comment, "3.2", expect, base.but(plaintext=b"context"), **given)

    differs("scope-missing", "scope: a pair is missing", scope=SCOPE[:1])
    differs("scope-extra", "scope: a pair more", scope=(*SCOPE, (b"z", b"")))
    differs("scope-value", "scope: another value", scope=(SCOPE[0], (b"purpose", b"orders")))
    differs("scope-case", "scope: no case folding", scope=((b"tenant", b"Acme"), SCOPE[1]))
    differs("scope-trim", "scope: no trimming", scope=((b"tenant", b"acme "), SCOPE[1]))
    differs("scope-key-value", "scope: keys and values exchanged", scope=tuple((v, k) for k, v in SCOPE))
    differs("scope-empty", "scope: empty instead", scope=())
    differs("record-missing", "record: a pair is missing", record=RECORD[:2])
    differs("record-extra", "record: a pair more, with an empty value", record=(*RECORD, (b"z", b"")))
    differs("record-value", "record: another row", record=(*RECORD[:2], (b"row", b"43")))
    differs("record-key", "record: another key", record=(*RECORD[:2], (b"Row", b"42")))
    differs("record-trim", "record: no trimming", record=(*RECORD[:2], (b"row", b" 42")))
    differs("record-values-swapped", "record: two values exchanged", record=((b"table", b"email"), (b"column", b"customers"), RECORD[2]))
    differs("record-empty", "record: empty instead", record=())
    vec("ctx-other-swapped", "scope and record context exchanged", "3.2", "unknown key", base, scope=RECORD, record=SCOPE)
    vec("ctx-other-record-stream", "a stream: another row in the record context", "3.2, 7.2", "authentication error",
        B3, record=(*RECORD[:2], (b"row", b"43")))
    vec("ctx-other-record-own", "self-contained: another row in the record context", "3.2", "authentication error",
        B4, record=(*RECORD[:2], (b"row", b"43")))
    nfc, nfd = "é".encode(), b"e\xcc\x81"
    vec("ctx-other-scope-nfd", "scope: no Unicode normalisation", "3.1", "unknown key", base.but(scope=((b"tenant", nfc),)), scope=((b"tenant", nfd),))
    vec("ctx-other-record-nfd", "record: no Unicode normalisation", "3.1", "authentication error", base.but(record=((b"row", nfc),)), record=((b"row", nfd),))
    vec("ctx-other-scope-empty-value", "scope: an empty value is not a missing pair", "3.1", "unknown key", base.but(scope=((b"tenant", b""),)), scope=())
    vec("ctx-other-record-empty-value", "record: an empty value is not a missing pair", "3.1", "authentication error", base.but(record=((b"row", b""),)), record=())


# ---------------------------------------------------------------- the header and its bytes


def headers() -> None:
    """§2.5, steps 1 to 7. Where it can be done the envelope is sealed with the forbidden value, so that it
    would open if the one check were missing."""

    def header(name: str, comment: str, step: str, expect: str, s: Sealed, env: Optional[bytes] = None, **kw: Any) -> None:
        kw.setdefault("kinds", ALL)
        kw.setdefault("suites", "1 2")
        vec("header-" + name, comment, step, expect, s, env, **kw)

    base = fresh("header", plaintext=counting(0, 40))
    for length in (0, 3, 67):
        header(f"length-{length}", f"{length} bytes", "2.5 step 1", "malformed", base, base.env[:length])
    header("length-68", "the 68 bytes alone, no tag", "2.5 step 9", "malformed", base, base.header)
    header("length-83", "83 bytes, one less than the shortest envelope", "2.5 step 9", "malformed", base.but(plaintext=b""), base.but(plaintext=b"").env[:-1])
    for i in range(3):
        header(f"magic-{i}", f"byte {i} is wrong", "2.5 step 2", "malformed", base, flip(base.env, i, 0x20))
    for byte in (0, 2, 255):
        header(f"format-{byte}", f"format version {byte}", "2.5 step 2", "unsupported", base, put(base.env, 3, byte))
    for byte in (0x00, 0x03, 0x10, 0x13, 0x21, 0xFF):
        header(f"kind-{byte:02x}", f"kind {byte:02x}", "2.2, 2.5 step 3", "unsupported", base, put(base.env, 4, byte))
    for byte in (0x02, 0x11, 0x12):
        header(f"kind-01-to-{byte:02x}", f"kind 01 changed to {byte:02x}: chunk_log2 or version contradicts it", "2.5 step 6", "malformed", base, put(base.env, 4, byte))
    for suite in (0, 3, 4, 5, 127, 255):
        s = fresh(f"header-suite-{suite}", suite=suite, plaintext=b"suite")
        header(f"suite-{suite}", f"suite {suite}, sealed as suite 1 is", "2.3, 2.5 step 4", "unsupported", s)
    for codec in (3, 4, 64, 127):
        s = fresh(f"header-codec-{codec}", codec=codec, plaintext=b"codec")
        header(f"codec-{codec}", f"reserved codec {codec}, sealed with it", "2.4, 2.5 step 5", "unsupported", s, codec="0")
    s = fresh("header-codec-any", codec=3, plaintext=b"codec")
    header("codec-any", "a reserved codec is refused also by an opener that takes any", "2.4, 2.5 step 5", "unsupported", s, codec="any")
    for log2 in (1, 12, 255):
        s = fresh(f"header-log2-{log2}", log2=log2, plaintext=b"one-shot")
        header(f"one-shot-log2-{log2}", f"one-shot with chunk_log2 {log2}", "2.5 step 6", "malformed", s)
    for log2 in (0, 1, 11, 23):
        s = fresh(f"header-stream-log2-{log2}", kind=2, log2=log2, plaintext=b"" if log2 < 11 else b"stream")
        header(f"chunked-log2-{log2}", f"chunked with chunk_log2 {log2}", "2.5 step 6", "malformed", s)
    header("chunked-log2-255", "chunked with chunk_log2 255", "2.5 step 6", "malformed", B3, put(B3.env, 7, 255))
    s = fresh("header-own-log2", kind=0x11, log2=12)
    header("own-one-shot-log2", "self-contained one-shot with chunk_log2 12", "2.5 step 6", "malformed", s)
    s = fresh("header-own-stream-log2", kind=0x12, log2=11)
    header("own-chunked-log2", "self-contained chunked with chunk_log2 11", "2.5 step 6", "malformed", s)
    for kind, version, name in ((1, 0, "one-shot-version-0"), (2, 0, "chunked-version-0"), (0x11, 1, "own-one-shot-version-1"), (0x12, 1, "own-chunked-version-1"), (0x11, 0x01000000, "own-version-high-byte")):
        s = fresh("header-" + name, kind=kind, version=version)
        header(name, f"kind {kind:02x} with DEK version {version}, sealed with it", "2.1, 2.5 step 7", "malformed", s)

    for kind in (2, 0x11, 0x12):
        name = KINDS[kind]
        s = fresh("header-length-" + name, kind=kind, plaintext=b"")
        head, least = len(s.head), 32 if s.chunked else 16
        header(f"length-{name}", f"kind {kind:02x}: one byte less than {least} from P on", "2.5 step 9", "malformed", s, s.env[:head + least - 1])
        header(f"length-{name}-0", f"kind {kind:02x}: nothing from P on", "2.5 step 9", "malformed", s, s.head)

    # accept-lists, §2.3, 2.4, 8.1 step 3
    for kind in KINDS:
        s = fresh(f"accept-kind-{kind:02x}", kind=kind)
        others = " ".join(f"{k:02x}" for k in KINDS if k != kind)
        vec(f"accept-kind-{kind:02x}", f"an intact envelope of kind {kind:02x}, every other kind accepted", "8.1 step 3", "not accepted", s, kinds=others)
    s = fresh("accept-suite", suite=2)
    vec("accept-suite-1", "an intact envelope of suite 2, suite 1 accepted", "2.3", "not accepted", s, suites="1")
    vec("accept-suite-default", "an intact envelope of suite 2: the default list is suite 1 alone", "2.3", "not accepted", s, suites="default")
    vec("accept-suite-default-stream", "an intact stream of suite 2, default list", "2.3", "not accepted", fresh("accept-suite-stream", kind=2, suite=2), suites="default")
    vec("accept-suite-2", "an intact envelope of suite 1, suite 2 alone accepted", "2.3", "not accepted", fresh("accept-suite-2"), suites="2")
    for header_codec, asked in ((1, 0), (2, 0), (128, 0), (0, 1), (0, 2), (2, 1), (129, 128)):
        name = f"accept-codec-{header_codec}-asked-{asked}"
        vec(name, f"an intact envelope of codec {header_codec}, codec {asked} asked for", "2.4", "not accepted", fresh(name, codec=header_codec), codec=str(asked))


def flips() -> None:
    """Property 2: a bit flipped in every field."""
    o1, o2 = fresh("flip-one-shot-1", plaintext=counting(0, 40)), fresh("flip-one-shot-2", suite=2, plaintext=counting(0, 40))
    vec("flip-codec", "codec 0 changed to 1, and 1 asked for: the codec is authenticated", "5.1", "authentication error", o1, put(o1.env, 6, 1), codec="1")
    vec("flip-codec-any", "codec 0 changed to 128, any codec asked for", "5.1, 2.4", "authentication error", o1, put(o1.env, 6, 128), codec="any")
    vec("flip-suite-2-to-1", "suite 2 changed to 1, both accepted", "2.3, 4.2", "authentication error", o2, put(o2.env, 5, 1), suites="1 2")
    vec("flip-version-high", "highest byte of the DEK version", "4.3", "unknown key", o1, flip(o1.env, 8))
    for offset, name in ((12, "first"), (43, "last")):
        vec(f"flip-key-id-{name}", f"{name} byte of the key id", "4.3", "unknown key", o1, flip(o1.env, offset, 0x80))
    for s, suite in ((o1, 1), (o2, 2)):
        for offset, name in ((44, "nonce-first"), (55, "nonce-prefix-last"), (56, "nonce-second-half"), (67, "nonce-last"),
                             (68, "ciphertext-first"), (-17, "ciphertext-last"), (-16, "tag-first"), (-1, "tag-last")):
            vec(f"flip-s{suite}-{name}", f"suite {suite}: {name}", "5.3", "authentication error", s, flip(s.env, offset, 0x80))

    for suite in (1, 2):
        s = fresh(f"flip-stream-{suite}", kind=2, suite=suite, plaintext=b"hello")
        for offset, name in ((44, "salt-first"), (67, "salt-last"), (68, "commitment-first"), (99, "commitment-last"),
                             (100, "ciphertext"), (-16, "tag-first"), (-1, "tag-last")):
            vec(f"flip-stream-s{suite}-{name}", f"stream, suite {suite}: {name}", "7.2", "authentication error", s, flip(s.env, offset))
        t = fresh(f"flip-stream-long-{suite}", kind=2, suite=suite, plaintext=counting(0, 4100))
        for offset, name in ((100 + 4095, "chunk-0-ciphertext"), (100 + 4096, "chunk-0-tag"), (100 + 4112, "last-ciphertext"))[:3 if suite == 1 else 1]:
            vec(f"flip-stream-s{suite}-{name}", f"stream of two chunks, suite {suite}: {name}", "7.2", "authentication error", t, flip(t.env, offset))
    vec("flip-stream-log2", "chunk_log2 12 changed to 13", "4.2, 7.2", "authentication error", s, put(s.env, 7, 13))
    vec("flip-stream-codec", "codec 0 changed to 1, and 1 asked for", "4.2", "authentication error", s, put(s.env, 6, 1), codec="1")
    vec("flip-stream-suite", "suite 2 changed to 1, both accepted", "2.3, 4.2", "authentication error", s, put(s.env, 5, 1), suites="1 2")
    vec("flip-stream-key-id", "a byte of the key id", "4.3", "unknown key", s, flip(s.env, 20))

    e, m = B4.env, len(B4.head) - 32
    second = 75 + len(WRAP_1.encode())

    def own(name: str, comment: str, expect: str, env: bytes, **kw: Any) -> None:
        vec("flip-own-" + name, "self-contained: " + comment, "6.2, 6.3", expect, B4, env, **kw)

    own("key-id", "a byte of the key id", "unknown key", flip(e, 12))
    own("codec", "codec 0 changed to 1, and 1 asked for", "authentication error", put(e, 6, 1), codec="1")
    own("suite", "suite 1 changed to 2, both accepted", "authentication error", put(e, 5, 2), suites="1 2")
    own("nonce", "a byte of the nonce", "authentication error", flip(e, 67))
    own("wraps-len-less", "wraps_len one less", "malformed", put(e, 69, 0x6A))
    own("wraps-len-high", "high byte of wraps_len", "malformed", put(e, 68, 1))
    own("generation-high", "highest byte of the generation", "authentication error", flip(e, 70, 0x80))
    own("count-less", "count 1 instead of 2", "malformed", put(e, 74, 1))
    own("count-more", "count 3 instead of 2", "malformed", put(e, 74, 3))
    own("backend", "backend of the opener's own entry, 1 to 2", "unknown key", put(e, 75, 2))
    own("backend-other", "backend of an entry that the opener does not use, 3 to 4", "authentication error", put(e, second, 4))
    own("kek-id-length", "length of the first KEK id", "malformed", flip(e, 77, 0x40))
    own("kek-id", "a byte of the opener's own KEK id", "unknown key", flip(e, 78))
    own("kek-id-other", "a byte of a KEK id that the opener does not use", "authentication error", flip(e, second + 3 + 13))
    own("kek-version-length", "length of the first KEK version", "malformed", flip(e, 89, 0x40))
    own("kek-version-other", "the KEK version of an entry that the opener does not use", "authentication error", flip(e, second + 18))
    own("blob-length", "length of the first blob", "malformed", flip(e, 91, 0x40))
    own("blob", "a byte of the opener's own blob, which its KEK then refuses", "kms error", flip(e, 92), extra=[("kms-failure", "refused")])
    own("blob-other", "a byte of a blob that the opener does not use", "authentication error", flip(e, m - 1))
    own("mac-first", "first byte of the MAC", "authentication error", flip(e, m))
    own("mac-last", "last byte of the MAC", "authentication error", flip(e, m + 31))
    own("ciphertext", "first byte of the ciphertext", "authentication error", flip(e, m + 32))
    own("tag", "last byte of the tag", "authentication error", flip(e, -1))
    version = B4.but(wraps=(Wrap(kek_version=b"1"),))
    vec("flip-own-kek-version", "self-contained: the KEK version of the opener's own entry", "6.3", "authentication error", version, flip(version.env, 90, 2))
    e5, p5 = B5.env, len(B5.head)
    for offset, name in ((67, "salt"), (p5 - 1, "mac"), (p5, "commitment"), (p5 + 32, "chunk"), (-1, "chunk-tag")):
        vec(f"flip-own-stream-{name}", f"self-contained chunked: {name}", "6.3, 7.2", "authentication error", B5, flip(e5, offset))


def moves() -> None:
    """Property 2: bytes cut, added or moved in one-shot envelopes."""
    for kind, suite in ((0x01, 1), (0x01, 2), (0x11, 1)):
        s, t = (fresh(f"move-{n}-{kind}-{suite}", kind=kind, suite=suite, plaintext=counting(n, 40), dek=DEK if kind == 1 else DEK_OWN) for n in (0, 1))
        label, head, tail = f"{KINDS[kind]}-s{suite}", s.head, t.payload[-16:]

        def moved(name: str, comment: str, env: bytes) -> None:
            vec(f"move-{label}-{name}", f"kind {kind:02x}, suite {suite}: {comment}", "2, 5.1", "authentication error", s, env)

        moved("cut-first", "first byte of the payload missing", head + s.payload[1:])
        moved("cut-last", "last byte missing", s.env[:-1])
        moved("cut-tag", "the tag missing", s.env[:-16])
        moved("added-first", "one byte before the payload", head + b"\0" + s.payload)
        moved("added-before-tag", "one byte before the tag", s.env[:-16] + b"\0" + s.env[-16:])
        moved("added-last", "one byte after the tag", s.env + b"\0")
        moved("added-16", "16 zero bytes after the tag", s.env + bytes(16))
        moved("blocks", "two blocks of ciphertext exchanged", head + s.payload[16:32] + s.payload[:16] + s.payload[32:])
        moved("foreign-payload", "payload of another record under the same DEK", head + t.payload)
        moved("foreign-tag", "tag of another record under the same DEK", s.env[:-16] + tail)


def sections() -> None:
    """§6.2: wraps sections that must not parse, each under a correct MAC, so that only the one rule is violated;
    and the longest and oddest ones that must."""
    one, three = Wrap(blob=b"\xa0" * 16), WRAP_3

    def malformed(name: str, comment: str, step: str, section: bytes, wraps_len: Optional[int] = None, keks: Sequence[Wrap] = (one,), kind: int = 0x11) -> None:
        s = fresh("section-" + name, kind=kind, section=section, wraps_len=wraps_len, wraps=(one,))
        vec("section-" + name, comment, f"6.2 step {step}", "malformed", s, keks=keks, answers=unwraps(s, *keks))

    def section(*wraps: Wrap, count: Optional[int] = None, tail: bytes = b"") -> bytes:
        number = len(wraps) if count is None else count
        return struct.pack(">IB", 0, number & 255) + b"".join(w.encode() for w in wraps) + tail

    for length, at in ((68, "the header"), (69, "half of wraps_len"), (70, "wraps_len"), (74, "the generation"), (75, "the count"),
                       (92, "the lengths of the first entry"), (108, "the first entry"), (145, "the entries"), (176, "the MAC but one byte"), (177, "the MAC, and no payload")):
        cut = B4.env[:length]
        vec(f"section-cut-{length}", f"B.4 cut to {length} bytes (behind {at})", "6.2 step 1" if length < 177 else "2.5 step 9", "malformed", B4, cut)
    malformed("wraps-len-0", "wraps_len 0", "1", section(one), 0)
    malformed("wraps-len-44", "wraps_len 44", "1", section(one), 44)
    malformed("wraps-len-16385", "wraps_len 16385 with a section of that length", "1", section(one, tail=bytes(16385 - 32 - len(section(one)))))
    malformed("wraps-len-65535", "wraps_len 65535, more than there is", "1", section(one), 65535)
    malformed("count-0", "count 0, and an entry", "2", section(one, count=0))
    malformed("count-0-empty", "count 0, no entry, 45 bytes all the same", "2", section(count=0, tail=bytes(8)))
    nine = tuple(Wrap(kek=b"kek-%d" % i, blob=b"%d" % i * 16) for i in range(9))
    malformed("count-9", "nine entries", "2", section(*nine), keks=nine[:1])
    malformed("count-255", "count 255", "2", section(one, count=255))
    malformed("backend-0", "an entry with backend 0", "3", section(Wrap(backend=0), one))
    malformed("kek-id-0", "an empty KEK id", "3", section(Wrap(kek=b""), one))
    malformed("kek-id-513", "a KEK id of 513 bytes", "3", section(one, Wrap(backend=2, kek=b"k" * 513)))
    malformed("blob-0", "an empty blob", "3", section(one, Wrap(backend=2, blob=b"")))
    malformed("blob-1025", "a blob of 1025 bytes", "3", section(one, Wrap(backend=2, blob=b"b" * 1025)))
    cut_entry = struct.pack(">BH", 2, 20) + b"kek"
    malformed("entry-into-mac", "the second entry's KEK id reaches into the MAC", "3", section(one, count=2, tail=cut_entry))
    malformed("entry-header-into-mac", "the second entry begins where the MAC begins", "3", section(one, count=2))
    malformed("blob-into-mac", "the only blob is one byte too long for the section", "3", section(one)[:-1])
    malformed("slack-1", "one byte between the last entry and the MAC", "5", section(one, tail=b"\0"))
    malformed("slack-entry", "an entry more than count says", "5", section(one, three, count=1))
    malformed("stream-slack", "a chunked envelope: one byte between the last entry and the MAC", "5", section(one, tail=b"\0"), kind=0x12)
    malformed("order-backend", "backends 3 and 1", "4", section(three, one))
    malformed("order-kek", "one backend, KEK ids in descending order", "4", section(Wrap(kek=b"b"), Wrap(kek=b"a")), keks=(Wrap(kek=b"a"),))
    malformed("order-length", "ordered by length-prefixed form instead of value: b, aa", "4", section(Wrap(kek=b"b"), Wrap(kek=b"aa")), keks=(Wrap(kek=b"b"),))
    malformed("order-signed", "ordered by signed bytes: ff, 01", "4", section(Wrap(kek=b"\xff"), Wrap(kek=b"\x01")), keks=(Wrap(kek=b"\x01"),))
    malformed("order-prefix", "an extension before its proper prefix", "4", section(Wrap(kek=b"ab"), Wrap(kek=b"a")), keks=(Wrap(kek=b"a"),))
    malformed("order-version", "KEK versions in descending order", "4", section(Wrap(kek_version=b"9"), Wrap(kek_version=b"10")), keks=(Wrap(),))
    malformed("order-equal", "the same entry twice", "4", section(one, one))
    malformed("order-equal-blob", "two entries that differ in the blob only", "4", section(Wrap(blob=b"\x01"), Wrap(blob=b"\x02")), keks=(Wrap(blob=b"\x01"),))

    def fine(name: str, comment: str, *wraps: Wrap, keks: Optional[Sequence[Wrap]] = None, **fields: Any) -> None:
        s = fresh("section-good-" + name, **{"kind": 0x11, "wraps": wraps, **fields})
        keks = wraps[:1] if keks is None else keks
        vec("section-good-" + name, comment, "6.1", "success", s, keks=keks, answers=unwraps(s, *keks))

    fine("shortest", "one entry with the shortest fields, wraps_len 45", Wrap(kek=b"k", blob=b"b"))
    longest = tuple(Wrap(1 + i // 4, bytes([0x61 + i]) * 512, bytes([0x30 + i]) * 255, bytes([0x80 + i]) * 1024) for i in range(8))
    fine("longest", "eight entries with the longest fields, wraps_len 14413; the last is the opener's", *longest, keks=longest[7:])
    eight = tuple(Wrap(kek=b"kek-%d" % i, blob=b"%d" % i * 16) for i in range(8))
    fine("eight", "eight entries; the fifth is the opener's", *eight, keks=eight[4:5])
    fine("order-value", "KEK ids ordered by value: aa, b", Wrap(kek=b"aa"), Wrap(kek=b"b"))
    fine("order-unsigned", "KEK ids ordered as unsigned bytes: 01, ff", Wrap(kek=b"\x01"), Wrap(kek=b"\xff"))
    fine("order-version", "KEK versions ordered as bytes: empty, 10, 9", Wrap(blob=b"\x01"), Wrap(kek_version=b"10", blob=b"\x02"), Wrap(kek_version=b"9", blob=b"\x03"),
         keks=(Wrap(blob=b"\x01"), Wrap(kek_version=b"10", blob=b"\x02"), Wrap(kek_version=b"9", blob=b"\x03")))
    fine("generation-max", "generation 2^32 - 1", WRAP_1, generation=2**32 - 1)
    fine("binary-kek", "KEK id and version are opaque bytes", Wrap(kek=b"\x00\xff\n", kek_version=b"\x1b[2J"))
    for backend in (2, 3, 4, 5, 6, 128, 255):
        fine(f"backend-{backend}", f"backend {backend}", Wrap(backend=backend, kek=b"kek"))
    fine("stream-eight", "a self-contained stream with eight entries", *eight, keks=eight[7:], kind=0x12, plaintext=b"hello")
    fine("suite-2", "a self-contained stream in suite 2 whose first entry is another's", *eight[:2], keks=eight[1:2], kind=0x12, suite=2, plaintext=b"hello")


# ---------------------------------------------------------------- keys


def keys() -> None:
    """§4.3 and 8.1 steps 4 and 5: which DEK opens, and the check that it is the one that was named."""
    s = fresh("keys", plaintext=counting(0, 40))
    other, own = hashed("another dek", 32), fresh("keys-own", kind=0x11)
    vec("key-none", "no DEK at hand", "8.1 step 4", "unknown key", s, deks=[])
    vec("key-other", "another DEK of the same version at hand", "8.1 step 4", "unknown key", s,
        deks=[(1, key_id_of(other, 1, SCOPE), other)])
    vec("key-other-version", "the right DEK at hand, but as version 2", "8.1 step 4", "unknown key", s,
        deks=[(2, key_id_of(DEK, 2, SCOPE), DEK)])
    vec("key-id-right-version-wrong", "the store has the key id of the header under another version only", "8.1 step 4", "unknown key", s,
        deks=[(2, s.key_id, DEK)])
    for kind in (1, 2):
        t = fresh(f"key-store-lies-{kind}", kind=kind, plaintext=counting(0, 40))
        vec(f"key-store-lies-{KINDS[kind]}", "the store returns another DEK for version and key id", "4.3, 8.1 step 5", "unknown key", t,
            deks=[(1, t.key_id, other)])
    changed = put(s.env, 11, 2)
    vec("key-version-recomputed", "version 1 changed to 2, and the store knows the key id under both: the header's version enters the key id",
        "4.3, 8.1 step 5", "unknown key", s, changed, deks=[(1, s.key_id, DEK), (2, s.key_id, DEK)])
    t = s.but(scope=SCOPE[:1])
    vec("key-scope-recomputed", "sealed for another scope; the store returns the DEK all the same: the caller's scope enters the key id",
        "4.3, 8.1 step 5", "unknown key", t, scope=SCOPE)
    moved = s.header[:12] + key_id_of(other, 1, SCOPE) + s.env[44:]
    vec("key-id-replaced", "key id replaced by that of another DEK of the scope, which is at hand", "5.1", "authentication error", s, moved,
        deks=[(1, s.key_id, DEK), (1, key_id_of(other, 1, SCOPE), other)])
    t = s.but(dek=other)
    vec("key-no-second", "the DEK named fails; another DEK at hand would open the payload and is not tried", "8.1", "authentication error", s,
        s.env[:44] + t.env[44:], deks=[(1, s.key_id, DEK), (1, t.key_id, other)])
    vec("key-no-second-suite", "header says suite 1, payload sealed in suite 2; both accepted, suite 2 is not tried", "8.1", "authentication error",
        s, s.header + s.but(suite=2).payload, suites="1 2")
    seal_1, seal_2 = s.keys["seal-key"], s.but(suite=2).keys["seal-key"]
    assert seal_1 != seal_2
    crossed = s.header + aead(1, cmac(seal_2, s.keys["m1"]) + cmac(seal_2, s.keys["m2"]), s.keys["nx"], s.plaintext, s.keys["aad"])
    vec("key-seal-key-suite", "AES-256-GCM under the seal key of suite 2: the suite enters the seal key", "4.2", "authentication error", s, crossed)
    bare = s.header + AESGCM(s.keys["kx"]).encrypt(s.keys["nx"], s.plaintext, s.keys["aad"][:44])
    vec("aad-no-record", "sealed without the record context in the AAD", "5.1", "authentication error", s, bare)
    long_aad = s.header + AESGCM(s.keys["kx"]).encrypt(s.keys["nx"], s.plaintext, s.header + ctx(s.record))
    vec("aad-with-nonce", "sealed with all 68 bytes of the header in the AAD", "5.1", "authentication error", s, long_aad)
    aad = own.header[:44] + ctx(own.record)
    with_wraps = own.head + AESGCM(own.keys["kx"]).encrypt(own.nonce[12:], own.plaintext, own.head + aad)
    vec("aad-with-wraps", "self-contained: sealed with the wraps section in the AAD", "5.1", "authentication error", own, with_wraps)


def keks() -> None:
    """§6.4: the choice of an entry."""
    def good(name: str, comment: str, s: Sealed, **kw: Any) -> None:
        vec("kek-good-" + name, comment, "6.4", "success", s, **kw)

    a, b = Wrap(kek=b"a", blob=b"\xa1" * 16), Wrap(kek=b"b", blob=b"\xb1" * 16)
    v1, v2 = Wrap(kek=b"a", kek_version=b"1", blob=b"\xa1" * 16), Wrap(kek=b"a", kek_version=b"2", blob=b"\xa2" * 16)
    foreign = Wrap(backend=200, kek=b"someone else's", blob=b"\xcc" * 8)
    two = fresh("kek-two", kind=0x11, wraps=(a, b))
    lone = two.but(wraps=(a,))
    both = fresh("kek-versions", kind=0x11, wraps=(v1, v2))

    def refuses(name: str, comment: str, expect: str, s: Sealed = lone, env: Optional[bytes] = None, **kw: Any) -> None:
        vec("kek-" + name, comment, "6.4", expect, s, env, **kw)

    def untouched(*wraps: Wrap) -> list[tuple[str, str]]:
        return [("must-not-unwrap", hexa(w.blob)) for w in wraps]

    s = fresh("kek-unknown-backend", kind=0x11, wraps=(a, foreign))
    good("unknown-backend", "an entry of the unknown backend 200 is passed over", s)
    s = fresh("kek-reserved-backend", kind=0x11, wraps=(a, Wrap(backend=7, kek=b"x"), Wrap(backend=127, kek=b"y")))
    good("reserved-backend", "entries of reserved backends are passed over", s)
    s = fresh("kek-unknown-first", kind=0x11, wraps=(Wrap(backend=1, kek=b"unheard of"), Wrap(backend=9, kek=b"a"), Wrap(backend=128, kek=b"mine")))
    good("unknown-first", "the opener's entry is the last of three, in a private backend", s, keks=s.wraps[2:], answers=unwraps(s, s.wraps[2]))
    good("second", "the second entry is the opener's; the first one's blob is not touched", two, keks=(b,), answers=unwraps(two, b), extra=untouched(a))
    good("both", "both entries are the opener's", two, keks=(a, b), answers=unwraps(two, a, b))
    good("not-in-envelope", "the opener's list names a KEK that the envelope does not", two, keks=(Wrap(kek=b"0"), b), answers=unwraps(two, b))
    good("context-not-bound", "a KEK that binds no KMS context", lone, answers=unwraps(lone, bound=False))
    good("next-after-refusal", "the first entry's KEK refuses the blob, the second opens", two, keks=(a, b), answers=unwraps(two, b),
         extra=[("also-conforming", "kms error")])
    good("next-after-outage", "the first entry's KEK is unavailable, the second opens", two, keks=(a, b), answers=unwraps(two, b),
         extra=[("unavailable", "1 61"), ("also-conforming", "kms error")])
    good("next-version", "two entries of one KEK: the blob of version 1 is refused, that of version 2 unwraps", both, keks=(v1,), answers=unwraps(both, v2),
         extra=[("also-conforming", "kms error")])

    refuses("none", "the opener has no KEK", "unknown key", keks=(), answers=(), extra=untouched(a))
    refuses("other-id", "the opener has another KEK of the same backend, which could unwrap the blob", "unknown key", keks=(b,),
            answers=unwraps(lone, Wrap(kek=b"b", blob=a.blob)), extra=untouched(a))
    refuses("other-backend", "the same KEK id in another backend, which could unwrap the blob", "unknown key", keks=(Wrap(backend=2, kek=b"a"),),
            answers=unwraps(lone, Wrap(backend=2, kek=b"a", blob=a.blob)), extra=untouched(a))
    refuses("prefix", "the opener's KEK id is an extension of the entry's", "unknown key", keks=(Wrap(kek=b"ab"),),
            answers=unwraps(lone, Wrap(kek=b"ab", blob=a.blob)), extra=untouched(a))
    refuses("case", "the opener's KEK id differs in case", "unknown key", keks=(Wrap(kek=b"A"),),
            answers=unwraps(lone, Wrap(kek=b"A", blob=a.blob)), extra=untouched(a))
    s = fresh("kek-only-unknown-backend", kind=0x11, wraps=(foreign,))
    refuses("only-unknown-backend", "only an entry of an unknown backend", "unknown key", s, keks=(a,), answers=())
    refuses("refused", "the KEK refuses the blob", "kms error", answers=(), extra=[("kms-failure", "refused")])
    refuses("unavailable", "the KEK is unavailable", "kms error", answers=(), extra=[("unavailable", "1 61"), ("kms-failure", "unavailable")])
    refuses("all-refused", "both entries tried, both refused", "kms error", two, keks=(a, b), answers=(), extra=[("kms-failure", "refused")])
    refuses("all-versions-refused", "two entries of one KEK, both refused", "kms error", both, keks=(v1,), answers=(), extra=[("kms-failure", "refused")])
    refuses("last-refused", "the first KEK is unavailable, the second refuses: the last failure is reported", "kms error", two, keks=(a, b), answers=(),
            extra=[("unavailable", "1 61"), ("kms-failure", "refused")])
    refuses("last-unavailable", "the first KEK refuses, the second is unavailable: the last failure is reported", "kms error", two, keks=(a, b),
            answers=(), extra=[("unavailable", "1 62"), ("kms-failure", "unavailable")])
    wrong = SCOPE[:1]
    refuses("wrong-scope-bound", "wrong scope: a KEK that binds the KMS context refuses", "kms error", scope=wrong, extra=[("kms-failure", "refused")])
    refuses("wrong-scope-unbound", "wrong scope: a KEK that binds nothing unwraps, the key id does not fit", "unknown key", scope=wrong,
            answers=unwraps(lone, bound=False))
    for length in (0, 31, 33):
        dek = (lone.dek + lone.dek)[:length]
        refuses(f"dek-{length}", f"the unwrapped DEK has {length} bytes", "unknown key", answers=[Unwraps(a, dek, kms_ctx(SCOPE, 0))])
    s = fresh("kek-dek-33-zero", kind=0x11, wraps=(a,))
    refuses("dek-33-zero", "the unwrapped DEK has a zero byte more, which HMAC ignores: the key id fits, the length does not", "unknown key", s,
            answers=[Unwraps(a, s.dek + b"\0", kms_ctx(SCOPE, 0))])
    s = fresh("kek-dek-31-zero", kind=0x11, wraps=(a,), dek=hashed("dek ending in zero", 31) + b"\0")
    refuses("dek-31-zero", "the unwrapped DEK lacks its last byte, a zero, which HMAC adds: the key id fits, the length does not", "unknown key", s,
            answers=[Unwraps(a, s.dek[:31], kms_ctx(SCOPE, 0))])
    other = hashed("kek other dek", 32)
    context = kms_ctx(SCOPE, 0)
    refuses("wrong-dek", "the unwrapped DEK has another key id", "unknown key", answers=[Unwraps(a, other, context)])
    refuses("wrong-dek-no-second", "the unwrapped DEK has another key id; the second entry, which would open, is not tried", "unknown key", two,
            keks=(a, b), answers=[Unwraps(a, other, context), *unwraps(two, b)], extra=untouched(b))
    refuses("wrong-dek-no-second-version", "the same with two entries of one KEK", "unknown key", both,
            keks=(v1,), answers=[Unwraps(v1, other, context), *unwraps(both, v2)], extra=untouched(v2))
    refuses("short-dek-no-second", "the unwrapped DEK has 31 bytes; the second entry, which would open, is not tried", "unknown key", two,
            keks=(a, b), answers=[Unwraps(a, two.dek[:31], context), *unwraps(two, b)], extra=untouched(b))
    refuses("mac-no-second", "the MAC fails under the DEK of the first entry; the second is not tried", "authentication error", two,
            flip(two.env, len(two.head) - 1), keks=(a, b), answers=unwraps(two, a, b), extra=untouched(b))
    s = fresh("kek-version-context", kind=0x11, wraps=(a,))
    refuses("context-version", "the KEK wrapped under bulla-dek-version 1 instead of 0", "kms error", s,
            answers=[Unwraps(a, s.dek, kms_ctx(SCOPE, 1))], extra=[("kms-failure", "refused")])

    # §6.3, 11: parts of two envelopes
    t = fresh("kek-splice", kind=0x11, wraps=(Wrap(kek=b"a", blob=b"\xd1" * 16),), plaintext=b"the other one")
    kw: dict[str, Any] = {"answers": [*unwraps(lone, a), *unwraps(t, t.wraps[0])], "keks": (a,)}
    def splice(name: str, comment: str, expect: str, env: bytes) -> None:
        vec("splice-own-" + name, comment, "6.3, 11", expect, lone, env, **kw)

    splice("wraps", "wraps section of another envelope for the same KEK", "unknown key", lone.header + t.head[68:] + lone.payload)
    splice("payload", "payload of another envelope", "authentication error", lone.head + t.payload)
    splice("header", "header of one, wraps and payload of the other", "unknown key", lone.header + t.head[68:] + t.payload)
    later = lone.but(generation=1, wraps=(a, b))
    splice("mac", "wraps of an earlier generation under the MAC of the later", "authentication error", lone.head[:-32] + later.head[-32:] + lone.payload)
    splice("add", "an entry added without the DEK", "authentication error",
           lone.header + struct.pack(">HIB", 37 + len(a.encode()) + len(b.encode()), 0, 2) + a.encode() + b.encode() + lone.head[-32:] + lone.payload)
    splice("remove", "an entry removed without the DEK", "authentication error",
           later.header + struct.pack(">HIB", 37 + len(a.encode()), 1, 1) + a.encode() + later.head[-32:] + later.payload)
    vec("kek-good-rollback", "an older wraps section put back is genuine: nothing in the envelope can tell", "6.6", "success", lone,
        lone.head + later.payload)
    vec("kek-good-wrap-added", "generation 1, after a rewrap that added an entry", "6.6", "success", later)
    stripped = B1.header[:4] + b"\x11" + B1.header[5:8] + bytes(4) + key_id_of(DEK, 0, SCOPE) + B1.nonce
    s = B1.but(kind=0x11, version=0, wraps=(a,))
    assert stripped == s.header
    vec("splice-own-lineage", "a referenced payload in a self-contained header with its DEK: version and kind are authenticated", "2.1, 5.1",
        "authentication error", s, s.head + B1.payload)


# ---------------------------------------------------------------- streams


def stream(name: str, length: int, **fields: Any) -> Sealed:
    return fresh(name, kind=fields.pop("kind", 2), plaintext=counting(7, length), **fields)


def streams() -> None:
    """§7.1, 7.2: chunks out of place, and truncation."""

    def bad(s: Sealed, name: str, comment: str, *chunks: bytes, head: Optional[bytes] = None) -> None:
        """`head` and then `chunks` in place of the chunks of `s`."""
        head = s.head + s.keys["commitment"] if head is None else head
        vec(f"stream-s{s.suite}-{name}", f"suite {s.suite}: {comment}", "7.1, 7.2", "authentication error", s, head + b"".join(chunks))

    for suite in (1, 2):
        s = stream("splice-stream", 8292, suite=suite)  # chunks: full, full, 100 bytes
        t = stream("splice-stream-other", 8292, suite=suite)  # the same DEK and context, another salt
        c0, _, c2 = s.chunks
        bad(s, "foreign-chunk", "chunk 1 of another stream under the same DEK", c0, t.chunk(1), c2)
    s = stream("splice-stream", 8292)
    c0, c1, c2 = s.chunks
    bad(s, "reorder", "chunks 0 and 1 exchanged", c1, c0, c2)
    bad(s, "duplicate", "chunk 0 twice, for chunk 1", c0, c0, c2)
    bad(s, "drop-inner", "chunk 1 missing", c0, c2)
    bad(s, "cut-after-full-chunks", "cut after two full chunks", c0, c1)

    for suite in (1, 2):
        s = stream("splice-short", 4196, suite=suite)  # chunks: full, 100 bytes
        bad(s, "drop-last", "cut between two chunks: only the missing short chunk shows it", s.chunk(0))
    s, t, u = stream("splice-short", 4196), stream("splice-short-other", 4196), stream("splice-tiny", 100)
    (c0, c1), (d0, d1) = s.chunks, t.chunks
    bad(s, "drop-first", "chunk 0 missing", c1)
    bad(s, "last-first", "the short chunk comes first", c1, c0)
    bad(s, "foreign-first", "chunk 0 of another stream", d0, c1)
    bad(s, "foreign-last", "last chunk of another stream", c0, d1)
    bad(u, "appended-empty", "a stream with an empty chunk after the short one", u.chunk(0), u.chunk(1, b""))
    bad(u, "appended-full", "a stream with a full chunk after the short one", u.chunk(0), u.chunk(1, bytes(4096)))
    bad(u, "appended-byte", "one byte after the end", u.chunk(0), b"\0")
    bad(u, "drop-all", "the commitment and no chunk", b"")
    v = stream("splice-tiny-other", 100)
    bad(u, "foreign-chunks", "all chunks of another stream behind this one's commitment", v.chunk(0))
    bad(u, "foreign-payload", "commitment and chunks of another stream behind this one's header", v.payload, head=u.head)
    bad(u, "foreign-header", "header of another stream before this one's payload", u.payload, head=v.head)
    bad(u, "second-stream", "the stream a second time after its end", u.env, u.env, head=b"")
    for missing in (1, 84, 100, 101):
        bad(u, f"cut-{missing}", f"the last {missing} bytes missing", u.env[:-missing], head=b"")
    for missing in (1, 116):
        bad(s, f"long-cut-{missing}", f"two chunks, the last {missing} bytes missing", s.env[:-missing], head=b"")
    bad(s, "cut-in-chunk-0", "cut within chunk 0", c0[:100])
    bad(s, "cut-15", "15 bytes of chunk 0", c0[:15])
    bad(s, "cut-16", "16 bytes of chunk 0", c0[:16])
    key, nonce = s.keys["chunk-key"], s.keys["base-nonce"]
    bad(s, "index-restart", "chunk 1 sealed under the nonce of chunk 0", c0, aead(1, key, nonce, s.plaintext[4096:], b""))
    little = nonce[:8] + struct.pack("<I", struct.unpack("<I", nonce[8:])[0] ^ 1)
    bad(s, "index-little-endian", "chunk 1 sealed under the index in little-endian", c0, aead(1, key, little, s.plaintext[4096:], b""))
    w = next(x for x in (stream(f"splice-odd-{i}", 4196) for i in range(99)) if x.keys["base-nonce"][11] & 1)
    added = w.keys["base-nonce"][:8] + struct.pack(">I", (struct.unpack(">I", w.keys["base-nonce"][8:])[0] + 1) % 2**32)
    bad(w, "index-added", "chunk 1 sealed under base nonce plus 1 instead of exclusive-or", w.chunk(0), aead(1, w.keys["chunk-key"], added, w.plaintext[4096:], b""))
    bad(u, "aad", "chunk 0 sealed with the header as associated data", aead(1, u.keys["chunk-key"], u.chunk_nonce(0), u.plaintext, u.header))
    bad(u, "direct-key", "chunk 0 sealed under the stream key", aead(1, u.keys["stream-key"], u.chunk_nonce(0), u.plaintext, b""))
    e = stream("stream-4096", 4096)
    bad(e, "4096-cut", "4096 bytes without the empty chunk that closes them", e.env[:-16], head=b"")
    bad(e, "4096-cut-1", "4096 bytes, one byte of the empty chunk missing", e.env[:-1], head=b"")
    bad(e, "4096-extra", "4096 bytes, closed by an empty chunk, and one more empty chunk", e.env, e.chunk(2, b""), head=b"")
    e = stream("stream-empty", 0)
    bad(e, "empty-cut", "an empty stream without its one chunk", b"")
    bad(e, "empty-cut-1", "an empty stream, last byte missing", e.env[:-1], head=b"")
    bad(e, "empty-extra", "an empty stream and one more empty chunk", e.env, e.chunk(1, b""), head=b"")
    o = stream("stream-own", 4196, kind=0x12)
    vec("stream-own-cut", "self-contained: cut between two chunks", "7.2", "authentication error", o, o.env[:-116])
    o = stream("stream-own-tiny", 10, kind=0x12)
    vec("stream-own-cut-1", "self-contained: the last byte missing", "7.2", "authentication error", o, o.env[:-1])
    vec("stream-own-no-chunk", "self-contained: the commitment and no chunk", "7.2", "authentication error", o, o.env[:len(o.head) + 32])
    # a commitment that the chunk key does not go with: every chunk would open
    t = u.but(record=((b"row", b"other"),))
    vec("stream-commitment", "the commitment belongs to another record context, the chunk would open", "7.2, 8.1 step 7", "authentication error", u,
        u.head + t.keys["commitment"] + u.chunk(0))


def ranges() -> None:
    """§7.3. Unless another stream is given, it has 4196 bytes: the full chunk 0 and 100 bytes in chunk 1."""
    s, wide, tiny = stream("range", 4196), stream("range-wide", 8292), stream("range-tiny", 100)
    start = [100 + i * 4112 for i in range(4)]

    def rng(name: str, comment: str, a: int, b: int, expect: str = "success", env: Optional[bytes] = None, of: Sealed = s, **kw: Any) -> None:
        vec("range-" + name, comment, "7.3", expect, of, env, op=f"range {a} {b}", plaintext=of.plaintext[a:b], **kw)

    def end(name: str, comment: str, op: str, expect: str = "success", env: Optional[bytes] = None, result: bytes = b"", of: Sealed = s) -> None:
        extra = [("length", str(len(of.plaintext)))] if op == "length" and expect == "success" else []
        vec(name, comment, "7.3", expect, of, env, op=op, plaintext=result, extra=extra)

    rng("inner", "within chunk 0", 10, 20)
    rng("across", "across chunks 0 and 1", 4090, 4100)
    rng("one-byte-before", "the last byte of chunk 0", 4095, 4096)
    rng("first-of-last", "the first byte of chunk 1", 4096, 4097)
    rng("last", "the last byte", 4195, 4196)
    rng("tail", "exactly the last chunk, up to the end", 4096, 4196)
    rng("three", "across all of three chunks", 4095, 8193, of=wide)
    rng("all", "the whole plaintext", 0, 4196)
    rng("chunk", "exactly chunk 1 of three", 4096, 8192, of=wide)
    rng("empty-start", "empty, at 0", 0, 0, of=tiny)
    rng("empty-inner", "empty, within chunk 0", 50, 50)
    rng("empty-boundary", "empty, between chunks 0 and 1", 4096, 4096)
    rng("empty-end", "empty, at the end", 4196, 4196)
    for name, a, b in (("by-one", 0, 101), ("at-end", 100, 101), ("empty", 101, 101), ("full-chunk", 0, 4096), ("far", 50, 10**12), ("far-empty", 10**12, 10**12),
                       ("max", 0, 2**64 - 1), ("max-empty", 2**64 - 1, 2**64 - 1)):
        rng("beyond-" + name, f"100 bytes; {a}..{b} is beyond the end", a, b, "out of range", of=tiny)
    rng("beyond-second", "4196 bytes; 4000..4197 is beyond the end", 4000, 4197, "out of range")
    cut = s.env[:start[1]]  # chunk 1 missing
    rng("cut-earlier", "the tail is missing (r = 0), the range lies before it", 10, 20, env=cut)
    rng("cut-all-before", "the tail is missing, the range is all of the full chunk", 0, 4096, env=cut)
    rng("cut-empty-before", "the tail is missing, an empty range in chunk 0", 4095, 4095, env=cut)
    rng("cut-empty-at", "the tail is missing, an empty range at the cut", 4096, 4096, "authentication error", cut)
    rng("cut-in", "the tail is missing, the range lies in it", 4096, 4100, "authentication error", cut)
    rng("cut-across", "the tail is missing, the range reaches into it", 4000, 4100, "authentication error", cut)
    rng("cut-beyond", "the tail is missing, the range is beyond the true end", 5000, 6000, "authentication error", cut)
    frag = s.env[:start[1] + 15]
    rng("fragment-earlier", "15 bytes of chunk 1 left (r < 16), the range lies before it", 0, 4096, env=frag)
    rng("fragment-in", "15 bytes of chunk 1 left, the range lies in it", 4096, 4097, "authentication error", frag)
    rng("fragment-empty", "15 bytes of chunk 1 left, an empty range at its beginning", 4096, 4096, "authentication error", frag)
    short = s.env[:start[1] + 50]
    rng("short-earlier", "50 bytes of chunk 1 left (r >= 16), the range lies before it", 0, 4096, env=short)
    rng("short-in", "50 bytes of chunk 1 left, the range lies in them", 4096, 4104, "authentication error", short)
    rng("short-empty-end", "50 bytes of chunk 1 left, an empty range at the computed end", 4130, 4130, "authentication error", short)
    rng("short-beyond", "50 bytes of chunk 1 left, the range ends beyond the computed end", 4096, 4196, "authentication error", short)
    rng("inner-cut-beyond", "three chunks, cut within chunk 1, the range lies in the missing chunk 2", 8192, 8292, "authentication error",
        wide.env[:start[1] + 100], of=wide)
    rng("no-chunk", "the commitment and no chunk, an empty range at 0", 0, 0, "authentication error", s.env[:100])
    rng("no-chunk-beyond", "the commitment and no chunk, one byte", 0, 1, "authentication error", s.env[:100])
    bad0, bad1 = flip(s.env, start[0] + 5), flip(s.env, start[1] + 5)
    rng("corrupt-0-needed", "chunk 0 corrupted, the range needs it", 100, 110, "authentication error", bad0)
    rng("corrupt-0-across", "chunk 0 corrupted, the range crosses into chunk 1", 4090, 4100, "authentication error", bad0)
    rng("corrupt-0-empty", "chunk 0 corrupted, an empty range in it", 2000, 2000, "authentication error", bad0)
    rng("corrupt-0-not-needed", "chunk 0 corrupted, the range lies in chunk 1", 4096, 4106, env=bad0)
    rng("corrupt-0-beyond", "chunk 0 corrupted, the range begins there and ends beyond the end: chunk m alone is needed", 0, 9000, "out of range", bad0)
    rng("corrupt-1-needed", "the last chunk corrupted, the range needs it", 4150, 4160, "authentication error", bad1)
    rng("corrupt-1-not-needed", "the last chunk corrupted, the range ends where it begins", 0, 4096, env=bad1)
    rng("corrupt-1-beyond", "the last chunk corrupted, the range ends beyond the end", 0, 4197, "authentication error", bad1)
    rng("corrupt-1-empty-end", "the last chunk corrupted, an empty range at the end", 4196, 4196, "authentication error", bad1)
    rng("corrupt-middle-across", "three chunks, chunk 1 corrupted, the range crosses it", 4000, 8200, "authentication error", flip(wide.env, start[1] + 9), of=wide)
    rng("corrupt-middle-not-needed", "three chunks, chunk 1 corrupted, the range is the last chunk", 8192, 8292, env=flip(wide.env, start[1]), of=wide)
    rng("commitment", "commitment corrupted", 0, 10, "authentication error", flip(tiny.env, 68), of=tiny)
    rng("commitment-beyond", "commitment corrupted, the range is beyond the end", 9000, 9000, "authentication error", flip(tiny.env, 99), of=tiny)
    almost = stream("range-almost", 8190)
    longer = almost.env + bytes(5)
    rng("longer-earlier", "5 bytes added, chunk 1 counts as a full one: the range lies in chunk 0", 0, 4096, env=longer, of=almost, values=almost.values(3))
    rng("longer-in", "5 bytes added, chunk 1 counts as a full one and does not open", 4096, 4097, "authentication error", longer, of=almost)
    rng("longer-beyond", "1 byte added, the range is that byte", 4196, 4197, "authentication error", s.env + b"\0")
    swapped = wide.env[:100] + wide.env[start[1]:start[2]] + wide.env[100:start[1]] + wide.env[start[2]:]
    rng("swapped", "chunks 0 and 1 exchanged", 0, 10, "authentication error", swapped, of=wide)
    e = stream("range-4096", 4096)
    rng("multiple-all", "4096 bytes: the whole plaintext", 0, 4096, of=e)
    rng("multiple-empty-end", "4096 bytes: an empty range at the end opens the empty chunk", 4096, 4096, of=e)
    rng("multiple-empty-end-corrupt", "4096 bytes: an empty range at the end, the empty chunk corrupted", 4096, 4096, "authentication error", flip(e.env, -1), of=e)
    rng("multiple-all-corrupt", "4096 bytes: the whole plaintext needs no empty chunk", 0, 4096, env=flip(e.env, -1), of=e)
    rng("multiple-beyond", "4096 bytes: one byte more", 4000, 4097, "out of range", of=e)
    n = stream("range-empty", 0)
    rng("of-empty", "an empty stream, an empty range", 0, 0, of=n)
    rng("of-empty-beyond", "an empty stream, one byte", 0, 1, "out of range", of=n)
    rng("of-empty-cut", "an empty stream without its chunk, one byte", 0, 1, "authentication error", n.env[:-16], of=n)
    for kind, suite in ((2, 2), (0x12, 1)):
        t, v = (stream(f"range-{kind}-{suite}-{length}", length, kind=kind, suite=suite) for length in (4196, 100))
        rng(f"{KINDS[kind]}-s{suite}", f"kind {kind:02x}, suite {suite}: across chunks 0 and 1", 4000, 4150, of=t)
        rng(f"{KINDS[kind]}-s{suite}-beyond", f"kind {kind:02x}, suite {suite}: beyond the end", 50, 101, "out of range", of=v)
    rng("unknown-key", "within the plaintext, and the DEK is not at hand", 10, 11, "unknown key", of=tiny, deks=[])
    rng("record", "within the plaintext, another record context", 10, 11, "authentication error", of=tiny, record=())

    end("length-good", "the length of the plaintext, after chunk m has been opened", "length", of=tiny)
    end("length-empty", "the length of an empty stream", "length", of=n)
    end("length-multiple", "the length of a stream of one full chunk", "length", of=e)
    end("length-corrupt-0", "chunk 0 corrupted: the length needs chunk m alone", "length", env=bad0)
    end("length-corrupt-1", "chunk m corrupted: no length is given", "length", "authentication error", bad1)
    end("length-cut", "the tail is missing: no length is given", "length", "authentication error", cut)
    end("length-longer", "a byte added: no length is given", "length", "authentication error", tiny.env + b"\0", of=tiny)
    end("length-commitment", "commitment corrupted: no length is given", "length", "authentication error", flip(tiny.env, 70), of=tiny)
    end("tail-good", "the last 10 bytes", "tail 10", result=s.plaintext[-10:])
    end("tail-0", "the last 0 bytes", "tail 0", of=tiny)
    end("tail-across", "the last 200 bytes, across two chunks", "tail 200", result=s.plaintext[-200:])
    end("tail-multiple", "the last 10 bytes of 4096, none of them in chunk m", "tail 10", result=e.plaintext[-10:], of=e)
    end("tail-cut", "the tail is missing: a position relative to the end is not known", "tail 10", "authentication error", cut)
    end("tail-multiple-corrupt", "the last 10 bytes of 4096: chunk m is opened first, and corrupted", "tail 10", "authentication error", flip(e.env, -1), of=e)

    # sparse envelopes: one chunk far into a stream
    for index in (256, 65536, 2**31, 2**32 - 2):
        t = stream("range-far", 0, log2=12)
        data = counting(index % 251, 4096)
        at = 100 + index * 4112
        head = t.head + t.keys["commitment"]
        vec(f"range-far-{index}", f"a range in chunk {index} of a longer stream", "7.1, 7.3", "success", t, head + t.chunk(index, data),
            op=f"range {index * 4096 + 100} {index * 4096 + 120}", plaintext=data[100:120],
            extra=[("hole", f"100 {at - 100}"), ("hole", f"{at + 4112} 100")], values=t.values(index + 2))
    t = stream("range-far-end", 0, log2=12)
    index, data = 2**32 - 1, counting(3, 4095)
    head, at = t.head + t.keys["commitment"], 100 + index * 4112
    for name, a, b, expect in (("", 2**44 - 21, 2**44 - 1, "success"), ("-beyond", 0, 2**44, "out of range")):
        vec(f"range-far-end{name}", "the longest stream with chunk_log2 12, 2^44 - 1 bytes: " + ("beyond its end" if name else "its last bytes"), "7.1, 7.3, 10",
            expect, t, head + t.chunk(index, data), op=f"range {a} {b}", plaintext=data[-20:], extra=[("hole", f"100 {at - 100}")],
            values=t.values(index + 1))


def limits() -> None:
    """§2.5 step 9 and §10: lengths that no file here could hold. `hole` leaves out the zeros."""
    def parse(name: str, comment: str, expect: str, s: Sealed, env: bytes, hole: int) -> None:
        vec("limit-" + name, comment, "2.5 step 9, 10", expect, s, env, op="parse", extra=[("hole", f"{len(env)} {hole}")])

    s, own = fresh("limit"), fresh("limit-own", kind=0x11)
    parse("one-shot", "a one-shot payload of 2^30 + 16 bytes parses", "success", s, s.head, 2**30 + 16)
    parse("one-shot-over", "a one-shot payload of 2^30 + 17 bytes", "malformed", s, s.head, 2**30 + 17)
    parse("own-one-shot", "self-contained: a payload of 2^30 + 16 bytes parses", "success", own, own.head, 2**30 + 16)
    parse("own-one-shot-over", "self-contained: a payload of 2^30 + 17 bytes", "malformed", own, own.head, 2**30 + 17)
    for kind in (2, 0x12):
        t = fresh(f"limit-stream-{kind}", kind=kind)
        name, full = KINDS[kind], 2**32 * 4112
        parse(f"{name}-12", "chunk_log2 12: 2^32 chunks, 2^44 - 1 bytes, parse", "success", t, t.head, 32 + full - 1)
        parse(f"{name}-12-fragment", "chunk_log2 12: 2^32 full chunks and 15 bytes, truncated, count as 2^32 chunks and 2^44 bytes", "success", t, t.head, 32 + full + 15)
        parse(f"{name}-12-over", "chunk_log2 12: 2^32 + 1 chunks, the last one empty", "malformed", t, t.head, 32 + full + 16)
        t = t.but(log2=13)
        full = 2**31 * 8208
        parse(f"{name}-13", "chunk_log2 13: 2^31 full chunks and an empty one, 2^44 bytes, parse", "success", t, t.head, 32 + full + 16)
        parse(f"{name}-13-over", "chunk_log2 13: one byte more than 2^44", "malformed", t, t.head, 32 + full + 17)
        t = t.but(log2=22)
        full = 2**22 * (2**22 + 16)
        parse(f"{name}-22", "chunk_log2 22: 2^22 full chunks and an empty one, 2^44 bytes, parse", "success", t, t.head, 32 + full + 16)
        parse(f"{name}-22-over", "chunk_log2 22: one byte more than 2^44", "malformed", t, t.head, 32 + full + 17)


# ---------------------------------------------------------------- order of checks


def order() -> None:
    """§8.1 and 2.5: two defects each; the earlier check is reported."""
    s, t, own = fresh("order", plaintext=counting(0, 40)), fresh("order-stream", kind=2, plaintext=b"hello"), fresh("order-own", kind=0x11)
    bad = ((b"", b""),)

    def two(name: str, comment: str, section: str, expect: str, of: Sealed, env: Optional[bytes] = None, **kw: Any) -> None:
        vec("order-" + name, "two defects: " + comment, section, expect, of, env, **kw)

    two("context-malformed", "a forbidden record context, and no envelope at all", "8.1", "context error", s, b"", record=bad)
    two("context-unsupported", "a forbidden scope context, and suite 3", "8.1", "context error", s, put(s.env, 5, 3), scope=bad)
    two("context-not-accepted", "a forbidden record context, and a codec not asked for", "8.1", "context error", s, record=bad, codec="1")
    two("context-unknown", "a forbidden record context, and no DEK", "8.1", "context error", s, record=bad, deks=[])
    two("short-version", "67 bytes, and format version 2", "2.5", "malformed", s, put(s.env, 3, 2)[:67])
    two("magic-version", "wrong magic, and format version 2", "2.5", "malformed", s, put(s.env, 0, 0x62, 0x75, 0x6C, 2))
    two("version-log2", "format version 2, and chunk_log2 12 in kind 01", "2.5", "unsupported", s, put(put(s.env, 3, 2), 7, 12))
    two("version-dek-version", "format version 2, and DEK version 0", "2.5", "unsupported", s, put(put(s.env, 3, 2), 11, 0))
    two("kind-log2", "kind 03, and chunk_log2 1", "2.5", "unsupported", s, put(s.env, 4, 3, 1, 0, 1))
    two("suite-log2", "suite 3, and chunk_log2 1", "2.5", "unsupported", s, put(s.env, 5, 3, 0, 1))
    two("codec-log2", "codec 3, and chunk_log2 1", "2.5", "unsupported", s, put(s.env, 6, 3, 1))
    two("suite-dek-version", "suite 4, and DEK version 0", "2.5", "unsupported", s, put(put(s.env, 5, 4), 11, 0))
    two("codec-dek-version", "codec 127, and DEK version 0", "2.5", "unsupported", s, put(put(s.env, 6, 127), 11, 0))
    two("codec-wraps", "codec 3, and wraps_len 0", "2.5", "unsupported", own, put(put(own.env, 6, 3), 68, 0, 0))
    two("suite-tag", "suite 3, and no room for a tag", "2.5", "unsupported", s, put(s.env, 5, 3)[:70])
    two("unsupported-not-accepted", "suite 3, and a kind not accepted", "8.1", "unsupported", s, put(s.env, 5, 3), kinds="02 11 12")
    two("codec-suite", "codec 3, and suite 2 not accepted", "8.1", "unsupported", s, put(s.env, 5, 2, 3))
    two("malformed-not-accepted", "chunk_log2 1, and codec 1 not asked for", "8.1", "malformed", s, put(s.env, 6, 1, 1))
    two("wraps-not-accepted", "count 0, and a kind not accepted", "8.1", "malformed", own, put(own.env, 74, 0), kinds="01 02 12")
    two("tag-not-accepted", "no room for a tag, and a suite not accepted", "8.1", "malformed", s, put(s.env, 5, 2)[:83])
    two("malformed-unknown", "chunk_log2 1, and no DEK", "8.1", "malformed", s, put(s.env, 7, 1), deks=[])
    two("not-accepted-unknown", "codec 1 not asked for, and no DEK", "8.1", "not accepted", s, put(s.env, 6, 1), deks=[])
    two("kind-unknown", "kind not accepted, and no DEK", "8.1", "not accepted", s, kinds="02", deks=[])
    no_touch = [("must-not-unwrap", own.wraps[0].blob.hex())]
    two("not-accepted-kek", "suite 2 not accepted, and the KEK unavailable", "8.1", "not accepted", own, put(own.env, 5, 2),
        extra=[("unavailable", "1 " + own.wraps[0].kek.hex()), *no_touch])
    two("malformed-kek", "one byte between the entries and the MAC, and the KEK refuses", "8.1", "malformed", own,
        own.but(section=own.entries + b"\0").env, answers=(), extra=no_touch)
    two("unknown-tag", "no DEK, and a wrong tag", "8.1", "unknown key", s, flip(s.env, -1), deks=[])
    two("key-id-tag", "the store returns another DEK, and the tag is wrong", "8.1", "unknown key", s, flip(s.env, -1), deks=[(1, s.key_id, hashed("x", 32))])
    two("scope-record", "another scope and another record context", "8.1", "unknown key", s, scope=(), record=())
    two("key-id-mac", "the unwrapped DEK has another key id, and the MAC is wrong", "8.1", "unknown key", own, flip(own.env, len(own.head) - 1),
        answers=[Unwraps(own.wraps[0], hashed("x", 32))])
    two("kek-mac", "the KEK refuses the blob, and the MAC is wrong", "8.1", "kms error", own, flip(own.env, len(own.head) - 1), answers=(),
        extra=[("kms-failure", "refused")])
    two("key-id-commitment", "key id and commitment wrong", "8.1", "unknown key", t, flip(flip(t.env, 12), 68))
    two("unknown-range", "no DEK, and the range is beyond the end", "8.1", "unknown key", t, op="range 6 7", deks=[])
    two("tag-range", "the last chunk corrupted, and the range is beyond the end", "8.1", "authentication error", t, flip(t.env, -1), op="range 6 7")
    two("commitment-range", "the commitment wrong, and the range is beyond the end", "8.1", "authentication error", t, flip(t.env, 68), op="range 6 7")
    two("not-accepted-range", "suite 2 not accepted, and the range is beyond the end", "8.1", "not accepted", t.but(suite=2), op="range 6 7", suites="1")


# ---------------------------------------------------------------- rewraps


def rewrapped(after: Sealed, wraps: Sequence[Wrap]) -> list[tuple[str, str]]:
    """The header fields of a rewrap and of its result."""
    fields = [("wrap", entry_text(w)) for w in wraps]
    fields += [("unwraps", str(u)) for u in unwraps(after, *wraps)]
    whole = after.env
    return fields + [("rewrapped-head", after.head.hex()), ("rewrapped-sha256", hashlib.sha256(whole).hexdigest())]


def rewraps() -> None:
    """§6.6."""
    a, b, c = Wrap(kek=b"a", blob=b"\xa1" * 16), Wrap(kek=b"b", blob=b"\xb1" * 16), Wrap(4, b"c", b"12", b"\xc1" * 40)
    one = fresh("rewrap", kind=0x11, wraps=(a,), plaintext=counting(0, 40))

    def good(name: str, comment: str, s: Sealed, wraps: Sequence[Wrap]) -> None:
        ordered = tuple(sorted(wraps, key=lambda w: (w.backend, w.kek, w.kek_version)))
        after = s.but(wraps=ordered, generation=s.generation + 1)
        vec("rewrap-" + name, comment, "6.6", "success", s, op="rewrap", codec="any", extra=rewrapped(after, wraps))

    again = Wrap(kek=b"a", kek_version=b"2", blob=b"\xa2" * 24)
    good("same-kek", "the same KEK, a new version of it", one, (again,))
    good("add", "one entry becomes three, given out of order", one, (c, b, again))
    good("replace", "another KEK instead", one, (c,))
    good("stream-s2", "a stream in suite 2", stream("rewrap-stream", 4196, kind=0x12, suite=2, wraps=(a, b)), (c, b))
    good("last-generation", "generation 2^32 - 2 becomes 2^32 - 1", one.but(generation=2**32 - 2), (b,))
    good("eight", "to eight entries", one, tuple(Wrap(kek=b"kek-%d" % (7 - i), blob=b"%d" % i * 16) for i in range(8)))
    good("codec", "a private codec is kept", fresh("rewrap-codec", kind=0x11, codec=129, wraps=(a,)), (b,))

    def bad(name: str, comment: str, expect: str, s: Sealed, env: Optional[bytes] = None, new: Sequence[Wrap] = (b,), dek: Optional[bytes] = None, **kw: Any) -> None:
        extra = [("wrap", entry_text(w)) for w in new]
        extra += [("unwraps", str(Unwraps(w, s.dek if dek is None else dek, kms_ctx(SCOPE, 0)))) for w in new]
        vec("rewrap-bad-" + name, comment, "6.6", expect, s, env, op="rewrap", codec="any", extra=extra, **kw)

    bad("generation", "generation 2^32 - 1 cannot be rewrapped", "refused", one.but(generation=2**32 - 1))
    bad("blob", "the new blob unwraps to another DEK", "refused", one, dek=hashed("x", 32))
    bad("none", "no new wrap", "refused", one, new=())
    bad("nine", "nine new wraps", "refused", one, new=tuple(Wrap(kek=b"kek-%d" % i, blob=b"%d" % i * 16) for i in range(9)))
    bad("twice", "the same backend, KEK id and KEK version twice", "refused", one, new=(b, b))
    bad("mac", "the MAC is wrong", "authentication error", one, flip(one.env, len(one.head) - 1))
    bad("key-id", "the unwrapped DEK has another key id", "unknown key", one, flip(one.env, 12))
    bad("malformed", "one byte between the entries and the MAC", "malformed", one, one.but(section=one.entries + b"\0").env)
    bad("no-kek", "no KEK of the opener in the envelope", "unknown key", one, keks=(c,), answers=())


# ---------------------------------------------------------------- codecs


def varint(value: int) -> bytes:
    """bincode 2, variable-length encoding of an unsigned integer, little-endian."""
    if value < 251:
        return struct.pack("<B", value)
    for tag, code, bits in ((251, "<H", 16), (252, "<I", 32), (253, "<Q", 64)):
        if value < 1 << bits:
            return bytes([tag]) + struct.pack(code, value)
    raise ValueError(value)


def bincode(value: dict[str, Any]) -> bytes:
    """The struct of README.md, in bincode 2 with config::standard()."""
    def text(s: str) -> bytes:
        return varint(len(s.encode())) + s.encode()

    delta = value["delta"]
    zigzag = 2 * delta if delta >= 0 else -2 * delta - 1
    return (varint(value["id"]) + text(value["name"]) + varint(len(value["tags"])) + b"".join(map(text, value["tags"]))
            + bytes([value["flag"]]) + varint(zigzag))


def codecs() -> None:
    """§2.4: the plaintext of a typed value."""
    def sample(**changes: Any) -> dict[str, Any]:
        return {"id": 42, "name": "Ada", "tags": ["a", "bc"], "flag": True, "delta": -7, **changes}

    def compact(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    encoders: tuple[tuple[int, str, Callable[[Any], bytes]], ...] = ((1, "bincode", bincode), (2, "json", lambda v: compact(v).encode()))
    for codec, name, encode in encoders:
        for label, value in (
            ("", sample()), ("empty", sample(id=0, name="", tags=[], flag=False, delta=0)),
            ("250", sample(id=250, delta=125)), ("251", sample(id=251, delta=-126)), ("65535", sample(id=65535, delta=32767)),
            ("65536", sample(id=65536, delta=32768)), ("2-32", sample(id=2**32, delta=-2**31 - 1)), ("u32-max", sample(id=2**32 - 1, delta=-2**31)),
            ("max", sample(id=2**64 - 1, delta=2**63 - 1)), ("min", sample(delta=-2**63)), ("text", sample(name="Žofie 🦉", tags=["x" * 251, "\0"])),
        ):
            full = f"codec-{name}-{label}" if label else f"codec-{name}"
            vec(full, f"codec {codec}: a typed value ({label or 'plain'})", "2.4", "success", fresh(full, codec=codec, plaintext=encode(value)),
                extra=[("value-json", compact(value))])
    own = fresh("codec-bincode-own", kind=0x11, codec=1, plaintext=bincode(sample()))
    vec("codec-bincode-own", "codec 1 in a self-contained envelope", "2.4", "success", own, extra=[("value-json", compact(sample()))])
    own = fresh("codec-json-stream", kind=0x02, codec=2, plaintext=compact(sample()).encode())
    vec("codec-json-stream", "codec 2 in a stream", "2.4", "success", own, extra=[("value-json", compact(sample()))])
    spaced = b' {\n\t"delta": -7, "id": 42, "flag": true,\r\n"tags": ["a", "b\\u0063"], "name": "A\\u0064a" } '
    vec("codec-json-spaced", "codec 2: any JSON text of the value will do, in any order and spacing", "2.4", "success",
        fresh("codec-json-spaced", codec=2, plaintext=spaced), extra=[("value-json", compact(sample()))])
    good_bin, good_json = bincode(sample()), compact(sample()).encode()
    for name, codec, raw, why in (
        ("bincode-trailing", 1, good_bin + b"\0", "a byte after the value"), ("bincode-cut", 1, good_bin[:-1], "the value is cut"),
        ("bincode-nothing", 1, b"", "no value"), ("bincode-bool", 1, good_bin[:-2] + b"\2" + good_bin[-1:], "a boolean of 2"),
        ("bincode-utf8", 1, good_bin.replace(b"Ada", b"A\xffa"), "a string that is not UTF-8"),
        ("json-bom", 2, b"\xef\xbb\xbf" + good_json, "a byte-order mark"), ("json-two", 2, good_json + good_json, "two JSON texts"),
        ("json-nothing", 2, b"", "no JSON text"), ("json-utf16", 2, good_json.decode().encode("utf-16-le"), "not UTF-8"),
    ):
        vec(f"codec-invalid-{name}", f"codec {codec}: opens as bytes; a typed reader reports a decoding error ({why})", "2.4", "success",
            fresh("codec-invalid-" + name, codec=codec, plaintext=raw), extra=[("value-invalid", why)])


# ---------------------------------------------------------------- main


def coverage(names: set[str]) -> list[str]:
    """Names in COVERAGE.md that match no vector, and vectors that no name there matches."""
    text = (HERE / "COVERAGE.md").read_text(encoding="utf-8")
    patterns = set(re.findall(r"`([a-z0-9]+[a-z0-9*-]*)`", text))
    matches = {pattern: set(fnmatch.filter(names, pattern)) for pattern in patterns}
    missing = [f"no vector {pattern}" for pattern, found in sorted(matches.items()) if not found]
    return missing + [f"{name} is not listed" for name in sorted(names - set().union(*matches.values()))]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the test vectors beside this file.")
    parser.add_argument("--check", action="store_true", help="compare with what is on disk instead of writing")
    check = parser.parse_args().check
    for make in (appendix_b, good, contexts, headers, flips, moves, sections, keys, keks, streams, ranges, limits, order, rewraps, codecs):
        make()
    wanted = {name + ".vec": data for name, data in VECTORS.items()}
    found = {path.name: path for path in HERE.glob("*.vec")}
    different = sorted(
        set(found) - set(wanted) | {name for name, data in wanted.items() if name not in found or found[name].read_bytes() != data}
    )
    if check:
        for name in different:
            state = "differs" if name in found else "missing"
            print(f"{name}: {state if name in wanted else 'not made here'}")
    else:
        for name in different:
            if name in wanted:
                (HERE / name).write_bytes(wanted[name])
            else:
                found[name].unlink()
    size = sum(map(len, wanted.values()))
    if check:
        gaps = coverage({name[:-4] for name in wanted})
        different += gaps
        print("".join(f"COVERAGE.md: {line}\n" for line in gaps), end="")
    print(f"{len(wanted)} vectors, {size} bytes, {len(different)} {'different' if check else 'changed'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
