#!/usr/bin/env python3
"""Sluis beside what it is compared with, in one run and alternating.

Contenders, each in front of the same nginx that answers 1 KiB: the upstream itself, a bare pingora
pass-through, Sluis with a verified session (sealed app cookie, identity headers), nginx with
`auth_request` to a local `return 200`, and HAProxy passing through. Load comes from wrk over loopback.

Prints requests/s, p50, p99 and CPU time of the proxy per request, each as the median of the rounds, and
as ratios to bare pingora taken round by round; memory with idle connections; user instructions per request
by valgrind, which does not mind how busy the machine is. Writes the tables to benches/RESULTS.md.

With --guided there is a second pair, built with profiles of its own load, and compared with each other.
"""

import argparse, base64, hashlib, hmac, http.client, os, re, resource, shutil, signal, socket, statistics
import struct, subprocess, sys, tempfile, time, urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")
GUIDED = ", profiled"
# As long as what a verified session sends, for whoever does not look into it.
LIKE_VERIFIED = f"sluis-device={'A' * 90}; sluis-session={'B' * 190}; APPSESSION=s1.{'C' * 160}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def await_port(port, process, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on {port}")


def tree(pid):
    """The process and its children."""
    pids = [pid]
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                for child in f.read().split():
                    pids += tree(int(child))
    except FileNotFoundError:
        pass
    return pids


def cpu_seconds(pid):
    """User and system time of a process and its children."""
    total = 0
    for p in tree(pid):
        try:
            with open(f"/proc/{p}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except FileNotFoundError:
            pass
    return total / TICKS


def resident_kib(pid):
    total = 0
    for p in tree(pid):
        with open(f"/proc/{p}/status") as f:
            total += int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])
    return total


class Bench:
    def __init__(self, dir, profile_dir):
        self.dir, self.bin, self.running = dir, profile_dir, []
        self.under = ()  # what a server is started by, such as valgrind

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def start(self, port, *command, cores=None, env=None):
        command = (*self.under, *command)
        if cores:
            command = ("taskset", "-c", cores, *command)
        log = open(os.path.join(self.dir, f"{port}.log"), "wb")
        p = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        self.running.append(p)
        await_port(port, p, 120 if self.under else 30)
        return p

    def stop(self):
        for p in self.running:
            p.send_signal(signal.SIGTERM)
        for p in self.running:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
        self.running = []

    def nginx(self, name, port, workers, locations, extra="", cores=None, master=True):
        conf = self.write(f"{name}.conf", f"""
{"user root; " if os.getuid() == 0 else ""}daemon off; {"" if master else "master_process off; "}pid {self.dir}/{name}.pid; error_log {self.dir}/{name}.err; worker_processes {workers};
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_body_temp_path {self.dir}/{name}-body; proxy_temp_path {self.dir}/{name}-proxy;
  fastcgi_temp_path {self.dir}/{name}-f; uwsgi_temp_path {self.dir}/{name}-u; scgi_temp_path {self.dir}/{name}-s;
  {extra}
  server {{ listen 127.0.0.1:{port}; {locations} }}
}}""")
        return self.start(port, "nginx", "-p", self.dir, "-c", conf, cores=cores)


