"""Packages: what a new machine gets, does with it, keeps through an upgrade, and has left after a purge."""

import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tomllib

import httpx
import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from support.acme import Pebble
from support.gateway import BINARY, ROOT
from support.parts import until
from support.process import Process, free_port, run


def build(folder: pathlib.Path, version: str | None = None) -> tuple[pathlib.Path, pathlib.Path]:
    environment = os.environ | {"STAUNCH_BIN": BINARY}
    if version:
        environment["STAUNCH_PACKAGE_VERSION"] = version
    done = run([str(ROOT / "config/packages/build"), str(folder)], 120, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return next(folder.glob("*.deb")), next(folder.glob("*.rpm"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return build(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A new Debian, with the essential packages and nothing else."""
    folder = tmp_path_factory.mktemp("root")
    command = ["mmdebstrap", "--variant=essential", "--include=ca-certificates,curl,passwd", "--quiet", "bookworm", str(folder / "debian")]
    done = run(command, 240)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "debian"


def inside(root, *command: str, **more) -> subprocess.CompletedProcess:
    done = run(["chroot", str(root), *command], 60, **more)
    done.text = done.stdout.decode() + done.stderr.decode()
    return done


@pytest.mark.timeout(300)
def test_install_init_check_serve_upgrade_purge(world, packages, root, tmp_path):
    deb, _ = packages
    shutil.copy(deb, root / "tmp/staunch.deb")
    done = inside(root, "dpkg", "-i", "/tmp/staunch.deb")
    assert done.returncode == 0, done.text
    etc = root / "etc/staunch"
    account = inside(root, "id", "-u", "staunch").text.strip()
    assert account.isdigit() and etc.stat().st_mode & 0o777 == 0o750
    assert etc.stat().st_gid == int(inside(root, "id", "-g", "staunch").text)

    # README's first commands, as they stand in what was installed.
    walk = ["unshare", "--net", "--mount", sys.executable, str(ROOT / "tests/e2e/support/readme_walk.py"), str(root), str(tmp_path)]
    done = run(walk, 60)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["first answer"] < 60, done.stdout

    # An own issuer and a service with an own authority, for the service's account.
    shutil.copy(world.ca, root / "tmp/ca.pem")
    (root / "tmp/model.key").write_text("sk-package-canary\n")
    (root / "tmp/model.key").chmod(0o600)
    port, admin = free_port(), free_port()
    command = [
        "staunch", "init", "/etc/staunch", "--protect", "openai", "--issuer", world.issuer.url,
        "--issuer-ca", "/tmp/ca.pem", "--upstream", f"127.0.0.1:{world.nginx_port}", "--upstream-ca", "/tmp/ca.pem",
        "--secret", "file:/tmp/model.key", "--name", "localhost",
    ]  # fmt: skip
    done = inside(root, *command)
    assert done.returncode == 0 and "systemctl enable --now staunch" in done.text, done.text
    # As the unit wants it: root's files, the service's group, nobody else.
    config, name = etc / "staunch.toml", "/etc/staunch/staunch.toml"
    for path in [etc, *etc.rglob("*")]:
        is_open = path.stat().st_mode & 0o777
        assert (path.stat().st_uid, path.stat().st_gid) == (0, etc.stat().st_gid) and is_open == (0o750 if path.is_dir() else 0o640), path
    assert inside(root, "staunch", "check", "--config", name).returncode == 0
    again = inside(root, *command)
    assert again.returncode == 2 and "nothing is overwritten" in again.text

    text = config.read_text()
    lines = []
    for line in text.splitlines():
        # Ports of this test's own.
        if line.startswith("address = "):
            line = f'address = "127.0.0.1:{port}"'
        lines.append(line)
    lines = "\n".join(lines)
    lines = lines.replace("[admin]\n", "") + f'\n[admin]\naddress = "127.0.0.1:{admin}"\n' if "[admin]" not in text else lines
    config.write_text(lines)
    serve = ["chroot", f"--userspec=staunch:staunch", str(root), "/usr/bin/staunch", "serve", "--config", name]
    process = Process([*serve, "--log-format", "json"], tmp_path / "log", port)
    try:
        authority = etc / "ca.pem"
        verify = ssl.create_default_context(cafile=str(authority))
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        answer = httpx.get(f"https://localhost:{port}/seen", headers=headers, verify=verify)
        assert answer.status_code == 200 and "Bearer sk-package-canary" in answer.text, process.text()
    finally:
        assert process.stop() == 0, process.text()

    first_stream_with_a_certificate_from_pebble(world, root, tmp_path)

    before = config.read_bytes()
    newer, _ = build(tmp_path, "9.9.9")
    shutil.copy(newer, root / "tmp/newer.deb")
    # An upgrade takes the program from under a gateway that serves: the connection goes on.
    process = Process([*serve, "--log-format", "json"], tmp_path / "log", port)
    with httpx.Client(verify=ssl.create_default_context(cafile=str(etc / "ca.pem")), headers=headers) as client:
        assert client.get(f"https://localhost:{port}/seen").status_code == 200
        done = inside(root, "dpkg", "-i", "/tmp/newer.deb")
        assert client.get(f"https://localhost:{port}/seen").status_code == 200
    lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
    assert process.stop() == 0 and len({line["session"] for line in lines if line.get("event") == "request"}) == 1, lines
    assert done.returncode == 0 and "9.9.9" in inside(root, "dpkg", "-s", "staunch").text, done.text
    assert config.read_bytes() == before

    done = inside(root, "dpkg", "--purge", "staunch")
    assert done.returncode == 0 and "/etc/staunch" in done.text, done.text
    assert config.read_bytes() == before, "secrets and evidence outlive the program"
    assert not (root / "usr/bin/staunch").exists()
    assert not (root / "usr/share/doc/staunch").exists()


def first_stream_with_a_certificate_from_pebble(world, root, tmp_path):
    """From the installed package to an event stream under a certificate that an authority issued."""
    (tmp_path / "pebble").mkdir()
    port, admin = free_port(), free_port()
    ca = Pebble(tmp_path / "pebble", world.authority, port, free_port())
    etc = root / "etc/staunch/second"
    try:
        done = inside(
            root, "staunch", "init", "/etc/staunch/second", "--protect", "openai", "--issuer", world.issuer.url, "--issuer-ca",
            "/tmp/ca.pem", "--upstream", f"127.0.0.1:{world.hypercorn_port}", "--upstream-ca", "/tmp/ca.pem", "--secret",
            "file:/tmp/model.key", "--name", "ai.gw.test", "--acme", ca.directory, "--acme-ca", "/tmp/ca.pem", "--port", "443",
        )  # fmt: skip
        assert done.returncode == 0, done.text
        # Ports of this test's own; the state where the unit puts it.
        config = etc / "staunch.toml"
        text = config.read_text().replace("[::]:443", f"127.0.0.1:{port}")
        config.write_text(f'{text}\n[admin]\naddress = "127.0.0.1:{admin}"\n')
        assert inside(root, "install", "-d", "-o", "staunch", "-g", "staunch", "-m", "0700", "/var/lib/staunch").returncode == 0
        check = inside(root, "staunch", "check", "--config", "/etc/staunch/second/staunch.toml")
        assert check.returncode == 0 and "none yet, own is asked" in check.text, check.text
        serve = ["chroot", "--userspec=staunch:staunch", str(root), "/usr/bin/staunch", "serve", "--config", "/etc/staunch/second/staunch.toml"]
        process = Process([*serve, "--log-format", "json"], tmp_path / "second.log", port)
        try:
            until(lambda: "certificate obtained" in process.text(), 30)
            verify = ssl.create_default_context(cafile=ca.root(world.authority))
            headers = {"Authorization": f"Bearer {world.issuer.token()}", "Host": "ai.gw.test"}
            extensions = {"sni_hostname": "ai.gw.test"}
            url = f"https://127.0.0.1:{port}/events?5"
            with httpx.Client(verify=verify) as client, client.stream("GET", url, headers=headers, extensions=extensions) as answer:
                lines = [line for line in answer.iter_lines() if line.startswith("data:")]
                assert answer.status_code == 200 and len(lines) == 5, process.text()
        finally:
            assert process.stop() == 0, process.text()
    finally:
        ca.stop()


def test_the_rpm_holds_what_the_deb_holds(packages):
    deb, rpm = packages
    listed = run(["rpm", "-qlp", str(rpm)]).stdout.decode().splitlines()
    held = run(["dpkg-deb", "-c", str(deb)]).stdout.decode().splitlines()
    held = [line.split()[5].removeprefix(".") for line in held]
    files = {name for name in held if not name.endswith("/")}
    assert files <= set(listed) and "/usr/share/man/man1/staunch-serve.1.gz" in files
    scripts = run(["rpm", "-qp", "--scripts", str(rpm)]).stdout.decode()
    assert "systemd-sysusers" in scripts and "disable --now" in scripts


def test_the_rpm_installs_into_an_empty_root(packages, tmp_path):
    _, rpm = packages
    root = tmp_path / "root"
    root.mkdir()
    done = run(["rpm", "-i", "--nodeps", "--noscripts", "--root", str(root), str(rpm)])
    assert done.returncode == 0, done.stderr.decode()
    assert (root / "usr/bin/staunch").stat().st_mode & 0o777 == 0o755


def test_completions_and_manual_pages_name_every_command(packages, tmp_path):
    for shell in ("bash", "zsh", "fish"):
        done = run([BINARY, "completions", shell])
        assert done.returncode == 0 and b"connect" in done.stdout and b"init" in done.stdout
    done = run(["bash", "-n"], input=run([BINARY, "completions", "bash"]).stdout)
    assert done.returncode == 0, done.stderr.decode()
    assert run([BINARY, "man", str(tmp_path)]).returncode == 0
    page = (tmp_path / "staunch-connect.1").read_text()
    assert ".TH" in page and "exec" in page


PACKAGES = ROOT / "config/packages"


def test_an_image_that_no_container_engine_built_serves_as_its_own_account(world, tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    done = run([str(PACKAGES / "image"), str(tmp_path / "image")], 120, env=os.environ | {"STAUNCH_BIN": BINARY})
    assert done.returncode == 0, done.stderr.decode()
    name = done.stdout.decode().strip()
    assert run([str(PACKAGES / "image"), str(tmp_path / "image")], env=os.environ | {"STAUNCH_BIN": BINARY}).returncode == 1
    assert run(["umoci", "unpack", "--image", name, str(tmp_path / "bundle")]).returncode == 0
    # What a container engine would run, and where.
    process = json.loads((tmp_path / "bundle/config.json").read_text())["process"]
    root = tmp_path / "bundle/rootfs"
    assert (process["user"]["uid"], process["user"]["gid"]) == (10443, 10443) and not (root / "bin").exists()
    port, etc = free_port(), root / "etc/staunch"
    chain, key = world.authority.leaf("image", ["localhost"])
    for source, name in ((chain, "gateway.pem"), (key, "gateway.key"), (world.ca, "ca.pem")):
        shutil.copy(source, etc / name)
    (etc / "model.key").write_text("sk-image-canary")
    for file in etc.iterdir():
        os.chown(file, 10443, 10443)
        file.chmod(0o600)
    (etc / "staunch.toml").write_text(f"""
        [[listener]]
        address = "127.0.0.1:{port}"
        [admin]
        address = "127.0.0.1:{free_port()}"
        [[issuer]]
        name = "corp"
        oidc = "{world.issuer.url}"
        audience = ["staunch"]
        ca = "ca.pem"
        [secrets]
        model = "file:model.key"
        [[route]]
        name = "model"
        sni = "localhost"
        protocol = "http"
        upstream = {{ address = "tls://127.0.0.1:{world.nginx_port}", ca = "ca.pem" }}
        certificate = {{ chain = "gateway.pem", key = "gateway.key" }}
        allow = [{{ issuer = "corp", groups = ["agents"] }}]
        inject = {{ header = "authorization", value = "Bearer {{secret:model}}" }}
    """)
    serve = [shutil.which("chroot"), "--userspec=10443:10443", str(root), *process["args"]]
    gateway = Process(serve, tmp_path / "log", port, dict(one.split("=", 1) for one in process["env"]))
    try:
        headers = {"Authorization": f"Bearer {world.issuer.token()}"}
        verify = ssl.create_default_context(cafile=world.ca)
        answer = httpx.get(f"https://localhost:{port}/seen", headers=headers, verify=verify)
        assert answer.status_code == 200 and "Bearer sk-image-canary" in answer.text, gateway.text()
    finally:
        assert gateway.stop() == 0, gateway.text()


def test_the_manifests_hold_to_the_schemas_of_kubernetes():
    base = PACKAGES / "kubernetes/base"
    named = {name for name in os.listdir(base) if name.endswith(".yaml")} - {"kustomization.yaml"}
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text())
    assert set(kustomization["resources"]) == named
    for name in named:
        for manifest in yaml.safe_load_all((base / name).read_text()):
            kubernetes_validate.validate(manifest, "1.31", strict=True)
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert kustomization["images"] == [{"name": "staunch", "newTag": version}]
    # What the pod is given is what the configuration reads.
    pod = yaml.safe_load((base / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 60 and 'drain = "60s"' in (base / "staunch.toml").read_text()


def test_the_compose_file_holds_to_its_schema_and_names_what_is_there():
    text = (PACKAGES / "compose/compose.yaml").read_text()
    PyCompose.from_yaml(text).validate()
    for wrong in (text.replace("read_only:", "readonly:"), text.replace("service_started", "started")):
        assert wrong != text
        with pytest.raises(Exception, match="services.gateway"):
            PyCompose.from_yaml(wrong)
    compose = yaml.safe_load(text)
    stages = [line.split(" AS ")[1] for line in (PACKAGES / "Dockerfile").read_text().splitlines() if " AS " in line]
    for name, service in compose["services"].items():
        assert ("image" in service) != ("build" in service), name
        if target := service.get("build", {}).get("target"):
            assert target in stages
        for other in service.get("depends_on", {}):
            assert other in compose["services"], name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            place = PACKAGES / "compose" / source if source.startswith(".") else None
            assert place.is_file() if place else source in compose["volumes"], volume


def test_the_examples_of_containers_are_checked_with_the_certificates_that_their_script_makes(world, tmp_path):
    done = run([str(PACKAGES / "compose/certificates"), str(tmp_path)])
    assert done.returncode == 0, done.stderr.decode()
    assert run([str(PACKAGES / "compose/certificates"), str(tmp_path)]).returncode == 0, "a second time"
    for file in tmp_path.iterdir():
        os.chown(file, 0, 0)
    for leaf in ("gateway", "issuer", "model", "database"):
        assert run(["openssl", "verify", "-CAfile", f"{tmp_path}/ca.pem", f"{tmp_path}/{leaf}.pem"]).returncode == 0
    text = (PACKAGES / "compose/staunch.toml").read_text().replace("/certificates/", f"{tmp_path}/")
    (tmp_path / "compose.toml").write_text(text)
    done = run([BINARY, "check", "--config", str(tmp_path / "compose.toml")])
    assert done.returncode == 0, done.stderr.decode()
    chain, key = world.authority.leaf("openai", ["openai.gw.example.com"])
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, text in (("gateway.pem", open(chain).read()), ("gateway.key", open(key).read()), ("openai.key", "sk-1")):
        (secrets / name).write_text(text)
        # As fsGroup makes them.
        (secrets / name).chmod(0o440)
        os.chown(secrets / name, 0, 10443)
    text = (PACKAGES / "kubernetes/base/staunch.toml").read_text().replace("/secrets/", f"{secrets}/")
    (tmp_path / "kubernetes.toml").write_text(text)
    for folder in [secrets, *secrets.parents]:
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    command = [BINARY, "check", "--config", str(tmp_path / "kubernetes.toml")]
    done = run(command, user=10443, group=10443, extra_groups=[])
    assert done.returncode == 0, done.stderr.decode()
