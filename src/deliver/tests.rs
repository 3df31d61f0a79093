//! Messages to a real server that behaves well and badly: none is lost without being counted, none is sent twice.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    letter::{Content, Letter},
    mail::{Mailer, Seen, Undelivered},
    outbox::Outbox,
    testing::{Server, mail_with},
};
use crate::{
    base::{clock::UnixMillis, random::SystemRandom},
    config::Mail,
    i18n::Language,
    metrics::{MailOutcome, Metrics},
};

fn letter(mail: &Mail, subject: &str) -> Letter {
    let content = Content {
        subject: subject.to_owned(),
        text: "Hello".to_owned(),
        html: "<p>Hello</p>".to_owned(),
        language: Language::English,
    };
    Letter::new(mail, "anna@example.nl", content, UnixMillis::from_secs(1_795_830_000), &SystemRandom)
        .unwrap()
}

fn plain(server: &Server, more: &str) -> Mail {
    mail_with(&format!("smtp: \"smtp://127.0.0.1:{}\", starttls: none{more}", server.port))
}

/// A certificate for `localhost`: (folder, options of the server, `ca_file`).
fn certificate() -> (tempfile::TempDir, serde_json::Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("crt"), pair.cert.pem()).unwrap();
    std::fs::write(at("key"), pair.signing_key.serialize_pem()).unwrap();
    let options = json!({ "key": at("key"), "cert": at("crt"), "user": "sluis", "password": "right horse" });
    let roots = at("crt");
    (dir, options, roots)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_over_tls_of_either_kind_with_a_login_and_connections_are_used_again() {
    let (_dir, mut options, roots) = certificate();
    for (tls, scheme) in [("starttls", "smtp"), ("tls", "smtps")] {
        options["tls"] = tls.into();
        let server = Server::start(&options);
        let mail = mail_with(&format!(
            "smtp: \"{scheme}://localhost:{}\", username: sluis, password: {{ env: PASSWORD }}, ca_file: \"{roots}\"",
            server.port
        ));
        let mailer = Mailer::new(mail.clone()).unwrap();
        assert_eq!(mailer.examine().await, Ok(Seen { encrypted: true, authenticated: true }));
        server.next("connected");
        for subject in ["one", "two"] {
            mailer.send(&letter(&mail, subject)).await.unwrap();
            let came = server.message();
            assert_eq!(came["headers"]["subject"], subject);
            assert_eq!((&came["secure"], &came["user"]), (&json!(true), &json!("sluis")), "{tls}");
            assert_eq!(
                (&came["from"], &came["to"]),
                (&json!("sluis@example.nl"), &json!(["anna@example.nl"]))
            );
            assert_eq!(came["connection"], 2, "the examination was one, both messages another");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_certificate_a_missing_starttls_and_a_wrong_password_are_told_and_send_nothing() {
    let (_dir, mut options, roots) = certificate();
    options["tls"] = "starttls".into();
    let server = Server::start(&options);
    let smtp = format!("smtp: \"smtp://localhost:{}\"", server.port);
    let login = "username: sluis, password: { env: PASSWORD }";
    let wrong = "username: sluis, password: { env: WRONG }";
    let bare = Server::start(&json!({ "user": "sluis", "password": "right horse" }));
    let bare = format!("smtp: \"smtp://localhost:{}\"", bare.port);
    for (keys, why) in [
        (format!("{smtp}, {login}"), "certificate"),
        (format!("{smtp}, ca_file: \"{roots}\", {wrong}"), "does not let Sluis log in"),
        (format!("{bare}, {login}, ca_file: \"{roots}\""), "STARTTLS is not supported"),
    ] {
        let mail = mail_with(&keys);
        let mailer = Mailer::new(mail.clone()).unwrap();
        let told = mailer.examine().await.unwrap_err();
        assert!(told.contains(why) && !told.contains("horse"), "{told}");
        let failed = mailer.send(&letter(&mail, "x")).await.unwrap_err();
        assert!(matches!(failed, Undelivered::Later(_)), "{failed:?}");
        assert!(!format!("{failed:?}").contains("horse"), "{failed:?}");
    }
    assert!(server.rest().iter().all(|line| line["raw"].is_null()));
}

/// Of a server that hangs: no address in what logs get, and no connection used again whose answer may still come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_by_its_code_and_a_silence_is_not_believed() {
    let script = json!({ "script": ["550@rcpt", "451", "552", "hang", "drop", "ok"] });
    let server = Server::start(&script);
    let mail = plain(&server, ", timeout: 1s");
    let mailer = Mailer::new(mail.clone()).unwrap();
    let letter = letter(&mail, "x");
    let kinds = ["never 550", "later 451", "never 552", "unknown no answer", "unknown "];
    for kind in kinds {
        let failed = mailer.send(&letter).await.unwrap_err();
        let (name, cause) = match &failed {
            Undelivered::Later(cause) => ("later", cause),
            Undelivered::Never(cause) => ("never", cause),
            Undelivered::Unknown(cause) => ("unknown", cause),
        };
        let (wanted, text) = kind.split_once(' ').unwrap();
        assert!(name == wanted && cause.brief.contains(text), "{kind}: {failed:?}");
        assert!(!cause.brief.contains('@'), "{failed:?}");
    }
    mailer.send(&letter).await.unwrap();
    let connections: Vec<_> = server.rest().into_iter().filter(|line| !line["connected"].is_null()).collect();
    assert_eq!(connections.len(), 6, "{connections:?}");
}

struct Post {
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
}

impl Post {
    fn new(mail: &Mail) -> Self {
        let metrics = Arc::new(Metrics::new(&[]));
        let outbox = Outbox::new(Some(Mailer::new(mail.clone()).unwrap()), Arc::clone(&metrics));
        Self { outbox, metrics }
    }

    /// Waits until so many had this outcome.
    async fn until(&self, outcome: MailOutcome, wanted: u64) {
        let counter = self.metrics.mail.outcomes.get(outcome).unwrap();
        let waiting = async {
            while counter.get() < wanted || self.metrics.mail.queue.get() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_ok(), "{outcome:?}: {} of {wanted}", counter.get());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_for_a_moment_is_sent_once_and_what_may_have_arrived_is_not_sent_again() {
    let server = Server::start(&json!({ "script": ["451", "ok", "hang", "550"] }));
    let mail = plain(&server, ", timeout: 1s");
    let post = Post::new(&mail);
    post.outbox.put(letter(&mail, "greylisted"));
    assert_eq!(server.message()["headers"]["subject"], "greylisted");
    post.until(MailOutcome::Sent, 1).await;
    assert_eq!(post.metrics.mail.failing.get(), 0);

    post.outbox.put(letter(&mail, "swallowed"));
    assert_eq!(server.message()["headers"]["subject"], "swallowed");
    post.until(MailOutcome::Unknown, 1).await;
    assert_eq!(post.metrics.mail.failing.get(), 1);

    post.outbox.put(letter(&mail, "refused"));
    post.until(MailOutcome::Refused, 1).await;
    assert_eq!(post.metrics.mail.failing.get(), 0, "the server is well");
    assert!(server.rest().iter().all(|line| line["raw"].is_null()), "each came once");
}

/// A dead server fills the queue: what is too much is counted and dropped, and whoever put it there went on at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_drops_and_counts() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mail = mail_with(&format!("smtp: \"smtp://127.0.0.1:{port}\", starttls: none"));
    let post = Post::new(&mail);
    for _ in 0..1003 {
        post.outbox.put(letter(&mail, "x"));
    }
    assert_eq!(post.metrics.mail.outcomes.get(MailOutcome::Full).unwrap().get(), 3);
    assert_eq!(post.metrics.mail.queue.get(), 1000);
    let failing = async {
        while post.metrics.mail.failing.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), failing).await.unwrap();
}
