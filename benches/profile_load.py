#!/usr/bin/env python3
"""What instrumented binaries are run with, to learn what is hot: for scripts/pgo.sh.

Sluis gets what a working day brings: logins and enrolments, pages of verified sessions over plain HTTP and TLS, forms,
refusals, websockets. Bare pingora gets requests and forms. Profiles are written when they end.
"""

import argparse, http.client, os, signal, socket, ssl, subprocess, sys, tempfile, threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import compare


def end(process, by):
    """Lets it end by itself: only then is its profile written."""
    process.send_signal(by)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        sys.exit(f"{process.args[0]} does not end, so there is no profile")


def echo(listener):
    """Takes every upgrade and gives back what comes."""

    def serve(connection):
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                               b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            while piece := connection.recv(65536):
                connection.sendall(piece)

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def forms(port, cookies, count, context=None):
    """Requests that do not take the short way: with a body, by other methods, from nobody."""
    make = (lambda: http.client.HTTPSConnection("localhost", port, context=context)) if context else (
        lambda: http.client.HTTPConnection("127.0.0.1", port))
    connection = make()
    header = {"Cookie": cookies, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
              "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Mode": "navigate",
              "Accept-Language": "nl,en-US;q=0.7,en;q=0.3", "Accept-Encoding": "gzip, deflate, br"}
    for n in range(count):
        body = ("x" * 1500) if n % 3 == 0 else None
        method = ("POST", "GET", "HEAD")[n % 3]
        connection.request(method, "/", body, header)
        connection.getresponse().read()
    connection.close()
    for n in range(count // 20):
        connection = make()
        connection.request("GET", f"/page/{n}", headers={"Accept": "text/html"})
        connection.getresponse().read()
        connection.close()


def websockets(port, cookies, count):
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall((f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       f"Origin: http://127.0.0.1:{port}\r\nSec-WebSocket-Version: 13\r\n"
                       f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {cookies}\r\n\r\n").encode())
            s.recv(4096)
            for _ in range(20):
                s.sendall(b"\x81\x85\0\0\0\0hello")
                s.recv(4096)


def load_sluis(bench, seconds):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=echo, args=(listener,), daemon=True).start()
    up = compare.free_port()
    bench.nginx("upstream", up, 1, f"""
      client_max_body_size 1m;
      location = /socket {{ proxy_pass http://127.0.0.1:{listener.getsockname()[1]}; proxy_http_version 1.1;
                            proxy_set_header Upgrade websocket; proxy_set_header Connection upgrade; }}
      location / {{ error_page 405 =200 /; return 200 "{'x' * 1024}"; }}
      location = /login {{ add_header Set-Cookie "APPSESSION=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"; return 302 /; }}""")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-days", "1", "-keyout", f"{bench.dir}/tls.key", "-out", f"{bench.dir}/tls.pem"],
                   check=True, capture_output=True)
    tls = compare.free_port()
    port, process = compare.start_sluis(
        bench, up, 1, listen=f', https: {{ address: "127.0.0.1:{tls}", certificate_file: "{bench.dir}/tls.pem", key_file: "{bench.dir}/tls.key" }}')
    bench.running.remove(process)
    for n in range(20):
        cookies = compare.verified_cookies(port, f"user{n}")
    compare.wrk(port, cookies, seconds, 32, None)
    compare.wrk(tls, cookies, seconds, 32, None, "https")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    forms(port, cookies, 600)
    forms(tls, cookies, 300, trusting)
    websockets(port, cookies, 50)
    end(process, signal.SIGTERM)
    listener.close()


def load_bare(bench, seconds):
    up = compare.start_upstream(bench)
    port, process = compare.start_bare(bench, up, 1)
    bench.running.remove(process)
    compare.wrk(port, compare.LIKE_VERIFIED, seconds, 32, None)
    forms(port, compare.LIKE_VERIFIED, 600)
    end(process, signal.SIGINT)  # by SIGTERM it waits for minutes


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bin", required=True, help="folder with the instrumented binaries")
    a.add_argument("--out", required=True, help="folder for the profiles, one inside it for each binary")
    a.add_argument("--seconds", type=int, default=5)
    a.add_argument("binaries", nargs="+", choices=["sluis", "bare_pingora"])
    args = a.parse_args()
    for binary in args.binaries:
        os.environ["LLVM_PROFILE_FILE"] = os.path.join(args.out, binary, "%p-%m.profraw")
        with tempfile.TemporaryDirectory(prefix="sluis-load-") as dir:
            bench = compare.Bench(dir, args.bin)
            try:
                {"sluis": load_sluis, "bare_pingora": load_bare}[binary](bench, args.seconds)
            finally:
                bench.stop()


if __name__ == "__main__":
    main()
