"""A short soak; `python -m tests.faults.soak --steps 2000` is the long one."""

from __future__ import annotations

import pytest

from tests.faults.soak import MOST_BYTES_A_STEP, slope, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_nothing_grows(tmp_path):
    rows = soak(200, tmp_path)
    assert [row["step"] for row in rows] == list(range(10, 201, 10))
    later = rows[len(rows) // 2 :]
    assert slope(later, "bytes") <= 4 * MOST_BYTES_A_STEP
    assert slope(later, "files") == 0


def test_a_leak_would_be_seen():
    rows = [{"step": step, "bytes": 1e8 + 5000 * step + (step % 30) * 1e5, "files": 12} for step in range(10, 400, 10)]
    assert slope(rows, "bytes") > MOST_BYTES_A_STEP
