"""One message to real servers on this machine: up, down, slow, rude; and no secret in anything that is said."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import time

import pytest
from support.alert_servers import (
    SECRET,
    closing,
    dripping,
    garbage,
    hanging,
    sent,
    serving,
    unused_port,
)

from gpudrift.alerts.sending import SendingError


def test_a_message_arrives_with_its_headers(server):
    sent(f"{server.url}/{SECRET}?a=1", headers={"Authorization": "Bearer x"})
    [request] = server.requests
    assert (request.method, request.path, request.body) == ("POST", f"/{SECRET}?a=1", b"{}")
    assert request.headers["Authorization"] == "Bearer x"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("gpudrift/")


def test_user_and_password_of_an_address_are_sent_as_such(server):
    sent(server.url.replace("http://", "http://me:pass%20word@"))
    assert server.requests[0].headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert "@" not in server.requests[0].headers["Host"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_it_tries_again_where_that_may_help(server, status):
    pauses = []
    server.answers += [status, closing, status]
    sent(server.url, retries=3, pauses=pauses)
    assert len(server.requests) == 4
    assert pauses == [0.5, 1.0, 2.0]


def test_it_waits_as_long_as_the_server_asks_but_not_for_ever(server):
    pauses = []
    server.headers["Retry-After"] = "7"
    server.answers += [429, 503]
    sent(server.url, retries=2, pauses=pauses)
    server.headers["Retry-After"] = "86400"
    server.answers += [429]
    sent(server.url, retries=1, pauses=pauses)
    assert pauses == [7.0, 7.0, 30.0]


def test_it_gives_up_and_says_how_often_it_tried(server):
    server.answers += [503] * 3
    with pytest.raises(SendingError, match=r"HTTP 503 Service Unavailable \(3 attempts\)\Z") as failure:
        sent(server.url, retries=2)
    assert not failure.value.of_the_message


@pytest.mark.parametrize(("status", "one"), [(400, True), (413, True), (422, True), (401, False), (404, False)])
def test_what_is_refused_is_not_tried_again(server, status, one):
    server.answers += [status]
    with pytest.raises(SendingError, match=f"HTTP {status}") as failure:
        sent(server.url, retries=5)
    assert len(server.requests) == 1
    assert failure.value.of_the_message is one


def test_words_of_slack_are_shown_and_no_others(server):
    server.answers += [(400, "invalid_blocks"), (400, f"no such token {SECRET}")]
    with pytest.raises(SendingError, match=r"HTTP 400 Bad Request \(invalid_blocks\)\Z"):
        sent(server.url)
    with pytest.raises(SendingError, match=r"HTTP 400 Bad Request\Z"):
        sent(server.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, status):
    with serving() as other:
        server.headers["Location"] = f"{other.url}/elsewhere"
        server.answers += [status]
        with pytest.raises(SendingError, match="redirects are not followed"):
            sent(f"{server.url}/{SECRET}", headers={"Authorization": SECRET})
        assert not other.requests
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [hanging(3), dripping(0.2)])
def test_a_slow_server_is_not_waited_for(server, answer):
    server.answers += [answer]
    started = time.monotonic()
    with pytest.raises(SendingError, match=r"no response within 0\.5 s\Z"):
        sent(server.url, timeout=0.5)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("answer", [garbage, closing])
def test_a_rude_server_is_an_error_of_one_line(server, answer):
    server.answers += [answer]
    with pytest.raises(SendingError, match=r"\Ahttp://127\.0\.0\.1:\d+/\*\*\*: [^\n]+\Z"):
        sent(server.url)


def test_a_server_that_is_down_is_named():
    with pytest.raises(SendingError, match=r"\Ahttp://127\.0\.0\.1:\d+/\*\*\*: Connection refused\Z"):
        sent(f"http://127.0.0.1:{unused_port()}/{SECRET}")
    with pytest.raises(SendingError, match=r"https://nowhere\.invalid/\*\*\*: "):
        sent(f"https://nowhere.invalid/{SECRET}")


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


def test_tls_is_verified_as_the_environment_has_it(tmp_path, monkeypatch):
    context, trusted = certificate(tmp_path)
    with serving(context) as server:
        with pytest.raises(SendingError, match="its certificate is not trusted"):
            sent(f"{server.url}/{SECRET}")
        assert not server.requests
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        sent(f"{server.url}/{SECRET}")
        assert len(server.requests) == 1
