"""What is kept of one slide: a directory that is complete when it holds ``result.json``.

::

    slides/<slide_id>/
        result.json           summary, reasons, provenance and the key of the run
        summary.csv           one row
        nuclei.parquet        p16
        sweep.csv             p16: percent positive at every cut-off of p16.sweep_od
        junction.parquet
        compartments.geojson  tissue, compartments and junction, level-0 pixels
        anatomy.npz           the same without loss: what `histoquant remeasure` starts from
        straightened.zarr     col7, arc length x depth
        straightened.png      col7: the same as a picture, with its profile and gaps
        overlay.png
        labels.ome.zarr       where asked for: nuclei and compartments as labels

The directory appears by one rename, so it is never half-written. Reviewers' edits
(``review*.jsonl``) move over when a result is replaced. After review the files hold what
was measured with the edits, and ``automatic/`` the same files as they were before. Where a slide
failed, the directory holds ``failure.json`` and ``error.log`` instead (`write_failure`).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoquant import atomic, tables
from histoquant.errors import ResultError
from histoquant.settings import Marker

if TYPE_CHECKING:
    from histoquant.anatomy import Compartments
    from histoquant.junction import Junction

FORMAT = 1
"""Version of the layout of a slide's directory."""

RESULT, FAILURE = "result.json", "failure.json"
ANATOMY, AUTOMATIC, LABELS = "anatomy.npz", "automatic", "labels.ome.zarr"
JOURNALS = "review*.jsonl"
REJECTED = "rejected in review"
LACKING = "no figure along the junction"


@dataclass(frozen=True)
class SlideResult:
    """Everything measured on one slide.

    Attributes
    ----------
    slide_id
        Name of the slide in its results directory.
    marker
        p16 or col7.
    summary
        Column -> value, as `tables.measured_columns` declares them. A value that could not be
        measured is None or NaN, and `reasons` says why.
    reasons
        Column -> why its value is missing.
    nuclei
        One row per nucleus (p16), else None.
    junction
        One row per bin along the junction.
    straightened
        (arc length, depth) float32 in OD (col7), else None. Its steps are in
        ``provenance["straightened"]``, which becomes the attributes of the zarr array.
    compartments, junction_line
        In um; None where an older version kept their GeoJSON only.
    provenance
        Whatever traces the numbers: settings, scale, white level, stain vectors, versions.
    overlay
        The overlay as PNG, else None.
    """

    slide_id: str
    marker: Marker
    summary: dict[str, object]
    reasons: dict[str, str]
    nuclei: pd.DataFrame | None
    junction: pd.DataFrame
    straightened: NDArray[np.float32] | None
    compartments: Compartments | None
    junction_line: Junction | None
    provenance: dict[str, object]
    overlay: bytes | None = None
    line_picture: bytes | None = None
    """The straightened junction with its profile as PNG (col7), else None."""


def write_result(
    result: SlideResult,
    directory: Path | str,
    record: Mapping[str, object] | None = None,
    *,
    automatic: Path | None = None,
    annotations: Sequence[Mapping[str, Any]] = (),
    more: Callable[[Path], None] | None = None,
) -> Path:
    """Write `result` as `directory`, replacing what is there; all of it or nothing.

    Parameters
    ----------
    result
        What was measured.
    directory
        The slide's own directory, made with its parents.
    record
        More entries for ``result.json``, such as the key a later run compares.
    automatic
        A result's directory that is kept as ``automatic/``.
    annotations
        More features for ``compartments.geojson``.
    more
        Called with the new directory before it is complete: writes more into it.

    Raises
    ------
    ResultError
        For a column that is not in the registry.
    OSError
        When the directory cannot be written; it is then as before.
    """
    directory = Path(directory)
    summary = tables.conform_summary(result.summary, result.marker)
    reasons = missing_reasons(summary, result.reasons)
    with atomic.new_directory(directory, carry=JOURNALS) as new:
        if automatic is not None:
            link_tree(automatic, new / AUTOMATIC)
        _write_tables(result, new)
        _write_pictures(result, new, summary, annotations)
        (new / "summary.csv").write_text(_summary_csv(result, summary, reasons), encoding="utf-8")
        if more is not None:
            more(new)
        content = {
            "format": FORMAT,
            "slide_id": result.slide_id,
            "marker": result.marker,
            **(record or {}),
            "summary": summary,
            "reasons": reasons,
            "provenance": result.provenance,
            "files": sorted(path.name for path in (*new.iterdir(), *directory.glob(JOURNALS))),
        }
        (new / RESULT).write_text(to_json(content), encoding="utf-8")
    return directory


