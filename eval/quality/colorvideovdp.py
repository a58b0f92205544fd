"""ColorVideoVDP, fast enough on a CPU for hundreds of clips.

The package's own loop runs once a display and spends most of a CPU's time in one-channel convolutions, which torch does
badly. The loop here is the same computation (a test compares the two): frames become light and pass through the
temporal filters once, every pyramid level is made once, and the filters are sums of shifted copies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from eval.quality.arrays import RGB, check_frames
from genwm.errors import InputError
from genwm.extras import require

DISPLAYS = ("standard_fhd", "standard_4k")


def jod(
    reference: RGB, test: RGB, *, fps: float, displays: Sequence[str] = DISPLAYS, device: str = "cpu"
) -> dict[str, float]:
    """ColorVideoVDP (package cvvdp; Mantiuk et al., ACM TOG 43(4), 2024) at 1:1 pixels: JOD by display, 10 at best.

    ``fps`` is the rate that the frames are shown at, in 1/s; a single frame is judged as a still image. ``displays``
    are names of cvvdp's display models; those that differ in pixel size alone share most of the work. ``device`` is
    torch's. Raises MissingExtraError, InputError.
    """
    check_frames(reference, test, dimensions=4)
    height, width = reference.shape[1:3]
    if min(height, width) < 16:
        raise InputError(
            f"Expected frames of 16 x 16 pixels or more for ColorVideoVDP, got {width} x {height}; use larger ones"
        )
    if not fps > 0:
        raise InputError(f"Expected a frame rate above 0 for ColorVideoVDP, got {fps}; give the clip's own")
    torch = _torch()
    metrics = {name: _cvvdp(name, device) for name in displays}
    scores: dict[str, float] = {}
    with torch.inference_mode():
        for same in _by_light(metrics.values()):
            scores |= _cvvdp_scores(same, reference, test, fps)
    return {name: scores[name] for name in displays}


def _cvvdp_scores(metrics: Sequence[Any], reference: RGB, test: RGB, fps: float) -> dict[str, float]:
    package, torch = load_package(), _torch()
    first, (count, height, width) = metrics[0], reference.shape[:3]
    still = count == 1
    source = package.video_source.video_source_array(
        test, reference, 0 if still else fps, dim_order="FHWC", display_photometry=first.display_photometry
    )
    source.warning_shown = True  # dark frames are no mistake of units here
    levels: dict[tuple[str, int], Any] = {}
    pyramids = [_pyramid_class()(width, height, metric, levels) for metric in metrics]
    if not still:
        first.F, _ = first.get_temporal_filters(fps)
        first.filter_len = torch.numel(first.F[0])
    channels, buffers = (3 if still else 4), package.cvvdp_metric.cvvdp_frame_buffers()
    errors: list[list[Any]] = [[] for _ in metrics]
    for index in range(count):
        light = first.read_block_of_frames(source, channels, buffers, 1, "DKLd65", index, 1)
        levels.clear()
        for metric, pyramid, found in zip(metrics, pyramids, errors, strict=True):
            found.append(metric.process_block_of_frames(light, (height, width, count), channels - 2, pyramid, still)[0])
    return {
        metric.display_name: float(metric.do_pooling_and_jods(torch.cat(found, dim=2)))
        for metric, found in zip(metrics, errors, strict=True)
    }


def _by_light(metrics: Iterable[Any]) -> list[list[Any]]:
    """Groups metrics whose displays turn pixels into the same light."""
    groups: dict[str, list[Any]] = {}
    for metric in metrics:
        names = {"full_name", "short_name", "name", "rgb2xyz"}
        light = {key: value for key, value in vars(metric.display_photometry).items() if key not in names}
        groups.setdefault(repr(sorted(light.items())), []).append(metric)
    return list(groups.values())


class _Blur:
    """torchvision's GaussianBlur (mirrored borders), as two passes of shifted sums."""

    def __init__(self, size: int, sigma: float) -> None:
        weights = np.exp(-(np.arange(size) - size // 2) ** 2 / (2 * sigma**2))
        self._weights = [float(weight) for weight in weights / weights.sum()]

    def forward(self, values: Any) -> Any:
        """``(..., H, W)`` float, larger than half the window a side -> the same shape."""
        half = len(self._weights) // 2
        values = _torch().nn.functional.pad(values, (half,) * 4, mode="reflect")
        for axis in (-2, -1):
            length = values.shape[axis] - 2 * half
            shifted = [values.narrow(axis, start, length) for start in range(2 * half + 1)]
            total = shifted[half] * self._weights[half]
            for step in range(half):
                total.add_(shifted[step] + shifted[-1 - step], alpha=self._weights[step])
            values = total
        return values


@cache
def _pyramid_class() -> Any:
    package, torch = load_package(), _torch()
    outer, inner, centre = 0.05, 0.25, 0.4  # Burt and Adelson's kernel with a = 0.4

    class Pyramid(package.lpyr_dec.weber_contrast_pyr):  # type: ignore[misc, name-defined]
        """ColorVideoVDP's contrast pyramid, with levels kept in a table that several displays share for one frame."""

        def __init__(self, width: int, height: int, metric: Any, levels: dict[tuple[str, int], Any]) -> None:
            super().__init__(width, height, metric.pix_per_deg, metric.device, contrast=metric.contrast)
            self._levels = levels

        def _once(self, name: str, of: Any, make: Callable[[], Any]) -> Any:
            # The table keeps both sides alive, so an id stands for one tensor until it is cleared.
            key = (name, id(of))
            if key not in self._levels:
                self._levels[key] = (make(), of)
            return self._levels[key][0]

        def gausspyr_reduce(self, x: Any, kernel_a: float = centre) -> Any:
            def make() -> Any:
                odd = x.shape[-2] % 2 == 1  # cvvdp 0.5 asks the rows' number for both axes
                return self._halved(self._halved(x, -2, odd), -1, odd)

            return self._once("reduce", x, make)

        def gausspyr_expand(self, x: Any, sz: Sequence[int], kernel_a: float = centre) -> Any:
            return self._once("expand", x, lambda: self._doubled(self._doubled(x, -2, sz[-2]), -1, sz[-1]))

        @staticmethod
        def _halved(x: Any, axis: int, odd: bool) -> Any:
            size = x.shape[axis]
            padding = (0, 0, 2, 3) if axis == -2 else (2, 3)
            padded = torch.nn.functional.pad(x, padding)
            count = (size + 1) // 2

            def tap(start: int) -> Any:
                return padded.narrow(axis, start, 2 * count)[(..., slice(None, None, 2), *(slice(None),) * (-1 - axis))]

            y = tap(2) * centre
            y.add_(tap(1) + tap(3), alpha=inner).add_(tap(0) + tap(4), alpha=outer)
            start, end = y.select(axis, 0), y.select(axis, count - 1)
            start.add_(x.select(axis, 0), alpha=inner).add_(x.select(axis, 1), alpha=outer)
            if odd:
                end.add_(x.select(axis, size - 1), alpha=inner).add_(x.select(axis, size - 2), alpha=outer)
            else:
                end.add_(x.select(axis, size - 1), alpha=outer)
            return y

        @staticmethod
        def _doubled(x: Any, axis: int, size: int) -> Any:
            count = x.shape[axis]
            before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, count - 1)), axis)
            after = torch.cat((x.narrow(axis, 1, count - 1), x.narrow(axis, count - 1, 1)), axis)
            even = (before + after).mul_(2 * outer).add_(x, alpha=2 * centre)
            odd = (x + after).mul_(2 * inner)
            # (..., count, 2, ...) laid flat alternates the two.
            place = axis + x.dim()
            return torch.stack((even, odd), place + 1).flatten(place, place + 1).narrow(axis, 0, size)

    return Pyramid


def _torch() -> Any:
    return require("torch", "quality")


@cache
def load_package() -> ModuleType:
    """pycvvdp, imported without its chatter; MissingExtraError where it is not installed."""
    # Importing it makes torch look for a CUDA compiler and say on stderr that there is none.
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return require("pycvvdp", "quality")
    finally:
        logger.setLevel(level)


@cache
def _cvvdp(display: str, device: str) -> Any:
    package = load_package()
    try:
        metric = package.cvvdp(display_name=display, quiet=True, device=_torch().device(device))
    except package.vq_exception as error:
        raise InputError(f"Expected a display model of cvvdp, got {display!r}; choose {DISPLAYS[0]}") from error
    if metric.pu_dilate:
        metric.pu_blur = _Blur(int(metric.pu_dilate * 4) + 1, metric.pu_dilate)
    return metric
