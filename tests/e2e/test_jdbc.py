"""Java's drivers for PostgreSQL and for MySQL: `setQueryTimeout` and `cancel` reach the statement through the gateway."""

import subprocess

import pytest
import test_mysql
import test_postgres
from conftest import check_log
from support.gateway import ROOT, Gateway

DRIVERS = "/usr/share/java/postgresql.jar:/usr/share/java/mariadb-java-client.jar"
ALIVE = "alive 42"


@pytest.fixture(scope="module")
def run_jdbc(tmp_path_factory):
    """Runs the client with a name that leads to the gateway, and returns what it said."""
    folder = tmp_path_factory.mktemp("jdbc")
    subprocess.run(["ecj", "-11", "-nowarn", "-proc:none", "-d", folder, ROOT / "tests/parts/Jdbc.java"], check=True, timeout=60)

    def run_jdbc(name, url, statement, token):
        (folder / "hosts").write_text(f"127.0.0.1 {name}\n")
        command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", f"-Djdk.net.hosts.file={folder / 'hosts'}"]
        command += ["-cp", f"{folder}:{DRIVERS}", "Jdbc", url, statement]
        done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run_jdbc


def gateway_of(database, folder, **more):
    gateway = Gateway(folder, database.config(**more))
    yield gateway
    code = gateway.stop()
    database.server.stop()
    assert code == 0, gateway.process.text()
    check_log(gateway)


@pytest.fixture
def postgres(world, tmp_path):
    yield from gateway_of(test_postgres.Database(world), tmp_path, postgres_cancel_in_clear=True)


@pytest.fixture
def mysql(world, tmp_path):
    yield from gateway_of(test_mysql.Database(world), tmp_path)


def test_pgjdbc_stops_its_own_statements_by_cancel_requests_in_clear(world, postgres, run_jdbc):
    url = f"jdbc:postgresql://scram.pg.test:{postgres.port}/postgres?sslmode=verify-full&sslrootcert={world.ca}"
    said = run_jdbc("scram.pg.test", url, "select pg_sleep(60)", world.issuer.token())
    assert said == ["timeout stopped 57014 at once", "cancel stopped 57014 at once", ALIVE]
    assert [line for line in postgres.lines() if "cancelled the statement of session" in line.get("detail", "")]


def test_mariadbs_connector_stops_its_own_statements_by_kill_query(world, mysql, run_jdbc):
    url = f"jdbc:mariadb://shop.my.test:{mysql.port}/?useSsl=true&serverSslCert={world.ca}&enabledSslProtocolSuites=TLSv1.3"
    said = run_jdbc("shop.my.test", url, "select sleep(60)", world.issuer.token())
    assert said[1:] == ["cancel stopped 70100 at once", ALIVE], said
    assert said[0].startswith("timeout stopped 70100 at once"), said
