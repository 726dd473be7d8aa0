"""A short soak test; `python -m tests.faults.soak --steps 2000` is the long one."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.faults.soak import MAX_BYTES_PER_STEP, slope, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_memory_and_open_files_do_not_grow(traced, tmp_path):
    rows = soak(200, tmp_path)
    assert [row["step"] for row in rows] == list(range(10, 201, 10))
    later = rows[len(rows) // 2 :]
    # Over so few steps, the process's memory shows what allocators keep. What is alive shows a leak.
    assert slope(later, "python") <= MAX_BYTES_PER_STEP / 4
    assert slope(later, "tensors") == 0
    assert slope(later, "files") == 0


def test_the_slope_shows_a_leak():
    rows = [{"step": step, "bytes": 1e8 + 5000 * step + (step % 30) * 1e5, "files": 12} for step in range(10, 400, 10)]
    assert slope(rows, "bytes") > MAX_BYTES_PER_STEP
