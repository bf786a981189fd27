"""Phantom slides in fluorescence: a nuclear stain and the marker, 16 bit, one channel each.

The tissue is that of the bright-field phantoms, read as fluorophores instead of dyes: light adds
up where dyes multiply, so blur keeps the integral of a line. On top come what makes fluorescence
hard: autofluorescence of collagen, cytoplasm and most of all keratin, a share of the nuclear
stain in the marker's channel, uneven excitation, shot noise and the camera's offset.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SettingsError
from histoquant.phantom.noise import Array, Mask, sensor_noise, stream
from histoquant.phantom.paint import Painter, Stains
from histoquant.phantom.recipe import Marker, Preset, preset_recipe
from histoquant.phantom.render import Renderer, _centres, _collect
from histoquant.phantom.scene import Scene, make_scene
from histoquant.phantom.truth import Truth, make_truth

Range = tuple[float, float]
Grey = NDArray[np.uint16]
CHANNELS = ("DAPI", "Alexa 594")
TILE = 256
_CORNEUM_OD = 0.055  # hematoxylin of keratin in the bright-field phantom


@dataclass(frozen=True)
class FluorescenceRecipe:
    """What fluorescence adds to a phantom; intensities in grey levels of the camera.

    A pair of numbers is a range from which one value is drawn per slide.
    """

    nuclear_gain: Range = (14_000.0, 24_000.0)
    """Nuclear channel per unit of hematoxylin OD that the bright-field phantom would have."""
    marker_gain: Range = (5_000.0, 9_000.0)
    """Marker channel per unit of DAB OD that the bright-field phantom would have."""
    dermis_grey: tuple[Range, Range] = ((250.0, 600.0), (250.0, 600.0))
    """Autofluorescence of a collagen bundle in the nuclear and in the marker's channel."""
    epidermis_grey: tuple[Range, Range] = ((120.0, 300.0), (350.0, 800.0))
    """Autofluorescence of epidermal cytoplasm."""
    corneum_grey: tuple[Range, Range] = ((900.0, 2200.0), (1200.0, 3000.0))
    """Autofluorescence of keratin."""
    bleed_fraction: Range = (0.0, 0.006)
    """Share of the nuclear stain that shows in the marker's channel."""
    offset_grey: Range = (150.0, 500.0)
    """What the camera gives in the dark."""
    glow_grey: Range = (20.0, 120.0)
    """Stray light on empty glass."""
    grey_per_photon: float = 5.0
    """Grey levels of one photon: shot noise at 4,000 grey levels is then 3.5 %."""
    read_noise_grey: float = 14.0
    """Standard deviation of the camera's own noise."""
    uneven_fraction: float = 0.12
    """Unevenness of the excitation, peak to peak."""
    full_scale: int = 65_535
    """Greatest grey level of the camera."""


_PRESETS: dict[str, dict[str, Any]] = {
    "easy": {
        "bleed_fraction": (0.0, 0.0),
        "epidermis_grey": ((60.0, 120.0), (100.0, 250.0)),
        "uneven_fraction": 0.0,
        "grey_per_photon": 1.0,
        "read_noise_grey": 5.0,
    },
    "typical": {},
    "hard": {
        "nuclear_gain": (9_000.0, 16_000.0),
        "marker_gain": (4_000.0, 6_000.0),
        "dermis_grey": ((300.0, 700.0), (400.0, 900.0)),
        "epidermis_grey": ((200.0, 450.0), (500.0, 1000.0)),
        "corneum_grey": ((900.0, 2000.0), (2000.0, 5000.0)),
        "bleed_fraction": (0.005, 0.02),
        "grey_per_photon": 12.0,
        "read_noise_grey": 30.0,
        "uneven_fraction": 0.3,
    },
}
_PRESETS |= {f"{name}_skin": knobs for name, knobs in _PRESETS.items()}


