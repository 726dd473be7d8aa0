"""The laboratory's domains by name, and its suites."""

from __future__ import annotations

from rosd_kit.micro.domains.arithmetic import Coins, Sums
from rosd_kit.micro.domains.base import Domain
from rosd_kit.micro.domains.clock import Clock
from rosd_kit.micro.domains.colours import Colours

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (Sums(), Coins(), Clock(), Colours())}

#: Suite name -> (domain, fewest moves, most moves).
SUITES: dict[str, tuple[str, int, int]] = {
    "sums": ("sums", 3, 4),
    "sums_long": ("sums", 5, 6),
    "coins": ("coins", 3, 4),
    "clock": ("clock", 3, 4),
    "colours": ("colours", 3, 4),
}
