"""Why the compiled part is missing, and what to do. Imported only then."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

__all__ = ["explanation"]


def _others(folder: Path) -> str:
    """What the folder has that was built for other interpreters."""
    names = sorted(path.name for path in [*folder.glob("_core*.so"), *folder.glob("_core*.pyd")])
    return f" (there is {', '.join(names)}, for another one)" if names else ""


def explanation() -> str:
    """Return a text that says what is missing, for which interpreter, and what to type."""
    folder = Path(__file__).parent
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    missing = f"workerpool/_core{suffix} is missing in {folder.parent}{_others(folder)}"
    if (folder.parent / "setup.py").is_file() and (folder.parent / "csrc").is_dir():
        return (
            f"workerpool is imported from its source tree, where it was not built for this Python: {missing}. "
            f"Type `{sys.executable} -m pip install -e {folder.parent}`, or `make build` there and use its "
            "environment; to use an installed workerpool, run the program from another folder"
        )
    return (
        f"workerpool was installed for another Python, or not as a whole: {missing}. "
        f"Type `{sys.executable} -m pip install --force-reinstall --no-cache-dir workerpool`; in a frozen program, "
        "have the tool that froze it take the module workerpool._core"
    )