def fluorescence_recipe(preset: Preset = "typical", **overrides: Any) -> FluorescenceRecipe:
    """Return what a preset adds in fluorescence, with some knobs changed.

    Raises
    ------
    SettingsError
        If the preset or a knob does not exist.
    """
    if preset not in _PRESETS:
        raise SettingsError(f"phantom preset {preset!r}: choose from {', '.join(_PRESETS)}")
    unknown = set(overrides) - set(asdict(FluorescenceRecipe()))
    if unknown:
        raise SettingsError(f"no such knob in fluorescence: {', '.join(sorted(unknown))}")
    return replace(FluorescenceRecipe(), **{**_PRESETS[preset], **overrides})


@dataclass(frozen=True)
class Light:
    """The values of one slide, drawn from a `FluorescenceRecipe`; pairs: nuclear, marker."""

    gain: tuple[float, float]
    dermis: tuple[float, float]
    epidermis: tuple[float, float]
    corneum: tuple[float, float]
    bleed: float
    dark: tuple[float, float]

    @classmethod
    def draw(cls, recipe: FluorescenceRecipe, seed: int) -> Light:
        """Draw the values of one slide."""
        rng = stream(seed, "fluorescence")

        def both(ranges: tuple[Range, Range]) -> tuple[float, float]:
            return float(rng.uniform(*ranges[0])), float(rng.uniform(*ranges[1]))

        return cls(
            gain=both((recipe.nuclear_gain, recipe.marker_gain)),
            dermis=both(recipe.dermis_grey),
            epidermis=both(recipe.epidermis_grey),
            corneum=both(recipe.corneum_grey),
            bleed=float(rng.uniform(*recipe.bleed_fraction)),
            dark=both((recipe.offset_grey, recipe.offset_grey)),
        )


class _Autofluorescence(Painter):
    """Paints tissue without nuclei: dermis, epidermis and corneum into a plane each."""

    def _dermis(self, stains: Stains, mask: Mask, *fields: Array) -> None:
        super()._dermis(stains, mask, *fields)
        stains.dab[mask] = 0

    def _epidermis(
        self, stains: Stains, mask: Mask, s: Array, d: Array, height: Array
    ) -> NDArray[np.int32]:
        owner = super()._epidermis(stains, mask, s, d, height)
        stains.dab[mask], stains.hematoxylin[mask] = stains.hematoxylin[mask], 0
        return owner

    def _corneum(self, stains: Stains, mask: Mask, s: Array, d: Array, height: Array) -> None:
        super()._corneum(stains, mask, s, d, height)
        stains.melanin[mask] = stains.hematoxylin[mask] / _CORNEUM_OD
        stains.hematoxylin[mask] = stains.dab[mask] = 0

    def _line(self, *_: object) -> None:
        """Leave out what is no autofluorescence, here and below."""

    def _lining(self, *_: object) -> None: ...

    def _nucleus(self, *_: object) -> None: ...

    def _pigment(self, *_: object) -> None: ...

    def _melanophages(self, *_: object) -> None: ...


