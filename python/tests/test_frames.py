"""Frames, pictures and paths, and the headers of frames."""

from __future__ import annotations

import os

import numpy as np
import pytest

from drpipe import FitsPath, Frame, Picture
from drpipe.api.decoding import decoder
from drpipe.api.header import Header, format_card
from drpipe.protocol.failures import CodecError
from drpipe.protocol.values import Encoder

CARDS = [
    "SIMPLE  =                    T / conforms to FITS standard",
    "EXPTIME =                 30.5 / [s] exposure time",
    "NCOMBINE=                    3",
    "OBJECT  = 'It''s M 31 / NGC'   / the object",
    "COMMENT of the observer",
    "RATE    =               1.5D-3",
    "UNDEF   =                      / nothing",
    "HIERARCH ESO DET ID = 'ccd / 7' / the chip",
    "HISTORY flat",
    "EXPTIME =                  1.0 / again",
    "LONGSTR = 'a very long &'",
    "CONTINUE  'story&'",
    "CONTINUE  ' ends' / of it",
    "PAIR    = (1.0, -2.5)",
    "ODD     = 12:30:01",
]


def there_and_back(value):
    header, buffers = Encoder(False).encode(value)
    buffers = [b if isinstance(b, bytes) else os.pread(b.fd, len(b), 0) for b in buffers]
    return decoder().decode(header, [memoryview(buffer) for buffer in buffers])


def test_a_header_is_a_dict_of_values():
    header = Header(CARDS)
    assert dict(header) == {
        "SIMPLE": True,
        "EXPTIME": 30.5,
        "NCOMBINE": 3,
        "OBJECT": "It's M 31 / NGC",
        "RATE": 0.0015,
        "UNDEF": None,
        "ESO DET ID": "ccd / 7",
        "LONGSTR": "a very long story ends",
        "PAIR": 1 - 2.5j,
        "ODD": "12:30:01",
    }
    assert type(header["NCOMBINE"]) is int and "exptime" in header
    assert header.get("hierarch eso det id") == "ccd / 7"
    assert header.comment("exptime") == "[s] exposure time"


def test_cards_that_are_not_changed_stay_as_they_were_read():
    header = Header(CARDS)
    header["EXPTIME"] = 30.5
    assert header.cards == CARDS


def test_changes_go_into_the_cards():
    header = Header(CARDS)
    header["exptime"] = 60
    header["OBJECT"] = "O'Brien"
    header["ESO DET ID"] = "new"
    header["GAIN"] = 1.5, "[e-/ADU]"
    header["filter"] = np.str_("R")
    header["N"] = np.int16(4)
    del header["LONGSTR"]
    assert header.pop("RATE") == 0.0015
    header.update(DARK=False)
    cards = header.cards
    assert cards[1] == "EXPTIME =                   60 / [s] exposure time"
    assert cards[3] == "OBJECT  = 'O''Brien'           / the object"
    assert "HIERARCH ESO DET ID = 'new     ' / the chip" in cards
    assert not any(card.startswith(("LONGSTR", "CONTINUE", "RATE")) for card in cards)
    assert cards[-4:] == [
        "GAIN    =                  1.5 / [e-/ADU]",
        "FILTER  = 'R       '",
        "N       =                    4",
        "DARK    =                    F",
    ]
    assert [card[:7] for card in cards].count("EXPTIME") == 1
    assert "COMMENT of the observer" in cards and "HISTORY flat" in cards
    assert dict(Header(cards)) == dict(header)
    assert header.cards == cards


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("OBJECT", "x" * 69, "does not fit into a card of 80 characters: it has 71, expected 70"),
        ("OBJECT", "'" * 35, "does not fit"),
        ("OBJECT", "Å", "non-ASCII characters"),
        ("SEEING", float("nan"), "SEEING is nan, which a header cannot hold"),
        ("HISTORY", "flat", "use Frame.add_history"),
        ("A=B", 1, "is not a keyword of a header"),
        ("LIST", [1], "LIST cannot be list"),
        (7, 1, "a keyword of a header is a str"),
    ],
)
def test_what_does_not_fit_into_a_header_is_refused(keyword, value, text):
    header = Header(CARDS)
    with pytest.raises((ValueError, TypeError), match=text):
        header[keyword] = value
    assert header.cards == CARDS


