"""Under a service manager: what it is told, sockets that it hands over, credentials, and the unit itself."""

import grp
import os
import re
import signal
import socket
import time

import pytest
from support.gateway import BINARY, KEY, ROOT, staunch
from support.process import Process, free_port, run
from test_life import client, local

UNITS = ROOT / "config/packages"


class Manager:
    """The socket at which a service tells its manager what it does."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(10)

    def next(self) -> dict[str, str]:
        """What is said next, without what the watchdog hears."""
        while True:
            said = dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())
            if said.pop("WATCHDOG", None) is None or said:
                return said

    def environment(self, **more) -> dict:
        return os.environ | {"NOTIFY_SOCKET": self.path} | more


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.socket.close()


def test_the_manager_hears_of_start_reload_and_end(world, start, manager):
    gateway = start(world.config(local(world)), env=manager.environment())
    assert manager.next() == {"READY": "1"}
    before = time.monotonic_ns() // 1000
    gateway.signal(signal.SIGHUP)
    said = manager.next()
    assert said["RELOADING"] == "1" and before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.next() == {"READY": "1"}
    # A reload that is refused is over, too; the manager would wait for ever.
    gateway.path.write_text("nonsense")
    gateway.signal(signal.SIGHUP)
    assert manager.next()["RELOADING"] == "1"
    assert manager.next() == {"READY": "1"}
    assert gateway.stop() == 0
    assert manager.next() == {"STOPPING": "1"}


def test_the_watchdog_hears_of_a_gateway_twice_within_its_limit(world, start, manager):
    start(world.config(local(world)), env=manager.environment(WATCHDOG_USEC="400000"))
    heard, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        heard += manager.socket.recv(4096) == b"WATCHDOG=1\n"
    assert 6 <= heard <= 14


def test_another_process_s_watchdog_and_sockets_are_not_taken_for_ones_own(world, start, manager):
    stranger = {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1", "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    start(world.config(local(world)), env=manager.environment(**stranger))
    assert manager.next() == {"READY": "1"}
    manager.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        manager.socket.recv(4096)


def activated(command: str, *listeners: socket.socket, folder) -> tuple[list, dict]:
    """A command that finds sockets at the descriptors 3 and up, as systemd passes them."""
    moves = " ".join(f"{3 + n}<&{listener.fileno()}" for n, listener in enumerate(listeners))
    script = f"export LISTEN_PID=$$ LISTEN_FDS={len(listeners)}; exec {command} {moves}"
    return ["/bin/bash", "-c", script], {"pass_fds": [listener.fileno() for listener in listeners]}


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", free_port()))
    listener.listen(64)
    # Away from the numbers that it is moved to.
    moved = socket.socket(fileno=os.dup(listener.fileno()))
    return moved


def test_sockets_that_the_manager_holds_are_served_and_outlive_a_restart(world, start, tmp_path):
    gateway = start(world.config(local(world)))
    assert gateway.stop() == 0
    held, held_admin = listening(), listening()
    text = gateway.path.read_text()
    text = text.replace(f":{gateway.port}", f":{held.getsockname()[1]}")
    text = text.replace(f":{gateway.admin}", f":{held_admin.getsockname()[1]}")
    gateway.path.write_text(text)
    url = f"https://localhost:{held.getsockname()[1]}/look"
    headers = {"Authorization": f"Bearer {world.issuer.token()}"}
    command = f"{BINARY} serve --config {gateway.path} --log-format json"
    for life in range(2):
        # Nobody is refused: the kernel keeps who comes before the gateway does.
        early = socket.create_connection(held.getsockname())
        shell, more = activated(command, held, held_admin, folder=tmp_path)
        process = Process(shell, tmp_path / f"activated-{life}.log", held_admin.getsockname()[1], **more)
        try:
            with client(world) as http:
                answers = [http.get(url, headers=headers).status_code for _ in range(8)]
            assert answers == [200] * 8
            early.close()
        finally:
            assert process.stop() == 0, process.text()


def test_a_socket_on_which_no_listener_stands_is_a_fault_that_names_it(world, start, tmp_path):
    gateway = start(world.config(local(world)))
    assert gateway.stop() == 0
    stray = listening()
    shell, more = activated(f"{BINARY} serve --config {gateway.path}", stray, folder=tmp_path)
    done = run(shell, 20, **more)
    assert done.returncode == 1
    assert f"127.0.0.1:{stray.getsockname()[1]}" in done.stderr.decode() and b"no listener" in done.stderr


def test_keys_and_secrets_come_from_the_credentials_directory(world, start, tmp_path):
    """As systemd makes it: files that root owns, whose access list shows as the mode of a group."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    route = local(world)
    chain, key = route["certificate"]["chain"], route["certificate"]["key"]
    for name, source in (("chain.pem", chain), ("key.pem", key)):
        (folder / name).write_bytes(open(source, "rb").read())
    (folder / "stored").write_text(KEY + "\n")
    for file in folder.iterdir():
        file.chmod(0o440)
    route["certificate"] = {"chain": "credential:chain.pem", "key": "credential:key.pem"}
    other = world.route("beside", world.nginx_port, certificate={"chain": chain, "key": str(folder / "key.pem")})
    other["sni"] = "localhost.gw.test"
    config = world.config(route, secrets={"stored": "credential:stored"})
    gateway = start(config, env=os.environ | {"CREDENTIALS_DIRECTORY": str(folder)})
    with client(world) as http:
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        assert http.get(f"https://localhost:{gateway.port}/look", headers=headers).status_code == 200
    # Without the directory each of them is a fault of its own.
    done = staunch("check", "--config", str(gateway.path))
    assert done.returncode == 1 and done.stderr.decode().count("no credentials directory") == 3, done.stderr.decode()
    # A path below the directory is the same file.
    gateway.path.write_text(gateway.path.read_text().replace("credential:key.pem", str(folder / "key.pem")))
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(folder)}
    command = [BINARY, "check", "--config", str(gateway.path)]
    assert run(command, env=environment).returncode == 0
    done = staunch("check", "--config", str(gateway.path))
    assert b"open to others (mode 440)" in done.stderr


