// A mail server that can be told to misbehave: npm's smtp-server, which is not ours.
//
//     node server.cjs MODULES '{"tls": "none|starttls|tls", "key": FILE, "cert": FILE, "user": …, "password": …, "script": […]}'
//
// The first line on standard output is {"listening": PORT}; then one line for each message that came whole:
// {"from", "to", "raw" (base64), "secure", "user", "connection"}; and one {"connected": N} for each connection.
// Each attempt at a message takes the next word of the script; after the last one all is well. Words: ok; a code
// (451, 550 …) after the message; the same with @rcpt at the recipient; hang or drop: the message came, no answer does.
"use strict";
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const [modules, options] = process.argv.slice(2);
const { SMTPServer } = require(join(modules, "smtp-server"));
const { tls = "none", key, cert, user, password, script = [] } = JSON.parse(options);

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const refusal = (code) => Object.assign(new Error(`no, not for <anna@example.nl>`), { responseCode: Number(code) });
let connections = 0;
const words = new Map();

const server = new SMTPServer({
    secure: tls === "tls",
    ...(key && { key: readFileSync(key), cert: readFileSync(cert) }),
    disabledCommands: [...(tls === "starttls" ? [] : ["STARTTLS"]), ...(user ? [] : ["AUTH"])],
    authOptional: !user,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    onConnect(session, done) {
        connections += 1;
        session.number = connections;
        say({ connected: connections });
        done();
    },
    onAuth(auth, session, done) {
        const right = auth.username === user && auth.password === password;
        done(right ? null : refusal(535), right ? { user: auth.username } : undefined);
    },
    onRcptTo(address, session, done) {
        const word = String(script.shift() ?? "ok");
        words.set(session.id, word);
        const [code, where] = word.split("@");
        done(where === "rcpt" ? refusal(code) : null);
    },
    onData(stream, session, done) {
        const pieces = [];
        stream.on("data", (piece) => pieces.push(piece));
        stream.on("end", () => {
            const word = words.get(session.id);
            const came = () =>
                say({
                    from: session.envelope.mailFrom.address,
                    to: session.envelope.rcptTo.map((to) => to.address),
                    raw: Buffer.concat(pieces).toString("base64"),
                    secure: session.secure,
                    user: session.user ?? null,
                    connection: session.number,
                });
            if (word === "ok") {
                came();
                done();
            } else if (word === "hang") {
                came();
            } else if (word === "drop") {
                came();
                for (const connection of server.connections) connection._socket.destroy();
            } else {
                done(refusal(word));
            }
        });
    },
});
server.on("error", (error) => say({ error: String(error.message) }));
server.listen(0, "127.0.0.1", () => say({ listening: server.server.address().port }));
