"""``python -m infersim``."""

from infersim.cli.app import main

main()
