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


def shell_lines(path) -> list[str]:
    """Each line that a guide would have typed in, continuations joined."""
    found, language, line = [], None, ""
    for text in path.read_text().splitlines():
        if language is None:
            opened = re.fullmatch(r"```(\w*)", text)
            language = opened[1] if opened else None
        elif text.startswith("```"):
            language = None
        elif language in ("console", "sh", "bash", ""):
            line += text.strip()
            if line.endswith("\\"):
                line = line[:-1]
                continue
            typed = language == "sh" or re.match(r"\$ |sudo |staunch |curl |docker |kubectl |token=|[A-Z]+=\$", line)
            if typed and line and not re.match(r"#|if |fi$|then", line):
                found.append(re.sub(r"\s+", " ", line.removeprefix("$ ")))
            line = ""
    return found


# What a line looks like → the test that runs it, or one of the same shape with names and ports of its own.
RUN = [
    (r"staunch init |staunch serve --config staunch/|staunch token --header", "test_packages.py::test_install_init_check_serve_upgrade_purge"),
    (r"staunch serve --config", "test_init.py::test_a_model_service_answers_the_printed_requests"),
    (r"(sudo )?staunch check --config", "test_packages.py::test_install_init_check_serve_upgrade_purge"),
    (r"staunch login --issuer", "test_login.py::test_a_browser_login_gives_a_token_that_the_gateway_takes"),
    (r"staunch logout", "test_login.py::test_logout_revokes_and_removes"),
    (r"export OPENAI_|OPENAI_BASE_URL=|ANTHROPIC_BASE_URL=", "test_init.py::test_a_model_service_answers_the_printed_requests"),
    (r"staunch connect .*model --exec python3 team", "test_autogen.py::test_a_team_without_tls_and_token_through_connect"),
    (r"staunch connect .*agents=|python3 -c 'import asyncio; from autogen_ext|python3 worker.py", "test_autogen.py::test_the_distributed_runtime_crosses_two_gateways"),
    (r"staunch connect .*--exec", "test_connect.py::test_exec_runs_a_program_that_finds_its_routes"),
    (r"staunch connect ", "test_connect.py::test_each_route_is_printed_with_what_uses_it"),
    (r"cargo run --release -- demo", "test_life.py::test_the_demo_is_as_told"),
    (r"echo \"Authorization: token", "test_http1.py::test_a_websocket_echoes_and_is_refused_without_a_token"),
    (r"curl -s http://127.0.0.1:9901/api/sessions/|curl -s http://127.0.0.1:9901/api/sessions\?", "test_operator.py::test_a_live_stream_is_shown_with_both_legs_and_ended_with_a_reason"),
    (r"curl -s http://127.0.0.1:9901/api/revoke", "test_operator.py::test_a_revoked_token_ends_its_session_and_gets_none_again"),
    (r"staunch revoke --(list|withdraw)", "test_operator_withdraw.py::test_the_command_line_lists_and_takes_back"),
    (r"staunch revoke|staunch top", "test_operator.py::test_the_command_line_revokes_and_shows_both_legs"),
    (r"staunch mask try", "test_masking.py::test_mask_try_shows_what_would_be_masked"),
    (r"MYSQL_PWD=\S+ token\) mariadb ", "test_mysql.py::test_mariadbs_client_sends_the_token_as_its_password"),
    (r"export PGPASSWORD|psql |PGPASSWORD=\$\(staunch", "test_postgres.py::test_psql_gets_in_as_the_stored_user_and_the_server_knows_who_it_is"),
    (r"openssl s_client", "test_tls.py::test_client_certificates_decide"),
    (r"REDISCLI_AUTH", "test_redis.py::test_redis_cli_gets_in_as_the_stored_user"),
    (r"cd segments|ssh-keygen .*segment|sed '/\^\$/q'|grep \"\^— staunch/|openssl pkeyutl|len=", "test_recording_drills.py::test_the_commands_of_the_format_s_page_verify_it_without_staunch"),
    (r"export STAUNCH_RECORDINGS|staunch sessions (list|show|replay|export)", "test_recording_protocols.py::test_all_of_it_verifies_replays_and_exports"),
    (r"cp recordings/log/checkpoint|staunch sessions verify .*--noted", "test_recording_drills.py::test_an_older_log_is_found_by_a_checkpoint_that_was_noted"),
    (r"staunch sessions verify --directory recordings --timestamp-ca ", "test_recording_timestamps.py::test_the_log_is_stamped_and_openssl_says_the_same"),
    (r"(cd recordings/log/timestamps|openssl ts -)", "test_recording_timestamps.py::test_the_log_is_stamped_and_openssl_says_the_same"),
    (r"curl -s \"https://gw-2.example.com:9443/", "test_recording_witness.py::test_a_gateway_s_log_is_cosigned_by_another_and_the_cosignature_is_the_specification_s"),
    (r"staunch sessions rewrap", "test_recording_commands.py::test_an_auditor_who_comes_later_reads_what_was_recorded_before"),
    (r"staunch sessions verify", "test_recording.py::test_verification_is_good_and_no_secret_stands_in_any_file"),
    (r"staunch evidence|cd evidence-|ssh-keygen .*report|jq -r .facts", "test_recording_drills.py::test_a_report_s_figures_are_counted_again"),
    (r"staunch audit keygen", "test_recording.py::test_http_1_1_is_recorded_as_the_client_saw_it_without_its_secrets"),
]  # fmt: skip
# What no test runs, and the words with which its guide says so; `None` where it is no command of a user's of the gateway.
NOT_RUN = [
    (r"docker |kubectl |token=|echo .*model.localhost|PGPASSWORD=\$token", "never run"),
    (r"sudo (apt|systemctl|editor)", "never run"),
    (r"MYSQL_PWD=\S+ token\) mysql --host", "never run"),
    (r"tests/run|cargo build|pip install|python host.py|cp |curl -s -H|jq -r .value", None),
]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_line_to_be_typed_is_run_by_a_test_or_said_to_be_never_run(path):
    for line in shell_lines(path):
        if any(re.match(pattern, line) for pattern, _ in RUN):
            continue
        said = [words for pattern, words in NOT_RUN if re.match(pattern, line)]
        assert said, f"no test is named for: {line}"
        assert said[0] is None or said[0] in path.read_text(), f"{path.name} does not say that this was never run: {line}"


