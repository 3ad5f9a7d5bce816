"""The guide of issuers: each configuration in it, with a token of the claims shown beside it, signed as the vendors sign theirs."""

import base64
import http.server
import json
import re
import ssl
import threading
import time
import tomllib

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from support.gateway import ROOT

GUIDE = (ROOT / "config/issuers.md").read_text()
VENDORS = ["Keycloak", "Entra ID", "Okta", "Google", "GitHub Actions", "Kubernetes"]


def section(vendor: str) -> tuple[dict, dict]:
    """Configuration and claims under a vendor's heading."""
    text = re.search(rf"^## {vendor}\n(.*?)(?=^## )", GUIDE, re.M | re.S)[1]
    blocks = {language: re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S) for language in ("toml", "json")}
    assert len(blocks["toml"]) == len(blocks["json"]) == 1, vendor
    return tomllib.loads(blocks["toml"][0]), json.loads(blocks["json"][0])


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Vendors:
    """An issuer below a path for each vendor, all with one RSA key; keys are fetched under another name than the documents."""

    def __init__(self, world):
        self.key = rsa.generate_private_key(65537, 2048)
        numbers = self.key.public_key().public_numbers()
        part = lambda number: text(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        jwks = {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": part(numbers.n), "e": part(numbers.e)}]}
        vendors = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer = vendors.url + self.path.removesuffix("/.well-known/openid-configuration")
                document = {"issuer": issuer, "jwks_uri": f"https://{vendors.keys}/jwks"}
                body = json.dumps(jwks if self.path == "/jwks" else document).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*world.upstream_pair)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]
        self.url, self.keys = f"https://127.0.0.1:{self.port}", f"localhost:{self.port}"

    def issuer(self, configured: str) -> str:
        return self.url + "/" + configured.removeprefix("https://").replace("/", "-")

    def token(self, claims: dict) -> str:
        now = int(time.time())
        whole = claims | {"iss": self.issuer(claims["iss"]), "iat": now, "nbf": now, "exp": now + 300}
        signed = ".".join(text(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT", "kid": "k1"}, whole))
        return f"{signed}.{text(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@pytest.fixture(scope="module")
def gateway(world, tmp_path_factory):
    from support.gateway import Gateway

    vendors = Vendors(world)
    issuers, routes = [], []
    for number, vendor in enumerate(VENDORS):
        configuration, _ = section(vendor)
        (issuer,), (route,) = configuration["issuer"], configuration["route"]
        hosts = [*issuer.get("jwks_hosts", []), vendors.keys]
        issuers.append(issuer | {"oidc": vendors.issuer(issuer["oidc"]), "ca": world.ca, "jwks_hosts": hosts})
        routes.append(world.route(f"v{number}", world.nginx_port) | route)
    names = [f"v{number}.gw.test" for number in range(len(VENDORS))]
    chain, key = world.authority.leaf("vendors", names)
    for route in routes:
        route["certificate"] = {"chain": chain, "key": key}
    gateway = Gateway(tmp_path_factory.mktemp("issuers"), world.config(*routes) | {"issuer": issuers})
    gateway.vendors = vendors
    yield gateway
    assert gateway.stop() == 0, gateway.process.text()
    vendors.server.shutdown()


def status(world, gateway, number: int, claims: dict) -> int:
    host = f"v{number}.gw.test"
    headers = {"Authorization": f"Bearer {gateway.vendors.token(claims)}", "Host": host}
    with httpx.Client(verify=ssl.create_default_context(cafile=world.ca)) as client:
        url = f"https://127.0.0.1:{gateway.port}/hello.txt"
        return client.get(url, headers=headers, extensions={"sni_hostname": host}).status_code


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_token_with_a_vendors_claims_opens_the_guides_route_and_no_other(world, gateway, vendor):
    number = VENDORS.index(vendor)
    _, claims = section(vendor)
    answers = [status(world, gateway, other, claims) for other in range(len(VENDORS))]
    # Other vendors' routes know this issuer, and allow it nothing.
    assert answers == [200 if other == number else 403 for other in range(len(VENDORS))], gateway.process.text()


OTHERS = {
    "Keycloak": [({"aud": "account"}, 401), ({"groups": ["/agents"]}, 403), ({"groups": []}, 403)],
    "Entra ID": [({"roles": []}, 403), ({"aud": "api://APPLICATION-ID"}, 401), ({"iss": "https://sts.windows.net/TENANT/"}, 401)],
    "Okta": [({"iss": "https://ORG.okta.com", "aud": "https://ORG.okta.com"}, 401), ({"groups": ["everyone"]}, 403)],
    "Google": [({"hd": None}, 403), ({"hd": "example.org"}, 403), ({"aud": "ANOTHER-CLIENT"}, 401)],
    "GitHub Actions": [
        ({"repository_id": "99"}, 403), ({"ref": "refs/pull/7/merge"}, 403), ({"repository_id": 74123456}, 200),
        ({"sub": "repo:acme@65123456/app@74123456:ref:refs/heads/main"}, 200), ({"aud": "sts.amazonaws.com"}, 401),
    ],
    "Kubernetes": [
        ({"sub": "system:serviceaccount:prod:other"}, 403), ({"sub": "system:serviceaccount:dev:agent"}, 403),
        ({"aud": ["https://kubernetes.default.svc.cluster.local"]}, 401), ({"aud": ["other", "staunch"]}, 200),
    ],
}  # fmt: skip


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_differs_from_the_vendors_claims_is_refused(world, gateway, vendor):
    _, claims = section(vendor)
    for changed, expected in OTHERS[vendor]:
        whole = {name: value for name, value in (claims | changed).items() if value is not None}
        assert status(world, gateway, VENDORS.index(vendor), whole) == expected, changed
