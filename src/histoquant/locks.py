"""What the slides of one staining batch share: stain vectors, and a threshold from controls.

Both are on record in ``stains/<batch>.json`` of the results directory, and travel as settings of
each slide, so that a worker anywhere measures with them and the key of a result holds them.

Vectors are estimated once, from up to 16 slides of the batch, and then locked: slides that come
later are measured with them too. To find them anew, remove the file. Thresholds follow the
results of the negative controls, which are measured before the slides that wait for them.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant import __version__, atomic, runlock
from histoquant.errors import HistoquantError, ManifestError
from histoquant.manifest import Entry
from histoquant.results import automatic_place, read_record, rejection, to_json
from histoquant.rundir import RunDirectory, now
from histoquant.settings import Collagen7Settings, P16Settings, Settings

Progress = Callable[[str], None]
Lock = dict[str, Any]
Floats = npt.NDArray[np.float64]

_MOST_SLIDES = 16
_TURN_S = 60.0
OWN_THRESHOLDS = "settings (a negative control is measured with the settings' own thresholds)"
DOUBTFUL = " (above the settings' 2+: is the control negative?)"
DOUBTFUL_LINE = " (above twice the settings' own: is the control negative?)"


def needs_vectors(settings: Settings) -> bool:
    """Whether a slide's settings ask for a batch's vectors and hold none yet."""
    return settings.stains.source == "batch" and not settings.stains.locked


def needs_threshold(entry: Entry, settings: Settings) -> bool:
    """Whether a slide's settings ask for a threshold from controls and hold none yet."""
    return needs_control(entry, settings) and not _rule(entry, settings).threshold_locked


def needs_control(entry: Entry, settings: Settings) -> bool:
    """Whether a slide's threshold comes from a control of its batch, known by now or not."""
    return _rule(entry, settings).threshold_source == "negative_control"


def _rule(entry: Entry, settings: Settings) -> P16Settings | Collagen7Settings:
    """The settings that say what of a slide is positive."""
    return settings.p16 if entry.marker == "p16" else settings.collagen7


def is_control(entry: Entry) -> bool:
    """Whether the slide is one that a threshold can come from."""
    return entry.control == "negative"


def controls_of(
    entries: Sequence[Entry], directory: RunDirectory, exclude_others: bool
) -> list[Entry]:
    """The negative controls that thresholds come from.

    Those of `entries`, and those measured in the directory before, unless `exclude_others`:
    then `entries` are the whole study.
    """
    found = [entry for entry in entries if is_control(entry)]
    if exclude_others:
        return found
    present = {entry.slide_id for entry in entries}
    names = ("slide", "slide_id", "marker", "batch", "control", "resolved_path")
    for row in directory.measured():
        fields: dict[str, Any] = {name: row[name] for name in names}
        entry = Entry(path=Path(row["resolved_path"]), **fields)
        if is_control(entry) and entry.slide_id not in present:
            found.append(entry)
    return found


def check_batches(entries: Iterable[Entry], settings: Settings) -> None:
    """Refuse settings that need a staining batch for slides that name none.

    Raises
    ------
    ManifestError
        Naming the slides.
    """
    nameless = [
        entry.slide
        for entry in entries
        if not entry.batch and (needs_vectors(settings) or needs_threshold(entry, settings))
    ]
    if nameless:
        what = 'stains.source = "batch"' if needs_vectors(settings) else ""
        what = what or 'threshold_source = "negative_control"'
        shown = ", ".join(nameless[:5]) + (", ..." if len(nameless) > 5 else "")
        raise ManifestError(
            f"{what} needs to know the staining batch of every slide; {len(nameless)} name(s) "
            f"none: {shown}. Fill the manifest's column batch, or choose another source"
        )


def with_vectors(entry: Entry, settings: Settings, directory: RunDirectory) -> Settings:
    """`settings` with the vectors locked for the entry's batch, where they are."""
    if not needs_vectors(settings):
        return settings
    lock = _read(directory, entry.batch).get("vectors", {}).get(_group(entry, settings), {})
    if lock.get("made_with") != _made_with(settings):
        return settings
    return _settings_with_vectors(settings, lock)


def rests_on_nothing(entry: Entry, settings: Settings, directory: RunDirectory) -> bool:
    """Whether the vectors locked for the entry's batch come from no slide: none was readable."""
    locked = _read(directory, entry.batch).get("vectors", {})
    return needs_vectors(settings) and not locked.get(_group(entry, settings), {}).get("slides")


