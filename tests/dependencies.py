#!/usr/bin/env python3
"""Holds the dependency tree for Linux against deny.toml: banned crates and licences that are not allowed.

Prints every offence and exits 1 if there is any. Needs cargo and Python 3.11, nothing else.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def allowed(expression: str, licences: set[str]) -> bool:
    """True if one of the alternatives of an SPDX expression is allowed in all its parts."""
    expression = expression.replace("/", " OR ")
    alternatives = re.split(r"\s+OR\s+", expression.replace("(", "").replace(")", ""))
    return any(all(part in licences for part in re.split(r"\s+AND\s+", one)) for one in alternatives)


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    banned = {entry["name"] for entry in rules["bans"]["deny"]}
    licences = set(rules["licenses"]["allow"])
    command = ["cargo", "metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    offences = [f"{p['name']} {p['version']} is banned" for p in packages if p["name"] in banned]
    offences += [
        f"{p['name']} {p['version']} has the licence {p['license']}"
        for p in packages
        if not allowed(p["license"] or "none", licences)
    ]
    print("\n".join(offences) or f"{len(packages)} packages, none banned, every licence allowed")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
