//! What administrators do is told to whom it is done, by a real mail server.

use super::*;
use crate::{
    admin::operations::Settings,
    deliver::{
        mail::Mailer,
        notices::Notices,
        testing::{Server, mail_with},
    },
};

fn office(store: &SharedStore) -> (Operations, Server) {
    let server = Server::start(&serde_json::json!({}));
    let mail =
        mail_with(&format!("smtp: \"smtp://127.0.0.1:{}\", starttls: none, language: nl", server.port));
    let (notices, courier) = Notices::new(
        Some(Mailer::new(mail).unwrap()),
        store.clone(),
        ManualClock::at(NOW),
        Arc::new(SystemRandom),
        Arc::new(Metrics::new(&[])),
    );
    tokio::spawn(courier.run());
    (operations(store, vec![app("ecd", "zorg")]).with_notices(notices), server)
}

fn email(address: &str) -> Settings {
    Settings { email: Some(Some(address.to_owned())), ..Settings::default() }
}

fn subject(came: &serde_json::Value) -> &str {
    came["headers"]["subject"].as_str().unwrap()
}

/// [B12] An invitation goes out with its code and the way to the app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b12_an_activation_mail_has_the_code_that_counts() {
    let store = memory::open();
    let (operations, server) = office(&store);
    operations.change("anna", None, &email("anna@example.nl"), &by("cli:root")).await.unwrap();
    assert_eq!(subject(&server.message()), "Uw gegevens zijn gewijzigd – Care");
    let lives = Duration::from_secs(3600);
    let invitation = operations.invite("anna", None, lives, &by("cli:root")).await.unwrap();
    let came = server.message();
    assert_eq!(subject(&came), "Activeer uw tweede factor – Care");
    assert_eq!(came["to"], serde_json::json!(["anna@example.nl"]));
    for part in ["text", "html"] {
        let said = came[part].as_str().unwrap();
        assert!(said.contains(&invitation.code) && said.contains("https://care.example/"), "{said}");
    }
}

/// Whoever changes an address to take an account over must not be able to keep its owner from hearing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_is_told_at_the_old_and_at_the_new_one() {
    let store = memory::open();
    let (operations, server) = office(&store);
    let by = by("cli:root");
    operations.change("anna", None, &email("old@example.nl"), &by).await.unwrap();
    server.message();
    let number = Settings { number: Some(Some("06 12345678".to_owned())), ..email("new@example.nl") };
    operations.change("anna", None, &number, &by).await.unwrap();
    let mut to = [server.message(), server.message()].map(|came| {
        let text = came["text"].as_str().unwrap();
        assert!(text.contains("e-mailadres") && text.contains("telefoonnummer"), "{text}");
        assert!(
            !text.contains("example.nl") && !text.contains("12345678"),
            "nobody learns the new ones: {text}"
        );
        came["to"][0].as_str().unwrap().to_owned()
    });
    to.sort();
    assert_eq!(to, ["new@example.nl", "old@example.nl"]);

    // What reaches nobody is not told, and an address that goes is told where it was.
    let language = Settings { language: Some(Some("en".to_owned())), ..Settings::default() };
    operations.change("anna", None, &language, &by).await.unwrap();
    let gone = Settings { email: Some(None), ..Settings::default() };
    operations.change("anna", None, &gone, &by).await.unwrap();
    let came = server.message();
    assert_eq!(
        (subject(&came), &came["to"]),
        ("Your details were changed – Care", &serde_json::json!(["new@example.nl"]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_authenticator_a_reset_and_a_sign_out_are_told() {
    let store = memory::open();
    enrolled(&store, "anna").await;
    let (operations, server) = office(&store);
    let by = by("cli:root");
    operations.change("anna", None, &email("anna@example.nl"), &by).await.unwrap();
    server.message();
    let id = store.authenticators(&key("anna")).await.unwrap()[0].id;
    operations.remove_authenticator("anna", None, id, &by).await.unwrap();
    assert_eq!(subject(&server.message()), "Er is een authenticator verwijderd – Care");
    operations.reset("anna", None, &by).await.unwrap();
    assert_eq!(subject(&server.message()), "Uw tweede factor is gereset – Care");
    operations.sign_out("anna", None, &by).await.unwrap();
    assert_eq!(subject(&server.message()), "U bent overal uitgelogd – Care");
    // A block is an administrator's own matter.
    operations.set_blocked("anna", None, true, &by).await.unwrap();
    operations.sign_out("anna", None, &by).await.unwrap();
    assert_eq!(subject(&server.message()), "U bent overal uitgelogd – Care");
}
