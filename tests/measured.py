"""Results of two small phantoms, measured for real: what exports and pages are tested on."""

from __future__ import annotations

from pathlib import Path

from histoquant import batch, phantom
from histoquant.manifest import read_manifest
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

P16, COL7 = "haut_p16", "haut_col7"


def measure_two(folder: Path, settings: Settings | None = None) -> Path:
    """A p16 and a collagen VII slide of 0.6 x 0.4 mm in `folder`, and their results directory."""
    for name, marker in ((P16, "p16"), (COL7, "col7")):
        phantom.write_slide(
            folder / f"{name}.ome.tif", marker, seed=3, size_mm=(0.6, 0.4), angle_deg=0.0
        )
    rows = [f"{P16}.ome.tif,p16,Jürgen,left,m8,run_1", f"{COL7}.ome.tif,col7,Jürgen,left,m8,run_1"]
    manifest = folder / "manifest.csv"
    text = "\n".join(["slide,marker,person,site,visit,batch", *rows])
    manifest.write_text(text, encoding="utf-8")
    directory = RunDirectory(folder / "results")
    with directory.locked():
        steps = batch.plan(read_manifest(manifest).usable, directory, settings or Settings())
        outcome = batch.run(steps, directory, crew=batch.Crew(one_by_one=True))
    assert not outcome.failed
    return directory.path
