//! Every act, through its form: what it does, what stands in the audit log, and whom it is refused.

use axum::http::StatusCode;

use super::house::{Answer, Browser, House};
use crate::{
    admin::operations::{By, State},
    config::administrators::REALM,
    factor::shown_once,
    model::{AuthenticatorId, Profile, Realm, Role, UserKey, UserName},
    store::{AttemptState, documents},
};

const ANNA: (&str, &str) = ("care", "anna");

/// A house with anna (a user who is in at the app), and one administrator of each role.
pub(super) struct Scene {
    pub house: House,
    pub anna: Browser,
    pub admin: Browser,
    pub helpdesk: Browser,
    pub auditor: Browser,
    pub key: String,
}

impl Scene {
    pub async fn new() -> Self {
        let house = House::new().await;
        house.user("anna").await;
        let (auditor, _) = house.administrator("otto", Role::Auditor).await;
        let (helpdesk, _) = house.administrator("hanna", Role::Helpdesk).await;
        let (admin, key) = house.administrator("bea", Role::Admin).await;
        let anna = house.user_of_an_app("anna").await;
        house.pass(1);
        assert!(house.is_in_at_the_app(&anna), "what ends below has begun");
        Self { house, anna, admin, helpdesk, auditor, key }
    }

    pub async fn profile(&self, realm: &str, name: &str) -> Profile {
        documents::profile(self.house.store.as_ref(), &key(realm, name)).await.unwrap()
    }

    /// Neither of these may do it, whatever they send; and nothing comes of it.
    pub async fn refuses(&mut self, who: &[Role], act: &str, realm: &str, name: &str) {
        let before = self.house.log.acts();
        for role in who {
            let browser = match role {
                Role::Auditor => &mut self.auditor,
                Role::Helpdesk => &mut self.helpdesk,
                Role::Admin => &mut self.admin,
            };
            let form = browser.get(&self.house, &format!("/user/{act}?realm={realm}&name={name}")).await;
            // The newest token that the session can get at all.
            let token = browser.get(&self.house, "/account/password").await.token();
            let fields = [
                ("token", &*token),
                ("realm", realm),
                ("name", name),
                ("reason", "x"),
                ("role", "admin"),
                ("until", "2030-03-31"),
                ("count", "1"),
                ("days", "1"),
            ];
            let sent = browser.post(&self.house, &format!("/user/{act}"), &fields).await;
            for answer in [form, sent] {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{act} by {role:?}");
                assert!(answer.body.contains("Your role does not allow this"), "{act} by {role:?}");
            }
        }
        assert_eq!(self.house.log.acts(), before, "{act}");
    }

    /// The audit log says that this happened to somebody on the word of an administrator, and why.
    pub fn audited(&self, event: &str, whom: (&str, &str), actor: &str, reason: Option<&str>) {
        let line = self.house.log.last(event);
        assert_eq!((line["realm"].as_str(), line["user"].as_str()), (Some(whom.0), Some(whom.1)), "{line}");
        assert_eq!((line["actor"].as_str(), line["reason"].as_str()), (Some(actor), reason), "{line}");
        assert_eq!(line["outcome"], "success", "{line}");
        assert_eq!((&line["address"], &line["request_id"]), (&"192.0.2.7".into(), &"req-1".into()), "{line}");
    }
}

pub(super) fn key(realm: &str, name: &str) -> UserKey {
    UserKey { realm: Realm::new(realm), name: UserName::canonical(name) }
}

/// Opens the form of an act and sends it.
pub(super) async fn act(
    house: &House,
    browser: &mut Browser,
    act: &str,
    whom: (&str, &str),
    typed: &[(&str, &str)],
) -> Answer {
    let (realm, name) = whom;
    let id = typed.iter().find(|(field, _)| *field == "id").map_or("", |(_, id)| *id);
    let form = browser.get(house, &format!("/user/{act}?realm={realm}&name={name}&id={id}")).await;
    assert_eq!(form.status, StatusCode::OK, "{act}: {}", form.body);
    let token = form.token();
    let mut fields = vec![("token", &*token), ("realm", realm), ("name", name)];
    fields.extend(typed);
    browser.post(house, &format!("/user/{act}"), &fields).await
}

/// It was done: the page about the user says so.
pub(super) async fn done(house: &House, browser: &mut Browser, answer: &Answer, says: &str) -> Answer {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let page = browser.get(house, answer.location()).await;
    assert_eq!(page.status, StatusCode::OK, "{}", answer.location());
    assert!(page.body.contains(says), "{says}: {}", page.body);
    page
}

