"""ACME authorities for the tests: Debian's pebble, and a small strict one that has what pebble has not."""

import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import pathlib
import secrets
import socket
import ssl
import threading

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ObjectIdentifier

from .certs import Authority
from .process import Process, free_port


class Pebble:
    """Let's Encrypt's test server, which resolves every name to this machine."""

    def __init__(self, folder: pathlib.Path, authority: Authority, tls_port: int, http_port: int, **more):
        self.folder, self.port, self.management = folder, free_port(), free_port()
        dns, self.dns_control = free_port(), free_port()
        command = [
            "pebble-challtestsrv", "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{self.dns_control}",
            "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
        ]  # fmt: skip
        self.dns = Process(command, folder / "challtestsrv.log", self.dns_control)
        chain, key = authority.leaf("pebble", ["127.0.0.1", "localhost"])
        config = {
            "listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": chain, "privateKey": key, "httpPort": http_port, "tlsPort": tls_port,
            "externalAccountBindingRequired": False,
        } | more  # fmt: skip
        (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self.command = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}", "-strict"]
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self.start()

    def start(self):
        # Nonces are refused now and then, authorizations are used again now and then: as they come.
        env = os.environ | {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "15"}
        self.process = Process(self.command, self.folder / "pebble.log", self.port, env)

    def root(self, authority: Authority) -> str:
        """Writes the root of what it issues, which each start makes anew; returns the path."""
        context = ssl.create_default_context(cafile=authority.path)
        text = httpx.get(f"https://127.0.0.1:{self.management}/roots/0", verify=context).text
        path = self.folder / "pebble-root.pem"
        path.write_text(text)
        return str(path)

    def stop(self):
        self.process.stop()
        self.dns.stop()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Problem(Exception):
    def __init__(self, kind: str, detail: str = "", status: int = 400, **headers):
        super().__init__(kind)
        self.kind, self.detail, self.status, self.headers = kind, detail or kind, status, headers


