"""What astropy reads: the reference that tests/it/fits_reference.rs compares with.

Usage: astropy_reference.py make DIRECTORY        write odd FITS files
       astropy_reference.py read OUTPUT FILE...   write pixels and a list of them

"read" writes the pixels of file number n as OUTPUT/n.f32 and OUTPUT/n.f64,
little-endian, and prints one line per file: "n hdu NAXIS1 NAXIS2 ..." or "n -"
for a file that has no image or is none.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits


def make(directory):
    rng = np.random.default_rng(1)
    ramp = np.arange(20 * 30).reshape(20, 30)

    def scaled(stored, name, **keywords):
        hdu = fits.PrimaryHDU(stored)
        hdu.header.update(keywords)
        hdu.writeto(directory / name, output_verify="ignore")

    scaled(ramp.astype("u1"), "u8_blank.fits", BLANK=7, BSCALE=0.1, BZERO=-3.3)
    scaled(ramp.astype("i2"), "i16_blank.fits", BLANK=9, BSCALE=0.3)
    # Not 0, which astropy takes for no BLANK at all.
    scaled((ramp * 3_000_001).astype("i4"), "i32_blank.fits", BLANK=3_000_001, BSCALE=1.7, BZERO=5.5)
    scaled((ramp * 3_000_000_019).astype("i8"), "i64.fits")
    fits.PrimaryHDU((ramp * 7_000_003).astype("u4")).writeto(directory / "u32.fits")
    odd = rng.normal(size=(20, 30))
    odd[0, :5] = np.nan, np.inf, -np.inf, 1e-310, -0.0
    fits.PrimaryHDU(odd).writeto(directory / "f64_odd.fits")
    odd = odd.astype("f4")
    odd[0, 3] = 1e-40
    fits.PrimaryHDU(odd).writeto(directory / "f32_odd.fits")
    scaled(odd, "f32_scaled.fits", BSCALE=0.7, BZERO=11.1)
    fits.PrimaryHDU(rng.normal(size=(2, 1, 3, 4))).writeto(directory / "four axes.fits")
    fits.PrimaryHDU(ramp).writeto(directory / "x[1:2,1:2].fits")
    fits.PrimaryHDU(ramp).writeto(directory / "~home+1.fits")
    noise = rng.normal(1000, 10, (50, 60)).astype("f4")
    noise[3, 4] = np.nan
    for method in "RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1":
        finite = np.nan_to_num(noise, nan=1000) if method == "HCOMPRESS_1" else noise
        hdu = fits.CompImageHDU(finite, compression_type=method, quantize_level=16)
        hdu.writeto(directory / f"tiles_{method}.fits")
    noise[5, 6] = np.inf
    noise[5, 7] = 1e-40
    hdu = fits.CompImageHDU(noise, compression_type="GZIP_1", quantize_level=0)
    hdu.writeto(directory / "tiles_lossless.fits")
    hdu = fits.CompImageHDU(ramp.astype("i4"), compression_type="RICE_1")
    hdu.writeto(directory / "tiles_i32.fits")


def first_image(hdus):
    for number, hdu in enumerate(hdus):
        if hdu.is_image and hdu.data is not None and hdu.data.size:
            return number
    return None


def read(output, files):
    for n, name in enumerate(files):
        try:
            with fits.open(name) as hdus:
                number = first_image(hdus)
                if number is None:
                    raise ValueError("no image")
                data = hdus[number].data
                tiled = isinstance(hdus[number], fits.CompImageHDU)
                single = data.astype("<f4")
            if tiled:
                double = data.astype("<f8")
            else:
                double = unscaled(name, number)
        except Exception:
            print(n, "-")
            continue
        single.tofile(output / f"{n}.f32")
        double.tofile(output / f"{n}.f64")
        print(n, number, *reversed(data.shape))


def unscaled(name, number):
    """Scaling in double precision, which astropy does not do for all types."""
    with fits.open(name, do_not_scale_image_data=True) as hdus:
        header, stored = hdus[number].header, hdus[number].data
        double = stored.astype("f8")
        if "BLANK" in header and header["BITPIX"] > 0:
            double[stored == header["BLANK"]] = np.nan
        if header.get("BSCALE", 1) != 1:
            double *= header["BSCALE"]
        if header.get("BZERO", 0) != 0:
            double += header["BZERO"]
        return double.astype("<f8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        read(Path(sys.argv[2]), sys.argv[3:])