def test_a_key_of_roots_may_be_the_services_groups_but_no_other_users(world, start, tmp_path):
    """Run as root, who can become the service's account and another."""
    assert os.geteuid() == 0, "this test needs root"
    nobody, daemon = 65534, grp.getgrnam("daemon").gr_gid
    gateway = start(world.config(local(world)))
    assert gateway.stop() == 0
    for folder in [gateway.folder, *gateway.folder.parents]:
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    secret = gateway.folder / "stored.key"

    def check(mode: int, owner: int, group: int) -> str:
        os.chown(secret, owner, group)
        secret.chmod(mode)
        command = [BINARY, "check", "--config", str(gateway.path)]
        done = run(command, user=nobody, group=daemon, extra_groups=[])
        return done.stderr.decode()

    # The certificate's key is another fault of this user's; only the secret counts here.
    assert "stored" not in check(0o640, 0, daemon)
    assert "chmod 600" in check(0o644, 0, daemon)
    assert "another user" in check(0o600, 1, daemon) or "Permission denied" in check(0o600, 1, daemon)
    text = check(0o640, 0, 0)
    assert "cannot be read by this user" in text and "640" in text, text


AT_THE_INSTALLATION = [
    ("the port is taken", [], {}, "Address already in use"),
    ("a file of root's alone", ["key", 0o600, 0], {}, "cannot be read by this user"),
    ("a file of somebody else's", ["secret", 0o644, 1], {}, "belongs to another user"),
    ("a file that all can read", ["secret", 0o644, 0], {}, "is open to others"),
    ("no credentials", [], {"stored": "credential:openai-key"}, "there is no credentials directory"),
    ("a credential of another name", ["directory"], {"stored": "credential:openai-key"}, "the credential that stands here cannot be read"),
]


@pytest.mark.parametrize("what, done_to, secrets, said", AT_THE_INSTALLATION, ids=[row[0] for row in AT_THE_INSTALLATION])
def test_a_mistake_at_the_installation_ends_with_the_words_of_the_guide(world, start, tmp_path, what, done_to, secrets, said):
    assert f"`{said}`" in (ROOT / "config/service.md").read_text()
    gateway = start(world.config(local(world)))
    if what != "the port is taken":
        assert gateway.stop() == 0
    text = gateway.path.read_text().replace(f":{gateway.admin}", f":{free_port()}")
    for where in secrets.values():
        assert '"file:stored.key"' in text
        text = text.replace('"file:stored.key"', f'"{where}"')
    environment = os.environ | ({"CREDENTIALS_DIRECTORY": str(tmp_path)} if "directory" in done_to else {})
    path = gateway.folder / "mistake.toml"
    as_service = {}
    if done_to and "directory" not in done_to:
        for folder in [gateway.folder, *gateway.folder.parents]:
            if str(folder).startswith("/tmp/"):
                folder.chmod(0o755)
        which, mode, owner = done_to
        file = tmp_path / "copied.key"
        file.write_text(KEY if which == "secret" else open(world.gateway_pair[1]).read())
        file.chmod(mode)
        os.chown(file, owner, 0)
        old = '"file:stored.key"' if which == "secret" else f'"{world.gateway_pair[1]}"'
        text = text.replace(old, f'"file:{file}"' if which == "secret" else f'"{file}"')
        as_service = {"user": 65534, "group": 65534, "extra_groups": []}
    path.write_text(text)
    path.chmod(0o644)
    done = run([BINARY, "serve", "--config", str(path)], env=environment, **as_service)
    assert done.returncode == 1 and said in done.stderr.decode(), done.stderr.decode()


def test_the_unit_is_closed_to_what_it_does_not_need():
    done = run(["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / "staunch.service")])
    text = done.stdout.decode()
    score = float(re.search(r"Overall exposure level for staunch.service: ([\d.]+)", text)[1])
    assert score <= 2.0, text


def test_the_units_say_nothing_that_systemd_does_not_know(tmp_path):
    for name in ("staunch.service", "staunch.socket"):
        text = (UNITS / name).read_text().replace("/usr/bin/staunch", BINARY)
        (tmp_path / name).write_text(text)
    done = run(["systemd-analyze", "verify", "--man=no", str(tmp_path / "staunch.service"), str(tmp_path / "staunch.socket")])
    complaints = [line for line in done.stderr.decode().splitlines() if str(tmp_path) in line or "staunch." in line]
    # Before version 253 the word is unknown, and the line before it holds.
    complaints = [line for line in complaints if "notify-reload" not in line]
    assert complaints == []