class FluorescenceRenderer(Renderer):
    """Renders any window of a scene in grey levels; the same pixels whatever the window."""

    def __init__(self, scene: Scene, recipe: FluorescenceRecipe) -> None:
        super().__init__(scene)
        self.recipe, self.light = recipe, Light.draw(recipe, scene.seed)
        self._glow = float(stream(scene.seed, "glow").uniform(*recipe.glow_grey))
        nothing = replace(
            scene.recipe,
            epidermis_hematoxylin_od=0.0,
            dermis_hematoxylin_od=0.0,
            stain_strength=0.0,
        )
        plain = replace(
            scene.recipe,
            epidermis_hematoxylin_od=1.0,
            dermis_hematoxylin_od=1.0,
            stain_strength=1.0,
        )
        clear = replace(scene.scanner, background_dab=0.0)
        self._bound = Painter(replace(scene, recipe=nothing, scanner=clear))
        self._own = _Autofluorescence(replace(scene, recipe=plain, scanner=clear))

    def render_channels(self, y: int, x: int, height: int, width: int) -> Grey:
        """Return grey levels (2, height, width): nuclear stain, marker."""
        mpp, recipe = self.scene.mpp, self.recipe
        centre_y, centre_x = _centres(y, y + height, mpp), _centres(x, x + width, mpp)
        excitation = self._illumination(centre_y, centre_x)
        noise = sensor_noise(self.scene.seed, y, x, height, width)
        specks = self._dust(centre_y, centre_x) * self.light.gain[1]
        grey = np.empty((2, height, width), np.uint16)
        for channel, light in enumerate(self._emitted(y, x, height, width)):
            signal = np.maximum((light + self._glow + specks) * excitation, 0)
            sd = np.sqrt(signal * recipe.grey_per_photon + recipe.read_noise_grey**2)
            counts = self.light.dark[channel] + signal + sd * noise[..., channel]
            grey[channel] = np.clip(np.rint(counts), 0, recipe.full_scale)
        return grey

    def _emitted(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """Return the light of both channels (height, width), under even excitation, blurred."""
        if self._is_glass(y, x, height, width):
            nothing = np.zeros((height, width))
            return nothing, nothing
        factor, halo, light = self._factor, self._halo, self.light
        rows = _centres(y * factor - halo, (y + height) * factor + halo, self._step)
        columns = _centres(x * factor - halo, (x + width) * factor + halo, self._step)
        bound, own = self._bound.paint(rows, columns), self._own.paint(rows, columns)
        emitted = []
        for channel in range(2):
            plane = own.hematoxylin * np.float32(light.dermis[channel])
            plane += own.dab * np.float32(light.epidermis[channel])
            plane += own.melanin * np.float32(light.corneum[channel])
            stain = (bound.hematoxylin, bound.dab)[channel]
            plane += stain * np.float32(light.gain[channel])
            if channel == 1:
                plane += bound.hematoxylin * np.float32(light.gain[0] * light.bleed)
            plane *= np.float32(10) ** -bound.melanin  # pigment does not shine, it takes light
            emitted.append(
                _collect(plane, self._kernel, factor, (height, width)).astype(np.float64)
            )
        return emitted[0], emitted[1]


def write_fluorescence(
    path: str | Path,
    marker: Marker = "col7",
    seed: int = 0,
    preset: Preset = "typical",
    mpp: float = 0.5,
    size_mm: tuple[float, float] = (1.1, 0.75),
    angle_deg: float | None = None,
    light: FluorescenceRecipe | None = None,
    **overrides: object,
) -> Truth:
    """Write a synthetic fluorescence section as a 16-bit OME-TIFF and return its truth.

    Parameters
    ----------
    path, marker, seed, preset, mpp, size_mm, angle_deg
        As in `write_slide`.
    light
        What fluorescence adds; the preset's by default.
    **overrides
        Fields of :class:`histoquant.phantom.PhantomRecipe`.

    Returns
    -------
    The truth, as of `write_slide`. Where a column says OD there are grey levels of the camera
    above everything else that shines, before optics and under even excitation; the summary's
    ``marker_unit`` says so.

    Raises
    ------
    SettingsError
        If the marker, preset, scale, size or a knob makes no sense.
    """
    if marker not in ("p16", "col7"):
        raise SettingsError(f"phantom marker {marker!r}: choose p16 or col7")
    if not (0.05 <= mpp <= 4 and min(size_mm) > 0):
        raise SettingsError(f"phantom of {size_mm} mm at {mpp} um/px: use 0.05 to 4 um/px")
    recipe = light or fluorescence_recipe(preset)
    fixed: dict[str, Any] = {"melanin_fraction": 0.0, "uneven_fraction": recipe.uneven_fraction}
    tissue = preset_recipe(preset, **{**fixed, **overrides})
    scene = make_scene(marker, seed, preset, tissue, mpp, size_mm, angle_deg)
    renderer = FluorescenceRenderer(scene, recipe)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, renderer)
    truth = make_truth(scene, target.name.split(".")[0])
    return _in_grey_levels(truth, renderer.light, recipe)


