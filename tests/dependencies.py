#!/usr/bin/env python3
"""Holds the dependency tree for Linux against deny.toml: banned crates and licences that are not allowed.

Prints every offence and exits 1 if there is any. Needs cargo and Python 3.11, nothing else.
"""

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
    # The tree and not `cargo metadata`: that one follows features that only apply where an optional package is used anyway
    # (`package?/feature`), and so names packages that no build has.
    command = ["cargo", "tree", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}\t{l}"]
    command += ["--target", "x86_64-unknown-linux-gnu"]
    tree = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    packages = set()
    for line in filter(None, tree.splitlines()):
        package, _, licence = line.removesuffix(" (*)").partition("\t")
        name, version = package.split()[:2]
        packages.add((name, version.lstrip("v"), licence.removesuffix(" (*)")))
    offences = [f"{name} {version} is banned" for name, version, _ in sorted(packages) if name in banned]
    offences += [
        f"{name} {version} has the licence {licence}"
        for name, version, licence in sorted(packages)
        if not allowed(licence or "none", licences)
    ]
    print("\n".join(offences) or f"{len(packages)} packages, none banned, every licence allowed")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
