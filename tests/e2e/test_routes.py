"""Which route a connection reaches, and whose it is from the moment of its permit."""

import socket
import ssl

from test_tls import Sink, client_context, echo, raw_config, raw_route


def nameless(world, gateway, pair=None):
    context = client_context(world, pair, check_hostname=False)
    plain = socket.create_connection(("127.0.0.1", gateway.port), 20)
    return context.wrap_socket(plain, suppress_ragged_eofs=False)


def ask(connection, token, host):
    head = f"GET /seen HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    answer = b""
    while data := connection.recv(65536):
        answer += data
    return answer


def test_a_client_without_a_name_reaches_the_default_route_and_no_other(world, start):
    gateway = start(world.config(world.route("api", world.nginx_port), default_route="api"))
    answer = ask(nameless(world, gateway), world.issuer.token(), "api.gw.test")
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert gateway.line("session closed", route="api")["requests"] == 1
    without = start(world.config(world.route("api", world.nginx_port)))
    try:
        nameless(world, without)
        raise AssertionError("a nameless client was served without a default route")
    except ssl.SSLError as error:
        assert "unrecognized" in str(error).lower()
    ended = without.line("session closed", reason="no_route")
    assert ended["detail"] == "no name was sent, and the listener has no default_route"


def test_a_live_session_has_a_name_in_the_log_from_its_permit_on(world, start):
    sink = Sink(world, echo)
    pair = world.authority.leaf("ann-routes", ["ann.clients.test"])
    gateway = start(raw_config(world, raw_route(world, sink.port)))
    context = client_context(world, pair)
    plain = socket.create_connection(("127.0.0.1", gateway.port), 20)
    with context.wrap_socket(plain, server_hostname="raw.gw.test") as client:
        client.sendall(b"x")
        assert client.recv(10) == b"x"
        line = gateway.line("session permitted", route="raw")
        assert (line["subject"], line["proof"], line["rule"]) == ("ann.clients.test", "certificate", 0)
        assert not [one for one in gateway.lines() if one.get("event") == "session closed"]
    web = start(world.config(world.route("api", world.nginx_port), default_route="api"))
    with nameless(world, web) as client:
        for _ in range(3):
            head = f"GET /seen HTTP/1.1\r\nHost: api.gw.test\r\nAuthorization: Bearer {world.issuer.token()}\r\n\r\n"
            client.sendall(head.encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        lines = [one for one in web.lines() if one.get("event") == "session permitted"]
        assert len(lines) == 1 and lines[0]["route"] == "api", lines
        assert lines[0]["session"] == web.line("session opened")["session"]
    assert 'staunch_permitted_total{route="api"} 3' in web.metrics()
