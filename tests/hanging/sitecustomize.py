"""Makes opening some slides hang in native code, where slides are measured and nowhere else.

Python loads this at its start when the folder is on the path.
"""

import re
import sys
import time
from pathlib import Path

if any("histoquant.isolation" in argument for argument in sys.orig_argv):
    import tifffile

    _open = tifffile.TiffFile.__init__

    def _hang(self, file, *arguments, **choices):
        if "hanging" in Path(str(file)).name:
            re.match(r"(a+)+$", "a" * 60 + "b")
        while "waiting" in Path(str(file)).name and Path(file).with_name("wait").exists():
            time.sleep(0.05)
        _open(self, file, *arguments, **choices)

    tifffile.TiffFile.__init__ = _hang
