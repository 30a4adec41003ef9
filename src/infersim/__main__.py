"""``python -m infersim``."""

from infersim.cli.start import main

main()