def totp(key, now=None):
    """RFC 6238 with the usual parameters."""
    step = struct.pack(">Q", int(now or time.time()) // 30)
    mac = hmac.new(base64.b32decode(key), step, hashlib.sha1).digest()
    at = mac[19] & 15
    return f"{(struct.unpack('>I', mac[at:at+4])[0] & 0x7fffffff) % 1000000:06d}"


def verified_cookies(port, user="anna"):
    """Logs a new user in through Sluis, links an authenticator, and returns the Cookie header of the session."""
    jar = {}

    def ask(method, path, form=None):
        c = http.client.HTTPConnection("127.0.0.1", port)
        header = {"Host": f"127.0.0.1:{port}", "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Origin": f"http://127.0.0.1:{port}"}
        if jar:
            header["Cookie"] = "; ".join(f"{n}={v}" for n, v in jar.items())
        body = None
        if form:
            header["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        c.request(method, path, body, header)
        r = c.getresponse()
        text = r.read().decode()
        for line in r.headers.get_all("Set-Cookie") or []:
            name, value = line.split(";")[0].split("=", 1)
            if re.search(r"max-age=0", line, re.I):
                jar.pop(name, None)
            else:
                jar[name] = value
        return r, text

    r, _ = ask("POST", "/login", {"username": user, "password": "x"})
    assert r.status == 303, (r.status, r.headers)
    r, page = ask("GET", "/.sluis/enrol")
    key = re.search(r"secret=([A-Z2-7]+)", page)[1]
    token = re.search(r'name="token"[^>]*value="([^"]*)"', page) or re.search(r'value="([^"]*)"[^>]*name="token"', page)
    r, text = ask("POST", "/.sluis/enrol", {"token": token[1], "name": "bench", "code": totp(key)})
    assert r.status == 303, (r.status, text)
    r, text = ask("GET", "/")
    assert r.status == 200 and len(text) == 1024, (r.status, text[:200])
    return "; ".join(f"{n}={v}" for n, v in jar.items())


def wrk(port, cookies, seconds, connections, cores, scheme="http"):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if cores:
        command = ["taskset", "-c", cores, *command]
    if cookies:
        command += ["-H", f"Cookie: {cookies}"]
    out = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", out):
        sys.exit(f"the load met errors:\n{out}")
    to_ms = {"us": 1e-3, "ms": 1, "s": 1e3}
    ms = lambda p: (lambda m: float(m[1]) * to_ms[m[2]])(re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", out))
    return {
        "requests": int(re.search(r"(\d+) requests in", out)[1]),
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50_ms": ms(50),
        "p99_ms": ms(99),
    }


def start_upstream(bench, cores=None):
    port = free_port()
    bench.nginx("upstream", port, 1, f"""
      location = / {{ return 200 "{'x' * 1024}"; }}
      location = /login {{ add_header Set-Cookie "APPSESSION=0123456789abcdef0123456789abcdef; Path=/; HttpOnly"; return 302 /; }}""",
                cores=cores)
    return port


def start_bare(bench, upstream, threads, cores=None, bin=None):
    port = free_port()
    command = (f"{bin or bench.bin}/examples/bare_pingora", f"127.0.0.1:{port}", f"127.0.0.1:{upstream}", str(threads))
    return port, bench.start(port, *command, cores=cores)


def start_sluis(bench, upstream, threads, cores=None, bin=None, listen=""):
    port = free_port()
    if not os.path.exists(f"{bench.dir}/master.key"):
        bench.write("master.key", base64.b64encode(os.urandom(32)).decode())
    config = bench.write(f"sluis-{port}.yaml", f"""
listen: {{ http: {{ address: "127.0.0.1:{port}" }}{listen} }}
insecure_cookies: true
threads: {threads}
keys: [{{ file: "{bench.dir}/master.key" }}]
store: {{ sqlite: {{ path: "{bench.dir}/sluis-{port}.db" }} }}
limits: {{ keepalive_timeout: 10m }}
log: {{ filter: warn, format: json }}
audit: {{ file: "{bench.dir}/audit-{port}.jsonl" }}
apps:
  - id: bench
    name: Bench
    hosts: ["*"]
    upstreams: ["http://127.0.0.1:{upstream}"]
    login:
      page: /login
      watch: [{{ path: /login, user_field: username }}]
      success: {{ status: [302], cookie: APPSESSION }}
    anonymous: [/login]
    policy: [{{ require: {{ methods: [totp], validity: 12h }} }}]
""")
    return port, bench.start(port, f"{bin or bench.bin}/sluis", "serve", "--config", config, cores=cores)


def start_auth(bench, upstream, threads, cores=None, master=True):
    """nginx that asks a local endpoint, which always says yes, before each request."""
    port = free_port()
    proxy = "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';"
    return port, bench.nginx("auth", port, threads, f"""
      location / {{ auth_request /auth; {proxy} }}
      location = /auth {{ internal; proxy_pass http://auth; proxy_http_version 1.1; proxy_set_header Connection '';
                          proxy_pass_request_body off; proxy_set_header Content-Length ''; }}""",
                             extra=f"""upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
      upstream auth {{ server unix:{bench.dir}/auth.sock; keepalive 512; keepalive_requests 100000000; }}
      server {{ listen unix:{bench.dir}/auth.sock; location / {{ return 200; }} }}""", cores=cores, master=master)


def run(bench, threads, rounds, seconds, connections, guided):
    # One worker: the proxy alone on core 0. Two workers: everybody shares both cores.
    own, rest = ("0", "1") if threads == 1 else (None, None)
    up = start_upstream(bench, rest)
    contenders = {"direct": (up, None)}
    contenders["bare pingora"] = start_bare(bench, up, threads, own)
    contenders["Sluis"] = start_sluis(bench, up, threads, own)
    cookies = {name: None for name in contenders}
    # Everybody gets the same request, cookies and all.
    verified = verified_cookies(contenders["Sluis"][0])
    if guided:
        contenders[f"bare pingora{GUIDED}"] = start_bare(bench, up, threads, own, guided)
        contenders[f"Sluis{GUIDED}"] = start_sluis(bench, up, threads, own, guided)
        cookies[f"Sluis{GUIDED}"] = verified_cookies(contenders[f"Sluis{GUIDED}"][0])
    contenders["nginx + auth_request"] = start_auth(bench, up, threads, own)
    hap = free_port()
    conf = bench.write("haproxy.cfg", f"""
global
  nbthread {threads}
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{hap}
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{up}
""")
    p = bench.start(hap, "haproxy", "-db", "-f", conf, cores=own)
    contenders["HAProxy"] = (hap, p)

    figures = {name: [] for name in contenders}
    for name, (port, _) in contenders.items():
        wrk(port, cookies.get(name) or verified, 1, connections, rest)
    for round in range(rounds):
        order = list(contenders.items())
        if round % 2:
            order.reverse()
        for name, (port, process) in order:
            before = cpu_seconds(process.pid) if process else 0
            f = wrk(port, cookies.get(name) or verified, seconds, connections, rest)
            f["cpu_us"] = (cpu_seconds(process.pid) - before) / f["requests"] * 1e6 if process else 0.0
            figures[name].append(f)
            print(f"  {threads} thread(s), round {round + 1}/{rounds}: {name:30} {f['rps']:9.0f} req/s {f['cpu_us']:6.1f} µs", flush=True)
    return figures


def idle_memory(bench, connections):
    """Resident memory with idle kept connections that have each made one request, in KiB: before and after."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Sluis keeps half of its descriptors for the other side of its connections and takes no more than the rest.
    wanted = 2 * connections + 1000
    if hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            hard = wanted
        except (ValueError, OSError):
            connections = (hard - 1000) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    up = start_upstream(bench)
    contenders = {"bare pingora": start_bare(bench, up, 1), "Sluis": start_sluis(bench, up, 1)}
    cookies = verified_cookies(contenders["Sluis"][0])
    result = {}
    for name, (port, process) in contenders.items():
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookies}\r\n\r\n".encode()
        before, sockets = resident_kib(process.pid), []
        for _ in range(connections):
            s = socket.create_connection(("127.0.0.1", port), timeout=30)
            s.sendall(request)
            got = b""
            while not got.endswith(b"x" * 64):
                piece = s.recv(65536)
                if not piece:
                    sys.exit(f"{name} closed a connection: {got[:200]!r}")
                got += piece
            assert got.startswith(b"HTTP/1.1 200"), got[:200]
            sockets.append(s)
        time.sleep(3)
        result[name] = (before, resident_kib(process.pid))
        for s in sockets:
            s.setblocking(False)
            try:
                closed = s.recv(1) == b""
            except BlockingIOError:
                closed = False
            if closed:
                sys.exit(f"{name} closed an idle connection")
            s.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections, result


def instructions(bench, name, requests=2000, connections=16):
    """User instructions per request, once the server is warm."""
    up = start_upstream(bench)
    out = os.path.join(bench.dir, "callgrind.out")
    bench.under = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
    start = {"bare pingora": start_bare, "Sluis": start_sluis}
    port, process = start[name](bench, up, 1) if name in start else start_auth(bench, up, 1, master=False)
    bench.under = ()
    cookies = verified_cookies(port) if name == "Sluis" else LIKE_VERIFIED
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookies}\r\n\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]

    def round():
        for s in sockets:
            s.sendall(request)
        for s in sockets:
            got = b""
            while not got.endswith(b"x" * 64):
                piece = s.recv(65536)
                if not piece:
                    sys.exit(f"{name} closed a connection: {got[:200]!r}")
                got += piece
            assert got.startswith(b"HTTP/1.1 200"), got[:200]

    def control(what):
        subprocess.run(["callgrind_control", what, str(process.pid)], check=True, capture_output=True)

    for _ in range(12):
        round()
    control("-z")
    for _ in range(requests // connections):
        round()
    control("-d")
    with open(f"{out}.1") as f:
        total = int(re.search(r"^(?:summary|totals): (\d+)", f.read(), re.M)[1])
    return total / (requests // connections * connections)


def instructions_table(counts):
    lines = ["### User instructions per request", "",
             "By `valgrind --tool=callgrind`, which does not mind how busy the machine is; 2,000 requests on 16 connections. "
             "It knows nothing of the kernel's share, which is the larger one, and counts a copy byte by byte.", "",
             "| | instructions | × bare |", "|---|---|---|"]
    return "\n".join(lines + [f"| {name} | {n:,.0f} | {n / counts['bare pingora']:.2f} |" for name, n in counts.items()]) + "\n"


def memory_table(connections, result):
    lines = [f"### {connections:,} idle connections", "",
             "Kept open after one request each; resident memory of the proxy, one worker thread.", "",
             "| | at start MiB | with them MiB | KiB per connection | × bare |", "|---|---|---|---|---|"]
    bare = result["bare pingora"][1]
    for name, (before, after) in result.items():
        lines.append(f"| {name} | {before / 1024:.1f} | {after / 1024:.1f} | {(after - before) / connections:.2f} | "
                     f"{after / bare:.2f} |")
    return "\n".join(lines) + "\n"


def steps_table(text):
    """What criterion printed, as a table: the middle of its interval."""
    found = re.findall(r"^(\w+)\s+time:\s+\[\S+ \S+ (\S+ \S+) \S+ \S+\]", text, re.M)
    lines = ["### Single steps of a decision", "", "| | time |", "|---|---|"]
    return "\n".join(lines + [f"| {name.replace('_', ' ')} | {time} |" for name, time in found]) + "\n"


def table(threads, figures):
    med = lambda name, key: statistics.median(f[key] for f in figures[name])
    bare = lambda name: figures["bare pingora" + (GUIDED if name.endswith(GUIDED) else "")]
    ratio = lambda name, key: statistics.median(f[key] / b[key] for f, b in zip(figures[name], bare(name)))
    lines = [f"### {threads} worker thread{'s' if threads > 1 else ''}", "",
             "| | requests/s | × bare | p50 ms | p99 ms | CPU µs/request | × bare |", "|---|---|---|---|---|---|---|"]
    for name in figures:
        cpu = med(name, "cpu_us")
        lines.append(f"| {name} | {med(name, 'rps'):,.0f} | {ratio(name, 'rps'):.2f} | {med(name, 'p50_ms'):.2f} | "
                     f"{med(name, 'p99_ms'):.2f} | " + (f"{cpu:.1f} | {ratio(name, 'cpu_us'):.2f} |" if cpu else "– | – |"))
    return "\n".join(lines) + "\n"


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bin", required=True, help="folder with the built binaries (target/dist)")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=int, default=5)
    a.add_argument("--connections", type=int, default=64)
    a.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    a.add_argument("--idle", type=int, default=10_000, help="idle connections for the memory figure; 0 = skip")
    a.add_argument("--guided", help="folder with the pair that was built with profiles")
    a.add_argument("--instructions", action=argparse.BooleanOptionalAction, default=True)
    a.add_argument("--steps", help="a file with what `cargo bench` printed")
    a.add_argument("--out", default=os.path.join(ROOT, "benches", "RESULTS.md"))
    args = a.parse_args()
    for tool in ("wrk", "nginx", "haproxy", "taskset", *(["valgrind"] if args.instructions else [])):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: `make bench` installs it")
    busy = os.getloadavg()[0]
    parts = []
    for threads in args.threads:
        with tempfile.TemporaryDirectory(prefix="sluis-bench-") as dir:
            bench = Bench(dir, args.bin)
            try:
                parts.append(table(threads, run(bench, threads, args.rounds, args.seconds, args.connections, args.guided)))
            finally:
                bench.stop()
    if args.instructions:
        counts = {}
        for name in ("bare pingora", "Sluis", "nginx + auth_request"):
            with tempfile.TemporaryDirectory(prefix="sluis-bench-") as dir:
                bench = Bench(dir, args.bin)
                try:
                    counts[name] = instructions(bench, name)
                    print(f"  {name:30} {counts[name]:9,.0f} instructions per request", flush=True)
                finally:
                    bench.stop()
        parts.append(instructions_table(counts))
    if args.idle:
        with tempfile.TemporaryDirectory(prefix="sluis-bench-") as dir:
            bench = Bench(dir, args.bin)
            try:
                parts.append(memory_table(*idle_memory(bench, args.idle)))
            finally:
                bench.stop()
    if args.steps:
        with open(args.steps) as f:
            parts.append(steps_table(f.read()))
    text = "\n".join(parts)
    print("\n" + text)
    with open(args.out, "w") as f:
        f.write(f"# Sluis beside others\n\nMade by `make bench`: {args.rounds} alternating rounds of {args.seconds} s, "
                f"{args.connections} connections, medians; ratios are taken round by round against bare pingora. "
                "With one worker thread the proxy has a core to itself and load and upstream share the other; with two, all "
                "share both cores. Everybody gets the same request, with the cookies of a verified session. Absolute figures "
                "are this machine's; the ratios are what counts.\n\n"
                f"Load average on {os.cpu_count()} cores before the run: {busy:.1f}. Above 0.5 others were at work, and the "
                "figures are rough.\n\n"
                + ("The profiled pair is built with a profile of the load of both; its ratios are to its own bare pingora.\n\n"
                   if args.guided else "") + text)


if __name__ == "__main__":
    main()
