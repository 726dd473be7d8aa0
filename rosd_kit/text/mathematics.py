"""Rewrites mathematical answers in one spelling of LaTeX: signs, spaces, thousands, mixed numbers, units. Computes nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rosd_kit.text.normal import normal_form

#: Signs of mathematics; `normal_form` has folded the others.
_SIGNS = str.maketrans(
    {
        **{"×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*"},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp "},
        **{"∞": r"\infty ", "π": r"\pi ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "°": r"^\circ ", "∅": r"\emptyset "},
        **{"、": ", ", "。": "."},
        **{"½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
        **{sign: rf"^{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    }
)
_ROOT = re.compile(r"√\s*+(?:\(([^()]*+)\)|\{([^{}]*+)\}|(\d++(?:\.\d++)?+|[A-Za-z]))")
#: Commands that only change how their argument looks.
_FONT = re.compile(
    r"\\(?:mathbf|mathrm|textbf|textit|textrm|boldsymbol|bm|text|mbox|mathit|mathsf)\s*+\{\s*+([-+\d.,/ ]++|[ei])\s*+\}"
)
_STYLE = re.compile(
    r"\\(?:displaystyle|textstyle|limits|phantom\{[^{}]*+\}|[bB]ig{1,2}[lr]?(?![a-z])|(?:left|right|rm|bf|it)(?![a-z]))"
)
#: Thousands: groups of three digits behind a separator. A plain comma is left to the reader of LaTeX, who sees the brackets.
_THOUSANDS = re.compile(r"(?<![\d.,\w\\])\d{1,3}(?:(?:\{,\}|,?\\[,!;: ]\s?|\\!,|'|~| )\d{3})+(?![\d\w])")
_GROUPED = re.compile(r"(?<![\d.,\w])[1-9]\d{0,2}(?:,\d{3})+(?![\d\w])")
_SPACE = re.compile(r"(?<!\\)\\[,;:! ]|\\(?:quad|qquad|hspace\{[^{}]*+\}|enspace|thinspace)(?![a-z])|(?<!\\)~")
_MIXED = re.compile(r"(?<![\d.,/^_\w\\}])(-?)(\d++)\s++(\d++)\s?/\s?(\d++)(?![\d.]*\d|\s*[/^])")
_MIXED_LATEX = re.compile(
    r"(?<![\d.,/^_\w\\}])(-?)(\d++)\s*+\\[dtc]?frac\s*+"
    r"(?:\{\s*+(\d++)\s*+\}\s*+\{\s*+(\d++)\s*+\}|(\d)(\d))(?!\d)"
)
_SCIENTIFIC = re.compile(r"(?<![\w.])(-?\d++(?:\.\d++)?)[eE]([-+]?\d{1,4})(?![\w.])")
_DECIMAL_COMMA = re.compile(r"-?\d++,\d++")
_REPEATING = re.compile(r"(?<![\w.])(-?)(\d++)\.(\d{0,6}?)(\d{1,6}?)\4{2,}\s*+(?:\.{3}|\\[lc]?dots)\s*$")
_OVERLINE = re.compile(r"(?<![\w.])(-?)(\d*+)\.(\d*+)\\(?:overline|bar|dot)\s*+\{?(\d++)\}?")

ELLIPSIS = re.compile(r"(?:,\s*+|(?<!\s)\s++|)(?:\.{3,}+|\\(?:[lc]?dots|dotsc))\s*+,?")
_TIME = re.compile(r"(?:at\s++)?(\d{1,2}):(\d{2})(?::(\d{2}))?\s*+([ap])?(?:\.?\s?m\.?)?", re.IGNORECASE)


def plain_signs(text: str) -> str:
    """Return the text with full-width and typographic signs written as ASCII or LaTeX, in a whole response too."""
    text = _ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2] or m[3]}}}", normal_form(text).translate(_SIGNS))
    text = _FONT.sub(lambda m: _upright(m[1], text[: m.start()][-1:]), text)
    return _MIXED.sub(lambda m: _improper(m[1], m[2], m[3], m[4], "{}{}/{}"), text)


def clean_expression(text: str) -> str:
    """Return one answer, the content of a box for example, in the spelling that is compared."""
    text = plain_signs(text.strip())
    for before, after in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(before + after) and text.startswith(before) and text.endswith(after) and not text.endswith(r"\$"):
            inner = text[len(before) : -len(after)]
            text = inner if before[-1] not in inner.replace(r"\$", "") or before[0] == "\\" else text
    text = _STYLE.sub("", text).replace(r"\lbrace", r"\{").replace(r"\rbrace", r"\}").replace(r"\varnothing", r"\emptyset")
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _SPACE.sub(" ", text)
    text = re.sub(r"(?<=\d)\s*+\{,\}\s*+(?=\d)", ",", text)
    text = _MIXED_LATEX.sub(lambda m: _improper(m[1], m[2], m[3] or m[5], m[4] or m[6], r"{}\frac{{{}}}{{{}}}"), text)
    text = _OVERLINE.sub(_repeating, _REPEATING.sub(_repeating, text))
    text = _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)
    return _without_end(text.strip(" \n\t*`")).strip(" \n\t*`")


def _without_end(text: str) -> str:
    """Return the text without spaces, line breaks of LaTeX and punctuation at its end; an ellipsis stays."""
    end = len(text)
    while end:
        if text[end - 1].isspace() or text[end - 1] in ",;:?":
            end -= 1
        elif text.endswith(r"\\", 0, end):
            end -= 2
        elif text[end - 1] == "." and "." not in (text[end - 2 : end - 1], text[end : end + 1]):
            end -= 1
        else:
            break
    return text[:end]


def ungrouped(text: str) -> str:
    """Return the text without the commas of thousands, if it is one number."""
    match = re.fullmatch(r"\s*+(-?\s*+[€£¥]?|\\?\$?)([\d,]++)((?:\.\d++)?[^\d,]*+)", text)
    return text if not match or not _GROUPED.fullmatch(match[2]) else match[1] + match[2].replace(",", "") + match[3]


def decimal_comma(text: str) -> str | None:
    """Return `1,22` as `1.22`, or None if the text isn't one number with a comma, or may be thousands."""
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) and not _GROUPED.fullmatch(text.lstrip("-")) else None


