"""A gRPC server with bytes as messages: Unary, Stream (server), Chat (both ways). Without a certificate it has no TLS."""

import concurrent.futures
import sys
import time

import grpc


def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "here"),))
    token = dict(context.invocation_metadata()).get("authorization", "")
    return request + b"|" + token.encode()


def quiet(_request, context):
    print("quiet", context.invocation_metadata(), flush=True)
    context.set_trailing_metadata((("x-trailer", "here"),))
    return b"nothing to tell"


def stream(request, _context):
    for n in range(int(request)):
        yield str(n).encode()
        time.sleep(0.05)


def chat(requests, _context):
    for request in requests:
        yield request.upper()


def list_services(requests, context):
    """Server reflection, as far as `grpcurl list` asks: ListServiceResponse with one name, as protobuf lays it out."""
    for _ in requests:
        name = b"test.Echo"
        service = b"\x0a" + bytes([len(name)]) + name
        services = b"\x0a" + bytes([len(service)]) + service
        yield b"\x32" + bytes([len(services)]) + services


def main():
    port, *pair = sys.argv[1:]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Quiet": grpc.unary_unary_rpc_method_handler(quiet),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    health = {"Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),))
    reflection = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(list_services)}
    for version in ("v1", "v1alpha"):
        name = f"grpc.reflection.{version}.ServerReflection"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, reflection),))
    if pair:
        chain, key = (open(path, "rb").read() for path in pair)
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
