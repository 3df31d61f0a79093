//! Every notice in every language, and who gets it where. The mail server and its reader are not ours.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::*;
use crate::{
    base::{clock::ManualClock, random::SystemRandom},
    config::sample,
    deliver::{
        letter::Content,
        testing::{Server, mail_with},
    },
    model::{Realm, UserName},
    store::memory,
};

/// A name that would break out of every context it could stand in.
const HOSTILE: &str = "\"><script>alert(1)</script>\r\nBcc: x@y.nl\u{202e}{{7*7}}";

fn anna() -> UserKey {
    UserKey { realm: Realm::new("care"), name: UserName::canonical("anna") }
}

/// One of each. A new one that is not here does not compile.
fn all(user: &UserKey) -> Vec<(&'static str, Notice)> {
    let code = || SecretString::new("7KPW-2M4X-QJ9T".to_owned());
    let until = UnixMillis::from_secs(1_795_916_400);
    let mut list = vec![
        Notice::AuthenticatorAdded { method: Method::Totp },
        Notice::RecoveryCodesMade,
        Notice::RecoveryCodeUsed,
        Notice::Reset,
        Notice::LockedOut { hard: false },
        Notice::LockedOut { hard: true },
        Notice::Invitation { code: code(), until },
        Notice::ContactChanged { email: true, number: false },
        Notice::ContactChanged { email: false, number: true },
        Notice::ContactChanged { email: true, number: true },
        Notice::NewDevice,
        Notice::EmergencyAccess { user: user.clone() },
        Notice::Test,
    ];
    for by in [Who::User, Who::Administrator] {
        list.push(Notice::AuthenticatorRemoved { method: Method::Totp, by });
        list.push(Notice::SignedOut { by });
    }
    let name = |notice: &Notice| match notice {
        Notice::AuthenticatorAdded { .. } => "added",
        Notice::AuthenticatorRemoved { .. } => "removed",
        Notice::RecoveryCodesMade => "recovery-made",
        Notice::RecoveryCodeUsed => "recovery-used",
        Notice::Reset => "reset",
        Notice::SignedOut { .. } => "signed-out",
        Notice::LockedOut { .. } => "locked-out",
        Notice::Invitation { .. } => "invitation",
        Notice::ContactChanged { .. } => "changed",
        Notice::NewDevice => "device",
        Notice::EmergencyAccess { .. } => "emergency",
        Notice::Test => "test",
    };
    let list: Vec<_> = list.into_iter().map(|notice| (name(&notice), notice)).collect();
    assert_eq!(list.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 12);
    list
}

fn scene() -> Scene {
    let app = App { name: HOSTILE.to_owned(), ..sample::app() };
    Scene::at(&app).from("192.0.2.7".parse::<IpAddr>().unwrap()).with("Firefox/140 <b>(Windows</b>")
}

fn written(notice: &Notice, user: &UserKey, language: Language) -> Content {
    let person =
        Person { address: "anna@example.nl".to_owned(), name: Some(user.name.as_str().to_owned()), language };
    let zone = TimeZone::get("Europe/Amsterdam").unwrap();
    write(notice, &scene(), UnixMillis::from_secs(1_795_830_000), &person, &zone).unwrap()
}

