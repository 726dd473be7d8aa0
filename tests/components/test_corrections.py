"""Importance weights."""

from __future__ import annotations

import math

import pytest
import torch

from rosd_kit.components.corrections import COMPONENTS, NoCorrection, Truncated

BEHAVIOUR = torch.tensor([-1.0, -2.0, -0.5, -900.0])
CURRENT = torch.tensor([-1.5, -1.0, -0.5, -1.0], requires_grad=True)


def test_names_of_the_built_in_corrections() -> None:
    assert [c.name for c in COMPONENTS] == ["none", "truncated"]


def test_no_correction_gives_weight_one() -> None:
    assert NoCorrection().weigh(BEHAVIOUR, CURRENT).tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("cap", "expected"), [(2.0, 2.0), (3.0, math.e)])
def test_truncated_gives_the_capped_ratio_without_gradient(cap: float, expected: float) -> None:
    weights = Truncated(Truncated.Config(cap=cap)).weigh(BEHAVIOUR, CURRENT)
    assert weights.tolist() == pytest.approx([math.exp(-0.5), expected, 1.0, cap])
    assert not weights.requires_grad


def test_the_default_cap_is_that_of_the_paper() -> None:
    assert Truncated().config.cap == 2.0
