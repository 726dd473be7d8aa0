"""Divergences: how far the student is from the teacher at each token."""

from __future__ import annotations

from rosd_kit.components.divergences.forward_kl import ForwardKL
from rosd_kit.components.divergences.jsd import JSD
from rosd_kit.components.divergences.reverse_kl import ReverseKL

COMPONENTS = (ForwardKL, JSD, ReverseKL)