def lock_vectors(
    entries: Sequence[tuple[Entry, Settings]], directory: RunDirectory, progress: Progress
) -> None:
    """Estimate and write the vectors of every batch and marker in `entries` that has none.

    Parameters
    ----------
    entries
        All slides of the run, with their settings; the estimate of a batch is pooled over them.
    directory
        Where they are written.
    progress
        Called with each batch.
    """
    groups: dict[tuple[str, str], list[tuple[Entry, Settings]]] = {}
    for entry, settings in entries:
        if needs_vectors(settings):
            groups.setdefault((entry.batch, _group(entry, settings)), []).append((entry, settings))
    for (batch, group), members in groups.items():
        progress(f"estimating the stain vectors of batch {batch} ({group})")
        _keep_vectors(directory, batch, group, _estimate(batch, members))


def with_threshold(
    entry: Entry,
    settings: Settings,
    controls: Sequence[Entry],
    directory: RunDirectory,
    *,
    record: bool = False,
) -> Settings:
    """`settings` with the threshold of the negative controls of the entry's batch.

    Parameters
    ----------
    controls
        The negative controls of the run, whose results are there or will not come. None in the
        batch, or none with nuclei, leaves the settings' thresholds and says so.
    record
        Whether to put the threshold into the batch's file, too.
    """
    if not needs_threshold(entry, settings):
        return settings
    if is_control(entry):
        return _settings_with_threshold(entry, settings, _own(entry, settings), OWN_THRESHOLDS)
    own = [c for c in controls if c.batch == entry.batch and c.marker == entry.marker]
    lock = _threshold(entry, own, settings, directory)
    if record:
        name = "threshold" if entry.marker == "p16" else "col7_threshold"
        with _changing(directory, entry.batch) as content:
            content[name] = lock
    return _settings_with_threshold(
        entry, settings, tuple(lock["thresholds_od"]), str(lock["source"])
    )


def _own(entry: Entry, settings: Settings) -> tuple[float, ...]:
    """The thresholds of the settings: three of nuclei, or one of bins."""
    return (
        settings.p16.thresholds_od if entry.marker == "p16" else (settings.collagen7.threshold_od,)
    )


def _threshold(
    entry: Entry, controls: Sequence[Entry], settings: Settings, directory: RunDirectory
) -> Lock:
    batch, own = entry.batch, list(_own(entry, settings))
    things, read = ("nuclei", _nuclear_dab) if entry.marker == "p16" else ("bins", _bin_peaks)
    places = {c.slide_id: directory.slide(c.slide_id) for c in controls}
    values = {name: read(place) for name, place in places.items()}
    measured = {name: dab for name, dab in values.items() if dab.size}
    if not measured:
        names = ", ".join(_named(name, places[name]) for name in sorted(places))
        why = f"none has {things} ({names})" if names else "has none"
        source = f"settings (no threshold from negative controls: batch {batch} {why})"
        return {"thresholds_od": own, "source": source, "controls": {}}
    units = {_unit(places[name]) for name in measured}
    if len(units) > 1:
        why = f"are in different units: {', '.join(sorted(units))}"
        source = f"settings (no threshold from negative controls: those of batch {batch} {why})"
        return {"thresholds_od": own, "source": source, "controls": {}}
    (unit,) = units
    rule = _rule(entry, settings)
    least = (
        rule.min_control_threshold_od if isinstance(rule, P16Settings) else rule.min_threshold_od
    )
    pooled = np.concatenate([measured[name] for name in sorted(measured)])
    found = float(np.percentile(pooled, rule.control_percentile))
    first = round(max(found, least), 4)
    floor = f", raised from {found:.4f}" if first > round(found, 4) else ""
    most = own[1] if entry.marker == "p16" else 2 * own[0]
    doubt = (DOUBTFUL if entry.marker == "p16" else DOUBTFUL_LINE) if first > most else ""
    source = (
        f"negative control of batch {batch}: percentile {rule.control_percentile:g} of "
        f"{pooled.size} {things} on {', '.join(sorted(measured))}: {first:g} {unit}{floor}"
        f"{doubt if unit == 'OD' else ''}"
    )
    counts = {name: int(dab.size) for name, dab in sorted(measured.items())}
    thresholds = [round(k * first, 4) for k in range(1, len(own) + 1)]
    return {"thresholds_od": thresholds, "source": source, "controls": counts}


def _unit(place: Path) -> str:
    """Unit of the marker on a measured slide: OD, or grey levels in fluorescence."""
    return str((read_record(place) or {}).get("summary", {}).get("marker_unit") or "OD")


def _named(slide_id: str, place: Path) -> str:
    """A control that gives no threshold, with what a reviewer said."""
    rejected = rejection(read_record(place) or {})
    return f"{slide_id}: {rejected}" if rejected else slide_id


def _nuclear_dab(place: Path) -> Floats:
    """Mean DAB OD of the nuclei that the program counted."""
    return _column(place, "nuclei.parquet", "dab_od_mean")


def _bin_peaks(place: Path) -> Floats:
    """Peak DAB OD over background of the bins that the program measured."""
    return _column(place, "junction.parquet", "peak_od")