def time_of_day(text: str) -> set[int] | None:
    """Return the seconds since midnight that a time like 12:00 may mean (with or without a.m.), or None for another answer."""
    text = re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r" \1", text)
    match = _TIME.fullmatch(" ".join(text.split()))
    if not match or int(match[1]) > 24 or int(match[2]) > 59:
        return None
    hours, rest, half = int(match[1]), int(match[2]) * 60 + int(match[3] or 0), (match[4] or "").lower()
    if half and hours <= 12:
        return {(hours % 12 + 12 * (half == "p")) * 3600 + rest}
    return {hours * 3600 + rest} if half or hours > 12 else {hours % 12 * 3600 + rest, (hours % 12 + 12) * 3600 + rest}


def brackets(text: str) -> str:
    """Return the kind of bracket around a whole list: `(`, `[`, `{` or nothing. What stands before `=` does not count."""
    text = re.sub(r"^[^=<>]*(?:=|\\in(?![a-z]))\s*", "", text).strip().replace(r"\{", "⦃").replace(r"\}", "⦄")
    if not text or text[0] not in "([⦃":
        return ""
    parts = top_level_parts(text[1:-1])
    closed = top_level_parts(text) == [text] and text[-1] in ")]⦄"
    return text[0].replace("⦃", "{") if closed and len(parts) > 1 else ""


def top_level_parts(text: str) -> list[str]:
    """Split at the commas and semicolons that stand in no brackets; also behind a bracket that closes too early."""
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        if sign in "([{⦃":
            depth += 1
        elif sign in ")]}⦄":
            depth -= 1
        if (sign in ",;" and depth == 0) or depth < 0:
            parts.append(text[start:index].strip())
            start, depth = index + 1, max(depth, 0)
    return [*parts, text[start:].strip()]


@dataclass(frozen=True)
class Quantity:
    """A unit that is known: what it measures, and how many basic units it is."""

    measures: str
    factor: Fraction


