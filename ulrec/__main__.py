"""``python -m ulrec`` is ``ulrec``."""

import sys

from ulrec.cli import main

sys.exit(main())