#[test]
fn every_notice_is_complete_in_every_language_and_nobodys_name_becomes_markup() {
    let user = UserKey { realm: Realm::new("care"), name: UserName::canonical(HOSTILE) };
    for ((name, notice), (_, same)) in all(&user).into_iter().zip(all(&user)) {
        let dutch = written(&notice, &user, Language::Dutch);
        let english = written(&same, &user, Language::English);
        assert_ne!(dutch.subject, english.subject, "{name}");
        for Content { subject, text, html, language } in [&dutch, &english] {
            let place = format!("{name} in {}:\n{subject}\n{text}\n{html}", language.code());
            for leftover in ["Unknown localization", "{%", "{ $", "mail-"] {
                assert!(
                    ![subject, text, html].iter().any(|part| part.contains(leftover)),
                    "{leftover}: {place}"
                );
            }
            assert!(!subject.chars().any(char::is_control) && !subject.contains('\u{202e}'), "{place}");
            assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{place}");
            assert!(text.contains("192.0.2.7") && html.contains("192.0.2.7"), "{place}");
            assert!(text.contains("Firefox, Windows") && !html.contains("<b>"), "{place}");
            assert!(!html.contains("<script") && html.contains("&#60;script&#62;"), "{place}");
            assert!(html.contains(&format!("<html lang=\"{}\">", language.code())), "{place}");
            // Nothing is loaded, nothing is tracked; the one link there can be is the app's.
            for foreign in ["src=", "url(", "@import", "<img", "<link", "<form"] {
                assert!(!html.contains(foreign), "{foreign}: {place}");
            }
            let links: Vec<_> = html.split("href=\"").skip(1).map(|l| l.split('"').next().unwrap()).collect();
            let allowed: &[&str] = if name == "invitation" { &["https://care.example/"] } else { &[] };
            assert_eq!(links, allowed, "{place}");
            assert_eq!(text.contains("https://care.example/"), name == "invitation", "{place}");
            assert_eq!(text.contains("7KPW-2M4X-QJ9T"), name == "invitation", "{place}");
            assert_eq!(html.contains("7KPW-2M4X-QJ9T"), name == "invitation", "{place}");
        }
        assert!(dutch.text.contains("28 november 2026, 02:40 (CET, UTC+01:00)"), "{}", dutch.text);
        assert!(english.text.contains("28 November 2026, 02:40 (CET, UTC+01:00)"), "{}", english.text);
    }
}

#[test]
fn an_app_for_any_host_has_no_link_of_its_own() {
    let app = App { hosts: vec!["*".to_owned()], ..sample::app() };
    assert_eq!(Scene::at(&app).link, None);
}

struct Office {
    notices: Arc<Notices>,
    store: SharedStore,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    server: Server,
}

/// A courier at work, and Anna, of whom this is known.
async fn office(keys: &str, profile: Profile) -> Office {
    let server = Server::start(&serde_json::json!({}));
    let mail = mail_with(&format!("smtp: \"smtp://127.0.0.1:{}\", starttls: none, {keys}", server.port));
    let (store, metrics) = (memory::open(), Arc::new(Metrics::new(&[])));
    let clock = ManualClock::at(UnixMillis::from_secs(1_795_830_000));
    keep(&store, &anna(), profile).await;
    let (notices, courier) = Notices::new(
        Some(Mailer::new(mail).unwrap()),
        Arc::clone(&store),
        Arc::clone(&clock) as _,
        Arc::new(SystemRandom),
        Arc::clone(&metrics),
    );
    tokio::spawn(courier.run());
    Office { notices, store, clock, metrics, server }
}

async fn keep(store: &SharedStore, user: &UserKey, profile: Profile) {
    documents::change_profile(store.as_ref(), user, |_| (Some(profile.clone()), ())).await.unwrap();
}

fn of(email: &str, language: Option<&str>) -> Profile {
    Profile { email: Some(email.to_owned()), language: language.map(str::to_owned), ..Profile::default() }
}

impl Office {
    fn counted(&self, outcome: MailOutcome) -> u64 {
        self.metrics.mail.outcomes.get(outcome).unwrap().get()
    }