# A token as an argument of a program: everybody on the machine reads it in /proc. `echo` and `export` are the shell's own.
ARGUMENT = re.compile(r"(?<!\S)(?!echo |export )(?:\S*/)?(?:curl|grpcurl|mariadb|mysql|psql|redis-cli|mongosh)\b[^|]*(?:\$\(\S*staunch token|\$\(cat [^)]*token|\$TOKEN|\$token)")


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_no_line_puts_a_token_into_a_command_line(path):
    assert ARGUMENT.search('$ curl -H "Authorization: Bearer $(staunch token)" https://a'), "nothing would be found"
    assert not [line for line in path.read_text().splitlines() if ARGUMENT.search(line)]


def test_lines_are_found_and_the_tests_that_are_named_exist():
    lines = [line for path in GUIDES for line in shell_lines(path)]
    assert len(lines) >= 80
    for pattern, name in RUN:
        file, test = name.split("::")
        assert re.search(rf"^def {test}\(", (ROOT / "tests/e2e" / file).read_text(), re.M), name
        assert any(re.match(pattern, line) for line in lines), f"no guide has {pattern}"


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("config/**/*.md")), *sorted(ROOT.glob("*/README.md")), ROOT / "loadtest/scale.md"]


def anchors(path) -> set[str]:
    """As the usual viewers name headings."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", title).lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", dict.fromkeys(PAGES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (path.parent / place) if place else path
        if not target.exists() or anchor and anchor not in anchors(target):
            broken.append(link)
    assert not broken, broken


def arguments(text: str) -> list[str]:
    """What stands between the commas of a macro's call, up to the parenthesis that closes it."""
    found, depth, quoted, position = [""], 0, False, 0
    while position < len(text) and depth >= 0:
        character = text[position]
        if quoted and character == "\\":
            found[-1] += text[position : position + 2]
            position += 2
            continue
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "([{") - (character in ")]}")
        if character == "," and not quoted and depth == 0:
            found.append("")
        elif depth >= 0:
            found[-1] += character
        position += 1
    return [argument.strip() for argument in found]


def test_every_field_that_the_program_logs_is_in_the_reference():
    fields = set()
    for path in (ROOT / "src").rglob("*.rs"):
        code = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.M).split("#[cfg(test)]")[0]
        for call in re.finditer(r"tracing::(?:info|warn|error)!\(", code):
            said = arguments(code[call.end() :])
            # Lines of evidence carry all their facts in one: the first table.
            if "target: TARGET" in said:
                continue
            for argument in said:
                if argument.startswith('"'):
                    break
                field = re.match(r"[%?]?(?:\w+\.)*(\w+)(?:\s*=|$)", argument)
                fields |= {field[1]} if field and not argument.startswith(("target:", "parent:")) else set()
    reference = (ROOT / "config/reference.md").read_text().split("## Log fields")[1].split("## Metrics")[0]
    assert len(fields) >= 25
    assert not [field for field in sorted(fields) if f"`{field}`" not in reference]
