"""Python classes of the values that the built-in steps send."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

from ..protocol.failures import CodecError, Unsendable
from .header import Header

if TYPE_CHECKING:
    from ..protocol.values import Encoder

_UNCHANGED: Any = object()


class Frame:
    """An image with its header, as it moves through a reduction.

    Attributes:
        name: the base name of its products, without an extension.
        source: where it came from: the path of a file, or a description.
        data: the pixels, an array in C order, the slowest axis first.
        unit: the unit of the pixels.
        history: what was done to the pixels, the earliest first.
        uncertainty: what `from_ccddata` has found, such as an
            `astropy.nddata.StdDevUncertainty`. Only steps in Python take it.

    Example:
        >>> frame = Frame("n1", "raw/n1.fits", [[1.0, 2.0]], {"EXPTIME": 3.5}, unit="adu")
        >>> frame.header["exptime"], frame.replace(name="n2").name
        (3.5, 'n2')
    """

    _WIRE = "drpipe/Frame/1"

    uncertainty: Any = None

    def __init__(
        self,
        name: str,
        source: str,
        data: Any,
        header: Optional[Mapping[str, Any]] = None,
        *,
        unit: Optional[str] = None,
        cards: Iterable[str] = (),
        history: Iterable[str] = (),
    ) -> None:
        """Creates a frame.

        Args:
            name: as the attribute.
            source: as the attribute.
            data: as the attribute; not copied.
            header: keywords and values, such as a dict or an `astropy.io.fits.Header`. They
                are added to the cards.
            unit: as the attribute.
            cards: cards of at most 80 characters, without END.
            history: as the attribute.

        Raises:
            ValueError: if a value of the header does not fit into a card.
        """
        self.name = name
        self.source = source
        self.data = data
        self.unit = unit
        self.history: List[str] = list(history)
        self._cards: List[str] = list(cards)
        self._header: Optional[Header] = None
        if header is not None and self._cards:
            self.header.update(header)
        elif header is not None:
            self.header = header

    @property
    def header(self) -> Header:
        """The keywords and their values. Changes here also change the cards."""
        if self._header is None:
            self._header = Header(self._cards)
        return self._header

    @header.setter
    def header(self, values: Mapping[str, Any]) -> None:
        if hasattr(values, "cards"):
            self._header = Header(values)
        else:
            self._header = Header()
            self._header.update(values)

    @property
    def cards(self) -> List[str]:
        """The header as cards of at most 80 characters, in order and without END."""
        return self._cards if self._header is None else self._header.cards

    @cards.setter
    def cards(self, cards: Iterable[str]) -> None:
        self._cards = list(cards)
        self._header = None

    def add_history(self, text: str) -> None:
        """Appends a line that describes what was done to the pixels."""
        self.history.append(text)

    def replace(
        self,
        *,
        data: Any = _UNCHANGED,
        name: Any = _UNCHANGED,
        source: Any = _UNCHANGED,
        unit: Any = _UNCHANGED,
        header: Optional[Mapping[str, Any]] = None,
    ) -> Frame:
        """Returns a copy with some parts replaced. Parts that are not given stay the same.

        Args:
            data: the pixels, not copied.
            name: as the attribute.
            source: as the attribute.
            unit: as the attribute.
            header: keywords and values that are added to the header.
        """
        new = Frame(
            self.name if name is _UNCHANGED else name,
            self.source if source is _UNCHANGED else source,
            self.data if data is _UNCHANGED else data,
            unit=self.unit if unit is _UNCHANGED else unit,
            cards=self.cards,
            history=self.history,
        )
        if header is not None:
            new.header.update(header)
        if self.uncertainty is not None:
            new.uncertainty = self.uncertainty
        return new

    def to_ccddata(self, unit: Any = None) -> Any:
        """Returns the frame as an `astropy.nddata.CCDData`.

        Its header has all cards, with the history among them. Masked pixels are its mask.
        The data are not copied.

        Args:
            unit: the unit of the pixels; the default is the frame's own.

        Raises:
            ValueError: if the unit is not known.
        """
        from . import astronomy

        image = astronomy.Image(self.data, self.unit, self.header.cards, self.uncertainty)
        return astronomy.to_ccddata(image, self.history, name=self.name, unit=unit)

    @classmethod
    def from_ccddata(cls, ccd: Any, name: str, source: Optional[str] = None) -> Frame:
        """Creates a frame from an `astropy.nddata.CCDData`.

        The frame has all cards of the header and the WCS. A mask makes the data a masked
        array, whose masked pixels are NaN to steps in Rust. Steps in Rust refuse an
        uncertainty.

        Args:
            ccd: the image; its data are not copied.
            name: the base name of its products, without an extension.
            source: where it came from; the default is the name.

        Raises:
            ValueError: if it has flags or a PSF, which a frame cannot have.
        """
        from . import astronomy

        image = astronomy.from_ccddata(ccd)
        source = name if source is None else source
        frame = cls(name, source, image.data, unit=image.unit, cards=image.cards)
        if image.uncertainty is not None:
            frame.uncertainty = image.uncertainty
        return frame

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_cards": list(self.cards), "_header": None}

    def __repr__(self) -> str:
        shape = getattr(self.data, "shape", None)
        return f"Frame(name={self.name!r}, source={self.source!r}, shape={shape})"

    def _to_wire(self, encoder: Encoder) -> Any:
        from ..protocol import arrays

        if encoder.to_python:
            _check_exact(self, _FIELDS_OF_FRAME)
            _check_pixels(self.data)
        elif self.uncertainty is not None:
            raise Unsendable("a frame with an uncertainty", "set frame.uncertainty = None before")
        data = arrays.plain(_as_real(self.data, self.name))
        kind = "F32" if data.dtype.itemsize == 4 else "F64"
        fields = {
            **_names(self, encoder),
            "shape": list(data.shape[::-1]),
            "pixels": {kind: data.reshape(-1)},
            "unit": self.unit,
            "cards": self.cards,
            "history": list(self.history),
        }
        return encoder.typed(self._WIRE, fields)

    @classmethod
    def _from_wire(cls, fields: Dict[str, Any]) -> Frame:
        (pixels,) = fields["pixels"].values()
        return cls(
            fields["name"],
            fields["source"],
            pixels.reshape(fields["shape"][::-1]),
            unit=fields["unit"],
            cards=fields["cards"],
            history=fields["history"],
        )


_FIELDS_OF_FRAME = 7


def _check_exact(value: Any, fields: int) -> None:
    """Refuses values that would not arrive unchanged: subclasses and added attributes.

    Raises:
        Unsendable: naming the class.
    """
    cls = type(value)
    if cls.__module__ != __name__ or len(value.__dict__) != fields:
        raise Unsendable(f"{cls.__module__}.{cls.__qualname__}")


def _names(value: Any, encoder: Encoder) -> Dict[str, Any]:
    names = {"name": value.name, "source": value.source}
    return names if encoder.to_python else {key: str(name) for key, name in names.items()}


def _check_pixels(data: Any) -> None:
    """Refuses pixels that would not arrive unchanged: integer, masked or in Fortran order.

    Raises:
        Unsendable: naming the reason.
    """
    from ..protocol import arrays

    arrays.check_exact(data)
    if data.dtype.str not in ("<f4", "<f8"):
        raise Unsendable(f"a frame with pixels of dtype {data.dtype}")


def _as_real(data: Any, name: str) -> Any:
    """Returns the pixels in single precision if that can hold them, else in double precision.

    Masked pixels become NaN.
    """
    import numpy as np

    from ..protocol import arrays

    if data is None:
        raise CodecError(f"the frame {name!r} has no data")
    is_masked = isinstance(data, np.ma.MaskedArray)
    if isinstance(data, np.ndarray) and not is_masked:
        arrays.check_type(data)
    array: Any = data if is_masked else np.asarray(data)
    if array.ndim == 0:
        raise CodecError(f"the data of the frame {name!r} are one number, not an array")
    wanted = _PRECISIONS.get(array.dtype.str[1:])
    if wanted is None:
        raise CodecError(
            f"the data of the frame {name!r} have the dtype {array.dtype}, expected real numbers"
        )
    if array.dtype.newbyteorder("=") != wanted:
        array = array.astype(wanted)
    return array.filled(np.nan) if is_masked else array


#: The precision in which pixels of a dtype are sent.
_PRECISIONS = {
    **dict.fromkeys(["f2", "f4", "b1", "i1", "u1", "i2", "u2"], "float32"),
    **dict.fromkeys(["f8", "i4", "u4", "i8", "u8"], "float64"),
}


class Picture:
    """An 8-bit gray picture.

    Attributes:
        name: the base name of its products, without an extension.
        source: where it came from, as `Frame.source`.
        pixels: the gray values, a uint8 array of shape (height, width). 0 is black, and the
            first row is at the top.
        file: the path of the file that it was saved as, if it was.
    """

    _WIRE = "drpipe/Picture/1"

    def __init__(self, name: str, source: str, pixels: Any, file: Optional[str] = None) -> None:
        """Creates a picture. The pixels are not copied."""
        self.name = name
        self.source = source
        self.pixels = pixels
        self.file = file

    def __repr__(self) -> str:
        shape = getattr(self.pixels, "shape", None)
        return f"Picture(name={self.name!r}, source={self.source!r}, shape={shape})"

    def _to_wire(self, encoder: Encoder) -> Any:
        import numpy as np

        from ..protocol import arrays

        if encoder.to_python:
            _check_exact(self, 4)
            arrays.check_exact(self.pixels)
        pixels = np.asarray(self.pixels)
        if pixels.dtype != np.uint8 or pixels.ndim != 2:
            raise CodecError(
                f"the picture {self.name!r} has pixels of dtype {pixels.dtype} on {pixels.ndim} "
                "axes, expected uint8 on 2"
            )
        fields = {
            **_names(self, encoder),
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "pixels": pixels.reshape(-1),
            "file": self.file if self.file is None or encoder.to_python else os.fspath(self.file),
        }
        return encoder.typed(self._WIRE, fields)

    @classmethod
    def _from_wire(cls, fields: Dict[str, Any]) -> Picture:
        pixels = fields["pixels"].reshape(fields["height"], fields["width"])
        return cls(fields["name"], fields["source"], pixels, fields["file"])


class FitsPath:
    """The path of a FITS file yet to be read.

    Attributes:
        path: the path, as a str.
        name: the base name of its products, without an extension.

    Example:
        >>> FitsPath("raw/n1.fits").name
        'n1'
    """

    _WIRE = "drpipe/FitsPath/1"

    def __init__(self, path: Union[str, os.PathLike[str]], name: Optional[str] = None) -> None:
        """Creates the path of a file. The default name is the file's, without its extension."""
        self.path = os.fspath(path)
        self.name = os.path.splitext(os.path.basename(self.path))[0] if name is None else name

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"FitsPath({self.path!r}, name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FitsPath):
            return NotImplemented
        return (self.path, self.name) == (other.path, other.name)

    def __hash__(self) -> int:
        return hash((self.path, self.name))

    def _to_wire(self, encoder: Encoder) -> Any:
        if encoder.to_python:
            _check_exact(self, 2)
        return encoder.typed(self._WIRE, {"path": os.fsencode(self.path), "name": self.name})

    @classmethod
    def _from_wire(cls, fields: Dict[str, Any]) -> FitsPath:
        return cls(os.fsdecode(fields["path"]), fields["name"])


