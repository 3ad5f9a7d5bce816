"""Servers without TLS, on loopback and on Unix sockets of this machine."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

from . import mariadb, parts, postgres
from .process import Process, free_port
from .redis_server import program

HERE = pathlib.Path(__file__).resolve().parent


def grpc_host(folder: pathlib.Path):
    """The gRPC server of grpc_host.py with an insecure port; returns (process, port)."""
    port = free_port()
    return Process([sys.executable, str(HERE / "grpc_host.py"), str(port)], folder / "grpc.log", port), port


def hypercorn(folder: pathlib.Path, bind: str):
    """The ASGI application of app.py, which speaks HTTP/1.1 and HTTP/2 with prior knowledge."""
    command = [sys.executable, "-m", "hypercorn", "--bind", bind, "--access-logfile", "-", "support.app:app"]
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}
    process = Process(command, folder / "hypercorn.log", None, env)
    parts.until(lambda: "Running on" in process.text())
    return process


class Redis:
    """Redis that listens on a socket in a folder of its own and nowhere else."""

    def __init__(self, password: str):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="staunch-redis-"))
        self.socket = self.folder / "redis.sock"
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"""
            port 0
            unixsocket {self.socket}
            unixsocketperm 700
            dir {self.folder}
            save ""
            daemonize no
            user default off
            user svc on >{password} ~* &* +@all
            """
        )
        self.process = Process([program("redis-server"), str(config)], self.folder / "redis.log")
        parts.until(self.socket.exists)

    def stop(self) -> None:
        self.process.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


class Postgres(postgres.Server):
    """PostgreSQL with TLS switched off, for clients on its socket: accounts prove themselves there, one by nothing."""

    def __init__(self, chain: str, key: str, password: str):
        super().__init__(chain, key, password)
        rules = ["local all admin trust"] + [f"local all {user} {how}" for user, how in postgres.METHODS.items()]
        (self.folder / "data/pg_hba.conf").write_text("\n".join(rules) + "\n")
        self.admin("alter system set ssl = off")
        self.admin("select pg_reload_conf()")
        parts.until(lambda: self.admin("show ssl") == "off")

    @property
    def socket(self) -> pathlib.Path:
        return self.folder / f".s.PGSQL.{self.port}"


class Mariadb(mariadb.Server):
    """MariaDB that cannot do TLS, with the account `svc` for clients on its socket."""

    def __init__(self, chain: str, key: str, password: str):
        super().__init__(chain, key, password, tls=False)
        self.admin(f"create user svc@localhost identified by '{password}'; grant all on *.* to svc@localhost")
        assert self.admin("select @@have_ssl") == "DISABLED"
