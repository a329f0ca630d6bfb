"""The header of a FITS file as a dict that keeps its cards."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

#: The length of a card.
CARD = 80
_MISSING: Any = object()
#: Keywords with text instead of a value.
_COMMENTARY = frozenset(["COMMENT", "HISTORY", ""])
_INTEGER = re.compile(r"[+-]?\d+\Z")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EDed][+-]?\d+)?\Z")
_STRING = re.compile(r"'((?:[^']|'')*)'")
_STANDARD = re.compile(r"[A-Z0-9_-]{1,8}\Z")
_EXTENDED = re.compile(r"[A-Z0-9_ -]+\Z")


class Header(Dict[str, Any]):
    """A dict of keywords and values: int, float, bool, str, complex or None.

    Keywords are matched in any case. Those of HIERARCH cards are written without that word.
    A value may be set together with a comment: `header["GAIN"] = 1.5, "[e-/ADU]"`. COMMENT
    and HISTORY are not among the keywords; `Frame.cards` has them.

    Example:
        >>> header = Header(["GAIN    =                  1.5 / [e-/ADU]"])
        >>> header["gain"], header.comment("GAIN")
        (1.5, '[e-/ADU]')
    """

    def __init__(self, cards: Union[Iterable[str], Any] = ()) -> None:
        """Reads cards.

        Args:
            cards: cards of at most 80 characters, without END; or another header, which may
                be an `astropy.io.fits.Header`.

        Raises:
            TypeError: if `cards` is a dict: use `update` to set values.
        """
        super().__init__()
        self._cards = list(cards_of(cards))
        self._comments: Dict[str, str] = {}
        joined = _without_continuations(self._cards)
        for card in joined:
            keyword, rest = _split(card)
            if rest is not None and keyword not in self:
                dict.__setitem__(self, keyword, _value(rest))
        self._as_read = dict(self)

    def __getitem__(self, keyword: str) -> Any:
        return dict.__getitem__(self, _normal(keyword))

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and dict.__contains__(self, _normal(keyword))

    def __setitem__(self, keyword: str, value: Any) -> None:
        """Sets a value, or a tuple of a value and a comment.

        Raises:
            TypeError: if a header has no values of this type.
            ValueError: if the value does not fit into a card, or the keyword has no value.
        """
        keyword = _normal(keyword)
        if isinstance(value, tuple) and len(value) == 2:
            value, comment = value
            self._comments[keyword] = _checked_comment(keyword, comment)
        if hasattr(value, "item") and not isinstance(value, (int, float, str)):
            value = value.item()
        format_card(keyword, value)
        dict.__setitem__(self, keyword, value)

    def __delitem__(self, keyword: str) -> None:
        dict.__delitem__(self, _normal(keyword))

    def get(self, keyword: str, default: Any = None) -> Any:
        """Returns the value of a keyword."""
        return dict.get(self, _normal(keyword), default)

    def pop(self, keyword: str, default: Any = _MISSING) -> Any:
        """Removes a keyword and returns its value."""
        if default is _MISSING:
            return dict.pop(self, _normal(keyword))
        return dict.pop(self, _normal(keyword), default)

    def setdefault(self, keyword: str, default: Any = None) -> Any:
        """Returns the value of a keyword. Sets it to the default first if the header lacks it."""
        if keyword not in self:
            self[keyword] = default
        return self[keyword]

    def update(self, *others: Any, **more: Any) -> None:
        """Sets the values of mappings and keyword arguments, as `dict.update` does.

        Values from another header, including an `astropy.io.fits.Header`, keep their
        comments.

        Raises:
            ValueError: if a value does not fit into a card. The values before it are set.
        """
        for other in others:
            if hasattr(other, "cards"):
                header = Header(other)
                for keyword, value in header.items():
                    comment = header.comment(keyword)
                    self[keyword] = (value, comment) if comment else value
            else:
                more = {**dict(other), **more}
        for keyword, value in more.items():
            self[keyword] = value

    @classmethod
    def from_astropy(cls, header: Any) -> Header:
        """Reads all cards of an `astropy.io.fits.Header`: comments, duplicates, HISTORY, long
        texts."""
        return cls(header)

    def to_astropy(self) -> Any:
        """Returns an `astropy.io.fits.Header` with all cards.

        `astropy.io.fits.Header(header)` would take only the values, as from any dict.
        """
        from . import astronomy

        return astronomy.to_header(self.cards)

    def copy(self) -> Header:
        """Returns another header with the same cards."""
        return Header(self.cards)

    def __reduce__(self) -> Any:
        # Do not use the items: the cards also have long texts, which cannot be set.
        return Header, (list(self.cards),)

    def comment(self, keyword: str) -> str:
        """Returns the comment of a keyword, or an empty string if it has none."""
        keyword = _normal(keyword)
        if keyword in self._comments:
            return self._comments[keyword]
        for card in self._cards:
            name, rest = _split(card)
            if name == keyword and rest is not None:
                return _halves(rest)[1]
        return ""

    @property
    def cards(self) -> List[str]:
        """The cards with all changes. Unchanged cards stay as they were read."""
        changed = {
            keyword
            for keyword in set(self) | set(self._as_read)
            if keyword in self._comments or not _same(self, self._as_read, keyword)
        }
        if changed:
            self._rewrite(changed)
        return self._cards

    def _rewrite(self, changed: set[str]) -> None:
        comments = {keyword: self.comment(keyword) for keyword in changed}
        kept: List[str] = []
        written = set()
        dropping = False
        for card in self._cards:
            keyword, rest = _split(card)
            if dropping and keyword == "CONTINUE":
                continue
            dropping = rest is not None and keyword in changed
            if not dropping:
                kept.append(card)
            elif keyword in self and keyword not in written:
                written.add(keyword)
                kept.append(format_card(keyword, self[keyword], comments[keyword]))
        for keyword in self:
            if keyword in changed and keyword not in written:
                kept.append(format_card(keyword, self[keyword], comments[keyword]))
        self._cards[:] = kept
        self._comments.clear()
        self._as_read = dict(self)


def cards_of(header: Any) -> Iterable[str]:
    """Returns the cards of a `Header` or an `astropy.io.fits.Header`, or the given ones."""
    if isinstance(header, Header):
        return header.cards
    if hasattr(header, "cards"):
        from . import astronomy

        return astronomy.cards_of(header)
    if isinstance(header, Mapping):
        raise TypeError("a header is made of cards; set values with update(...)")
    return header  # type: ignore[no-any-return]


def _same(one: Dict[str, Any], other: Dict[str, Any], keyword: str) -> bool:
    """Whether a keyword has the same value in both. 1, 1.0 and True are not the same."""
    a, b = dict.get(one, keyword, _MISSING), dict.get(other, keyword, _MISSING)
    return type(a) is type(b) and bool(a == b)


def _normal(keyword: str) -> str:
    if not isinstance(keyword, str):
        raise TypeError(f"a keyword of a header is a str, not {type(keyword).__name__}")
    keyword = keyword.strip().upper()
    return keyword[9:].lstrip() if keyword.startswith("HIERARCH ") else keyword


def _split(card: str) -> Tuple[str, Optional[str]]:
    """Returns the keyword of a card, and what follows the equals sign if there is one."""
    keyword = card[:8].rstrip().upper()
    if keyword == "HIERARCH":
        name, equals, rest = card[8:].partition("=")
        return (name.strip().upper(), rest) if equals else (keyword, None)
    if card[8:9] == "=" and keyword not in _COMMENTARY:
        return keyword, card[9:]
    return keyword, None


def _halves(rest: str) -> Tuple[str, str]:
    """Splits what follows the equals sign into the value and the comment."""
    rest = rest.strip()
    string = _STRING.match(rest)
    end = string.end() if string else 0
    value, _, comment = rest[end:].partition("/")
    return rest[:end] + value.strip(), comment.strip()


def _value(rest: str) -> Any:
    text = _halves(rest)[0]
    if text.startswith("'"):
        string = _STRING.match(text)
        return string.group(1).replace("''", "'").rstrip() if string else text
    if _INTEGER.match(text):
        return int(text)
    if _REAL.match(text):
        return float(text.upper().replace("D", "E"))
    if text in ("T", "F"):
        return text == "T"
    if not text:
        return None
    return _complex(text)


def _complex(text: str) -> Any:
    """Reads a pair of numbers. Text that violates the standard is returned unchanged."""
    real, comma, imaginary = text.strip("()").partition(",")
    try:
        return complex(float(real), float(imaginary)) if comma else text
    except ValueError:
        return text


def _without_continuations(cards: List[str]) -> List[str]:
    """Returns the cards, with the pieces of long strings joined."""
    joined: List[str] = []
    for card in cards:
        before = _halves(_split(joined[-1])[1] or "")[0] if joined else ""
        if card.startswith("CONTINUE") and before.endswith("&'"):
            more = _STRING.match(card[8:].strip())
            if more:
                start = joined[-1].index("=") + 1
                joined[-1] = f"{joined[-1][:start]} {before[:-2]}{more.group(1)}'"
            continue
        joined.append(card)
    return joined


def format_card(keyword: str, value: Any, comment: str = "") -> str:
    """Returns a card in the standard's fixed format. Cuts the comment to fit.

    Raises:
        ValueError: if the keyword or the value does not fit into a card.
        TypeError: if a header has no values of this type.
    """
    if keyword in _COMMENTARY or keyword in ("CONTINUE", "END"):
        hint = "use Frame.add_history" if keyword == "HISTORY" else "add a card to Frame.cards"
        raise ValueError(f"{keyword!r} has no value in a header: {hint}")
    standard = _STANDARD.match(keyword) is not None
    if not standard and not _EXTENDED.match(keyword):
        raise ValueError(
            f"{keyword!r} is not a keyword of a header: use letters, digits, '-' and '_'"
        )
    text = _formatted(keyword, value)
    if standard:
        padded = text if isinstance(value, str) or value is None else text.rjust(20)
        card = f"{keyword:8}= {padded}"
    else:
        card = f"HIERARCH {keyword} = {text}"
    if len(card) > CARD:
        raise ValueError(
            f"the value of {keyword} does not fit into a card of {CARD} characters: it has "
            f"{len(text)}, expected {CARD - (len(card) - len(text))} at most"
        )
    with_comment = f"{card:30} / {comment}"[:CARD].rstrip()
    return with_comment if comment and len(card) + 4 <= CARD else card.rstrip()


def _formatted(keyword: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, str):
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the text of {keyword} has non-ASCII characters: {value!r:.80}")
        return f"'{value.replace(chr(39), chr(39) * 2):8}'"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _real(keyword, float(value))
    if isinstance(value, complex):
        return f"({_real(keyword, value.real)}, {_real(keyword, value.imag)})"
    raise TypeError(
        f"{keyword} cannot be {type(value).__name__}: a header has int, float, bool and str"
    )


def _real(keyword: str, value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{keyword} is {value}, which a header cannot hold")
    text = repr(value).upper()
    return text if "." in text or "E" not in text else text.replace("E", ".0E")


def _checked_comment(keyword: str, comment: Any) -> str:
    if not isinstance(comment, str) or not (comment.isascii() and comment.isprintable()):
        raise ValueError(f"the comment of {keyword} is not ASCII text: {comment!r:.80}")
    return comment
