"""Teachers: whose weights score the rollouts."""

from __future__ import annotations

from rosd_kit.components.teachers.adapter_off import AdapterOff
from rosd_kit.components.teachers.ema import EMA
from rosd_kit.components.teachers.frozen import Frozen
from rosd_kit.components.teachers.interpolated import Interpolated
from rosd_kit.components.teachers.live import Live
from rosd_kit.components.teachers.snapshot import Snapshot
from rosd_kit.components.teachers.trust_region import TrustRegion

COMPONENTS = (AdapterOff, EMA, Frozen, Interpolated, Live, Snapshot, TrustRegion)
