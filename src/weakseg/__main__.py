"""`python -m weakseg` is the command `weakseg`."""

import sys

from weakseg.cli import main

sys.exit(main())
