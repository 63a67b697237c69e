# SPDX-License-Identifier: Apache-2.0
"""`python -m swd` is `swdctl`."""

from __future__ import annotations

import sys

from swd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
