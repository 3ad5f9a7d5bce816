"""A MariaDB server with TLS and passwords on loopback."""

import contextlib
import os
import pathlib
import pwd
import shutil
import tempfile

from .process import Process, free_port, run


def program(name: str) -> str:
    """One of the packages' programs."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if not found:
        raise RuntimeError(f"missing: {name} (Debian's mariadb-server and mariadb-client; tests/run installs them)")
    return found


class Server:
    """Accounts `svc` (mysql_native_password), `ed` (ed25519), `ro`, which may read, and `nobody`, which has another password."""

    def __init__(self, chain: str, key: str, password: str, tls: bool = True):
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="staunch-my-"))
        self.socket = self.folder / "server.sock"
        self.more, user = {}, []
        for name, source in (("server.pem", chain), ("server.key", key)):
            shutil.copyfile(source, self.folder / name)
        data = self.folder / "data"
        data.mkdir()
        if os.getuid() == 0:
            # The server does not run as root; its package makes a user for it.
            owner = pwd.getpwnam("mysql")
            self.more = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            for path in [self.folder, *self.folder.iterdir()]:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        (self.folder / "my.cnf").write_text("[mysqld]\n")
        common = [f"--defaults-file={self.folder}/my.cnf", f"--datadir={data}", *user]
        install = [program("mariadb-install-db"), *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        done = run(install, 120, **self.more, cwd="/")
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        encryption = [f"--ssl-cert={self.folder}/server.pem", f"--ssl-key={self.folder}/server.key", "--require-secure-transport=ON"]
        start = [
            program("mariadbd"), *common, "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.socket}",
            *(encryption if tls else ["--skip-ssl"]),
            f"--pid-file={self.folder}/pid", "--max-allowed-packet=64M", "--local-infile=ON", "--performance-schema=ON",
            "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--general-log=1", f"--general-log-file={self.folder}/general.log",
        ]  # fmt: skip
        self.process = Process(start, self.folder / "server.log", self.port, **self.more, cwd="/")
        self.process.until_answers(lambda: self.admin("select 1"))
        for name, secret in (("svc", password), ("ro", password), ("nobody", "another")):
            self.admin(f"create user {name}@'127.0.0.1' identified by '{secret}'")
        self.admin(f"install soname 'auth_ed25519'; create user ed@'127.0.0.1' identified via ed25519 using password('{password}')")
        self.admin("create database shop; grant all on *.* to svc@'127.0.0.1'; grant select on shop.* to ro@'127.0.0.1'")

    def admin(self, sql: str) -> str:
        """Runs SQL past the gateway."""
        command = [program("mariadb"), "--no-defaults", f"--socket={self.socket}", "-uroot", "--skip-ssl", "-BN", "-e", sql]
        done = run(command)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def arrivals(self) -> int:
        """Logins and failed logins over TCP that the server has seen."""
        text = (self.folder / "general.log").read_text(errors="replace")
        return len([line for line in text.splitlines() if "\tConnect\t" in line.replace(" Connect\t", "\tConnect\t") and "127.0.0.1" in line])

    def general(self) -> str:
        return (self.folder / "general.log").read_text(errors="replace")

    def stop(self) -> None:
        self.process.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
