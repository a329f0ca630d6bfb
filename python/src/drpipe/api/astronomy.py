"""Converts headers and images from and to astropy, which is imported at first use."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

#: The length of a card.
_CARD = 80
#: The attributes that CCDData can have and a frame cannot.
_UNSUPPORTED = ("flags", "psf")


class Image(NamedTuple):
    """The parts that a frame takes from an `astropy.nddata.CCDData`."""

    #: The pixels, a masked array if the image has a mask.
    data: Any
    unit: Optional[str]
    cards: List[str]
    uncertainty: Any


def cards_of(header: Any) -> List[str]:
    """Returns the cards of an `astropy.io.fits.Header`. Unchanged cards stay as they were read.

    Raises:
        ValueError: if a value does not fit into a card.
    """
    cards = []
    for card in header.cards:
        # astropy corrects the public image of a card that violates the standard.
        image = getattr(card, "_image", None)
        if not image or getattr(card, "_modified", True):
            image = card.image
        cards += [image[at : at + _CARD].rstrip() for at in range(0, len(image), _CARD)]
    return cards


def to_header(cards: Iterable[str]) -> Any:
    """Returns an `astropy.io.fits.Header` with these cards."""
    from astropy.io import fits

    return fits.Header.fromstring("".join(card.ljust(_CARD) for card in cards))


def to_ccddata(image: Image, history: Sequence[str], *, name: str, unit: Any = None) -> Any:
    """Returns an `astropy.nddata.CCDData`. The data are not copied.

    Args:
        image: the image. Its mask becomes that of the CCDData.
        history: lines that are added to the header as HISTORY.
        name: the image's name in error messages.
        unit: the unit of the pixels; the default is the image's own.

    Raises:
        ValueError: if the unit is not known.
    """
    import numpy as np
    from astropy.nddata import CCDData

    header = to_header(image.cards)
    for text in history:
        header.add_history(text)
    data, mask = image.data, None
    if isinstance(data, np.ma.MaskedArray):
        data, mask = data.data, np.ma.getmaskarray(data)
    return CCDData(
        data,
        unit=_unit(name, image.unit, unit),
        mask=mask,
        uncertainty=image.uncertainty,
        wcs=_wcs(header),
        meta=header,
        copy=False,
    )


def from_ccddata(ccd: Any) -> Image:
    """Returns the parts of an `astropy.nddata.CCDData` that a frame has.

    Raises:
        ValueError: if it has flags or a PSF.
    """
    import numpy as np

    for part in _UNSUPPORTED:
        if getattr(ccd, part, None) is not None:
            raise ValueError(
                f"a frame has no {part}: set the CCDData's {part} to None, or send the CCDData "
                "itself, which steps in Python take"
            )
    data = ccd.data if ccd.mask is None else np.ma.masked_array(ccd.data, ccd.mask)
    unit = ccd.unit.to_string() or None
    return Image(data, unit, cards_of(_header_of(ccd)), ccd.uncertainty)


def _header_of(ccd: Any) -> Any:
    """Returns the header, with the image's WCS if that differs from the header's own."""
    from astropy.io import fits

    header = ccd.meta
    if not isinstance(header, fits.Header):
        header = fits.Header(list(_keywords(ccd.meta)))
    if ccd.wcs is None:
        return header
    wanted = ccd.wcs.to_header(relax=True)
    before = _wcs(header)
    if before is None or repr(before.to_header(relax=True)) != repr(wanted):
        header = header.copy()
        header.extend(wanted, useblanks=False, update=True)
    return header


def _keywords(meta: Mapping[str, Any]) -> List[Tuple[str, Any]]:
    return [(str(keyword).upper(), value) for keyword, value in meta.items()]


def _wcs(header: Any) -> Any:
    """Returns the WCS of a header, or None if it has none."""
    if "CTYPE1" not in header:
        return None
    from astropy.wcs import WCS

    return WCS(header)


def _unit(name: str, own: Optional[str], wanted: Any) -> Any:
    from astropy.units import Unit

    if wanted is not None:
        return Unit(wanted)
    if own is None:
        raise ValueError(
            f"the frame {name!r} has no unit, which CCDData must have: give it one, for "
            'example frame.to_ccddata(unit="adu")'
        )
    try:
        return Unit(own)
    except ValueError:
        # Many headers spell the unit ADU, which astropy does not know.
        return Unit(own.lower(), parse_strict="silent")
