"""Seeds that depend only on what they are for: not on the process, the batch or the order of calls."""

from __future__ import annotations

import hashlib


def stable_seed(*keys: object) -> int:
    """Return a 63-bit seed for these names and numbers, the same in every process (unlike `hash`)."""
    text = "\x1f".join(map(str, keys)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
