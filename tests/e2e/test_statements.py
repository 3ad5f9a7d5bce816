"""Statements of PostgreSQL sessions in the log: psql, psycopg and pgbench against a real server."""

import collections
import os

import psycopg
import pytest
from conftest import check_log
from support import parts
from support.gateway import Gateway
from support.process import run
from test_postgres import Database, connect, psql

SECRET = "hunter2-canary"


class Logged(Database):
    def config(self, **more):
        names = {"scram": "on", "client": "64B", "md5": "off"}
        return self.world.config(*(self.route(name, statements=limit) for name, limit in names.items()), **more)


@pytest.fixture(scope="module")
def database(world):
    database = Logged(world)
    yield database
    database.stop()


@pytest.fixture(scope="module")
def gateway(database, tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), database.config())
    yield gateway
    code = gateway.stop()
    assert code == 0, gateway.process.text()
    check_log(gateway)
    assert SECRET not in gateway.process.text(), "a password is in the log"


@pytest.fixture
def to(world, gateway, request):
    """Connection parameters for a route, under an application name of the test's own."""

    def to(route="scram", application=request.node.name, **more):
        return {
            "host": f"{route}.pg.test", "hostaddr": "127.0.0.1", "port": gateway.port, "dbname": "postgres",
            "user": "ann", "password": world.issuer.token(), "sslmode": "verify-full",
            "sslrootcert": world.ca, "application_name": application[-60:], "connect_timeout": 15,
        } | more  # fmt: skip

    return to


@pytest.fixture
def said(gateway, request):
    """The statements of the test's sessions once they are closed, a list for each."""

    def said(sessions=1, application=request.node.name):
        def closed():
            found = [line for line in gateway.lines() if line["event"] == "session closed"]
            found = [line for line in found if line.get("application") == application[-60:]]
            return found if len(found) >= sessions else None

        all_of = []
        for end in parts.until(closed):
            lines = [line for line in gateway.lines() if line.get("session") == end["session"]]
            lines = [line for line in lines if line["event"] == "statement"]
            assert [line["statement"] for line in lines] == list(range(1, len(lines) + 1)), lines
            assert end.get("statements", 0) == len(lines), end
            all_of.append(lines)
        assert len(all_of) == sessions, all_of
        return all_of if sessions > 1 else all_of[0]

    return said


def brief(line):
    return tuple(line.get(key) for key in ("kind", "text", "result", "tag", "rows"))


def test_psql_has_a_line_for_each_statement_and_a_session_says_who_it_was(gateway, to, said):
    sql = "select 1; select generate_series(1, 3)"
    done = psql(to(), sql)
    assert done.returncode == 0, done.stderr
    (line,) = said()
    assert brief(line) == ("query", sql, "done", "SELECT 3", 4) and line["results"] == 2, line
    assert (line["subject"], line["proof"], line["route"]) == (parts.ANN, "token", "pg-scram")
    assert 0 < line["duration_us"] < 15_000_000 and "cut" not in line
    closed = gateway.line("session closed", session=line["session"])
    assert (closed["client_user"], closed["database_user"], closed["database"]) == ("ann", "svc_scram", "postgres")
    assert closed["reason"] == "done" and closed["up_bytes"] > len(sql) and closed["down_bytes"] > 0
    for leg in ("client", "upstream"):
        assert closed[f"{leg}_version"] == "TLSv1.3" and closed[f"{leg}_cipher"] and closed[f"{leg}_group"], closed


def test_an_error_has_its_code_and_what_follows_goes_on(to, said):
    with connect(to()) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / 0")
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("selec %s", [1])
        connection.execute("select 7")
    lines = said()
    assert [(line["kind"], line["result"], line.get("sqlstate")) for line in lines] == [
        ("query", "error", "22012"),
        ("parse", "error", "42601"),
        ("execute", "skipped", None),
        ("query", "done", None),
    ]


def test_prepared_statements_are_named_and_values_are_left_out(to, said):
    with connect(to(), prepare_threshold=0) as connection:
        for n in range(5):
            connection.execute("select %s::text || 'x'", [f"{SECRET}-{n}"])
    lines = said()
    assert [line["kind"] for line in lines] == ["parse"] + ["execute"] * 5
    assert {line["text"] for line in lines} == {"select $1::text || 'x'"}
    assert len({line["name"] for line in lines}) == 1
    assert all(brief(line)[2:] == ("done", "SELECT 1", 1) for line in lines[1:]), lines


def test_a_pipeline_keeps_each_result_with_its_statement(to, said):
    with connect(to()) as connection:
        with connection.pipeline() as pipeline:
            for n in range(1, 301):
                connection.execute("select generate_series(1, %s::int)", [n])
                if n % 100 == 0:
                    pipeline.sync()
        with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline() as pipeline:
            connection.execute("select 1 / %s::int", [0])
            connection.execute("select 'never', %s::int", [1])
            pipeline.sync()
        assert connection.execute("select 8").fetchone() == (8,)
    lines = said()
    rows = [line["rows"] for line in lines if line["kind"] == "execute" and "generate_series" in line.get("text", "")]
    assert rows == list(range(1, 301))
    # The server computes it when the value is bound.
    assert [(line["kind"], line["sqlstate"]) for line in lines if line["result"] == "error"] == [("bind", "22012")]
    skipped = [line["kind"] for line in lines if line["result"] == "skipped"]
    assert skipped == ["execute", "parse", "execute"], lines[-6:]
    assert brief(lines[-1]) == ("query", "select 8", "done", "SELECT 1", 1)


