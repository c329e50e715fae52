"""``python -m ebgan_detect.cli``."""

from ebgan_detect.cli import main

main()
