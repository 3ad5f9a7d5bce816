"""An issuer that answers as it is told, for what a good one never does."""

import base64
import http.server
import json
import ssl
import threading
import time
import urllib.parse

from .process import free_port


class Scripted:
    """`token`: answers of the token endpoint, (status, JSON or text), in order. `asked`: the forms that came.
    `more`: what its discovery document says besides."""

    def __init__(self, chain: str, key: str):
        self.token, self.asked, self.times, self.nonce, self.more = [], [], [], None, {}
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler(self))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def tokens(self, access: str, sub: str = "ann", **more) -> tuple[int, dict]:
        """A whole answer; the ID token gets the nonce when it is sent."""
        return 200, {"access_token": access, "token_type": "Bearer", "id_token": {"sub": sub}} | more

    def id_token(self, claims: dict) -> str:
        now = int(time.time())
        whole = {"iss": self.url, "aud": "cli", "iat": now, "exp": now + 600, "nonce": self.nonce} | claims
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        return f"{part({'alg': 'ES256'})}.{part(whole)}.c2lnbmF0dXJl"

    def answer(self, form: dict) -> tuple[int, object]:
        self.asked.append(form)
        self.times.append(time.monotonic())
        status, body = self.token.pop(0) if self.token else self.tokens("opaque")
        if isinstance(body, dict) and isinstance(body.get("id_token"), dict):
            body = body | {"id_token": self.id_token(body["id_token"])}
        return status, body

    def discovery(self) -> dict:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
        } | self.more

    def invitation(self) -> dict:
        return {
            "device_code": "dc-canary", "user_code": "ABCD-EFGH", "verification_uri": f"{self.url}/type",
            "expires_in": 60, "interval": 1,
        }  # fmt: skip


def handler(issuer: Scripted):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(200, issuer.discovery())

        def do_POST(self):
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            form = dict(urllib.parse.parse_qsl(text))
            self.reply(*((200, issuer.invitation()) if self.path == "/device" else issuer.answer(form)))

        def reply(self, status: int, body):
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("location", f"{issuer.url}/elsewhere")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler
