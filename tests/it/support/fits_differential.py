"""FITS files of every kind, and whether drpipe's products of them are what astropy reads.

Usage: fits_differential.py make DIRECTORY SEED COUNT   writes files 0.fits, 1.fits, ...
       fits_differential.py break DIRECTORY SEED        damages each file of a directory
       fits_differential.py compare DIRECTORY PRODUCTS  compares

PRODUCTS has what drpipe wrote of file n: n.f32.fits and n.f64.fits, or n.f32.txt and n.f64.txt
with the reason why it refused. "compare" prints a line for each difference, "n kind what",
and at the end "compared N". Differences that are meant are listed in docs/FITS.md.
"""

import gzip
import random
import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

TYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
UNSIGNED = {8: -128, 16: 2**15, 32: 2**31, 64: 2**63}
METHODS = ["RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"]
#: Of the file rather than of the image: not in products.
OF_THE_FILE = set(
    "SIMPLE BITPIX NAXIS EXTEND PCOUNT GCOUNT GROUPS XTENSION BLOCKED INHERIT END BSCALE BZERO "
    "BLANK DATAMIN DATAMAX CHECKSUM DATASUM".split()
)


class Maker:
    """Makes one file after the other."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)

    def chance(self, part):
        return self.random.random() < part

    def pixels(self, bitpix, shape):
        """Stored values: noise, ramps, extremes, few values."""
        count = int(np.prod(shape))
        kind = self.random.choice(["noise", "ramp", "extreme", "few"])
        if bitpix < 0:
            data = self.numbers.normal(1000, 30, count)
            if kind == "ramp":
                data = np.arange(count) * 0.37 - 5
            elif kind == "extreme":
                # Of doubles some do not fit single precision.
                data *= 10.0 ** self.numbers.integers(-300 if bitpix == -64 else -40, 33, count)
                if bitpix == -64 and self.chance(0.3):
                    data[self.random.randrange(count)] = 1e303
            elif kind == "few":
                data = np.where(data > 1010, 0.0, np.round(data))
            for odd in np.nan, np.inf, -np.inf, 1e-40, -0.0:
                if self.chance(0.15):
                    data[self.random.randrange(count)] = odd
        else:
            info = np.iinfo(TYPES[bitpix])
            data = self.numbers.integers(0, 120, count)
            if kind == "ramp":
                data = np.arange(count) % 100 * (1 if bitpix < 32 else 2_000_003)
            elif kind == "extreme":
                data = self.numbers.integers(info.min, info.max, count, endpoint=True)
            elif kind == "few":
                data = np.where(data > 100, 1, 0)
        return np.asarray(data).reshape(shape).astype(TYPES[bitpix])

    def scaled(self, bitpix, data):
        """BSCALE, BZERO and BLANK."""
        keywords = {}
        if bitpix > 0 and self.chance(0.3):
            keywords["BZERO"] = UNSIGNED[bitpix]
        elif self.chance(0.3):
            keywords["BSCALE"] = self.random.choice([2.0, 0.1, 1e-5, -3.0, 1.7e3])
            keywords["BZERO"] = self.random.choice([0.0, 5.5, -3.3, 1e6])
        if bitpix > 0 and keywords.get("BZERO") != UNSIGNED[bitpix] and self.chance(0.3):
            # Neither of unsigned integers, nor 0: astropy takes those for no BLANK at all.
            flat = data.ravel()
            keywords["BLANK"] = int(flat[self.random.randrange(flat.size)]) or 7
        return keywords

    def shape(self, most=5):
        axes = self.random.choice([1, 2, 2, 2, 2, 3, 4, most])
        longest = {1: 500, 2: 60, 3: 16, 4: 8}.get(axes, 5)
        return tuple(self.random.randint(1, longest) for _ in range(axes))

    def plain(self, extension):
        bitpix = self.random.choice(list(TYPES))
        data = self.pixels(bitpix, self.shape())
        hdu = fits.ImageHDU(data) if extension else fits.PrimaryHDU(data)
        hdu.header.update(self.scaled(bitpix, data))
        return hdu

    def tiled(self):
        """An image in compressed tiles, as far as astropy writes such."""
        for _ in range(50):
            method = self.random.choice(METHODS)
            bitpix = self.random.choice(list(TYPES))
            shape = self.shape(4)
            if method == "HCOMPRESS_1":
                shape = self.random.randint(4, 60), self.random.randint(4, 60)
            data = self.pixels(bitpix, shape)
            options = {"compression_type": method}
            if method == "PLIO_1":
                data = data & 127 if bitpix > 0 else data
            if method == "HCOMPRESS_1":
                # With loss only where nothing leaves the range of the type.
                options["hcomp_scale"] = self.random.choice([0, 1, 2.5 if abs(bitpix) == 32 else 0])
                options["hcomp_smooth"] = self.random.choice([0, 1])
            elif self.chance(0.5):
                options["tile_shape"] = tuple(self.random.randint(1, n) for n in shape)
            if bitpix < 0:
                options["quantize_level"] = self.random.choice([0, 2, 16, -1.5])
                options["quantize_method"] = self.random.choice([-1, 1, 2])
                options["dither_seed"] = self.random.choice([1, 77, 9999, -1])
            try:
                hdu = fits.CompImageHDU(data, name=self.random.choice(["", "SCI"]), **options)
                if bitpix > 0:
                    hdu.header.update(self.scaled(bitpix, data))
                fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(Scratch())
            except Exception:
                continue
            return hdu
        return self.plain(True)

    def cards(self):
        """Cards that astropy would not write itself, and long and odd ones."""
        number = self.random.choice
        cards = []
        for index in range(self.random.randint(0, 12)):
            text = "".join(self.random.choices("abc '/&=\"xyz  ", k=self.random.randint(0, 180)))
            cards += self.random.choice([
                lambda: [f"LOW{index:<5}= {number(['1.5e+02', '-2.5d-04', '3.e1', '1.25D2'])} / an exponent"],
                lambda: [f"CRVAL{index + 1:<3}= {number(['1.5000e+02', ' 12', '-7.25E-3'])}"],
                lambda: [f"INT{index:<5}= {number(['+5', '-0', '00012', '123456789012345678'])} / whole"],
                lambda: [f"BOOL{index:<4}= {'T':>20} / logical"],
                lambda: [f"CPLX{index:<4}= (1.5, -2.5E3) / complex"],
                lambda: [f"NONE{index:<4}= {'':>20} / nothing"],
                lambda: [f"HIERARCH ESO DET{index} VAL = 1.5E3 / long"],
                lambda: [f"HIERARCH eso low{index} = 'text' / long"],
                lambda: [f"COMMENT {text:.72}"],
                lambda: [f"HISTORY {text:.72}"],
                lambda: [f"COMMENT = {text:.70}", f"COMMENT = {index} / twice"],
                lambda: [f"        {text:.72}"],
                lambda: [f"low{index:<5}= 5 / a small keyword"],
                lambda: strings(f"TEXT{index}", text),
                lambda: strings(f"QUOT{index}", "it's " * self.random.randint(1, 30)),
                lambda: strings(f"COMM{index}", "short", text.strip()),
            ])()
        return [card for card in cards if card.strip()]

    def file(self):
        """The bytes of a file."""
        primary = fits.PrimaryHDU()
        layout = self.random.choice(["plain", "plain", "empty", "tiled", "tiled", "tiled", "many"])
        if layout == "plain":
            hdus = [self.plain(False)]
        elif layout == "empty":
            hdus = [primary, self.plain(True)]
        elif layout == "tiled":
            hdus = [primary, self.tiled()]
        else:
            table = fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2, 3])], name="SCI")
            hdus = [primary, table] + [
                self.tiled() if self.chance(0.3) else self.plain(True) for _ in range(3)
            ]
        if len(hdus) > 1:
            # Beside those of the extension, which win.
            hdus[0].header.update({"OBJECT": "M31", "FILTER": "V", "EXPTIME": 30.0})
            for hdu in hdus[1:]:
                if self.chance(0.5):
                    hdu.header["INHERIT"] = self.chance(0.7)
                    hdu.header["FILTER"] = "R"
        scratch = Scratch()
        fits.HDUList(hdus).writeto(scratch, output_verify="ignore", checksum=self.chance(0.2))
        data = bytes(scratch.data)
        for number in range(len(hdus)):
            data = inserted(data, number, self.cards())
        if self.chance(0.1):
            data = without_fill(data)
        if self.chance(0.2):
            cut = self.random.randint(0, len(data))
            data = gzip.compress(data[:cut]) + gzip.compress(data[cut:])
        return data


class Scratch:
    """A file in memory, as astropy writes to it."""

    def __init__(self):
        self.data = bytearray()
        self.closed = False
        self.mode = "wb"

    def write(self, data):
        self.data += bytes(data)
        return len(data)

    def tell(self):
        return len(self.data)

    def flush(self):
        pass

    def close(self):
        pass


def strings(keyword, text, comment=""):
    """The cards of a string, as astropy writes them."""
    return [str(card) for card in chunks(str(fits.Card(keyword, text.rstrip(), comment)))]


def chunks(text):
    return [text[at : at + 80] for at in range(0, len(text), 80)]


def inserted(data, number, cards):
    """The file with further cards at the end of the header of an HDU."""
    start = 0
    for index in range(number + 1):
        end = start
        while not any(
            data[at : at + 80].rstrip() == b"END" for at in range(end, end + 2880, 80)
        ):
            end += 2880
        end += 2880
        if index < number:
            header = fits.Header.fromstring(data[start:end].decode("latin1"))
            start = end + padded(size(header))
    head = data[start:end]
    old = [head[at : at + 80] for at in range(0, len(head), 80)]
    old = old[: next(i for i, card in enumerate(old) if card.rstrip() == b"END")]
    new = b"".join(old) + b"".join(card.ljust(80).encode("latin1")[:80] for card in cards)
    new += b"END".ljust(80)
    # The header is another one now: its checksum would not agree, and need not.
    new = new.replace(b"CHECKSUM=", b"OLDCHECK=")
    return data[:start] + new.ljust(padded(len(new))) + data[end:]


def without_fill(data):
    """The file without what fills its last record up."""
    end = last = 0
    while end < len(data):
        start = end
        while not any(data[at : at + 80].rstrip() == b"END" for at in range(end, end + 2880, 80)):
            end += 2880
        end += 2880
        last = end + size(fits.Header.fromstring(data[start:end].decode("latin1")))
        end = padded(last)
    return data[:last]


def size(header):
    axes = [header[f"NAXIS{n + 1}"] for n in range(header["NAXIS"])]
    values = int(np.prod(axes, dtype=object)) if axes else 0
    return abs(header["BITPIX"]) // 8 * (values + header.get("PCOUNT", 0))


def padded(length):
    return -(-length // 2880) * 2880


def damaged(data, rng):
    """The file after a transfer that went wrong."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        kind = rng.choice(["flip", "header", "cut", "digit", "zeros"])
        if kind == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "header":
            data[rng.randrange(min(len(data), 8640))] = rng.choice(b" '=/0123456789-TFE\0\xff")
        elif kind == "cut" and rng.random() < 0.5:
            del data[at:]
        elif kind == "digit":
            places = [i for i, b in enumerate(data[:8640]) if chr(b).isdigit()]
            if places:
                data[rng.choice(places)] = rng.choice(b"0123456789")
        else:
            data[at : at + rng.randrange(200)] = bytes(rng.randrange(200))
        if not data:
            data = bytearray(b"S")
    return bytes(data)


