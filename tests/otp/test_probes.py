"""The probe server on a real socket; what the probes say in the course of a service is in test_service.py."""

import json
import logging
import socket

import pytest
import trio

from otp._probes import Answer, ProbesUnavailable, serve_probes


class Fake:
    def __init__(self):
        self.is_live = Answer(True, (), {"stalls": 0})
        self.is_ready = Answer(False, ("app/jobs: store (no route)",))

    def live(self):
        return self.is_live

    def ready(self):
        return self.is_ready

    def started(self):
        return Answer(True)


async def ask(address, path, method="GET"):
    host, port = address.rsplit(":", 1)
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            reply = b"".join([chunk async for chunk in stream])
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    return int(lines[0].split()[1]), lines[1:], body


async def test_answers_with_status_and_reasons(caplog):
    caplog.set_level(logging.DEBUG, logger="otp.probes")
    fake = Fake()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_probes, "127.0.0.1:0", fake)
        status, headers, body = await ask(address, "/livez")
        assert (status, json.loads(body)) == (200, {"ok": True, "reasons": [], "stalls": 0})
        assert "content-type: application/json" in headers
        assert not any(line.startswith("server:") for line in headers)
        status, _, body = await ask(address, "/readyz?verbose")
        assert (status, json.loads(body)) == (503, {"ok": False, "reasons": ["app/jobs: store (no route)"]})
        fake.is_ready = Answer(True)
        assert (await ask(address, "/readyz"))[0] == 200
        assert (await ask(address, "/startupz"))[0] == 200
        assert (await ask(address, "/metrics"))[0] == 404
        assert (await ask(address, "/livez", "POST"))[0] == 405
        status, _, body = await ask(address, "/livez", "HEAD")
        assert (status, body) == (200, b"")
        nursery.cancel_scope.cancel()
    assert caplog.records == [], "it is quiet"


async def test_stops_at_once_with_a_connection_open():
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_probes, "127.0.0.1:0", Fake())
        host, port = address.rsplit(":", 1)
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")  # and keep it alive
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            with trio.fail_after(2):
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    while await stream.receive_some():
                        pass


async def test_garbage_does_not_take_it_down():
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_probes, "127.0.0.1:0", Fake())
        host, port = address.rsplit(":", 1)
        for garbage in [
            b"\x00" * 100,
            b"GET",
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50,
        ]:
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                with trio.fail_after(10):
                    while await stream.receive_some():
                        pass
        assert (await ask(address, "/livez"))[0] == 200
        nursery.cancel_scope.cancel()


async def test_a_taken_port_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProbesUnavailable, match=rf"on {address}: Address already in use; is another"):
            await serve_probes(address, Fake())


async def test_an_address_that_is_not_ours_is_a_clear_error():
    with pytest.raises(ProbesUnavailable, match=r"on 192\.0\.2\.1:0: Cannot assign"):
        await serve_probes("192.0.2.1:0", Fake())


async def test_without_hypercorn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "hypercorn.trio", None)
    with pytest.raises(ProbesUnavailable, match=r"install holdfast\[ops\]"):
        await serve_probes("127.0.0.1:0", Fake())
