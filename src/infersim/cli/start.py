"""Where the installed command begins: nothing is imported before Ctrl-C is minded."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from infersim.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