def expected(hdus, stored, number):
    """astropy's pixels in single and in double precision, in native byte order."""
    data = hdus[number].data
    raw = stored[number].data
    header = stored[number].header
    single = data.astype("f4")
    scaled = header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0
    if data.dtype.kind in "iu" or not scaled and "BLANK" not in header:
        return single, data.astype("f8")
    # Scaling in double precision, which astropy does not do for all types.
    double = raw.astype("f8")
    if header.get("BSCALE", 1) != 1:
        double *= header["BSCALE"]
    if header.get("BZERO", 0) != 0:
        double += header["BZERO"]
    if "BLANK" in header and header["BITPIX"] > 0:
        double[raw == header["BLANK"]] = np.nan
    return single, double


def same_bits(ours, theirs):
    ours = ours.astype(ours.dtype.newbyteorder("="))
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} is not {theirs.shape}"
    kind = "u4" if theirs.dtype.itemsize == 4 else "u8"
    equal = (ours.view(kind) == theirs.view(kind)) | (np.isnan(ours) & np.isnan(theirs))
    if equal.all():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(~equal))
    return f"{(~equal).sum()} of {equal.size} pixels differ, {ours[at]} is not {theirs[at]} at {at}"


def inherited(hdus, number):
    """The cards of an image with those of the primary HDU that it inherits."""
    cards = without_room(hdus[number].header.cards)
    if number and hdus[number].header.get("INHERIT") is True:
        own = {card.keyword for card in cards}
        apart = {"COMMENT", "HISTORY", "", "EXTNAME", "EXTVER", "EXTLEVEL"} | own
        cards += [card for card in without_room(hdus[0].header.cards) if card.keyword not in apart]
    return cards