def test_copies_and_cursors(to, said):
    with connect(to()) as connection:
        connection.execute("create temporary table t (n int)")
        with connection.cursor().copy("copy t from stdin") as copy:
            for n in range(1000):
                copy.write_row([n])
        with connection.cursor().copy("copy t to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 1000
        with pytest.raises(psycopg.errors.BadCopyFileFormat), connection.cursor().copy("copy t from stdin") as copy:
            copy.write(b"not\ta number\n")
        with connection.transaction(), connection.cursor("c") as cursor:
            assert len(cursor.execute("select n from t").fetchmany(10)) == 10
    lines = said()
    copies = [(line["copy"], line["result"], line.get("tag")) for line in lines if "copy" in line]
    assert copies == [("in", "done", "COPY 1000"), ("out", "done", "COPY 1000"), ("in", "error", None)]
    assert any(line.get("tag") == "FETCH 10" for line in lines), lines


def test_a_long_text_is_cut_and_its_length_is_told(to, said):
    with connect(to("client")) as connection:
        connection.execute("select '" + "ü" * 1_000_000 + "'")
    (line,) = said()
    assert line["cut"] is True and line["text_bytes"] == 2_000_009
    assert line["text"] == "select '" + "ü" * 28


def test_passwords_in_statements_are_masked(database, to, said):
    database.server.admin("alter role svc_scram createrole")
    with connect(to()) as connection:
        connection.execute(f"create role \"temporary\" login password '{SECRET}'")
        connection.execute(f"alter role temporary password E'{SECRET}' valid until '2099-01-01'")
        connection.execute(f"alter role temporary password $${SECRET}$$", prepare=True)
        connection.execute("drop role temporary")
    lines = said()
    texts = {line["text"] for line in lines if "role" in line["text"]}
    assert texts == {
        'create role "temporary" login password ***',
        "alter role temporary password *** valid until '2099-01-01'",
        "alter role temporary password ***",
        "drop role temporary",
    }
    assert {line["result"] for line in lines} == {"done"}


def test_what_was_not_answered_is_told(database, to, said):
    connection = connect(to())
    connection.pgconn.send_query(b"select pg_sleep(100)")
    connection.pgconn.flush()
    parts.until(lambda: database.server.admin("select count(*) from pg_stat_activity where query ~ 'pg_sleep.100'") == "2")
    database.server.admin(f"select pg_terminate_backend({connection.info.backend_pid})")
    connection.pgconn.get_result()
    connection.close()
    (line,) = said()
    assert (line["result"], line["sqlstate"]) == ("error", "57P01"), line
    again = connect(to(application_name="left"))
    again.pgconn.send_query(b"select pg_sleep(1)")
    again.pgconn.flush()
    again.close()
    (line,) = said(application="left")
    assert line["text"] == "select pg_sleep(1)" and line["result"] in ("unanswered", "done"), line


def test_without_the_setting_there_is_no_line(gateway, to, said):
    with connect(to("md5")) as connection:
        connection.execute("select 1")
    assert said() == []


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_has_as_many_lines_as_statements(database, to, said, mode):
    if database.server.admin("select to_regclass('pgbench_accounts') is null") == "t":
        program = [str(database.server.bin / "pgbench"), "-i", "-q", "-h", str(database.server.folder)]
        database.server.must([*program, "-p", str(database.server.port), "-U", "admin", "postgres"])
    application = f"bench-{mode}"
    parameters = to(application_name=application)
    env = os.environ | {"PGPASSWORD": parameters["password"], "PGSSLMODE": "verify-full", "PGAPPNAME": application}
    env |= {"PGSSLROOTCERT": parameters["sslrootcert"], "PGHOSTADDR": "127.0.0.1", "PGHOST": parameters["host"]}
    command = [str(database.server.bin / "pgbench"), "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50"]
    done = run([*command, "-p", str(parameters["port"]), "-U", "ann", "postgres"], env=env)
    assert b"actually processed: 200/200" in done.stdout + done.stderr, done
    # One more session asks for the scale.
    found = collections.Counter(
        (line["kind"], line["tag"].split()[0] if "tag" in line else None)
        for session in said(5, application)
        for line in session
        # What it asks to know the tables is spelled in lower case.
        if line["text"].startswith(("BEGIN", "END", "UPDATE", "SELECT", "INSERT"))
    )
    run_as = "query" if mode == "simple" else "execute"
    expected = {"BEGIN": 200, "COMMIT": 200, "UPDATE": 600, "SELECT": 200, "INSERT": 200}
    for tag, count in expected.items():
        assert found[run_as, tag] == count, found
    # Each of the seven is prepared each time it runs, or once in each of four sessions.
    assert found["parse", None] == {"simple": 0, "extended": 7 * 200, "prepared": 7 * 4}[mode], found