def _column(place: Path, table: str, name: str) -> Floats:
    """What is not left out of a table's column; review only decides whether a control serves.

    None where the slide has no complete result, or a reviewer rejected it.
    """
    record = read_record(place)
    place = automatic_place(place)
    if record is None or rejection(record) or not (place / table).exists():
        return np.empty(0)
    rows = pd.read_parquet(place / table, columns=[name, "excluded"])
    values = rows.loc[~rows["excluded"].astype(bool), name].to_numpy(np.float64)
    return np.asarray(values[np.isfinite(values)], np.float64)


def _estimate(batch: str, members: Sequence[tuple[Entry, Settings]]) -> Lock:
    """Vectors from the pixels of a batch's slides together."""
    from histoquant.slides import open_slide
    from histoquant.stain_estimate import estimate_vectors
    from histoquant.staining import stained_pixels, survey_slide

    members = sorted(members, key=lambda member: member[0].slide_id)
    chosen = np.unique(np.linspace(0, len(members) - 1, _MOST_SLIDES).round().astype(int))
    pixels, used, left_out = [], {}, {}
    for entry, settings in (members[i] for i in chosen):
        damaged = settings.slides.damaged_tiles
        try:
            with open_slide(entry.path, mpp=entry.given_mpp, on_damage=damaged) as slide:
                found = stained_pixels(slide, survey_slide(slide, settings), settings)
        except (HistoquantError, OSError) as error:
            left_out[entry.slide_id] = str(error)
            continue
        pixels.append(found)
        used[entry.slide_id] = len(found)
    settings = members[0][1]
    estimate = estimate_vectors(pixels, settings.stains.preset)
    where = f"batch {batch}, {len(used)} slide(s)"
    return {
        "source": estimate.describe(where),
        "estimate": estimate.as_json(),
        "slides": used,
        "left_out": left_out,
        "made_with": _made_with(settings),
        "written": now(),
        "version": __version__,
    }


def _settings_with_vectors(settings: Settings, lock: Mapping[str, Any]) -> Settings:
    estimate = lock["estimate"]
    found: dict[str, Any] = {"locked": lock["source"]}
    if not estimate["refused"]:
        found |= {name: tuple(estimate[name]) for name in ("hematoxylin", "second")}
    return settings.model_copy(update={"stains": settings.stains.model_copy(update=found)})


def _settings_with_threshold(
    entry: Entry, settings: Settings, thresholds: Sequence[float], source: str
) -> Settings:
    if entry.marker == "p16":
        p16 = {"thresholds_od": tuple(thresholds), "threshold_locked": source}
        return settings.model_copy(update={"p16": settings.p16.model_copy(update=p16)})
    line = {"threshold_od": thresholds[0], "threshold_locked": source}
    return settings.model_copy(update={"collagen7": settings.collagen7.model_copy(update=line)})


def _made_with(settings: Settings) -> dict[str, Any]:
    """The settings that decide which pixels an estimate rests on."""
    return {
        "preset": settings.stains.preset,
        "white": None if settings.stains.white is None else list(settings.stains.white),
        "tissue": settings.tissue.model_dump(mode="json"),
        "mpp": settings.nuclei.mpp,
    }


def _group(entry: Entry, settings: Settings) -> str:
    return f"{entry.marker} {settings.stains.preset}"


def _read(directory: RunDirectory, batch: str) -> Lock:
    place = _place(directory, batch)
    return read_record(place.parent, place.name) or {"batch": batch}


def _keep_vectors(directory: RunDirectory, batch: str, group: str, lock: Lock) -> None:
    """Put vectors on record, unless another shard of the run was first with the same."""
    with _changing(directory, batch) as content:
        vectors = content.setdefault("vectors", {})
        there = vectors.get(group, {})
        if not (there.get("slides") and there.get("made_with") == lock["made_with"]):
            vectors[group] = lock


@contextmanager
def _changing(directory: RunDirectory, batch: str) -> Iterator[Lock]:
    """The content of a batch's file, to be changed; shards of a run take turns at it."""
    place = _place(directory, batch)
    place.parent.mkdir(parents=True, exist_ok=True)
    guard = place.with_name(f".{place.name}.lock")
    with runlock.held(guard, f"staining batch {batch}", wait_s=_TURN_S):
        before = _read(directory, batch)
        content = copy.deepcopy(before)
        yield content
        if content != before or not place.exists():
            atomic.write_text(place, to_json(content))


def _place(directory: RunDirectory, batch: str) -> Path:
    """``stains/<batch>.json``, with a digest where the name is not safe on every system."""
    safe = re.sub(r"[^a-z0-9._-]+", "_", batch.casefold()).strip("._-")[:60]
    if safe != batch:
        safe += "-" + hashlib.sha256(batch.encode()).hexdigest()[:8]
    return directory.path / "stains" / f"{safe}.json"
