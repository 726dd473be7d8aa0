"""A run that was started otherwise than its recipe says does not begin."""

from __future__ import annotations

import pytest

from rosd_kit.errors import RunError
from rosd_kit.model.packing import Text
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.parallel.ranks import _mode as mode_of
from rosd_kit.settings import ParallelSettings
from rosd_kit.training.balancing import in_step, share_out


@pytest.mark.parametrize(
    ("asked", "count", "message"),
    [
        ({"processes": 2}, 1, r"parallel.processes: 2 were asked for and 1 started. .*accelerate launch --cpu"),
        ({"processes": 1}, 2, "parallel.processes: 1 were asked for and 2 started"),
        ({"mode": "ddp"}, 1, "parallel.mode: 'ddp' needs several processes and one was started"),
        ({"mode": "fsdp"}, 1, "parallel.mode: 'fsdp' needs several processes"),
        ({"mode": "single"}, 2, "2 processes were started for what is done by one"),
    ],
)
def test_another_number_of_processes_is_refused(asked, count, message):
    with pytest.raises(RunError, match=message):
        mode_of(ParallelSettings(**asked), count)


def test_ddp_under_a_launcher_that_is_configured_for_fsdp_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RunError, match="'ddp' was asked for, but the launcher is configured for FSDP"):
        mode_of(ParallelSettings(mode="ddp"), 2)
    assert mode_of(ParallelSettings(), 2) == "fsdp"


def test_one_process_of_accelerate_launch_must_be_meant(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(RunError, match=r"accelerate launch started one process.*parallel\.mode=single"):
        mode_of(ParallelSettings(), 1)
    assert mode_of(ParallelSettings(mode="single"), 1) == mode_of(ParallelSettings(processes=1), 1) == "single"
    assert mode_of(ParallelSettings(), 2) == "ddp"


def test_auto_is_what_was_started():
    assert mode_of(ParallelSettings(), 1) == "single"
    assert mode_of(ParallelSettings(), 2) == "ddp"


def test_alone_there_is_nobody_to_talk_to():
    ranks = Ranks.alone("cpu")
    assert (ranks.count, ranks.is_main, ranks.gather("x"), ranks.from_main(3), list(ranks.share(3))) == (
        1,
        True,
        ["x"],
        3,
        [0, 1, 2],
    )


def test_families_stay_whole_and_loads_are_even():
    """The loads, what is in common counted once: a 11, b 6, c 6, d 7."""
    sizes = [("a", 9), ("b", 4), ("a", 9), ("c", 5), ("b", 4), ("d", 6)]
    texts = [Text((1,) * size, (index + 2, 1), family) for index, (family, size) in enumerate(sizes)]
    shares = share_out([10, 11, 12, 13, 14, 15], texts, 2)
    assert shares == [[10, 12, 13], [11, 14, 15]]


def test_all_places_are_given_out_once_also_to_more_processes_than_families():
    texts = [Text((1,) * 5, (1, 1), family) for family in "aabb"]
    assert sorted(place for share in share_out([0, 1, 2, 3], texts, 3) for place in share) == [0, 1, 2, 3]
    assert share_out([], [], 2) == [[], []]


def test_rounds_are_as_many_as_the_busiest_process_needs():
    class Three(Ranks):
        def gather(self, value):
            return [value, [[1, 4]], []]

    ranks = Three(device=Ranks.alone("cpu").device, count=3)
    assert in_step([[2], [1, 1, 1]], ranks) == [[2, 4], [1, 1, 1]]