/// Answers the challenge that an administrator was sent to; where it leads.
pub(super) async fn prove(house: &House, browser: &mut Browser, key: &str, sent: &Answer) -> Answer {
    assert_eq!((sent.status, sent.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"), "{}", sent.body);
    let token = browser.get(house, "/.sluis/challenge").await.token();
    let back =
        browser.post(house, "/.sluis/challenge", &[("token", &*token), ("code", &house.code(key))]).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
    back
}

/// [B12] A block holds at once, in running sessions too, until it is lifted.
#[tokio::test]
async fn b12_a_block_holds_at_once_and_is_lifted() {
    let mut s = Scene::new().await;
    for what in ["block", "unblock"] {
        s.refuses(&[Role::Auditor, Role::Helpdesk], what, "care", "anna").await;
    }
    let blocked = act(&s.house, &mut s.admin, "block", ANNA, &[("reason", "left")]).await;
    done(&s.house, &mut s.admin, &blocked, "The user is blocked").await;
    assert!(!s.house.is_in_at_the_app(&s.anna));
    assert_eq!(s.house.users.show("anna", None).await.unwrap().user.state, State::Blocked);
    s.audited("user_blocked", ANNA, "admin:bea", Some("left"));
    let page = s.admin.get(&s.house, "/user?realm=care&name=anna").await;
    assert!(page.body.contains("/user/unblock?") && !page.body.contains("/user/block?"));

    let lifted = act(&s.house, &mut s.admin, "unblock", ANNA, &[("reason", "came back")]).await;
    done(&s.house, &mut s.admin, &lifted, "The block is lifted").await;
    assert_eq!(s.house.users.show("anna", None).await.unwrap().user.state, State::Active);
    s.audited("user_unblocked", ANNA, "admin:bea", Some("came back"));
}

/// One authenticator goes, the other stays, and every session ends: one of them may rest on it.
#[tokio::test]
async fn one_authenticator_is_removed_and_the_other_stays() {
    let mut s = Scene::new().await;
    s.house.user("anna").await;
    let user = key("care", "anna");
    let ids = async |s: &Scene| -> Vec<AuthenticatorId> {
        s.house.store.authenticators(&user).await.unwrap().into_iter().map(|a| a.id).collect()
    };
    let [first, second] = ids(&s).await.try_into().unwrap();
    s.refuses(&[Role::Auditor, Role::Helpdesk], "remove", "care", "anna").await;
    let id = second.to_string();
    let page = s.admin.get(&s.house, "/user?realm=care&name=anna").await;
    assert!(
        page.body.contains(&format!("/user/remove?realm=care&#38;name=anna&#38;id={id}")),
        "{}",
        page.body
    );
    let fields = [("id", &*id), ("reason", "phone sold")];
    let form = s.admin.get(&s.house, &format!("/user/remove?realm=care&name=anna&id={id}")).await;
    assert!(form.body.contains("Work phone"), "it says which");
    let removed = act(&s.house, &mut s.admin, "remove", ANNA, &fields).await;
    done(&s.house, &mut s.admin, &removed, "The authenticator has been removed").await;
    assert_eq!(ids(&s).await, [first]);
    assert!(!s.house.is_in_at_the_app(&s.anna));
    s.audited("authenticator_removed", ANNA, "admin:bea", Some("phone sold"));

    // The same form once more, and one that was never there.
    let token = form.token();
    for gone in [&*id, "x", ""] {
        let fields = [("token", &*token), ("realm", "care"), ("name", "anna"), ("id", gone), ("reason", "x")];
        let again = s.admin.post(&s.house, "/user/remove", &fields).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND, "{gone}: {}", again.body);
    }
    assert_eq!(ids(&s).await, [first]);
}

/// An exemption has a last day and a reason, and its end ends what rests on it.
#[tokio::test]
async fn an_exemption_has_a_last_day_and_is_ended() {
    let mut s = Scene::new().await;
    for what in ["exempt", "end-exemption"] {
        s.refuses(&[Role::Auditor, Role::Helpdesk], what, "care", "anna").await;
    }
    for until in ["2030-03-16", "2030-06-19", "soon", ""] {
        let fields = [("until", until), ("reason", "broke an arm")];
        let wrong = act(&s.house, &mut s.admin, "exempt", ANNA, &fields).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{until}");
        assert!(wrong.body.contains("Choose a day in the next 92 days"), "{until}");
        assert!(wrong.body.contains("broke an arm"), "what was typed stays");
    }
    assert_eq!(s.profile("care", "anna").await.exemption, None);

    let fields = [("until", "2030-03-31"), ("reason", "broke an arm")];
    let exempt = act(&s.house, &mut s.admin, "exempt", ANNA, &fields).await;
    let page = done(&s.house, &mut s.admin, &exempt, "The user is exempt").await;
    assert!(page.body.contains("2030-03-31 23:59") && page.body.contains("broke an arm"));
    let kept = s.house.users.show("anna", None).await.unwrap().settings;
    assert!(kept.exempt_until.unwrap().starts_with("2030-03-31T23:59:59"));
    assert_eq!(kept.exempt_reason.as_deref(), Some("broke an arm"));
    s.audited("user_changed", ANNA, "admin:bea", Some("broke an arm"));
    assert_eq!(s.house.log.last("user_changed")["detail"], "exemption");
    assert!(s.house.is_in_at_the_app(&s.anna), "it takes nothing away");

    let ended = act(&s.house, &mut s.admin, "end-exemption", ANNA, &[("reason", "healed")]).await;
    done(&s.house, &mut s.admin, &ended, "The exemption has ended").await;
    assert_eq!(s.profile("care", "anna").await.exemption, None);
    s.audited("user_changed", ANNA, "admin:bea", Some("healed"));
    assert!(!s.house.is_in_at_the_app(&s.anna));
}

/// The longest reason may be written in any letters.
#[tokio::test]
async fn a_reason_is_measured_in_characters() {
    let mut s = Scene::new().await;
    let longest = "é".repeat(300);
    let fields = [("until", "2030-03-31"), ("reason", &*longest)];
    let exempt = act(&s.house, &mut s.admin, "exempt", ANNA, &fields).await;
    done(&s.house, &mut s.admin, &exempt, "The user is exempt").await;
    assert_eq!(s.profile("care", "anna").await.exemption.unwrap().reason, longest);
    let longer = format!("{longest}é");
    let fields = [("until", "2030-04-01"), ("reason", &*longer)];
    let refused = act(&s.house, &mut s.admin, "exempt", ANNA, &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("at most 300 characters"), "{}", refused.body);
    let token = s.admin.get(&s.house, "/administrators/new").await.token();
    let fields = [("token", &*token), ("name", "dora"), ("role", "auditor"), ("reason", &*longer)];
    let refused = s.admin.post(&s.house, "/administrators/new", &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert!(refused.body.contains("at most 300 characters"), "{}", refused.body);
}

/// Emergency codes are on one letter and nowhere else; how many and how long is bounded.
#[tokio::test]
async fn emergency_codes_are_shown_once() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "emergency", "care", "anna").await;
    for (count, days, says) in [
        ("0", "30", "Choose 1 to 10 codes"),
        ("11", "30", "Choose 1 to 10 codes"),
        ("-1", "30", "Choose 1 to 10 codes"),
        ("3", "0", "number of days is not possible"),
        ("3", "367", "number of days is not possible"),
    ] {
        let fields = [("count", count), ("days", days), ("reason", "ward 4")];
        let wrong = act(&s.house, &mut s.admin, "emergency", ANNA, &fields).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{count} {days}");
        assert!(wrong.body.contains(says), "{count} {days}");
    }
    assert_eq!(s.profile("care", "anna").await.emergency.len(), 0);

    let fields = [("count", "3"), ("days", "30"), ("reason", "ward 4")];
    let letter = act(&s.house, &mut s.admin, "emergency", ANNA, &fields).await;
    assert_eq!(letter.status, StatusCode::OK, "{}", letter.body);
    let pattern = regex::Regex::new(r#"<code class="key" translate="no">([A-Z2-7-]+)</code>"#).unwrap();
    let codes: Vec<&str> = pattern.captures_iter(&letter.body).map(|c| c.get(1).unwrap().as_str()).collect();
    let kept: Vec<String> =
        s.profile("care", "anna").await.emergency.into_iter().map(|sealed| sealed.hash).collect();
    let hashes: Vec<String> = codes.iter().map(|code| shown_once::hash(code).to_string()).collect();
    assert!(codes.len() == 3 && hashes == kept, "the codes of the letter are those that work");
    s.audited("emergency_codes_made", ANNA, "admin:bea", Some("ward 4"));
    let page = s.admin.get(&s.house, "/user?realm=care&name=anna").await;
    assert!(page.body.contains("Emergency codes left"));
    for code in codes {
        assert!(!page.body.contains(code) && !s.house.log.text().contains(code), "E6: a code is shown again");
    }
}

/// [I8] The helpdesk takes wrong codes off a user; the auditor does not.
#[tokio::test]
async fn i8_a_user_is_unlocked_by_the_helpdesk() {
    let mut s = Scene::new().await;
    let user = key("care", "anna");
    let state = AttemptState { failures: 50, ..AttemptState::default() };
    assert!(s.house.store.swap_attempts(&user, AttemptState::default(), state).await.unwrap());
    assert_eq!(s.house.users.show("anna", None).await.unwrap().user.state, State::Locked);
    s.refuses(&[Role::Auditor], "unlock", "care", "anna").await;
    // Neither a reason nor a fresh second factor is asked.
    s.house.pass(6);
    let page = s.helpdesk.get(&s.house, "/user?realm=care&name=anna").await;
    assert!(page.body.contains("/user/unlock?"), "{}", page.body);
    let unlocked = act(&s.house, &mut s.helpdesk, "unlock", ANNA, &[]).await;
    let page = done(&s.house, &mut s.helpdesk, &unlocked, "The wrong codes have been taken off").await;
    assert!(!page.body.contains("/user/unlock?"));
    assert_eq!(s.house.store.attempts(&user).await.unwrap(), AttemptState::default());
    s.audited("user_unlocked", ANNA, "admin:hanna", None);
}

/// Signing out everywhere ends every session; the authenticators stay.
#[tokio::test]
async fn b12_signing_out_ends_every_session() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor], "sign-out", "care", "anna").await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "sign-out", REALM, "bea").await;
    assert!(s.house.is_in_at_the_app(&s.anna));
    let page = s.helpdesk.get(&s.house, "/user?realm=care&name=anna").await;
    assert!(!page.body.contains("Not logged in anywhere"), "{}", page.body);
    // Neither a reason nor a fresh second factor is asked.
    s.house.pass(6);
    let out = act(&s.house, &mut s.helpdesk, "sign-out", ANNA, &[]).await;
    let page = done(&s.house, &mut s.helpdesk, &out, "Every session has ended").await;
    assert!(page.body.contains("Not logged in anywhere") && page.body.contains("Work phone"));
    assert!(!s.house.is_in_at_the_app(&s.anna));
    s.audited("user_signed_out", ANNA, "admin:hanna", None);

    assert_eq!(s.auditor.get(&s.house, "/").await.status, StatusCode::OK);
    let otto = (REALM, "otto");
    let out = act(&s.house, &mut s.admin, "sign-out", otto, &[("reason", "laptop lost")]).await;
    done(&s.house, &mut s.admin, &out, "Every session has ended").await;
    s.audited("user_signed_out", otto, "admin:bea", Some("laptop lost"));
    assert_eq!(s.auditor.get(&s.house, "/").await.location(), "/login");
}

