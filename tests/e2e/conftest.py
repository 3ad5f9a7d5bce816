"""Fixtures: one authority and one set of real parts for all tests, one gateway for each module."""

import pathlib
import resource
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import pytest
from support import parts
from support.certs import Authority
from support.gateway import KEY, Gateway

# Client and upstream of thousands of streams live in this process.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

NAMES = ["api.gw.test", "app.gw.test", "grpc.gw.test", "raw.gw.test", "opt.gw.test", "tunnel.gw.test"]


class World:
    """Everything but the gateway."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder)
        self.gateway_pair = self.authority.leaf("gateway", NAMES)
        self.upstream_pair = self.authority.leaf("upstream", ["127.0.0.1", "localhost"])
        self.issuer = parts.Issuer(folder, self.authority)
        locations = """
          location = /seen { default_type text/plain; return 200 "auth=$http_authorization key=$http_x_api_key"; }
          location = /gzipped { default_type text/plain; add_header Content-Encoding gzip; return 200 "not really"; }
          location /put/ { client_body_in_file_only clean; proxy_pass http://127.0.0.1:1/; }
        """
        self.nginx, self.nginx_port = parts.nginx(folder, *self.upstream_pair, locations, "ssl http2")
        self.hypercorn, self.hypercorn_port = parts.hypercorn(folder, *self.upstream_pair)
        self.grpc, self.grpc_port = parts.grpc_server(folder, *self.upstream_pair)

    @property
    def ca(self) -> str:
        return str(self.authority.path)

    def stop(self):
        self.issuer.stop()
        for process in (self.nginx, self.hypercorn, self.grpc):
            process.stop()

    def route(self, name: str, port: int, **more) -> dict:
        chain, key = self.gateway_pair
        return {
            "name": name,
            "sni": f"{name}.gw.test",
            "protocol": "http",
            "upstream": {"address": f"tls://127.0.0.1:{port}", "ca": self.ca},
            "certificate": {"chain": chain, "key": key},
            "allow": [{"issuer": "corp", "groups": ["agents"]}],
            "inject": {"header": "authorization", "value": "Bearer {secret:stored}"},
        } | more

    def tunnel(self) -> dict:
        """A listener's tunnel name."""
        chain, key = self.gateway_pair
        return {"sni": "tunnel.gw.test", "certificate": {"chain": chain, "key": key}}

    def config(self, *routes: dict, **more) -> dict:
        issuer = {
            "name": "corp", "oidc": self.issuer.url, "audience": ["staunch"], "ca": self.ca, "algorithms": ["ES256"],
        }  # fmt: skip
        base = {"issuer": [issuer], "secrets": {"stored": "file:stored.key"}, "route": list(routes)}
        return base | {"workers": {"count": 2, "pin": False}} | more


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


def check_log(gateway):
    """Neither the stored credential nor anybody's token, and no panic."""
    text = gateway.process.text()
    assert KEY not in text, "the stored credential is in the log"
    assert "eyJ" not in text.replace("eyJ…", ""), "a token is in the log"
    assert "panicked" not in text


def recorded_place(make, world, tmp_path_factory, name):
    """The place of a module's recordings, from its folder, which is its owner's alone, to its gateway's clean end."""
    folder = tmp_path_factory.mktemp(name)
    folder.chmod(0o700)
    place = make(world, folder)
    yield place
    assert place.gateway.stop() == 0, place.gateway.process.text()
    check_log(place.gateway)
    place.stop()


@pytest.fixture
def start(tmp_path):
    """Starts gateways that are stopped, and must drain cleanly, at the test's end."""
    started = []

    def start(config: dict, **more) -> Gateway:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        started.append(Gateway(folder, config, **more))
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.popen.poll() is None:
            assert gateway.stop() == 0, gateway.process.text()
        check_log(gateway)


@pytest.fixture(scope="module")
def gateway(world, tmp_path_factory):
    """A gateway with the usual routes."""
    routes = [
        world.route("api", world.nginx_port),
        world.route("app", world.hypercorn_port),
        world.route("grpc", world.grpc_port),
    ]
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), world.config(*routes))
    yield gateway
    code = gateway.stop()
    assert code == 0, gateway.process.text()
    check_log(gateway)
