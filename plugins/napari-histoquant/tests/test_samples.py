"""Sample data of an installed plugin: nothing outside the packages is needed to draw it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import napari_histoquant

_DRAW = """
import sys
opened = []
sys.addaudithook(lambda what, args: opened.append(str(args[0])) if what == "open" else None)
import numpy as np
from napari_histoquant import samples
((levels, meta, kind),) = samples.p16_slide()
pixels = np.asarray(levels[-1][:, :] if not isinstance(levels[-1], np.ndarray) else levels[-1])
assert kind == "image" and meta["rgb"] and pixels.std() > 5, (kind, meta)
print("\\n".join(opened))
"""


def test_the_sample_is_drawn_from_the_packages_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DRAW], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = [Path(line) for line in done.stdout.splitlines() if Path(line).is_absolute()]
    plugin = Path(napari_histoquant.__file__).parent
    tree = plugin.parents[3]
    core = tree / "src" / "histoquant"
    ours = [path for path in opened if tree in path.parents]
    assert plugin / "samples.py" in opened or any("samples" in path.name for path in ours)
    outside = [p for p in ours if plugin not in p.parents and core not in p.parents
               and not any(part.startswith(".venv") for part in p.parts)]  # fmt: skip
    assert outside == []


def test_what_the_manifest_names_is_in_the_package() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(Path(napari_histoquant.__file__).with_name("napari.yaml"))
    commands = manifest.contributions.commands or []
    assert len(commands) >= 9
    for command in commands:
        module, _, name = str(command.python_name).partition(":")
        assert module.startswith("napari_histoquant.")
        assert callable(getattr(import_module(module), name))
    keys = {sample.key for sample in manifest.contributions.sample_data or []}
    assert keys == {"p16", "col7", "measured"}