@pytest.mark.parametrize("value", [1e-300, 1e22, -1.5, 0.1, 123456789.125, 1e100])
def test_numbers_come_back_exactly(value):
    card = format_card("X", value)
    assert Header([card])["X"] == value and len(card) <= 80
    assert "." in card


def test_astropy_reads_the_cards():
    fits = pytest.importorskip("astropy.io.fits")
    header = Header(CARDS[:8])
    header.update(
        {"GAIN": 1e-7, "NAME": "O'Brien", "T": True, "ESO LONG": 3, "N": -4, "NONE": None}
    )
    theirs = fits.Header.fromstring("".join(card.ljust(80) for card in header.cards))
    for keyword in ("GAIN", "NAME", "T", "ESO LONG", "N", "EXPTIME", "OBJECT"):
        assert theirs[keyword] == header[keyword]


def test_a_frame_keeps_what_it_has():
    frame = Frame("n1", "raw/n1.fits", np.arange(6, dtype="f4").reshape(2, 3), {"GAIN": 2})
    frame.unit = "adu"
    frame.add_history("made")
    back = there_and_back(frame)
    assert (back.name, back.source, back.unit) == ("n1", "raw/n1.fits", "adu")
    assert np.array_equal(back.data, frame.data) and back.data.dtype == np.float32
    assert back.header == {"GAIN": 2} and back.history == ["made"]
    with pytest.raises(ValueError, match="read-only"):
        back.data[0] = 1


@pytest.mark.parametrize(
    ("sent", "received"),
    [("f2", "f4"), ("f4", "f4"), (">f8", "f8"), ("u1", "f4"), (">i2", "f4"), ("i4", "f8")],
)
def test_pixels_are_sent_as_real_numbers(sent, received):
    frame = there_and_back(Frame("x", "x", np.ones((2, 2), sent)))
    assert frame.data.dtype == received and frame.data.sum() == 4


@pytest.mark.parametrize("data", [None, 5.0, np.ones(2, complex), ["a"]])
def test_what_are_no_pixels_is_refused(data):
    with pytest.raises(CodecError, match="'n1'"):
        there_and_back(Frame("n1", "x", data))


def test_masked_pixels_are_missing():
    masked = np.ma.masked_array(np.arange(3, dtype=">i2"), [False, True, False])
    pixels = there_and_back(Frame("n1", "x", masked)).data
    assert np.isnan(pixels[1]) and list(pixels[::2]) == [0, 2]


def test_pixels_with_a_unit_are_refused():
    units = pytest.importorskip("astropy.units")
    with pytest.raises(CodecError, match="Quantity cannot be sent to a step in Rust: send its"):
        there_and_back(Frame("n1", "x", np.ones(3) * units.adu))


def test_a_replaced_frame_leaves_the_first_alone():
    first = Frame("a", "s", np.zeros((2, 2)), {"N": 1})
    second = first.replace(data=first.data + 1, header={"N": 2})
    second.add_history("changed")
    assert first.header["N"] == 1 and first.history == []
    assert second.header["N"] == 2 and second.source == "s"


def test_cards_and_header_of_a_frame_agree():
    frame = Frame("a", "s", np.zeros((2, 2)), cards=CARDS)
    frame.header["NEW"] = 1
    frame.cards.append("COMMENT by hand")
    assert frame.cards[-2:] == ["NEW     =                    1", "COMMENT by hand"]
    frame.cards = CARDS[:3]
    assert "NEW" not in frame.header and len(frame.header) == 3
    frame.header = {"ONLY": True}
    assert frame.cards == ["ONLY    =                    T"]


def test_pictures_and_paths_come_back():
    picture = Picture("n1", "raw", np.arange(6, dtype="u1").reshape(2, 3), file="a.png")
    back = there_and_back(picture)
    assert np.array_equal(back.pixels, picture.pixels) and back.file == "a.png"
    path = FitsPath(os.fsdecode(b"night\xff/a.fits"))
    assert there_and_back(path) == path and path.name == "a"
    assert os.fspath(path) == str(path)
    with pytest.raises(CodecError, match="expected uint8 on 2"):
        there_and_back(Picture("n1", "raw", np.zeros(3)))
