"""A Redis server with TLS and passwords on loopback."""

import contextlib
import pathlib
import shutil
import tempfile

from .process import Process, free_port, run


def program(name: str) -> str:
    """One of the packages' programs."""
    found = shutil.which(name)
    if not found:
        raise RuntimeError(f"missing: {name} (Debian's redis-server and redis-tools; tests/run installs them)")
    return found


class Server:
    """Accounts `default`, `svc`, which may all, and `ro`, which may read; TLS only."""

    def __init__(self, chain: str, key: str, ca: str, password: str):
        self.port, self.ca, self.password = free_port(), ca, password
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="staunch-redis-"))
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"""
            bind 127.0.0.1
            port 0
            tls-port {self.port}
            tls-cert-file {chain}
            tls-key-file {key}
            tls-ca-cert-file {ca}
            tls-auth-clients no
            dir {self.folder}
            save ""
            appendonly no
            daemonize no
            repl-diskless-sync-delay 0
            user default on >{password} ~* &* +@all
            user svc on >{password} ~* &* +@all
            user ro on >{password} ~* &* +@read +@connection +@pubsub
            """
        )
        self.process = Process([program("redis-server"), str(config)], self.folder / "redis.log", self.port)

    def cli(self, *words: str) -> str:
        """Runs a command past the gateway."""
        command = [program("redis-cli"), "--tls", "--cacert", self.ca, "-h", "127.0.0.1", "-p", str(self.port)]
        done = run([*command, "--no-auth-warning", "-a", self.password, *words])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode().strip()

    def arrivals(self) -> int:
        """Connections that the server has seen; asking is one more."""
        info = dict(line.split(":", 1) for line in self.cli("INFO", "stats").splitlines() if ":" in line)
        return int(info["total_connections_received"])

    def stop(self) -> None:
        self.process.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)
