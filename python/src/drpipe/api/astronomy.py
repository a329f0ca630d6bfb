"""Frames and headers from and to what astropy has. It is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Tuple

if TYPE_CHECKING:
    from .frames import Frame
    from .header import Header

#: The length of a card.
_CARD = 80
#: What an image of CCDData can have beside what a frame has.
_MORE = ("flags", "psf")


def cards_of(header: Any) -> List[str]:
    """The cards of an `astropy.io.fits.Header`, as they were read where they are not changed.

    Raises:
        ValueError: if a value does not fit into a card.
    """
    cards = []
    for card in header.cards:
        # The image that is public has been put right where it is not by the standard.
        image = getattr(card, "_image", None)
        if not image or getattr(card, "_modified", True):
            image = card.image
        cards += [image[at : at + _CARD].rstrip() for at in range(0, len(image), _CARD)]
    return cards


def header_to_astropy(header: Header) -> Any:
    """An `astropy.io.fits.Header` with all cards."""
    from astropy.io import fits

    return fits.Header.fromstring("".join(card.ljust(_CARD) for card in header.cards))


def frame_to_ccddata(frame: Frame, unit: Any) -> Any:
    """An `astropy.nddata.CCDData`: see `Frame.to_ccddata`."""
    import numpy as np
    from astropy.nddata import CCDData

    header = header_to_astropy(frame.header)
    for text in frame.history:
        header.add_history(text)
    data, mask = frame.data, None
    if isinstance(data, np.ma.MaskedArray):
        data, mask = data.data, np.ma.getmaskarray(data)
    return CCDData(
        data,
        unit=_unit(frame, unit),
        mask=mask,
        uncertainty=frame.uncertainty,
        wcs=_wcs(header),
        meta=header,
        copy=False,
    )


def frame_from_ccddata(cls: Any, ccd: Any, name: str, source: Optional[str]) -> Any:
    """A frame: see `Frame.from_ccddata`."""
    import numpy as np

    for more in _MORE:
        if getattr(ccd, more, None) is not None:
            raise ValueError(
                f"a frame has no {more}: set the CCDData's {more} to None, or send the CCDData "
                "itself, which steps in Python take"
            )
    data = ccd.data if ccd.mask is None else np.ma.masked_array(ccd.data, ccd.mask)
    unit = ccd.unit.to_string() or None
    source = name if source is None else source
    frame = cls(name, source, data, unit=unit, cards=cards_of(_header_of(ccd)))
    if ccd.uncertainty is not None:
        frame.uncertainty = ccd.uncertainty
    return frame


def _header_of(ccd: Any) -> Any:
    """The header, with the WCS of the image where that says something else."""
    from astropy.io import fits

    header = ccd.meta
    if not isinstance(header, fits.Header):
        header = fits.Header(list(_settings(ccd.meta)))
    if ccd.wcs is None:
        return header
    said = ccd.wcs.to_header(relax=True)
    before = _wcs(header)
    if before is None or repr(before.to_header(relax=True)) != repr(said):
        header = header.copy()
        header.extend(said, useblanks=False, update=True)
    return header


def _settings(meta: Mapping[str, Any]) -> List[Tuple[str, Any]]:
    return [(str(keyword).upper(), value) for keyword, value in meta.items()]


def _wcs(header: Any) -> Any:
    """The WCS that a header tells, if it tells one."""
    if "CTYPE1" not in header:
        return None
    from astropy.wcs import WCS

    return WCS(header)


def _unit(frame: Frame, unit: Any) -> Any:
    from astropy.units import Unit

    if unit is not None:
        return Unit(unit)
    if frame.unit is None:
        raise ValueError(
            f"the frame {frame.name!r} has no unit, which CCDData must have: give it one, for "
            'example frame.to_ccddata(unit="adu")'
        )
    try:
        return Unit(frame.unit)
    except ValueError:
        # Many headers have ADU.
        return Unit(frame.unit.lower(), parse_strict="silent")