def without_room(cards):
    """Blank cards at the end are room for more."""
    cards = list(cards)
    while cards and not str(cards[-1]).strip():
        cards.pop()
    return cards


def kept(cards):
    """What of a header must be in a product: (keyword, value, comment)."""
    result, seen = [], set()
    for card in cards:
        keyword = card.keyword.upper()
        if keyword in OF_THE_FILE or keyword.startswith("NAXIS"):
            continue
        if keyword not in ("COMMENT", "HISTORY", "") and keyword in seen:
            continue
        seen.add(keyword)
        value = card.value
        value = value.rstrip() if isinstance(value, str) else value
        result.append((keyword, type(value).__name__, value, card.comment.strip()))
    return result


def header_difference(theirs, ours):
    ours, theirs = kept(ours), kept(theirs)
    for one, other in zip(ours, theirs):
        if one != other and str(one) != str(other):
            return f"{one} is not {other}"
    if len(ours) < len(theirs):
        return f"{theirs[len(ours)]} is missing"
    return None


def first_image(hdus):
    for number, hdu in enumerate(hdus):
        if hdu.is_image and hdu.shape and 0 not in hdu.shape:
            return number
    raise ValueError("no image")


def difference(path, products, n):
    """What is different about file n; none if nothing is."""
    refused = {p: (products / f"{n}.{p}.txt") for p in ("f32", "f64")}
    refused = {p: file.read_text() for p, file in refused.items() if file.exists()}
    try:
        with fits.open(path) as hdus, fits.open(path, do_not_scale_image_data=True) as stored:
            number = first_image(hdus)
            single, double = expected(hdus, stored, number)
            cards = inherited(hdus, number)
            kept(cards)
    except Exception as error:
        return None if len(refused) == 2 else f"unreadable astropy: {error!r:.80}"
    too_large = bool((np.isinf(single) & np.isfinite(double)).any())
    for precision, theirs in ("f32", single), ("f64", double):
        if precision == "f32" and too_large:
            if not refused.get("f32"):
                return "pixels f32: values beyond single precision were not refused"
            continue
        if precision in refused:
            return f"refused {precision}: {refused[precision]}"
        with fits.open(products / f"{n}.{precision}.fits", memmap=False) as product:
            wrong = same_bits(product[0].data, theirs)
            if wrong:
                return f"pixels {precision}: {wrong}"
            try:
                wrong = header_difference(cards, product[0].header.cards)
            except Exception as error:
                wrong = f"{error!r}"
            if wrong:
                return f"card {precision}: {wrong}"
    return None


def compare(directory, products):
    files = sorted(directory.glob("*.fits"), key=lambda path: int(path.stem))
    for path in files:
        wrong = difference(path, products, path.stem)
        if wrong:
            print(path.stem, wrong)
    print("compared", len(files))


def main():
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    what, directory, *rest = sys.argv[1:]
    directory = Path(directory)
    if what == "make":
        maker = Maker(int(rest[0]))
        for n in range(int(rest[1])):
            (directory / f"{n}.fits").write_bytes(maker.file())
    elif what == "break":
        rng = random.Random(int(rest[0]))
        for path in sorted(directory.glob("*.fits"), key=lambda path: int(path.stem)):
            path.write_bytes(damaged(path.read_bytes(), rng))
    else:
        compare(directory, Path(rest[0]))


if __name__ == "__main__":
    main()
