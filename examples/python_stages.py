"""Stages for FITS frames, with numpy and astropy."""

from __future__ import annotations

import numpy as np

import drpipe


class Flatten(drpipe.Stage):
    """Takes the background off, a median in each of boxes x boxes parts of the frame."""

    boxes: int = 8

    def run(self, frame: drpipe.Frame) -> drpipe.Frame:
        data = np.array(frame.data)
        for rows in np.array_split(data, self.boxes):
            for box in np.array_split(rows, self.boxes, axis=1):
                # A part of the frame, so the frame itself is changed.
                box -= np.nanmedian(box)
        frame.header["BOXES"] = self.boxes
        frame.history.append(f"background of {self.boxes} x {self.boxes} boxes taken off")
        return frame.replace(data=data)


class Background(drpipe.Stage):
    """One line for each frame: its name, the background and its scatter in the frame's unit
    [ADU, say], and how many pixels are above."""

    sigma: float = 3.0

    def init(self) -> None:
        # Slow to import: only by those who do the work, not by those who look.
        from astropy.stats import sigma_clipped_stats

        self.statistics = sigma_clipped_stats

    def run(self, frame: drpipe.Frame) -> str:
        _, median, deviation = self.statistics(frame.data, sigma=self.sigma)
        above = int(np.count_nonzero(frame.data > median + self.sigma * deviation))
        self.log.debug("%s: %d pixels above the background", frame.name, above)
        return f"{frame.name} {median:.3f} {deviation:.3f} {above}"