_UNITS = {
    "length": {
        "1/1000": "mm millimeter millimetre",
        "1/100": "cm centimeter centimetre",
        "1": "m meter metre",
        "1000": "km kilometer kilometre",
    },
    "customary length": {"1": "in inch inches", "12": "ft foot feet", "36": "yd yard", "63360": "mi mile"},
    "mass": {"1/1000": "mg milligram", "1": "g gram", "1000": "kg kilogram"},
    "time": {"1": "s sec second", "60": "min minute", "3600": "h hr hour", "86400": "day", "604800": "week"},
    "angle": {"1": r"^\circ ^{\circ} degree deg"},
    "dollars": {"1": "$ dollar usd", "1/100": "cent ¢"},
    "euros": {"1": "€ euro eur"},
    "pounds sterling": {"1": "£ gbp"},
    "volume": {"1/1000": "ml milliliter millilitre", "1": "l liter litre"},
}
_KNOWN = {
    word: Quantity(measures, Fraction(factor))
    for measures, factors in _UNITS.items()
    for factor, words in factors.items()
    for word in words.split()
}
_WORD = r"[A-Za-z]{1,12}"
_UNIT = re.compile(
    r"(?<=[\d}\s)])\s*+(?:\\(?:text|mathrm|mbox|textrm|operatorname)\s*+\{\s*+(?P<text>[A-Za-z. ^{}\d/]{1,30}?)\s*+\}"
    rf"|(?P<word>{_WORD}(?:\s?/\s?{_WORD})?|\^\\circ|\^\{{\\circ\}}|[€£¢]))"
    r"\s*+(?:\^\s*+\{?(?P<power>[23])\}?)?\s*+\.?$"
)
#: Characters at the end of an answer that may hold its unit. A search from every one of many spaces would take for ever.
_LONGEST_UNIT = 200
_CURRENCY = re.compile(r"^\s*+(?:\\?(\$)|([€£]))\s*+(?=[\d.])")


def unit(text: str, *, letters: bool = False) -> tuple[str, Quantity | None]:
    """Return an answer without its unit, and the unit, or None without a known one.

    `letters` also takes one letter outside `\\text{...}` for a unit, although it may be a variable.
    """
    if match := _CURRENCY.match(text):
        return text[match.end() :], _KNOWN[match[1] or match[2]]
    match = _UNIT.search(text, max(0, len(text) - _LONGEST_UNIT))
    if match is None:
        return text, None
    word = (match["text"] or match["word"]).strip().lower()
    if match["word"] and not letters and word.isascii() and max(map(len, re.findall("[a-z]+", word)), default=2) < 2:
        return text, None
    over, _, under = re.sub(r"\s++per\s++", "/", word).partition("/")
    quantity = _quantity(over, int(match["power"] or 1))
    if quantity is not None and under:
        divisor = _quantity(under, 1)
        quantity = divisor and Quantity(f"{quantity.measures} / {divisor.measures}", quantity.factor / divisor.factor)
    return (text, None) if quantity is None else (text[: match.start()].strip(), quantity)


def _quantity(word: str, power: int) -> Quantity | None:
    word = word.strip()
    if prefixed := re.fullmatch(r"(square|sq|cubic|cu)\.?\s+(.+)", word):
        word, power = prefixed[2], 2 if prefixed[1].startswith("sq") else 3
    if suffixed := re.fullmatch(r"(.*?[a-z])\s*\^?\{?([23])\}?", word):
        word, power = suffixed[1], int(suffixed[2])
    word = word.rstrip(".")
    known = _KNOWN.get(word) or _KNOWN.get(word.removesuffix("s"))
    if known is None or power == 1:
        return known
    return Quantity(f"{known.measures} ^ {power}", known.factor**power)


def _upright(content: str, before: str) -> str:
    """Return what stood in a font: the numbers e and i apart from a command before them, a number after `^` in braces."""
    if content in "ei":
        return f" {content}"
    return f"{{{content}}}" if before and before in "^_" else content


def _improper(sign: str, whole: str, top: str, bottom: str, form: str) -> str:
    if not int(bottom) or max(map(len, (whole, top, bottom))) > 30:
        return f"{sign}{whole} {form.format('', top, bottom)}"
    return form.format(sign, int(whole) * int(bottom) + int(top), bottom)


def _repeating(match: re.Match[str]) -> str:
    """Return a repeating decimal as a fraction: 0.1666... is (16 - 1) / 90."""
    sign, whole, start, block = match[1], match[2], match[3], match[4]
    top = int((whole or "0") + start + block) - int((whole or "0") + start)
    return rf"{sign}\frac{{{top}}}{{{'9' * len(block)}{'0' * len(start)}}}"
