//! What administrators go through, page by page.

use axum::http::StatusCode;

use super::house::{Browser, House, PASSWORD};
use crate::{admin::operations::By, model::Role};

const ANNA: &str = "realm=care&name=anna";

/// [B11 E6] A helpdesk person resets somebody with a reason; the reason stands in the audit log, a secret nowhere.
#[tokio::test]
async fn b11_a_helpdesk_person_resets_a_user_with_a_reason() {
    let house = House::new().await;
    house.user("anna").await;
    let (mut helpdesk, _) = house.administrator("hanna", Role::Helpdesk).await;
    let list = helpdesk.get(&house, "/?q=ann").await;
    assert!(list.body.contains("/user?realm=care&#38;name=anna"), "{}", list.body);
    assert!(!list.body.contains("hanna</bdi></a>"), "accounts of administrators are no users");
    let page = helpdesk.get(&house, &format!("/user?{ANNA}")).await;
    assert!(page.body.contains("Work phone") && page.body.contains("Authenticator app"));
    for secret in ["AEAQCAI", "otpauth", "argon2", "data-copy"] {
        assert!(!page.body.contains(secret), "E6: {secret}");
    }
    assert!(!page.body.contains("/user/block"), "what she may not do is not offered");

    let form = helpdesk.get(&house, &format!("/user/reset?{ANNA}")).await;
    let token = form.token();
    let fields = [("token", &*token), ("realm", "care"), ("name", "anna"), ("reason", " ")];
    let without = helpdesk.post(&house, "/user/reset", &fields).await;
    assert_eq!(without.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(without.body.contains("Give a reason"));
    let fields =
        [("token", &*token), ("realm", "care"), ("name", "anna"), ("reason", "call 4711: new phone")];
    let done = helpdesk.post(&house, "/user/reset", &fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(done.location(), format!("/user?{ANNA}&done=reset"));
    let after = helpdesk.get(&house, done.location()).await;
    assert!(after.body.contains("has been reset") && after.body.contains("None: one is linked"));
    let log = house.log.text();
    let line = log.lines().find(|line| line.contains("\"user_reset\"")).unwrap();
    assert!(line.contains("admin:hanna") && line.contains("call 4711: new phone"), "{line}");
}

/// A second factor older than five minutes is asked for again, and the reason that was typed comes back.
#[tokio::test]
async fn what_is_dangerous_asks_a_fresh_second_factor_and_loses_nothing_that_was_typed() {
    let house = House::new().await;
    house.user("anna").await;
    let (mut admin, key) = house.administrator("bea", Role::Admin).await;
    house.pass(6);
    let form = admin.get(&house, &format!("/user/block?{ANNA}")).await;
    let fields =
        [("token", &*form.token()), ("realm", "care"), ("name", "anna"), ("reason", "lost & stolen: é")];
    let asked = admin.post(&house, "/user/block", &fields).await;
    assert_eq!((asked.status, asked.location()), (StatusCode::SEE_OTHER, "/.sluis/challenge"));
    let challenge = admin.get(&house, "/.sluis/challenge").await;
    let fields = [("token", &*challenge.token()), ("code", &house.code(&key))];
    let back = admin.post(&house, "/.sluis/challenge", &fields).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
    assert!(back.location().starts_with("/user/block?realm=care&name=anna&reason="), "{}", back.location());
    let form = admin.get(&house, back.location()).await;
    assert!(form.body.contains("lost &#38; stolen: é"), "{}", form.body);
    let fields = [("token", &*form.token()), ("realm", "care"), ("name", "anna"), ("reason", "lost")];
    let done = admin.post(&house, "/user/block", &fields).await;
    assert_eq!(done.location(), format!("/user?{ANNA}&done=block"), "{}", done.body);
    assert!(admin.get(&house, done.location()).await.body.contains("The user is blocked"));
}

/// Nobody acts on their own account, and the helpdesk on no administrator's.
#[tokio::test]
async fn nobody_acts_on_their_own_account() {
    let house = House::new().await;
    let (mut admin, _) = house.administrator("bea", Role::Admin).await;
    let own = admin.get(&house, "/user/reset?realm=sluis-admin&name=bea").await;
    assert_eq!(own.status, StatusCode::FORBIDDEN);
    assert!(own.body.contains("your own account"));
    // With a genuine form that was meant for another.
    house.administrator("cor", Role::Auditor).await;
    let form = admin.get(&house, "/user/dismiss?realm=sluis-admin&name=cor").await;
    let token = form.token();
    for name in ["bea", "BEA", " bea "] {
        let fields = [("token", &*token), ("realm", "sluis-admin"), ("name", name), ("reason", "x")];
        let own = admin.post(&house, "/user/dismiss", &fields).await;
        assert_eq!(own.status, StatusCode::FORBIDDEN, "{name}: {}", own.body);
    }
    let fields = [("token", &*token), ("realm", "sluis-admin"), ("name", "cor"), ("reason", "left")];
    let done = admin.post(&house, "/user/dismiss", &fields).await;
    assert_eq!(done.location(), "/administrators", "{}", done.body);
    let names: Vec<String> =
        house.administrators.administrators().await.unwrap().into_iter().map(|a| a.name).collect();
    assert_eq!(names, ["bea"]);
}

/// A role that was taken away ends what is running.
#[tokio::test]
async fn another_role_ends_the_sessions_of_an_administrator() {
    let house = House::new().await;
    let (mut cor, _) = house.administrator("cor", Role::Admin).await;
    let by = By { actor: "cli:root", ..By::default() };
    house.pass(1);
    house.administrators.invite_administrator("cor", Role::Auditor, &by).await.unwrap();
    assert_eq!(cor.get(&house, "/").await.location(), "/login");
}

/// An invitation is taken once, gives no way around the second factor, and a weak password is none.
#[tokio::test]
async fn an_invitation_sets_a_password_once_and_nothing_is_seen_before_an_authenticator_is_linked() {
    let house = House::new().await;
    let by = By { actor: "cli:root", ..By::default() };
    let invitation = house.administrators.invite_administrator("anna", Role::Admin, &by).await.unwrap();
    let mut browser = Browser::default();
    let token = browser.get(&house, "/invitation").await.token();
    let take = async |browser: &mut Browser, code: &str, password: &str, again: &str| {
        let fields =
            [("token", &*token), ("name", "Anna"), ("code", code), ("password", password), ("again", again)];
        browser.post(&house, "/invitation", &fields).await
    };
    for (password, again, says) in [
        ("short", "short", "at least 12"),
        ("Welkom123456!", "Welkom123456!", "first that are guessed"),
        ("anna anna anna", "anna anna anna", "little more than the user name"),
        (PASSWORD, "something else", "differ"),
    ] {
        let refused = take(&mut browser, &invitation.code, password, again).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(says), "{says}");
        assert!(!refused.body.contains(password) || password.len() < 6, "it is not shown again");
    }
    let wrong = take(&mut browser, "AAAA-BBBB", PASSWORD, PASSWORD).await;
    assert!(wrong.body.contains("This code does not work"));
    let taken = take(&mut browser, &invitation.code.to_lowercase(), PASSWORD, PASSWORD).await;
    assert_eq!(taken.location(), "/.sluis/challenge", "{}", taken.body);
    assert_eq!(browser.get(&house, "/").await.location(), "/login", "nothing is seen yet");
    let page = browser.get(&house, "/.sluis/enrol").await;
    let key = page.one(r#"data-copy="([A-Z2-7]+)""#);
    let fields = [("token", &*page.token()), ("code", &house.code(&key)), ("name", "Phone")];
    let done = browser.post(&house, "/.sluis/enrol", &fields).await;
    assert_eq!(done.location(), "/", "{}", done.body);
    let twice = take(&mut browser, &invitation.code, PASSWORD, PASSWORD).await;
    assert!(twice.body.contains("This code does not work"), "{}", twice.body);
}

/// [E1] After a reset of an administrator, who has the password alone links nothing: the invitation is asked for.
#[tokio::test]
async fn e1_after_a_reset_a_password_alone_links_no_authenticator() {
    let house = House::new().await;
    house.administrator("cor", Role::Admin).await;
    let by = By { actor: "admin:bea", ..By::default() };
    house.pass(1);
    house.administrators.reset("cor", None, &by).await.unwrap();
    house.pass(1);
    let mut thief = Browser::default();
    let token = thief.get(&house, "/login").await.token();
    let fields = [("token", &*token), ("name", "cor"), ("password", PASSWORD)];
    let right = thief.post(&house, "/login", &fields).await;
    assert_eq!(right.location(), "/.sluis/challenge", "{}", right.body);
    assert_eq!(thief.get(&house, "/.sluis/challenge").await.location(), "/.sluis/enrol");
    assert_eq!(thief.get(&house, "/.sluis/enrol").await.location(), "/.sluis/invitation");
    let page = thief.get(&house, "/.sluis/invitation").await;
    assert!(!page.body.contains("data-copy"), "no secret is shown");
    let fields = [("token", &*page.token()), ("activation", "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF")];
    let wrong = thief.post(&house, "/.sluis/invitation", &fields).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.body);
    assert_eq!(thief.get(&house, "/").await.location(), "/login");
    house.administrator("cor", Role::Admin).await;
}

/// [I8] Wrong passwords are bounded, and whether a name exists is not told: by the answer at least.
#[tokio::test]
async fn i8_wrong_passwords_are_bounded_and_tell_nothing() {
    let house = House::new().await;
    house.administrator("anna", Role::Admin).await;
    let mut answers = Vec::new();
    for name in ["anna", "nobody", "a\u{200b}b"] {
        let mut browser = Browser::default();
        let token = browser.get(&house, "/login").await.token();
        let mut seen = Vec::new();
        for _ in 0..6 {
            let fields = [("token", &*token), ("name", name), ("password", "not the password")];
            let answer = browser.post(&house, "/login", &fields).await;
            seen.push((answer.status, answer.one("error-title\">([^<]*)")));
        }
        assert!(seen[0].1.contains("not right") && seen[5].1.contains("Too many"), "{name}: {seen:?}");
        answers.push(seen);
    }
    assert!(answers.iter().all(|seen| *seen == answers[0]));
    let mut browser = Browser::default();
    let token = browser.get(&house, "/login").await.token();
    let fields = [("token", &*token), ("name", "anna"), ("password", PASSWORD)];
    assert!(
        browser.post(&house, "/login", &fields).await.body.contains("Too many"),
        "not even the right one"
    );
    house.pass(1);
    let right = browser.post(&house, "/login", &fields).await;
    assert_eq!(right.location(), "/.sluis/challenge", "{}", right.body);
}

/// A letter is an answer to a form, and shows its codes once.
#[tokio::test]
async fn an_invitation_is_a_letter_that_is_shown_once() {
    let house = House::new().await;
    house.user("anna").await;
    let (mut helpdesk, _) = house.administrator("hanna", Role::Helpdesk).await;
    let form = helpdesk.get(&house, &format!("/user/invite?{ANNA}")).await;
    let fields =
        [("token", &*form.token()), ("realm", "care"), ("name", "anna"), ("days", "7"), ("reason", "new")];
    let letter = helpdesk.post(&house, "/user/invite", &fields).await;
    assert_eq!(letter.status, StatusCode::OK, "{}", letter.body);
    let code = letter.one(r#"<code class="key" translate="no">([A-Z2-7-]+)</code>"#);
    assert!(letter.body.contains("shown once"));
    let page = helpdesk.get(&house, &format!("/user?{ANNA}")).await;
    assert!(page.body.contains("Invitation valid until") && !page.body.contains(&code));
    let fields =
        [("token", &*form.token()), ("realm", "care"), ("name", "anna"), ("days", "31"), ("reason", "new")];
    let refused = helpdesk.post(&house, "/user/invite", &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("number of days is not possible"));
}

/// What is typed wrongly stays in the form; nothing is changed by halves.
#[tokio::test]
async fn b13_settings_are_edited_as_a_whole() {
    let house = House::new().await;
    house.user("anna").await;
    let (mut admin, _) = house.administrator("bea", Role::Admin).await;
    let token = admin.get(&house, &format!("/user/settings?{ANNA}")).await.token();
    let mut save = async |email: &str, networks: &str| {
        let fields = [
            ("token", &*token),
            ("realm", "care"),
            ("name", "anna"),
            ("email", email),
            ("number", "06 12345678"),
            ("language", "nl"),
            ("networks", networks),
            ("preferred", "totp"),
            ("reason", "moved"),
        ];
        admin.post(&house, "/user/settings", &fields).await
    };
    let wrong = save("anna@example.nl", "10.0.0.0/8, office").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("10.0.0.0/8, office") && wrong.body.contains("Nothing was changed"));
    assert_eq!(house.users.show("anna", None).await.unwrap().settings.email, None);
    let saved = save("anna@example.nl", "10.0.0.0/8, 192.0.2.7").await;
    assert_eq!(saved.location(), format!("/user?{ANNA}&done=settings"), "{}", saved.body);
    let page = admin.get(&house, saved.location()).await;
    for text in ["anna@example.nl", "+31612345678", "10.0.0.0/8, 192.0.2.7/32", "have been saved"] {
        assert!(page.body.contains(text), "{text}");
    }
}

/// Both languages, and a form of another session is none.
#[tokio::test]
async fn pages_speak_dutch_and_forms_are_ones_own() {
    let house = House::new().await;
    house.user("anna").await;
    let (mut bea, _) = house.administrator("bea", Role::Admin).await;
    let (mut cor, _) = house.administrator("cor", Role::Admin).await;
    let dutch = bea.get(&house, &format!("/user?{ANNA}&lang=nl")).await;
    assert!(
        dutch.body.contains("<html lang=\"nl\">") && dutch.body.contains("Tweestapsverificatie resetten")
    );
    assert!(dutch.body.contains("?realm=care&#38;name=anna&amp;lang=en"), "{}", dutch.body);
    assert!(bea.get(&house, "/").await.body.contains("Gebruikers"), "it is remembered");
    let token = cor.get(&house, &format!("/user/unlock?{ANNA}")).await.token();
    let fields = [("token", &*token), ("realm", "care"), ("name", "anna")];
    assert_eq!(bea.post(&house, "/user/unlock", &fields).await.status, StatusCode::FORBIDDEN);
    let wrong_purpose = bea.get(&house, &format!("/user/unlock?{ANNA}")).await.token();
    let fields = [("token", &*wrong_purpose), ("realm", "care"), ("name", "anna"), ("reason", "x")];
    assert_eq!(bea.post(&house, "/user/block", &fields).await.status, StatusCode::FORBIDDEN);
}
