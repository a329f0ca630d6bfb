"""Noise removal and histogram equalization with numpy, for tests/it/fits_reference.rs.

Usage: fits2png_reference.py OUTPUT FILE...

Writes the gray values of file number n as OUTPUT/n.hist, and those after noise
removal as OUTPUT/n.denoise_hist, for each file whose first image is
two-dimensional and has finite pixels only.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

BINS = 65536


def remove_noise(image):
    for _ in range(2):
        mean, reach = np.mean(image), np.float32(3) * np.std(image)
        low, high = np.float32(mean - reach), np.float32(mean + reach)
        cleaned = image.copy()
        for row, column in np.argwhere((image > high) | (image < low)):
            top, left = max(row - 1, 0), max(column - 1, 0)
            cleaned[row, column] = np.median(image[top : top + 3, left : left + 3])
        image = cleaned
    return image


def stretch(values, low, high, top):
    if low == high:
        return np.zeros(values.shape, int)
    # In the precision of the values, whatever NumPy's version.
    factor = high.dtype.type(top) / (high - low)
    return np.clip((values * factor - factor * low).astype(int), 0, top)


def centroid(counts):
    index, total = np.arange(len(counts)), counts.sum()
    if total == 0:
        return len(counts) / 2, len(counts)
    mean = np.dot(counts, index) / total
    return mean, np.sqrt(max(0, np.dot(counts, index * index) / total - mean * mean))


def histogram(image):
    """np.histogram in one definite precision: versions of NumPy differ in it."""
    low, high = image.min(), image.max()
    if low == high:
        return np.histogram(image, bins=BINS)
    edges = np.linspace(np.float64(low), np.float64(high), BINS + 1).astype(np.float32)
    values = image.ravel()
    index = ((values - low) / (high - low) * BINS).astype(np.intp)
    index[index == BINS] -= 1
    index -= values < edges[index]
    index += (values >= edges[index + 1]) & (index != BINS - 1)
    return np.bincount(index, minlength=BINS), edges


def equalize(image):
    counts, edges = histogram(image)
    counts[[0, -1]] = 0
    mean, sd = centroid(counts)
    low, high = int(max(0, mean - sd)), int(min(mean + 6 * sd, BINS - 1))
    threshold = max(image.size / BINS, counts[low:high].sum() / (high - low))
    levels = stretch(image, edges[low], edges[high], BINS - 1)
    counts = np.histogram(levels, bins=BINS)[0]
    counts[[0, -1]] = 0
    sums = np.cumsum(np.clip(counts, 0, threshold))
    return stretch(sums, sums[0], sums[-1], 255).astype("u1")[levels]


def main(output, files):
    for n, name in enumerate(files):
        try:
            with fits.open(name) as hdus:
                images = (hdu.data for hdu in hdus if hdu.is_image)
                image = next(data for data in images if data is not None and data.size)
        except Exception:
            continue
        image = image.astype(np.float32)
        if image.ndim == 2 and np.isfinite(image).all():
            equalize(image).tofile(output / f"{n}.hist")
            equalize(remove_noise(image)).tofile(output / f"{n}.denoise_hist")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    main(Path(sys.argv[1]), sys.argv[2:])
