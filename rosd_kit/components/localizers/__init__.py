"""Localizers: choose the response tokens that carry the distillation signal."""

from rosd_kit.components.localizers.error_quote import ErrorQuote
from rosd_kit.components.localizers.full import Full
from rosd_kit.components.localizers.oracle import OracleLocalizer
from rosd_kit.components.localizers.skip_first import SkipFirst
from rosd_kit.components.localizers.top_divergence import TopDivergence

COMPONENTS = (ErrorQuote, OracleLocalizer, Full, SkipFirst, TopDivergence)
