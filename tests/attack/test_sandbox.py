"""Somebody who has taken over a gateway that runs: what the kernel still lets that process do, and that serving goes on."""

import pathlib
import re
import shutil
import signal
import ssl

import httpx
import pytest
from end_to_end import KEY
from support import parts
from support.gateway import staunch


def config(world, folder, **more):
    """A gateway whose certificate, key and authority are files of a folder of its own."""
    folder.mkdir(exist_ok=True)
    chain, key = world.authority.leaf("sandbox", ["localhost"])
    for source, name in ((chain, "gw.pem"), (key, "gw.key"), (world.ca, "ca.pem")):
        shutil.copy(source, folder / name)
    certificate = {"chain": str(folder / "gw.pem"), "key": str(folder / "gw.key")}
    route = world.route("app", world.hypercorn_port, sni="localhost", certificate=certificate)
    route["upstream"]["ca"] = str(folder / "ca.pem")
    return world.config(route, **more)


def reload(gateway, word):
    before = gateway.process.text().count(word)
    gateway.signal(signal.SIGHUP)
    parts.until(lambda: gateway.process.text().count(word) > before)
    return next(line for line in reversed(gateway.lines()) if word in str(line))


def serial(gateway, world):
    """The answer's status, and the serial number of the certificate that the gateway shows."""
    with httpx.Client(verify=ssl.create_default_context(cafile=world.ca), timeout=20) as http:
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        with http.stream("GET", f"https://localhost:{gateway.port}/look", headers=headers) as answer:
            peer = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
            return answer.status_code, peer["serialNumber"]


def test_every_thread_is_confined_and_a_reload_reads_what_was_replaced(world, start, tmp_path):
    own = tmp_path / "tls"
    gateway = start(config(world, own, system={"sandbox": "require"}))
    said = said_of(gateway)
    assert (said["files"], said["system_calls"]) == ("confined", "confined"), said
    threads = list(pathlib.Path(f"/proc/{gateway.process.popen.pid}/task").iterdir())
    assert len(threads) >= 3
    for thread in threads:
        status = (thread / "status").read_text()
        assert re.search(r"^Seccomp:\s+2$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M), status
    first = serial(gateway, world)
    assert first[0] == 200
    # As certbot and editors do: a new file takes the name.
    chain, key = world.authority.leaf("sandbox-renewed", ["localhost"])
    for source, name in ((chain, "gw.pem"), (key, "gw.key")):
        shutil.copy(source, own / "next")
        (own / "next").rename(own / name)
    reload(gateway, "configuration reloaded")
    second = serial(gateway, world)
    assert second[0] == 200 and second[1] != first[1]
    assert "process_open_descriptors" in gateway.metrics() and "process_resident" in gateway.metrics()


def said_of(gateway):
    return next(line for line in gateway.lines() if "system_calls" in line)


def test_a_path_that_the_running_process_may_not_read_is_named_with_the_way_out(world, start, tmp_path):
    gateway = start(config(world, tmp_path / "tls"))
    good = gateway.path.read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for source, name in ((tmp_path / "tls/gw.pem", "gw.pem"), (tmp_path / "tls/gw.key", "gw.key"), (world.ca, "ca.pem")):
        shutil.copy(source, elsewhere / name)
    (elsewhere / "stored.key").touch(mode=0o600)
    (elsewhere / "stored.key").write_text(KEY)
    for old, new in [
        (f"{tmp_path}/tls/gw.key", f"{elsewhere}/gw.key"),
        (f"{tmp_path}/tls/ca.pem", f"{elsewhere}/ca.pem"),
        ("file:stored.key", f"file:{elsewhere}/stored.key"),
    ]:
        gateway.path.write_text(good.replace(old, new))
        assert gateway.path.read_text() != good
        refused = str(reload(gateway, "reload refused"))
        assert "needs a restart" in refused and str(elsewhere) in refused and "chown" not in refused, refused
        assert staunch("check", "--config", str(gateway.path)).returncode == 0
    # One that is below what it reads anyway works at once.
    (tmp_path / "tls/sub").mkdir()
    shutil.copy(world.ca, tmp_path / "tls/sub/ca.pem")
    gateway.path.write_text(good.replace(f"{tmp_path}/tls/ca.pem", f"{tmp_path}/tls/sub/ca.pem"))
    reload(gateway, "configuration reloaded")
    assert serial(gateway, world)[0] == 200


def test_a_hook_that_comes_later_needs_a_restart(world, start, tmp_path):
    gateway = start(config(world, tmp_path / "tls"))
    text = gateway.path.read_text()
    extra = '[acme]\ndns_hook = ["/bin/true"]\nstate = "acme"\n'
    pair = f'"certificate" = {{ "chain" = "{tmp_path}/tls/gw.pem", "key" = "{tmp_path}/tls/gw.key" }}'
    assert pair in text
    gateway.path.write_text(text.replace(pair, '"certificate" = { acme = "letsencrypt-staging", challenge = "dns-01" }') + extra)
    refused = str(reload(gateway, "reload refused"))
    assert "dns_hook" in refused and "needs a restart" in refused, refused
    assert serial(gateway, world)[0] == 200


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_check_says_what_the_process_could_still_do(world, start, tmp_path, mode):
    gateway = start(config(world, tmp_path / "tls", system={"sandbox": mode}))
    said = staunch("check", "--config", str(gateway.path)).stdout.decode()
    line = next(line for line in said.splitlines() if line.startswith("sandbox"))
    if mode == "off":
        assert line.split() == ["sandbox", "off"]
        assert "confined" not in said_of(gateway).values()
    else:
        assert str(tmp_path / "tls") in line and "writes nothing" in line and "starts no programs" in line