def _in_grey_levels(truth: Truth, light: Light, recipe: FluorescenceRecipe) -> Truth:
    """The truth with grey levels where the bright-field phantom has optical densities."""
    nuclear, marker = light.gain
    junction = truth.junction.copy()
    junction[["peak_od", "integrated_od_um"]] *= marker
    nuclei = truth.nuclei.copy()
    nuclei["dab_od"] *= marker
    nuclei["hematoxylin_od"] *= nuclear
    # The bright-field slide's white, stain vectors and unspecific DAB are not in this one.
    left_out = ("_vector", "white", "background_dab_od")
    summary = {k: v for k, v in truth.summary.items() if not k.endswith(left_out)}
    for name in summary:
        if "_od_" in name:
            summary[name] = round(summary[name] * marker, 2)
    summary |= {
        "marker_unit": "grey levels",
        "channels": list(CHANNELS),
        "light": asdict(light),
        "fluorescence": asdict(recipe),
    }
    return replace(truth, junction=junction, nuclei=nuclei, summary=summary)


def _write(path: Path, renderer: FluorescenceRenderer) -> None:
    """Render into a tiled OME-TIFF of two channels with levels halved down to one tile or so."""
    import tifffile

    scene = renderer.scene
    name = f"{path.name} {scene.seed} {scene.marker} fluorescence"
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": list(CHANNELS)},
        "PhysicalSizeX": scene.mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": scene.mpp,
        "PhysicalSizeYUnit": "µm",
        "Name": f"phantom {scene.marker} in fluorescence, seed {scene.seed}, {scene.preset}",
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "Creator": "histoquant phantom",
    }
    temporary = path.with_name(f".{path.name}~")
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            tifffile.TiffWriter(
                temporary, ome=True, bigtiff=scene.shape[0] * scene.shape[1] > 4e8
            ) as tiff,
        ):
            levels = [_render(renderer, Path(scratch) / "level_0")]
            while max(levels[-1].shape[1:]) > 2 * TILE:
                levels.append(_halved(levels[-1], Path(scratch) / f"level_{len(levels)}"))
            for number, level in enumerate(levels):
                per_cm = 1e4 / (scene.mpp * 2**number)
                tiff.write(
                    level,
                    tile=(TILE, TILE),
                    photometric="minisblack",
                    compression="zlib",
                    predictor=True,
                    subifds=None if number else len(levels) - 1,
                    subfiletype=1 if number else 0,
                    resolution=(per_cm, per_cm),
                    resolutionunit="CENTIMETER",
                    metadata=None if number else metadata,
                    software="histoquant",
                    maxworkers=1,
                )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _render(renderer: FluorescenceRenderer, file: Path) -> Grey:
    height, width = renderer.scene.shape
    out: Grey = np.memmap(file, np.uint16, "w+", shape=(2, height, width))
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            size = min(TILE, height - y), min(TILE, width - x)
            out[:, y : y + TILE, x : x + TILE] = renderer.render_channels(y, x, *size)
    return out


def _halved(finer: Grey, file: Path) -> Grey:
    """Means of 2 x 2 pixels, a strip of rows at a time."""
    height, width = finer.shape[1] // 2, finer.shape[2] // 2
    out: Grey = np.memmap(file, np.uint16, "w+", shape=(2, height, width))
    for start in range(0, height, TILE):
        stop = min(start + TILE, height)
        block = finer[:, 2 * start : 2 * stop, : 2 * width].astype(np.uint32)
        total = block.reshape(2, stop - start, 2, width, 2).sum(axis=(2, 4))
        out[:, start:stop] = (total + 2) // 4
    return out
