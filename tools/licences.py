# SPDX-License-Identifier: Apache-2.0
"""Check that nothing an extra of iscsi-swd brings along is under the GPL or the AGPL. Run with the Python of `.venv`.

Reads the metadata of what is installed and follows every requirement, our own extras included, down to the leaves:
`pip install 'iscsi-swd[all]'` must never put such a package into somebody's program. The LGPL is welcome (separate
modules). Programs under the GPL are used as programs only, by the tests.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

ROOT = "iscsi-swd"
FORBIDDEN = re.compile(r"\bA?GPL|\bGNU (Affero )?General Public", re.IGNORECASE)
NO_LICENCE = "says nothing about its licence"
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needs(name: str) -> set[str]:
    """The names that `name` requires; for iscsi-swd itself with all extras, for others without."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return set()
    ours = canonical(name) == ROOT
    return {
        canonical(m.group()) for line in requirements if (ours or "extra ==" not in line) and (m := NAME.match(line))
    }


def closure(start: str) -> set[str]:
    """Everything that `start` leads to, itself left out."""
    seen: set[str] = set()
    queue = [canonical(start)]
    while queue:
        for name in needs(queue.pop()) - seen:
            seen.add(name)
            queue.append(name)
    return seen - {canonical(start)}


def licence(name: str) -> str:
    """What a distribution says of its licence: the SPDX expression, else classifiers, else the first line of text, in
    the metadata or in the file that it brings.
    """
    about = metadata.metadata(name).json
    classifiers = [line.rpartition(" :: ")[2] for line in about.get("classifier", ()) if line.startswith("License ::")]
    text = str(about.get("license", "")).strip().partition("\n")[0]
    return str(about.get("license_expression", "")) or "; ".join(classifiers) or text or shipped(name) or NO_LICENCE


def shipped(name: str) -> str:
    """The title of the licence file beside a distribution's metadata, "" where there is none."""
    distribution = metadata.distribution(name)
    for file in distribution.metadata.get_all("License-File") or []:
        text = distribution.read_text(f"licenses/{file}") or distribution.read_text(file) or ""
        if text.strip():
            return text.strip().partition("\n")[0]
    return ""


def faults(licences: dict[str, str]) -> list[str]:
    """A line for each package that no extra may bring. An `OR` with a permissive choice is a choice, and no fault."""
    return [
        f"{name}: {words}"
        for name, words in sorted(licences.items())
        if words == NO_LICENCE or all(FORBIDDEN.search(choice) for choice in re.split(r"\bOR\b", words))
    ]


def installed(names: set[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = licence(name)
        except metadata.PackageNotFoundError:
            continue  # for another Python or platform
    return found


def main() -> None:
    licences = installed(closure(ROOT))
    if not licences:
        sys.exit(f"licences: {ROOT} is not installed here; run: make lint")
    if found := faults(licences):
        sys.exit("\n".join(["licences: these may be in no extra:", *found]))


if __name__ == "__main__":
    main()