    /// Waits until so many had this outcome.
    async fn until(&self, outcome: MailOutcome, wanted: u64) {
        let waiting = async {
            while self.counted(outcome) < wanted {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_ok(), "{outcome:?}: {} of {wanted}", self.counted(outcome));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_told_in_their_own_language_and_at_the_former_address_too() {
    let office = office("time_zone: Europe/Amsterdam", of("anna@example.nl", Some("nl"))).await;
    let scene = || Scene::at(&sample::app());
    office.notices.tell(&anna(), Notice::Reset, scene());
    let came = office.server.message();
    assert_eq!(came["to"], serde_json::json!(["anna@example.nl"]));
    assert_eq!(came["headers"]["subject"], "Uw tweede factor is gereset – Care");
    let text = came["text"].as_str().unwrap();
    assert!(text.contains("Account: anna\n") && text.contains("02:40 (CET"), "{text}");

    let changed = || Notice::ContactChanged { email: true, number: false };
    office.notices.tell(&anna(), changed(), scene());
    assert_eq!(office.server.message()["to"], serde_json::json!(["anna@example.nl"]));
    office.notices.tell_formerly(&anna(), "old@example.nl", changed(), scene());
    let came = office.server.message();
    assert_eq!(came["to"], serde_json::json!(["old@example.nl"]));
    assert_eq!(came["headers"]["subject"], "Uw gegevens zijn gewijzigd – Care");
    office.until(MailOutcome::Sent, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_address_nobody_is_told_and_without_a_language_the_configured_one_counts() {
    let office = office("language: nl", Profile::default()).await;
    office.notices.tell(&anna(), Notice::Reset, Scene::default());
    office.until(MailOutcome::NoAddress, 1).await;
    keep(&office.store, &anna(), of("anna@example.nl", None)).await;
    office.notices.tell(&anna(), Notice::NewDevice, Scene::default());
    assert_eq!(office.server.message()["headers"]["subject"], "Er is ingelogd op een nieuw apparaat");
    keep(&office.store, &anna(), of("anna@example.nl", Some("en"))).await;
    office.notices.tell(&anna(), Notice::NewDevice, Scene::default());
    assert_eq!(office.server.message()["headers"]["subject"], "A login on a new device");
}

/// Whoever knows a password must not be able to fill a mailbox by typing wrong codes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_are_told_once_an_hour_and_a_lock_in_any_case() {
    let office = office("language: en", of("anna@example.nl", None)).await;
    for _ in 0..3 {
        office.notices.tell(&anna(), Notice::LockedOut { hard: false }, Scene::default());
    }
    assert_eq!(office.server.message()["headers"]["subject"], "Wrong codes were typed");
    office.until(MailOutcome::TooSoon, 2).await;
    office.notices.tell(&anna(), Notice::LockedOut { hard: true }, Scene::default());
    assert_eq!(office.server.message()["headers"]["subject"], "Your account is locked");
    office.clock.advance(WARNED_AGAIN);
    office.notices.tell(&anna(), Notice::LockedOut { hard: false }, Scene::default());
    assert_eq!(office.server.message()["headers"]["subject"], "Wrong codes were typed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_are_those_of_the_configuration_else_those_with_the_role() {
    let emergency = || Notice::EmergencyAccess { user: anna() };
    let first = office("administrators: [it@example.nl]", of("anna@example.nl", None)).await;
    first.notices.tell_administrators(emergency(), Scene::at(&sample::app()));
    let came = first.server.message();
    assert_eq!(came["to"], serde_json::json!(["it@example.nl"]));
    assert!(came["text"].as_str().unwrap().contains("Who: anna\n"), "{came}");

    let second = office("language: en", of("anna@example.nl", None)).await;
    let named = |name| UserKey { realm: Realm::new("care"), name: UserName::canonical(name) };
    for (name, role) in
        [("bram", Some(Role::Admin)), ("cees", Some(Role::Helpdesk)), ("dora", Some(Role::Admin))]
    {
        let profile = Profile { role, ..of(&format!("{name}@example.nl"), Some("nl")) };
        keep(&second.store, &named(name), profile).await;
    }
    keep(&second.store, &named("emma"), Profile { role: Some(Role::Admin), ..Profile::default() }).await;
    second.notices.tell_administrators(emergency(), Scene::at(&sample::app()));
    let mut told = [second.server.message(), second.server.message()].map(|came| {
        assert_eq!(came["headers"]["subject"], "Er is noodtoegang gebruikt – Care");
        came["to"][0].as_str().unwrap().to_owned()
    });
    told.sort();
    assert_eq!(told, ["bram@example.nl", "dora@example.nl"]);
    second.until(MailOutcome::Sent, 2).await;
    assert_eq!(second.counted(MailOutcome::NoAddress), 0);
}

/// Switched off, by a reload too, nothing is queued; switched on it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailer_that_goes_takes_nobody_along() {
    let office = office("language: en", of("anna@example.nl", None)).await;
    Notices::off().tell(&anna(), Notice::Reset, Scene::default());
    office.notices.replace(None);
    office.notices.tell(&anna(), Notice::Reset, Scene::default());
    let other = Server::start(&serde_json::json!({}));
    let mail = mail_with(&format!("smtp: \"smtp://127.0.0.1:{}\", starttls: none", other.port));
    office.notices.replace(Some(Mailer::new(mail).unwrap()));
    office.notices.tell(&anna(), Notice::NewDevice, Scene::default());
    assert_eq!(other.message()["headers"]["subject"], "A login on a new device");
    assert!(office.server.rest().is_empty());
}
