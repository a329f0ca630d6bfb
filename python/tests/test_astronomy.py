"""Conversion of frames and headers from and to astropy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from drpipe import Frame
from drpipe.api.decoding import decoder
from drpipe.api.header import Header
from drpipe.protocol.failures import CodecError
from drpipe.protocol.values import Encoder

fits = pytest.importorskip("astropy.io.fits")
units = pytest.importorskip("astropy.units")
nddata = pytest.importorskip("astropy.nddata")

CARDS = [
    "SIMPLE  =                    T / conforms to FITS standard",
    "BITPIX  =                  -32",
    "NAXIS   =                    2",
    "EXPTIME =                 30.5 / [s] exposure time",
    "OBJECT  = 'It''s M 31 / NGC'   / the object",
    "COMMENT of the observer",
    "COMMENT",
    "",
    "RATE    =               1.5D-3",
    "UNDEF   =                      / nothing",
    "HIERARCH ESO DET ID = 'ccd / 7' / the chip",
    "HISTORY flat",
    "EXPTIME =                  1.0 / again",
    "LONGSTR = 'a very long &'",
    "CONTINUE  'story&'",
    "CONTINUE  ' ends' / of it",
    "HISTORY bias",
    "PAIR    = (1.0, -2.5)",
    "ODD     = 12:30:01",
    "BUNIT   = 'adu     '",
]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def frame(**more):
    return Frame("n1", "raw/n1.fits", np.arange(6, dtype="f4").reshape(2, 3), cards=CARDS, **more)


def test_a_header_goes_to_astropy_and_back_without_losing_a_card():
    header = Header(CARDS)
    header["NEW"] = 1, "a comment"
    theirs = header.to_astropy()
    assert len(theirs.cards) == len(CARDS) + 1 - 2, "the long text is one card there"
    assert theirs["LONGSTR"] == "a very long story ends" and theirs.comments["NEW"] == "a comment"
    assert list(theirs["HISTORY"]) == ["flat", "bias"] and theirs["EXPTIME", 1] == 1.0
    assert theirs["UNDEF"] is None and theirs["ESO DET ID"] == "ccd / 7"
    back = Header.from_astropy(header.to_astropy())
    assert back.cards == header.cards and dict(back) == dict(header)


def test_what_astropy_has_changed_comes_back_changed():
    theirs = Header(CARDS).to_astropy()
    theirs["EXPTIME"] = (7, "less")
    theirs["LONG"] = "x" * 100
    theirs.add_history("by astropy")
    back = Header.from_astropy(theirs)
    assert back["EXPTIME"] == 7 and back.comment("EXPTIME") == "less"
    assert back["LONG"] == "x" * 100 and "HISTORY by astropy" in back.cards
    assert [card for card in back.cards if card.startswith("RATE")] == [CARDS[8]]
    assert max(map(len, back.cards)) <= 80


def test_a_frame_takes_a_header_of_astropy_as_it_is():
    theirs = fits.Header([("GAIN", 1.5, "e/adu"), ("HISTORY", "a"), ("HISTORY", "b")])
    for made in (Frame("a", "s", None, theirs), Frame("a", "s", None)):
        made.header = theirs
        assert [card[:7] for card in made.cards] == ["GAIN   ", "HISTORY", "HISTORY"]
        assert made.header.comment("GAIN") == "e/adu"
    both = Frame("a", "s", None, theirs, cards=["KEPT    =                    1"])
    assert both.header == {"KEPT": 1, "GAIN": 1.5} and both.header.comment("GAIN") == "e/adu"


def test_a_frame_becomes_ccddata_and_a_frame_again():
    made = frame(unit="adu", history=["bias subtracted"])
    ccd = made.to_ccddata()
    assert type(ccd) is nddata.CCDData and ccd.unit == units.adu
    assert np.shares_memory(ccd.data, made.data) and ccd.mask is None
    assert ccd.header["HISTORY"][-1] == "bias subtracted" and ccd.header["EXPTIME"] == 30.5
    back = Frame.from_ccddata(ccd, "n1", "raw/n1.fits")
    said = CARDS.index("HISTORY bias") + 1
    assert back.cards == [*CARDS[:said], "HISTORY bias subtracted", *CARDS[said:]]
    assert np.array_equal(back.data, made.data) and back.data.dtype == np.float32
    assert (
        back.unit == "adu"
        and back.uncertainty is None
        and (back.name, back.source) == ("n1", "raw/n1.fits")
    )


def test_mask_and_uncertainty_are_kept_or_refused():
    data = np.arange(6.0).reshape(2, 3)
    ccd = nddata.CCDData(
        data, unit="electron", mask=data > 4, uncertainty=nddata.StdDevUncertainty(data / 10)
    )
    made = Frame.from_ccddata(ccd, "n1")
    assert list(made.data.mask.ravel()) == [False] * 5 + [True]
    header, buffers = Encoder(True).encode(made)
    received = decoder().decode(header, buffers)
    assert type(received) is Frame and type(received.uncertainty) is nddata.StdDevUncertainty
    back = received.replace(name="n2").to_ccddata()
    assert np.array_equal(back.mask, ccd.mask) and back.unit == units.electron
    assert np.array_equal(back.uncertainty.array, data / 10)
    with pytest.raises(CodecError, match="a frame with an uncertainty cannot be sent to a step in"):
        Encoder(False).encode(made)
    made.uncertainty = None
    header, _ = Encoder(False).encode(made)
    assert np.isnan(decoder().decode(header).data[1, 2])
    ccd.psf = data
    with pytest.raises(ValueError, match="a frame has no psf"):
        Frame.from_ccddata(ccd, "n1")


def test_a_frame_without_a_unit_says_what_to_do():
    with pytest.raises(ValueError, match=r'to_ccddata\(unit="adu"\)'):
        frame().to_ccddata()
    assert frame().to_ccddata(unit="adu").unit == units.adu
    assert frame(unit="ADU").to_ccddata().unit == units.adu
    assert Frame.from_ccddata(frame(unit="blobs").to_ccddata(), "n1").unit == "blobs"
    bare = nddata.CCDData(np.ones(3), unit=units.dimensionless_unscaled, meta={"GAIN": 2})
    made = Frame.from_ccddata(bare, "n1")
    assert made.unit is None and made.header == {"GAIN": 2}


def test_a_wcs_is_kept_wherever_it_stands():
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [10, 20]
    made = Frame.from_ccddata(nddata.CCDData(np.ones((2, 3)), unit="adu", wcs=wcs), "n1")
    assert made.header["CRVAL1"] == 10 and made.header["CTYPE2"] == "DEC--TAN"
    ccd = made.to_ccddata()
    assert list(ccd.wcs.wcs.crval) == [10, 20]
    assert Frame.from_ccddata(ccd, "n1").cards == made.cards
    ccd.wcs.wcs.crval = [11, 20]
    assert Frame.from_ccddata(ccd, "n1").header["CRVAL1"] == 11
