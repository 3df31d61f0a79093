//! Acts on accounts of administrators, and one's own password.

use axum::http::StatusCode;

use super::{
    acts::{Scene, act, done, key, prove},
    house::{Answer, Browser, House, PASSWORD},
};
use crate::{
    config::administrators::REALM,
    model::{Profile, Role},
    store::AttemptState,
};

const NEW_PASSWORD: &str = "zeven blauwe ballonnen";

/// What comes of these at the login page.
async fn log_in(house: &House, name: &str, password: &str) -> Answer {
    let mut browser = Browser::default();
    let token = browser.get(house, "/login").await.token();
    let fields = [("token", &*token), ("name", name), ("password", password)];
    browser.post(house, "/login", &fields).await
}

/// [B12] An administrator is blocked by another one only, and is out at once.
#[tokio::test]
async fn b12_an_administrator_is_blocked_by_another_one_only() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "block", REALM, "bea").await;
    let otto = (REALM, "otto");
    let blocked = act(&s.house, &mut s.admin, "block", otto, &[("reason", "on leave")]).await;
    done(&s.house, &mut s.admin, &blocked, "The user is blocked").await;
    s.audited("user_blocked", otto, "admin:bea", Some("on leave"));
    assert_eq!(s.auditor.get(&s.house, "/").await.status, StatusCode::FORBIDDEN);
    let login = log_in(&s.house, "otto", PASSWORD).await;
    assert_eq!(login.status, StatusCode::FORBIDDEN, "{}", login.body);
    let lifted = act(&s.house, &mut s.admin, "unblock", otto, &[("reason", "is back")]).await;
    done(&s.house, &mut s.admin, &lifted, "The block is lifted").await;
    let login = log_in(&s.house, "otto", PASSWORD).await;
    assert_eq!(login.location(), "/.sluis/challenge", "{}", login.body);
}

/// Another role holds at once, and what was running under the old one ends.
#[tokio::test]
async fn e1_another_role_holds_at_once() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "role", REALM, "bea").await;
    let otto = (REALM, "otto");
    for role in ["root", ""] {
        let fields = [("role", role), ("reason", "new job")];
        let wrong = act(&s.house, &mut s.admin, "role", otto, &fields).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{role}: {}", wrong.body);
        assert!(wrong.body.contains("Choose a role from the list"));
    }
    let changed =
        act(&s.house, &mut s.admin, "role", otto, &[("role", "helpdesk"), ("reason", "new job")]).await;
    done(&s.house, &mut s.admin, &changed, "The role has been changed").await;
    assert_eq!(s.profile(REALM, "otto").await.role, Some(Role::Helpdesk));
    s.audited("user_changed", otto, "admin:bea", Some("new job"));
    assert_eq!(s.house.log.last("user_changed")["detail"], "role");
    assert_eq!(s.auditor.get(&s.house, "/").await.location(), "/login");
    assert!(s.profile(REALM, "otto").await.password.is_some(), "the account goes on");
}

/// [I8] Wrong passwords and wrong codes are taken off an administrator by another one, not by the helpdesk.
#[tokio::test]
async fn i8_an_administrator_is_unlocked_by_another_one() {
    let mut s = Scene::new().await;
    for _ in 0..6 {
        log_in(&s.house, "otto", "not the password").await;
    }
    let login = log_in(&s.house, "otto", PASSWORD).await;
    assert!(login.body.contains("Too many"), "{}", login.body);
    let codes = AttemptState { failures: 7, ..AttemptState::default() };
    let kept = s.house.store.attempts(&key(REALM, "otto")).await.unwrap();
    assert!(s.house.store.swap_attempts(&key(REALM, "otto"), kept, codes).await.unwrap());
    s.refuses(&[Role::Auditor, Role::Helpdesk], "unlock", REALM, "bea").await;
    s.refuses(&[Role::Helpdesk], "unlock", REALM, "otto").await;
    let otto = (REALM, "otto");
    let unlocked = act(&s.house, &mut s.admin, "unlock", otto, &[("reason", "call 12")]).await;
    done(&s.house, &mut s.admin, &unlocked, "The wrong codes have been taken off").await;
    s.audited("user_unlocked", otto, "admin:bea", Some("call 12"));
    assert_eq!(s.house.store.attempts(&key(REALM, "otto")).await.unwrap(), AttemptState::default());
    assert_eq!(s.profile(REALM, "otto").await.password_failures, 0);
    let login = log_in(&s.house, "otto", PASSWORD).await;
    assert_eq!(login.location(), "/.sluis/challenge", "{}", login.body);
}