def read_result(directory: Path | str) -> SlideResult:
    """The result in a slide's directory, as it was written.

    Raises
    ------
    ResultError
        When there is no complete result, or it was written in another format.
    """
    directory = Path(directory)
    record = read_record(directory)
    if record is None:
        raise ResultError(
            f"{directory} holds no complete result ({RESULT} is missing or damaged): "
            "measure the slide again"
        )
    if record.get("format") != FORMAT:
        raise ResultError(
            f"{directory / RESULT} has format {record.get('format')!r}; "
            f"this version reads format {FORMAT}: measure the slide again"
        )
    try:
        nuclei = directory / "nuclei.parquet"
        overlay = directory / "overlay.png"
        line_picture = directory / "straightened.png"
        compartments, line = _read_anatomy(directory / ANATOMY)
        return SlideResult(
            slide_id=record["slide_id"],
            marker=record["marker"],
            summary=record["summary"],
            reasons=record["reasons"],
            nuclei=pd.read_parquet(nuclei) if nuclei.exists() else None,
            junction=pd.read_parquet(directory / "junction.parquet"),
            straightened=_read_straightened(directory / "straightened.zarr"),
            compartments=compartments,
            junction_line=line,
            provenance=record["provenance"],
            overlay=overlay.read_bytes() if overlay.exists() else None,
            line_picture=line_picture.read_bytes() if line_picture.exists() else None,
        )
    except (OSError, KeyError, ValueError) as error:
        raise ResultError(f"{directory} is damaged ({error}): measure the slide again") from error


def write_failure(directory: Path, record: Mapping[str, object], log: str) -> None:
    """Write why a slide failed as its directory; an older result goes, edits stay."""
    with atomic.new_directory(directory, carry=JOURNALS) as new:
        (new / "error.log").write_text(log, encoding="utf-8")
        (new / FAILURE).write_text(to_json(record), encoding="utf-8")


def link_tree(source: Path, target: Path) -> None:
    """A result's files in `target` too, as links where the disk can; journals are not among them.

    Nothing writes into a file that is there already, so that links are as good as copies.
    """
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif not path.match(JOURNALS):
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(path, place)


