"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.localizers.error_quote import ErrorQuote as ErrorQuote
from rosd_kit.components.localizers.full import Full as Full
from rosd_kit.components.localizers.oracle import OracleLocalizer as OracleLocalizer
from rosd_kit.components.localizers.skip_first import SkipFirst as SkipFirst
from rosd_kit.components.localizers.soft_error import SoftError as SoftError
from rosd_kit.components.localizers.top_divergence import TopDivergence as TopDivergence
from rosd_kit.contracts import Localizer

COMPONENTS: tuple[type[Localizer], ...]