/// [I8] Everybody changes their own password: with the old one, which is counted, and a fresh second factor.
#[tokio::test]
async fn i8_ones_own_password_needs_the_old_one_and_a_fresh_second_factor() {
    let mut s = Scene::new().await;
    let change = async |s: &mut Scene, token: &str, old: &str, new: &str, again: &str| {
        let fields = [("token", token), ("old", old), ("password", new), ("again", again)];
        s.admin.post(&s.house, "/account/password", &fields).await
    };
    let token = s.admin.get(&s.house, "/account/password").await.token();
    s.house.pass(6);
    let stale = change(&mut s, &token, PASSWORD, NEW_PASSWORD, NEW_PASSWORD).await;
    let back = prove(&s.house, &mut s.admin, &s.key, &stale).await;
    assert_eq!(back.location(), "/account/password");
    let login = log_in(&s.house, "bea", NEW_PASSWORD).await;
    assert_eq!(login.status, StatusCode::UNPROCESSABLE_ENTITY, "nothing was changed");

    let token = s.admin.get(&s.house, "/account/password").await.token();
    for (old, new, again, says) in [
        (PASSWORD, "short", "short", "at least 12"),
        (PASSWORD, NEW_PASSWORD, "something else", "differ"),
        ("not the password", NEW_PASSWORD, NEW_PASSWORD, "id=\"old\""),
    ] {
        let refused = change(&mut s, &token, old, new, again).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{says}");
        assert!(refused.body.contains(says) && !refused.body.contains(NEW_PASSWORD), "{}", refused.body);
    }
    let changed = change(&mut s, &token, PASSWORD, NEW_PASSWORD, NEW_PASSWORD).await;
    assert_eq!(changed.location(), "/account?done=password", "{}", changed.body);
    let page = s.admin.get(&s.house, changed.location()).await;
    assert!(page.body.contains("Your password has been changed"), "{}", page.body);
    let line = s.house.log.last("user_changed");
    assert_eq!((&line["user"], &line["detail"]), (&"bea".into(), &"password".into()), "{line}");
    assert!(line["actor"].is_null() && line["address"] == "192.0.2.7", "{line}");
    for password in [PASSWORD, NEW_PASSWORD] {
        assert!(!s.house.log.text().contains(password), "no password in the log");
    }
    let login = log_in(&s.house, "bea", PASSWORD).await;
    assert_eq!(login.status, StatusCode::UNPROCESSABLE_ENTITY, "the old one is none");
    let login = log_in(&s.house, "bea", NEW_PASSWORD).await;
    assert_eq!(login.location(), "/.sluis/challenge", "{}", login.body);

    for _ in 0..6 {
        change(&mut s, &token, "not the password", PASSWORD, PASSWORD).await;
    }
    let right = change(&mut s, &token, NEW_PASSWORD, PASSWORD, PASSWORD).await;
    assert_eq!(right.status, StatusCode::UNPROCESSABLE_ENTITY, "guesses are bounded: not even the right one");
}