def read_record(directory: Path, name: str = RESULT) -> dict[str, Any] | None:
    """Content of a directory's ``result.json`` (or ``failure.json``), None without a whole one."""
    try:
        record = json.loads((directory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def missing_reasons(summary: Mapping[str, object], reasons: Mapping[str, str]) -> dict[str, str]:
    """A reason for every missing value of `summary`, in its order; limits share their rate's."""
    return {
        name: reasons.get(name)
        or reasons.get(name.removesuffix("_low").removesuffix("_high"))
        or "not measured"
        for name, value in summary.items()
        if tables.is_missing(value)
    }


def automatic_place(directory: Path) -> Path:
    """Directory of a slide's automatic result: its own, or that beside a reviewed one."""
    kept = directory / AUTOMATIC
    return kept if (kept / RESULT).exists() else directory


def rejection(record: Mapping[str, Any]) -> str:
    """Why a reviewer left a slide out, from its ``result.json``; empty when nobody did."""
    review = record.get("review", {})
    if review.get("verdict") != "rejected":
        return ""
    return f"{REJECTED} by {review.get('reviewer', '?')}: {review.get('reason') or 'no reason'}"


def standing(
    record: Mapping[str, Any], sample: Mapping[str, str]
) -> tuple[Literal["done", "failed", "excluded"], str]:
    """What a slide with a complete result counts as, and why.

    A slide of a person on which no junction was found is failed: in a sample's row it would
    pass for skin. Its result stays, for a reviewer to draw the epidermis by hand. A control may
    be another tissue, and a slide without a person is in no comparison: these are done.

    Parameters
    ----------
    record
        Content of ``result.json``.
    sample
        ``person`` and ``control``, from the manifest or the ledger.
    """
    rejected = rejection(record)
    if rejected:
        return "excluded", rejected
    why = record.get("reasons", {}).get("dej_length_mm", "")
    if not why:
        return "done", ""
    is_compared = sample.get("person") and sample.get("control", "none") in ("", "none")
    return "failed" if is_compared else "done", f"{LACKING}: {why}"


def reasons_text(reasons: Mapping[str, str]) -> str:
    """Reasons as the text of the ``reasons`` column: "column: reason; ...", without limits."""
    return "; ".join(
        f"{name}: {reason}"
        for name, reason in reasons.items()
        if not name.endswith(("_low", "_high"))
    )


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV: missing values empty, numbers with ten significant digits."""
    columns = list(columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def to_json(content: object) -> str:
    """`content` as JSON: NumPy values as Python's, NaN as null, tuples as lists."""
    return json.dumps(_jsonable(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _write_tables(result: SlideResult, new: Path) -> None:
    if result.nuclei is not None:
        nuclei = tables.conform(result.nuclei, tables.NUCLEI, "nuclei.parquet")
        nuclei.to_parquet(new / "nuclei.parquet", index=False)
        sweep: Any = result.provenance.get("threshold_sweep")
        if sweep:
            text = csv_text((c.name for c in tables.SWEEP), sweep)
            (new / "sweep.csv").write_text(text, encoding="utf-8")
    columns = tables.junction_columns(result.marker)
    junction = tables.conform(result.junction, columns, "junction.parquet")
    junction.to_parquet(new / "junction.parquet", index=False)


def _write_pictures(
    result: SlideResult,
    new: Path,
    summary: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
) -> None:
    if result.overlay is not None:
        (new / "overlay.png").write_bytes(result.overlay)
    if result.line_picture is not None:
        (new / "straightened.png").write_bytes(result.line_picture)
    if result.straightened is not None:
        attributes = result.provenance.get("straightened", {})
        _write_straightened(result.straightened, new / "straightened.zarr", attributes)
    if result.compartments is not None and result.junction_line is not None:
        from histoquant.anatomy_file import anatomy_bytes
        from histoquant.geojson import feature_collection

        mpp = summary.get("mpp")
        if mpp is None:
            raise ResultError(f"{result.slide_id}: a result without mpp has no place in pixels")
        content = anatomy_bytes(result.compartments, result.junction_line)
        (new / ANATOMY).write_bytes(content)
        collection = feature_collection(result.compartments, result.junction_line, mpp)
        collection["features"] += annotations
        text = json.dumps(collection, allow_nan=False)
        (new / "compartments.geojson").write_text(text, encoding="utf-8")


def _read_anatomy(path: Path) -> tuple[Compartments | None, Junction | None]:
    if not path.exists():
        return None, None
    from histoquant.anatomy_file import read_anatomy

    return read_anatomy(path.read_bytes())


def _write_straightened(array: NDArray[np.float32], path: Path, attributes: object) -> None:
    """One chunk: a file for the values and one for their description."""
    import zarr

    array = np.asarray(array, dtype=np.float32)
    shape = tuple(max(n, 1) for n in array.shape)
    store = zarr.create_array(
        store=path,
        shape=array.shape,
        dtype="float32",
        chunks=shape,
        fill_value=math.nan,
        zarr_format=3,
        dimension_names=("arc", "depth"),
        attributes=_jsonable(attributes),
    )
    store[...] = array


def _read_straightened(path: Path) -> NDArray[np.float32] | None:
    if not path.exists():
        return None
    import zarr

    return np.asarray(zarr.open_array(path, mode="r")[...], dtype=np.float32)


def _summary_csv(
    result: SlideResult, summary: Mapping[str, object], reasons: Mapping[str, str]
) -> str:
    row = {
        "slide_id": result.slide_id,
        "marker": result.marker,
        **summary,
        "reasons": reasons_text(reasons),
    }
    return csv_text((c.name for c in tables.summary_columns(result.marker)), [row])


def _link(path: Path, place: Path) -> None:
    with suppress(OSError):
        os.link(path, place)
        return
    shutil.copy2(path, place)


def _cell(value: object) -> str:
    if tables.is_missing(value):
        return ""
    if isinstance(value, float):
        return format(value, ".10g")
    return str(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(v) for v in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
