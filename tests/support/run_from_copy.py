"""Runs a script with the `tsugiki` of another folder, in a fork that has imported this one's.

Arguments: a folder with a `src`, in which the script will stand, the script, and its arguments.
"""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, script, *arguments = sys.argv[1:]
    os.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tsugiki"]:
        del sys.modules[name]
    sys.path.insert(0, str(Path(folder, "src")))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