/// A new administrator gets a letter; with its code they set a password. Who is not an administrator invites none.
#[tokio::test]
async fn e1_a_new_administrator_is_invited_by_an_administrator() {
    let mut s = Scene::new().await;
    let before = s.house.log.acts();
    for browser in [&mut s.helpdesk, &mut s.auditor] {
        let token = browser.get(&s.house, "/account/password").await.token();
        let fields = [("token", &*token), ("name", "dora"), ("role", "admin"), ("reason", "x")];
        for answer in [
            browser.get(&s.house, "/administrators/new").await,
            browser.post(&s.house, "/administrators/new", &fields).await,
        ] {
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            assert!(answer.body.contains("Your role does not allow this"), "{}", answer.body);
        }
    }
    assert_eq!(s.house.log.acts(), before);

    let token = s.admin.get(&s.house, "/administrators/new").await.token();
    let send = async |s: &mut Scene, token: &str, name: &str, role: &str, reason: &str| {
        let fields = [("token", token), ("name", name), ("role", role), ("reason", reason)];
        s.admin.post(&s.house, "/administrators/new", &fields).await
    };
    for (name, role, reason, says) in [
        ("dora", "root", "new colleague", "Choose a role from the list"),
        ("dora", "auditor", " ", "Give a reason"),
        ("do\u{200b}ra", "auditor", "new colleague", "This cannot be a user name"),
    ] {
        let wrong = send(&mut s, &token, name, role, reason).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{says}: {}", wrong.body);
        assert!(wrong.body.contains(says), "{says}: {}", wrong.body);
    }
    let own = send(&mut s, &token, "Bea", "auditor", "x").await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{}", own.body);
    assert_eq!(s.profile(REALM, "dora").await.role, None);

    s.house.pass(6);
    let stale = send(&mut s, &token, "dora", "auditor", "new & quick").await;
    let back = prove(&s.house, &mut s.admin, &s.key, &stale).await;
    let form = s.admin.get(&s.house, back.location()).await;
    assert!(form.body.contains("new &#38; quick") && form.body.contains("dora"), "{}", form.body);
    let letter = send(&mut s, &form.token(), "dora", "auditor", "new & quick").await;
    assert_eq!(letter.status, StatusCode::OK, "{}", letter.body);
    let code = letter.one(r#"<code class="key" translate="no">([A-Z2-7-]+)</code>"#);
    s.audited("user_invited", (REALM, "dora"), "admin:bea", Some("new & quick"));
    assert!(!s.house.log.text().contains(&code));
    let list = s.admin.get(&s.house, "/administrators").await;
    assert!(list.body.contains("dora") && !list.body.contains(&code), "{}", list.body);

    let mut dora = Browser::default();
    let token = dora.get(&s.house, "/invitation").await.token();
    let fields =
        [("token", &*token), ("name", "dora"), ("code", &code), ("password", PASSWORD), ("again", PASSWORD)];
    let taken = dora.post(&s.house, "/invitation", &fields).await;
    assert_eq!(taken.location(), "/.sluis/challenge", "{}", taken.body);
    assert_eq!(s.profile(REALM, "dora").await.role, Some(Role::Auditor));
}

/// An account that is taken away is gone with all that belonged to it.
#[tokio::test]
async fn e1_an_administrator_is_removed_with_everything() {
    let mut s = Scene::new().await;
    s.refuses(&[Role::Auditor, Role::Helpdesk], "dismiss", REALM, "bea").await;
    let otto = (REALM, "otto");
    let gone = act(&s.house, &mut s.admin, "dismiss", otto, &[("reason", "left us")]).await;
    assert_eq!(gone.location(), "/administrators", "{}", gone.body);
    let list = s.admin.get(&s.house, "/administrators").await;
    assert!(list.body.contains("hanna") && !list.body.contains("otto"), "{}", list.body);
    assert!(s.profile(REALM, "otto").await == Profile::default(), "role, password and invitation");
    assert_eq!(s.house.store.authenticators(&key(REALM, "otto")).await.unwrap().len(), 0);
    s.audited("user_reset", otto, "admin:bea", Some("left us"));
    s.audited("user_changed", otto, "admin:bea", Some("left us"));
    assert_eq!(s.auditor.get(&s.house, "/").await.location(), "/login");
    let login = log_in(&s.house, "otto", PASSWORD).await;
    assert_eq!(login.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", login.body);
}
