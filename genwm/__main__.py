"""``python -m genwm`` is the command ``genwm``."""

from genwm.cli import main

main()
