"""The normal form in which answers are compared: NFC, with typographic signs, unusual spaces and full-width characters folded.

Both sides of a comparison go through it. Output of programs does not: it is compared exactly.
"""

from __future__ import annotations

import unicodedata

_SIGNS = {
    '"': "“”„‟«»″〝〞〟＂",
    "'": "‘’‚‛‹›′´ʼʹ＇",
    "-": "‐‑‒–—―−﹣⁃﹘－",
    "/": "⁄∕",
    ":": "∶",
    "...": "…⋯",
    "": "\u00ad\u200b\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u2066\u2067\u2068\u2069",
    " ": "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
}
_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
#: For `str.translate`.
SIGNS: dict[int, str] = {
    **_FULL_WIDTH,
    **_LIGATURES,
    **{ord(sign): plain for plain, signs in _SIGNS.items() for sign in signs},
}


def normal_form(text: str) -> str:
    """Return a text in the form in which answers are compared; case and line breaks stay.

    Composed and decomposed letters become equal (NFC), typographic quotation marks, apostrophes, dashes, minus signs and
    ellipses become those of a keyboard, all spaces the plain one, full-width digits, letters and signs the narrow ones.
    Invisible characters disappear, but for overrides of direction, which show a text backwards.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(SIGNS))