class Record(Dict[str, Any]):
    """A dict with the fields of a structure of a Rust step. It is sent back as that structure.

    Attributes:
        type: the name of the structure's type, such as "lab/Exposure/1".
    """

    type: str

    def __init__(self, type: str, *fields: Any, **more: Any) -> None:
        """Creates a value of the type with this name. Fields are given as for `dict`."""
        super().__init__(*fields, **more)
        self.type = type

    def copy(self) -> Record:
        """Returns a shallow copy of the same type."""
        return Record(self.type, self)

    def __repr__(self) -> str:
        return f"Record({self.type!r}, {dict.__repr__(self)})"

    def _to_wire(self, encoder: Encoder) -> Any:
        if encoder.to_python:
            _check_exact(self, 1)
        return encoder.typed(self.type, dict(self))


_KNOWN: Dict[str, Callable[[Dict[str, Any]], Any]] = {
    cls._WIRE: cls._from_wire for cls in (Frame, Picture, FitsPath)
}


def from_wire(name: Any, value: Any) -> Any:
    """Returns an instance of the class that represents a type in Python.

    A structure of another type becomes a `Record`. Anything else is returned unchanged.

    Raises:
        CodecError: if the value does not match the type that it names.
    """
    known = _KNOWN.get(name)
    if known is None:
        return Record(name, value) if isinstance(value, dict) else value
    try:
        return known(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(
            f"a value named {name} is not of that type: {type(error).__name__}: {error}"
        ) from error
