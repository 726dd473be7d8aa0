"""Sizes that transfers of weights keep to. Imports nothing, so that an estimate of memory may read them."""

from __future__ import annotations

#: Maximum bytes per bucket.
BUCKET_BYTES = 512 << 20