/// [B13] Settings ask a fresh second factor before anything is typed, and once more when they are saved.
#[tokio::test]
async fn b13_settings_ask_a_fresh_second_factor() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "settings", "care", "anna").await;
    s.house.pass(6);
    let to = "/user/settings?realm=care&name=anna";
    let stale = s.admin.get(&s.house, to).await;
    let back = prove(&s.house, &mut s.admin, &s.key, &stale).await;
    assert_eq!(back.location(), to);
    let token = s.admin.get(&s.house, to).await.token();
    let save = async |s: &mut Scene, token: &str| {
        let fields = [
            ("token", token),
            ("realm", "care"),
            ("name", "anna"),
            ("email", "anna@example.nl"),
            ("networks", "10.0.0.0/8"),
            ("reason", "moved"),
        ];
        s.admin.post(&s.house, "/user/settings", &fields).await
    };
    s.house.pass(6);
    let stale = save(&mut s, &token).await;
    assert_eq!(s.profile("care", "anna").await, Profile::default(), "nothing was changed");
    let back = prove(&s.house, &mut s.admin, &s.key, &stale).await;
    assert_eq!(back.location(), to);
    let token = s.admin.get(&s.house, to).await.token();
    let saved = save(&mut s, &token).await;
    done(&s.house, &mut s.admin, &saved, "The settings have been saved").await;
    let kept = s.house.users.show("anna", None).await.unwrap().settings;
    assert_eq!(
        (kept.email.as_deref(), kept.networks),
        (Some("anna@example.nl"), vec!["10.0.0.0/8".to_owned()])
    );
    s.audited("user_changed", ANNA, "admin:bea", Some("moved"));
    assert!(!s.house.is_in_at_the_app(&s.anna), "another list of addresses ends what is running");
}

/// Without a reason nothing that is dangerous is done, whoever asks.
#[tokio::test]
async fn what_is_dangerous_needs_a_reason() {
    let mut s = Scene::new().await;
    let by = By { actor: "cli:root", ..By::default() };
    let id = s.house.users.show("anna", None).await.unwrap().authenticators[0].id.clone();
    s.house.users.set_blocked("anna", None, true, &by).await.unwrap();
    let before = s.house.log.acts();
    for (what, whom) in [
        ("block", ANNA),
        ("unblock", ANNA),
        ("remove", ANNA),
        ("exempt", ANNA),
        ("end-exemption", ANNA),
        ("emergency", ANNA),
        ("role", (REALM, "otto")),
        ("dismiss", (REALM, "otto")),
    ] {
        let fields = [
            ("id", &*id),
            ("until", "2030-03-31"),
            ("count", "1"),
            ("days", "1"),
            ("role", "admin"),
            ("reason", " \u{a0} "),
        ];
        let refused = act(&s.house, &mut s.admin, what, whom, &fields).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}");
        assert!(refused.body.contains("Give a reason"), "{what}");
    }
    assert_eq!(s.house.log.acts(), before);
}
