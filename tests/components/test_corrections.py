"""The importance weights."""

from __future__ import annotations

import math

import pytest
import torch

from rosd_kit.components.corrections import COMPONENTS, NoCorrection, Truncated

BEHAVIOUR = torch.tensor([-1.0, -2.0, -0.5, -900.0])
CURRENT = torch.tensor([-1.5, -1.0, -0.5, -1.0], requires_grad=True)


def test_names() -> None:
    assert [c.name for c in COMPONENTS] == ["none", "truncated"]


def test_none_is_one() -> None:
    assert NoCorrection().weigh(BEHAVIOUR, CURRENT).tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("cap", "expected"), [(2.0, 2.0), (3.0, math.e)])
def test_truncated_is_the_capped_ratio_without_gradient(cap: float, expected: float) -> None:
    found = Truncated(Truncated.Config(cap=cap)).weigh(BEHAVIOUR, CURRENT)
    assert found.tolist() == pytest.approx([math.exp(-0.5), expected, 1.0, cap])
    assert not found.requires_grad


def test_default_cap_is_the_papers() -> None:
    assert Truncated().config.cap == 2.0
