"""The parallel mode, and how samples and forward passes are shared among ranks."""

from __future__ import annotations

import pytest

from rosd_kit.errors import RunError
from rosd_kit.model.packing import TokenSequence
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.parallel.ranks import _mode as mode_of
from rosd_kit.settings import ParallelSettings
from rosd_kit.training.balancing import assign_to_ranks, equalize_passes


@pytest.mark.parametrize(
    ("requested", "count", "message"),
    [
        ({"processes": 2}, 1, r"parallel.processes: 2 were requested and 1 started. .*accelerate launch --cpu"),
        ({"processes": 1}, 2, "parallel.processes: 1 were requested and 2 started"),
        ({"mode": "ddp"}, 1, "parallel.mode: 'ddp' needs several processes and one was started"),
        ({"mode": "fsdp"}, 1, "parallel.mode: 'fsdp' needs several processes"),
        ({"mode": "single"}, 2, "2 processes were started for a task of one"),
    ],
)
def test_a_number_of_processes_that_the_recipe_does_not_allow_is_refused(requested, count, message):
    with pytest.raises(RunError, match=message):
        mode_of(ParallelSettings(**requested), count)


def test_ddp_under_a_launcher_that_is_configured_for_fsdp_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RunError, match="'ddp' was requested, but the launcher is configured for FSDP"):
        mode_of(ParallelSettings(mode="ddp"), 2)
    assert mode_of(ParallelSettings(), 2) == "fsdp"


def test_a_single_process_of_accelerate_launch_must_be_requested(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(RunError, match=r"accelerate launch started one process.*parallel\.mode=single"):
        mode_of(ParallelSettings(), 1)
    assert mode_of(ParallelSettings(mode="single"), 1) == mode_of(ParallelSettings(processes=1), 1) == "single"
    assert mode_of(ParallelSettings(), 2) == "ddp"


def test_auto_follows_the_number_of_processes():
    assert mode_of(ParallelSettings(), 1) == "single"
    assert mode_of(ParallelSettings(), 2) == "ddp"


def test_a_single_rank_gathers_its_own_value_and_works_on_everything():
    ranks = Ranks.alone("cpu")
    assert (ranks.count, ranks.is_main, ranks.gather("x"), ranks.from_main(3), list(ranks.assigned_indices(3))) == (
        1,
        True,
        ["x"],
        3,
        [0, 1, 2],
    )


def test_groups_stay_whole_and_loads_are_even():
    """Loads, with common prefixes counted once: a 11, b 6, c 6, d 7."""
    sizes = [("a", 9), ("b", 4), ("a", 9), ("c", 5), ("b", 4), ("d", 6)]
    sequences = [TokenSequence((1,) * size, (index + 2, 1), group) for index, (group, size) in enumerate(sizes)]
    assigned = assign_to_ranks([10, 11, 12, 13, 14, 15], sequences, 2)
    assert assigned == [[10, 12, 13], [11, 14, 15]]


def test_every_sample_is_assigned_once_even_with_more_ranks_than_groups():
    sequences = [TokenSequence((1,) * 5, (1, 1), group) for group in "aabb"]
    assert sorted(index for indices in assign_to_ranks([0, 1, 2, 3], sequences, 3) for index in indices) == [0, 1, 2, 3]
    assert assign_to_ranks([], [], 2) == [[], []]


def test_every_rank_makes_as_many_passes_as_the_busiest():
    class Three(Ranks):
        def gather(self, value):
            return [value, [[1, 4]], []]

    ranks = Three(device=Ranks.alone("cpu").device, count=3)
    assert equalize_passes([[2], [1, 1, 1]], ranks) == [[2, 4], [1, 1, 1]]
