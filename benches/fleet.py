#!/usr/bin/env python3
"""Several replicas of Sluis on one Redis: how long a takeover takes, and what a login costs.

A takeover is the answer to the code with which another user completes a login on a shared browser: it is given when every
replica has applied the revocation. Beside it stands the same answer without a takeover, so the difference is the price.
A login is password, challenge page and code, each with a user of its own; costs are CPU time of Sluis and of Redis.

Adds its tables to benches/RESULTS.md; docs/scaling.md computes with them.
"""

import argparse, base64, http.client, multiprocessing, os, re, socket, statistics, subprocess, sys, tempfile, time, urllib.parse

from compare import ROOT, Bench, cpu_seconds, free_port, totp

MARK = "<!-- fleet -->"


class Browser:
    """A cookie jar and one kept connection to each replica."""

    def __init__(self, port):
        self.jar, self.connections, self.port = {}, {}, port

    def ask(self, method, path, form=None):
        connection = self.connections.get(self.port)
        if connection is None:
            connection = self.connections[self.port] = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        origin = f"127.0.0.1:{self.port}"
        header = {"Host": origin, "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Origin": f"http://{origin}"}
        if self.jar:
            header["Cookie"] = "; ".join(f"{n}={v}" for n, v in self.jar.items())
        body = None
        if form:
            header["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        connection.request(method, path, body, header)
        r = connection.getresponse()
        text = r.read().decode()
        for line in r.headers.get_all("Set-Cookie") or []:
            name, value = line.split(";")[0].split("=", 1)
            if re.search(r"max-age=0", line, re.I):
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return r, text

    def expect(self, status, *request):
        r, text = self.ask(*request)
        if r.status != status:
            sys.exit(f"{request}: {r.status}\n{text[:2000]}")
        return text

    def password(self, user):
        self.expect(303, "POST", "/login", {"username": user, "password": f"{user}-secret"})

    def enrol(self, user):
        """Links an authenticator with the code of the step before, so that this step and the next are still free."""
        self.password(user)
        page = self.expect(200, "GET", "/.sluis/enrol")
        key = re.search(r"secret=([A-Z2-7]+)", page)[1]
        form = {"token": token(page), "name": "bench", "code": totp(key, time.time() - 30)}
        self.expect(303, "POST", "/.sluis/enrol", form)
        return key

    def prepare(self, user):
        """Everything but the code."""
        self.password(user)
        return token(self.expect(200, "GET", "/.sluis/challenge"))

    def complete(self, form_token, key):
        """Sends the code; seconds until the answer."""
        form = {"token": form_token, "code": totp(key)}
        begun = time.perf_counter()
        self.expect(303, "POST", "/.sluis/challenge", form)
        return time.perf_counter() - begun


def token(page):
    found = re.search(r'name="token"[^>]*value="([^"]*)"', page) or re.search(r'value="([^"]*)"[^>]*name="token"', page)
    return found[1]


class Fleet:
    def __init__(self, bench, replicas, store, name):
        app = free_port()
        bench.start(app, f"{bench.bin}/sluis", "demo", "--app-only", "--any-user", "--listen", f"127.0.0.1:{app}")
        bench.write("master.key", base64.b64encode(b"0123456789abcdef0123456789abcdef").decode())
        self.ports, self.processes = [], []
        for number in range(replicas):
            port = free_port()
            config = bench.write(f"{name}-{number}.yaml", f"""
listen: {{ http: {{ address: "127.0.0.1:{port}" }} }}
insecure_cookies: true
threads: 1
keys: [{{ file: "{bench.dir}/master.key" }}]
store: {store}
log: {{ filter: warn, format: json }}
audit: {{ file: "{bench.dir}/{name}-{number}.jsonl" }}
apps:
  - id: bench
    name: Bench
    hosts: ["*"]
    upstreams: ["http://127.0.0.1:{app}"]
    login:
      page: /login
      watch: [{{ path: /login, user_field: username }}]
      success: {{ status: [302, 303], cookie: ZORGSESSIE }}
    anonymous: [/login, /static/*]
    policy: [{{ require: {{ methods: [totp], validity: 12h }} }}]
""")
            self.processes.append(bench.start(port, f"{bench.bin}/sluis", "serve", "--config", config))
            self.ports.append(port)


def redis(bench, durable):
    port = free_port()
    options = ("--appendonly", "yes", "--appendfsync", "everysec") if durable else ("--appendonly", "no")
    process = bench.start(port, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", bench.dir, "--save", "",
                          "--maxmemory-policy", "noeviction", *options)
    return port, process


def redis_info(port, section, name):
    out = subprocess.run(["redis-cli", "-p", str(port), "INFO", section], capture_output=True, text=True, check=True).stdout
    return re.search(rf"^{name}:(.*?)\r?$", out, re.M)[1]


def redis_commands(port):
    return int(redis_info(port, "stats", "total_commands_processed"))


def takeovers(bench, replicas, count):
    """Milliseconds of the completing answer: with a takeover, and without one."""
    port, _ = redis(bench, True)
    fleet = Fleet(bench, replicas, f'{{ redis: {{ url: "redis://127.0.0.1:{port}" }} }}', f"takeover{replicas}")
    shared, taken, plain = Browser(fleet.ports[0]), [], []
    for number in range(count + 1):
        user = f"user{number}"
        key = Browser(fleet.ports[number % replicas]).enrol(user)
        # Their own browser first, with the code of this step; the shared one needs the next.
        at = fleet.ports[number % replicas]
        own = Browser(at)
        plain.append(own.complete(own.prepare(user), key) * 1000)
        shared.port = at
        shared.jar.pop("sluis-session", None)
        form_token = shared.prepare(user)
        form = {"token": form_token, "code": totp(key, time.time() + 30)}
        begun = time.perf_counter()
        shared.expect(303, "POST", "/.sluis/challenge", form)
        if number:
            taken.append((time.perf_counter() - begun) * 1000)
    return taken, plain[1:]


def enrol_many(job):
    port, names = job
    return [(name, Browser(port).enrol(name)) for name in names]


def login_many(job):
    port, people, begin = job
    time.sleep(max(0, begin - time.time()))
    begun = time.time()
    for user, key in people:
        browser = Browser(port)
        browser.complete(browser.prepare(user), key)
    return begun, time.time()


def logins(bench, replicas, on_redis, count, clients, pool):
    """Logins per second, and what one costs."""
    name = f"logins-{'redis' if on_redis else 'sqlite'}-{replicas}"
    server = redis(bench, True) if on_redis else None
    store = f'{{ redis: {{ url: "redis://127.0.0.1:{server[0]}" }} }}' if on_redis else f'{{ sqlite: {{ path: "{bench.dir}/{name}.db" }} }}'
    fleet = Fleet(bench, replicas, store, name)
    share = lambda items: [items[n::clients] for n in range(clients)]
    memory = int(redis_info(server[0], "memory", "used_memory")) if server else 0
    names = [f"user{n}" for n in range(count)]
    people = pool.map(enrol_many, [(fleet.ports[n % replicas], part) for n, part in enumerate(share(names))])
    memory = int(redis_info(server[0], "memory", "used_memory")) - memory if server else 0
    cpu = lambda: (sum(cpu_seconds(p.pid) for p in fleet.processes), cpu_seconds(server[1].pid) if server else 0)
    # What heartbeats cost is no part of a login: taken off, by a rest of one second.
    idle = redis_commands(server[0]) if server else 0
    time.sleep(1)
    idle = redis_commands(server[0]) - idle if server else 0
    commands, before = (redis_commands(server[0]) if server else 0), cpu()
    begin = time.time() + 0.5
    spans = pool.map(login_many, [(fleet.ports[n % replicas], part, begin) for n, part in enumerate(people)])
    seconds = max(end for _, end in spans) - min(begun for begun, _ in spans)
    after = cpu()
    commands = (redis_commands(server[0]) - commands - idle * (seconds + 0.5)) if server else 0
    return {
        "per second": count / seconds,
        "sluis ms": (after[0] - before[0]) / count * 1000,
        "redis ms": (after[1] - before[1]) / count * 1000,
        "commands": commands / count,
        "bytes": memory / count,
    }


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--bin", required=True, help="folder with the built binaries (target/dist)")
    a.add_argument("--takeovers", type=int, default=300)
    a.add_argument("--logins", type=int, default=1000)
    a.add_argument("--clients", type=int, default=8)
    a.add_argument("--out", default=os.path.join(ROOT, "benches", "RESULTS.md"))
    args = a.parse_args()
    busy = os.getloadavg()[0]

    def measured(work):
        with tempfile.TemporaryDirectory(prefix="sluis-bench-") as dir:
            bench = Bench(dir, args.bin)
            try:
                return work(bench)
            finally:
                bench.stop()

    centile = lambda values, p: statistics.quantiles(values, n=100)[p - 1]
    lines = [MARK, "", "## Several replicas", "",
             f"Made by `benches/fleet.py`, on {os.cpu_count()} cores that Sluis, Redis, app and clients share; load average before the "
             f"run: {busy:.1f}.", "",
             "### The answer that completes a login", "",
             "With a takeover it is given when every replica has applied the revocation. Redis writes an append-only file.", "",
             "| replicas | takeover p50 ms | p99 ms | no takeover p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for replicas in (1, 2, 3):
        taken, plain = measured(lambda bench: takeovers(bench, replicas, args.takeovers))
        lines.append(f"| {replicas} | {centile(taken, 50):.1f} | {centile(taken, 99):.1f} | {centile(plain, 50):.1f} | "
                     f"{centile(plain, 99):.1f} |")
        print(lines[-1], flush=True)
    lines += ["", "### Logins", "",
              f"{args.logins} users, {args.clients} clients at once; password, challenge page, code. One worker thread for each replica.", "",
              "| store | replicas | logins/s | CPU of Sluis, ms/login | CPU of Redis, ms/login | commands/login | Redis bytes/user |",
              "|---|---|---|---|---|---|---|"]
    with multiprocessing.Pool(args.clients) as pool:
        for on_redis, replicas in ((False, 1), (True, 1), (True, 2)):
            f = measured(lambda bench: logins(bench, replicas, on_redis, args.logins, args.clients, pool))
            cells = [f"{f['redis ms']:.2f}", f"{f['commands']:.0f}", f"{f['bytes']:,.0f}"] if on_redis else ["–"] * 3
            lines.append(f"| {'Redis' if on_redis else 'SQLite'} | {replicas} | {f['per second']:.0f} | {f['sluis ms']:.2f} | "
                         + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    before = ""
    if os.path.exists(args.out):
        with open(args.out) as out:
            before = out.read().split(MARK)[0].rstrip() + "\n\n"
    with open(args.out, "w") as out:
        out.write(before + text)


if __name__ == "__main__":
    main()
