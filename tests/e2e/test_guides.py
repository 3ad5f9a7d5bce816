"""Guides: each piece of configuration in them parses and has keys that exist; commands are those of the program."""

import json
import re
import subprocess
import tomllib

import pytest
from support.gateway import BINARY, ROOT

GUIDES = sorted([ROOT / "README.md", *(ROOT / "config").glob("*.md")])
SCHEMA = json.loads((ROOT / "config/staunch.schema.json").read_text())


def blocks(path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)


def definitions(schema: dict) -> list[dict]:
    """What a value may be, references and alternatives followed."""
    if "$ref" in schema:
        return definitions(SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in schema:
        return [one for part in schema["anyOf"] for one in definitions(part)]
    return [schema]


def unknown(value, schema: dict, place: str) -> list[str]:
    """Keys that the schema does not have, by their place."""
    shapes = definitions(schema)
    if isinstance(value, list):
        items = next((shape["items"] for shape in shapes if "items" in shape), {})
        return [fault for one in value for fault in unknown(one, items, place)]
    if not isinstance(value, dict):
        return []
    known = {key: of for shape in shapes for key, of in shape.get("properties", {}).items()}
    own = next((shape["additionalProperties"] for shape in shapes if shape.get("additionalProperties")), None)
    found = []
    for key, inner in value.items():
        if key in known or own:
            found += unknown(inner, known.get(key, own), f"{place}.{key}")
        else:
            found.append(f"{place}.{key}")
    return found


def faults(text: str) -> list[str]:
    """Faults of a whole configuration, or of lines out of one table."""
    read = tomllib.loads(text)
    root = SCHEMA["properties"]
    whole = {key: value for key, value in read.items() if key in root and isinstance(value, (dict, list))}
    rest = {key: value for key, value in read.items() if key not in whole}
    found = unknown(whole, SCHEMA, "")
    if rest:
        tables = [unknown(rest, table, "") for table in SCHEMA["$defs"].values() if set(rest) <= set(table.get("properties", {}))]
        found += min(tables, key=len, default=[f"no table has all of {', '.join(rest)}"])
    return found


def test_the_guides_are_found_and_a_wrong_key_is_seen():
    assert sum(len(blocks(path, "toml")) for path in GUIDES) >= 20
    assert faults('[[route]]\nname = "x"\nupstreem = "y"') == [".route.upstreem"]
    assert faults('[[route]]\ninject = [{ user = "x", passwort = "y" }]') == [".route.inject.passwort"]
    assert faults('idle = "5m"\nsni = "x"') == ["no table has all of idle, sni"]
    assert faults('upstream = "tls://x:1"\nalpn = "h2"') == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_piece_of_configuration_in_a_guide_has_keys_that_exist(path):
    for block in blocks(path, "toml"):
        assert faults(block) == [], block


@pytest.fixture(scope="module")
def commands() -> dict[str, str]:
    """The help of each command."""
    found = {}

    def visit(words: tuple[str, ...]):
        text = subprocess.run([BINARY, *words, "--help"], capture_output=True, text=True, timeout=10).stdout
        found[" ".join(words)] = text
        listed = re.search(r"^Commands:\n(.*?)(?:\n\n|\Z)", text, re.M | re.S)
        for name in re.findall(r"^  (\w[\w-]*)", listed[1] if listed else "", re.M):
            if name != "help":
                visit((*words, name))

    visit(())
    return found


def calls(path) -> list[str]:
    """Arguments of each call of the program, in blocks of commands and in prose."""
    text = path.read_text()
    shell = [block for _, block in re.findall(r"^```(console|sh|bash|)\n(.*?)^```", text, re.M | re.S)]
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    typed = [line for line in lines if re.match(r"\$ |sudo |staunch |[A-Z_]+=", line)]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    typed += [one.replace("\n", " ") for one in re.findall(r"`(staunch [^`]*)`", prose)]
    return [call for line in typed for call in re.findall(r"(?:^|[\s(])staunch ([a-z][^|)>#;…]*)", line)]


def test_commands_are_found():
    assert sum(len(calls(path)) for path in GUIDES) >= 100


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_command_and_flag_in_a_guide_exists(path, commands):
    wrong = []
    for call in calls(path):
        words = re.split(r" -- | --exec ", call)[0].split()
        if words[0] == "help":
            continue
        name = " ".join(words[:2]) if " ".join(words[:2]) in commands else words[0]
        flags = [word.split("=")[0] for word in words if word.startswith("--")]
        wrong += [call] if name not in commands else [f"{flag} of {call}" for flag in flags if not re.search(rf"{flag}\b", commands[name])]
    assert not wrong, wrong