class SmallAuthority:
    """RFC 8555 over HTTPS with renewal information (RFC 9773), profiles, addresses and external accounts; checks strictly.

    What it holds is for the tests to look at and to change: `orders`, `window` (seconds from now, or None), `profiles`
    (name → seconds of life), `refuse` (a Problem for every order), `eab` (key identifier → MAC key), `overrides` (beginning of a path → answer),
    `issue_with` (`key`, `names`, `life`: what the certificate is made with in place of what was asked for).
    """

    def __init__(self, folder: pathlib.Path, authority: Authority, tls_port: int, profiles=None, eab=None):
        self.tls_port, self.profiles, self.eab = tls_port, profiles or {}, eab
        self.life, self.window, self.refuse, self.rejects = 3600, None, None, 0
        self.nonces, self.accounts, self.orders, self.authorizations = set(), {}, [], []
        self.faults, self.asked = [], []
        # Path → (status, headers, body) in place of what would be answered.
        self.overrides, self.issue_with = {}, {}
        self.issuer = Authority(folder, f"small authority {secrets.token_hex(3)}")
        chain, key = authority.leaf("small-acme", ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def respond(self, method: str):
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length)
                try:
                    status, headers, answer = outer.answer(method, self.path, self.headers, body)
                except Problem as problem:
                    status, headers = problem.status, {"Content-Type": "application/problem+json"} | problem.headers
                    kind = f"urn:ietf:params:acme:error:{problem.kind}"
                    answer = json.dumps({"type": kind, "detail": problem.detail}).encode()
                except Exception as error:  # a fault of the test's own
                    outer.faults.append(repr(error))
                    raise
                self.send_response(status)
                nonce = secrets.token_urlsafe(16)
                outer.nonces.add(nonce)
                headers = {"Content-Type": "application/json", "Replay-Nonce": nonce} | headers
                for name, value in (headers | {"Content-Length": str(len(answer))}).items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                if method != "HEAD":
                    self.wfile.write(answer)

            def do_GET(self):
                self.respond("GET")

            def do_HEAD(self):
                self.respond("HEAD")

            def do_POST(self):
                self.respond("POST")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        self.directory = f"{self.url}/directory"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        assert not self.faults, self.faults

    @property
    def root(self) -> str:
        return str(self.issuer.path)

    def answer(self, method: str, path: str, headers, body: bytes):
        for begin, instead in self.overrides.items():
            if path.startswith(begin):
                return instead() if callable(instead) else instead
        if (method, path) == ("GET", "/directory"):
            names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "renewalInfo": "info"}
            directory = {name: f"{self.url}/{place}" for name, place in names.items()}
            directory |= {"revokeCert": f"{self.url}/revoke", "keyChange": f"{self.url}/key"}
            directory["meta"] = {"profiles": {name: "" for name in self.profiles}}
            return 200, {}, json.dumps(directory).encode()
        if (method, path) == ("HEAD", "/nonce"):
            return 200, {}, b""
        if method == "GET" and path.startswith("/info/"):
            return self.renewal_info(path.removeprefix("/info/"))
        if method != "POST":
            raise Problem("malformed", f"{method} {path}", 405)
        if headers["content-type"] != "application/jose+json":
            raise Problem("malformed", "the content type is not application/jose+json", 415)
        account, payload = self.verified(path, body)
        match path.split("/")[1:]:
            case ["account"]:
                return 201, {"Location": account["url"]}, json.dumps({"status": "valid"}).encode()
            case ["order"]:
                return self.new_order(account, payload)
            case ["orders", number]:
                return 200, {}, self.order_text(self.own(self.orders, number, account), payload)
            case ["authorizations", number]:
                return 200, {}, json.dumps(self.own(self.authorizations, number, account)["text"]).encode()
            case ["challenges", number, kind]:
                return 200, {}, self.check(self.own(self.authorizations, number, account), kind, account, payload)
            case ["finalize", number]:
                order = self.own(self.orders, number, account)
                self.issue(order, payload)
                return 200, {"Location": f"{self.url}/orders/{number}"}, self.order_text(order, None)
            case ["certificates", number]:
                order = self.own(self.orders, number, account)
                return 200, {"Content-Type": "application/pem-certificate-chain"}, order["chain"]
        raise Problem("malformed", path, 404)

    def own(self, all_of_them: list, number: str, account: dict) -> dict:
        one = all_of_them[int(number)]
        if one["account"] is not account:
            raise Problem("unauthorized", "another account's", 403)
        return one

    def verified(self, path: str, body: bytes):
        """The account that signed, and what it signed (RFC 8555 section 6.2)."""
        message = json.loads(body)
        if set(message) != {"protected", "payload", "signature"}:
            raise Problem("malformed", "not a flattened JWS")
        head = json.loads(unb64(message["protected"]))
        if head["url"] != self.url + path:
            raise Problem("unauthorized", f"signed for {head['url']}", 403)
        if head["nonce"] not in self.nonces:
            raise Problem("badNonce")
        self.nonces.discard(head["nonce"])
        if self.rejects:
            self.rejects -= 1
            raise Problem("badNonce")
        if head["alg"] != "ES256" or ("jwk" in head) == ("kid" in head) or ("jwk" in head) != (path == "/account"):
            raise Problem("malformed", "alg, jwk or kid")
        if "kid" in head:
            account = next((one for one in self.accounts.values() if one["url"] == head["kid"]), None)
            if account is None:
                raise Problem("accountDoesNotExist", status=400)
            jwk = account["jwk"]
        else:
            jwk = head["jwk"]
        if jwk["kty"] != "EC" or jwk["crv"] != "P-256":
            raise Problem("badPublicKey")
        numbers = ec.EllipticCurvePublicNumbers(*(int.from_bytes(unb64(jwk[c])) for c in "xy"), ec.SECP256R1())
        signature = unb64(message["signature"])
        if len(signature) != 64:
            raise Problem("malformed", "an ES256 signature has 64 bytes")
        der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        signed = f"{message['protected']}.{message['payload']}".encode()
        numbers.public_key().verify(der, signed, ec.ECDSA(hashes.SHA256()))
        payload = json.loads(unb64(message["payload"])) if message["payload"] else None
        if "jwk" in head:
            account = self.account(jwk, payload)
        return account, payload

    def account(self, jwk: dict, payload: dict) -> dict:
        text = json.dumps({k: jwk[k] for k in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
        thumb = b64(hashlib.sha256(text.encode()).digest())
        if not payload.get("termsOfServiceAgreed"):
            raise Problem("userActionRequired", "the terms were not agreed to", 403)
        if self.eab is not None:
            self.bound(jwk, payload.get("externalAccountBinding"))
        new = {"url": f"{self.url}/accounts/{len(self.accounts)}", "jwk": jwk, "thumb": thumb, "text": payload}
        return self.accounts.setdefault(thumb, new)

    def bound(self, jwk: dict, binding: dict | None):
        if not binding:
            raise Problem("externalAccountRequired", "this authority binds accounts", 403)
        head = json.loads(unb64(binding["protected"]))
        if head["alg"] != "HS256" or head["url"] != f"{self.url}/account" or "nonce" in head:
            raise Problem("malformed", "the head of the binding")
        if json.loads(unb64(binding["payload"])) != jwk or head["kid"] not in self.eab:
            raise Problem("unauthorized", "the binding is of another key", 403)
        mac = hmac.HMAC(self.eab[head["kid"]], hashes.SHA256())
        mac.update(f"{binding['protected']}.{binding['payload']}".encode())
        mac.verify(unb64(binding["signature"]))

    def new_order(self, account: dict, payload: dict):
        self.asked.append(payload)
        if self.refuse:
            raise self.refuse
        profile = payload.get("profile")
        if profile is not None and profile not in self.profiles:
            raise Problem("invalidProfile", f"no profile {profile}")
        replaces = payload.get("replaces")
        if replaces is not None:
            replaced = next((o for o in self.orders if o.get("id") == replaces), None)
            if replaced is None or replaced["names"] != payload["identifiers"]:
                raise Problem("malformed", "replaces names no certificate of these names")
            if any(o["text"].get("replaces") == replaces and o["text"]["status"] != "invalid" for o in self.orders):
                raise Problem("alreadyReplaced", status=409)
        number, authorizations = len(self.orders), []
        for identifier in payload["identifiers"]:
            if identifier["type"] == "ip":
                ipaddress.ip_address(identifier["value"])
            place = len(self.authorizations)
            challenge = {
                "type": "tls-alpn-01", "status": "pending", "token": secrets.token_urlsafe(24),
                "url": f"{self.url}/challenges/{place}/tls-alpn-01",
            }  # fmt: skip
            text = {"identifier": identifier, "status": "pending", "challenges": [challenge]}
            self.authorizations.append({"account": account, "text": text, "order": number})
            authorizations.append(f"{self.url}/authorizations/{place}")
        text = {
            "status": "pending", "identifiers": payload["identifiers"], "authorizations": authorizations,
            "finalize": f"{self.url}/finalize/{number}",
        }  # fmt: skip
        text |= {key: payload[key] for key in ("replaces", "profile") if key in payload}
        order = {"account": account, "text": text, "names": payload["identifiers"], "profile": profile}
        self.orders.append(order)
        return 201, {"Location": f"{self.url}/orders/{number}"}, json.dumps(text).encode()

    def order_text(self, order: dict, payload) -> bytes:
        if payload is not None:
            raise Problem("malformed", "an order is asked for by POST-as-GET")
        return json.dumps(order["text"]).encode()

    def check(self, authorization: dict, kind: str, account: dict, payload) -> bytes:
        text, order = authorization["text"], self.orders[authorization["order"]]
        challenge = next(c for c in text["challenges"] if c["type"] == kind)
        if payload != {}:
            raise Problem("malformed", "a challenge is answered with {}")
        try:
            self.check_tls_alpn(text["identifier"], f"{challenge['token']}.{account['thumb']}")
        except Exception as error:
            challenge |= {
                "status": "invalid",
                "error": {"type": "urn:ietf:params:acme:error:connection", "detail": repr(error)},
            }
            text["status"] = order["text"]["status"] = "invalid"
            return json.dumps({k: v for k, v in challenge.items() if k != "error"}).encode()
        challenge["status"] = text["status"] = "valid"
        own = [a["text"] for a in self.authorizations if self.orders[a["order"]] is order]
        if all(a["status"] == "valid" for a in own):
            order["text"]["status"] = "ready"
        return json.dumps(challenge).encode()

    def check_tls_alpn(self, identifier: dict, authorization: str):
        """RFC 8737 section 3, RFC 8738 section 6."""
        value = identifier["value"]
        address = ipaddress.ip_address(value) if identifier["type"] == "ip" else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        with socket.create_connection(("127.0.0.1", self.tls_port), 5) as tcp:
            with context.wrap_socket(tcp, server_hostname=address.reverse_pointer if address else value) as tls:
                assert tls.selected_alpn_protocol() == "acme-tls/1"
                leaf = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.IPAddress(address) if address else x509.DNSName(value)], list(names)
        proof = leaf.extensions.get_extension_for_oid(ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
        assert proof.critical
        assert proof.value.value == b"\x04\x20" + hashlib.sha256(authorization.encode()).digest()

    def issue(self, order: dict, payload: dict):
        if order["text"]["status"] != "ready":
            raise Problem("orderNotReady", status=403)
        request = x509.load_der_x509_csr(unb64(payload["csr"]))
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = {(i["type"], i["value"]) for i in order["names"]}
        found = {("dns", n.value) if isinstance(n, x509.DNSName) else ("ip", str(n.value)) for n in names}
        if wanted != found or len(request.subject):
            raise Problem("badCSR", f"{wanted} {found} {request.subject}")
        now = datetime.datetime.now(datetime.UTC)
        life = self.issue_with.get("life", self.profiles.get(order["profile"], self.life))
        names = self.issue_with.get("names", names)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer.key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.name)
            .public_key(self.issue_with.get("key", request.public_key()))
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=-1 if life > 0 else life - 60))
            .not_valid_after(now + datetime.timedelta(seconds=life))
            .add_extension(names, critical=True)
            .add_extension(identifier, False)
            .sign(self.issuer.key, hashes.SHA256())
        )
        order["chain"] = certificate.public_bytes(serialization.Encoding.PEM)
        serial = certificate.serial_number
        serial = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        order["id"] = f"{b64(identifier.key_identifier)}.{b64(serial)}"
        order["text"] |= {
            "status": "valid",
            "certificate": f"{self.url}/certificates/{self.orders.index(order)}",
        }

    def renewal_info(self, identifier: str):
        if not any(order.get("id") == identifier for order in self.orders):
            raise Problem("malformed", "no certificate of this name", 404)
        if self.window is None:
            raise Problem("serverInternal", status=500)
        now = datetime.datetime.now(datetime.UTC)
        start, end = ((now + datetime.timedelta(seconds=s)).isoformat().replace("+00:00", "Z") for s in self.window)
        text = {"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://ca.test/why\x1b[2J"}
        return 200, {"Retry-After": "21600"}, json.dumps(text).encode()
