"""`python -m hypertower` is the `hypertower` command."""

import sys

from .cli import main

sys.exit(main())
