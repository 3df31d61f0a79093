use proptest::prelude::*;

use super::{
    super::testing::{Failing, HOUR, NAMES, World, app},
    *,
};
use crate::{base::keyring::Keyring, model::AppId, store::memory};

const S: Scope = Scope::Session(SessionId([1; 16]));
const OTHER: Scope = Scope::Session(SessionId([2; 16]));
/// The same bytes as a device.
const D: Scope = Scope::Device(DeviceId([1; 16]));

async fn sealer(world: &World) -> UpstreamCookies {
    UpstreamCookies::load(world.keyring.clone(), world.store.clone(), NAMES, world.clock.clone())
        .await
        .unwrap()
}

fn up(sealer: &UpstreamCookies, app: &App, lines: &[&str], scopes: &[Scope]) -> String {
    let mut out = b"left over from before".to_vec();
    sealer.up(app, lines.iter().map(|line| line.as_bytes()), scopes, &mut out);
    String::from_utf8(out).unwrap()
}

async fn down(sealer: &UpstreamCookies, app: &App, set_cookie: &str, scope: Scope) -> Down {
    let header = HeaderValue::from_str(set_cookie).unwrap();
    let down = sealer.down(app, &header, scope).await.unwrap();
    assert_eq!(matches!(down, Down::Sealed(_)), sealer.needs_seal(app, &header), "{set_cookie}");
    down
}

/// The sealed header, as text.
async fn sealed(sealer: &UpstreamCookies, app: &App, set_cookie: &str, scope: Scope) -> String {
    match down(sealer, app, set_cookie, scope).await {
        Down::Sealed(header) => {
            assert!(header.is_sensitive());
            header.to_str().unwrap().to_owned()
        }
        Down::Plain => panic!("plain: {set_cookie}"),
        Down::Dropped(why) => panic!("dropped: {why}"),
    }
}

/// What a browser sends back.
fn pair(set_cookie: &str) -> &str {
    set_cookie.split(';').next().unwrap()
}

#[tokio::test]
async fn i5_a_box_opens_for_its_app_name_and_session_only() {
    let (world, mut app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    let set = sealed(&sealer, &app, "sid=secret; Path=/; HttpOnly", S).await;
    assert!(!set.contains("secret"));
    let cookie = pair(&set);
    assert_eq!(up(&sealer, &app, &[cookie], &[S]), "sid=secret");
    assert_eq!(up(&sealer, &app, &[cookie], &[D, S]), "sid=secret", "any of the given scopes");
    for scopes in [&[][..], &[OTHER], &[D], &[OTHER, D]] {
        assert_eq!(up(&sealer, &app, &[cookie], scopes), "", "{scopes:?}");
        assert!(sealer.opened(&app, [cookie.as_bytes()].into_iter(), scopes).is_empty());
    }
    let renamed = cookie.replacen("sid=", "sie=", 1);
    assert_eq!(up(&sealer, &app, &[&renamed], &[S]), "", "another name");
    app.id = AppId::new("planning");
    assert_eq!(up(&sealer, &app, &[cookie], &[S]), "", "another app");
    let other_ring = Arc::new(
        Keyring::new(&[SecretBytes::new(vec![8; 32])], Arc::new(crate::base::random::SystemRandom)).unwrap(),
    );
    app.id = AppId::new("care");
    let stranger =
        UpstreamCookies::load(other_ring, world.store.clone(), NAMES, world.clock.clone()).await.unwrap();
    assert_eq!(up(&stranger, &app, &[cookie], &[S]), "", "another key");
}

#[test]
fn i5_no_two_bindings_give_the_same_bytes() {
    let bytes = |app: &str, name: &str, scope| {
        Binding { app: app.as_bytes(), name: name.as_bytes(), scope }.with(<[u8]>::to_vec)
    };
    let long = "n".repeat(300);
    let all = [
        bytes("ab", "c", S),
        bytes("a", "bc", S),
        bytes("", "abc", S),
        bytes("ab", "c", OTHER),
        bytes("ab", "c", D),
        bytes("ab", &long, S),
        bytes(&long, "ab", S),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all.iter().skip(i + 1).all(|b| a != b), "{i}");
    }
    assert!(all[5].len() > 300 && all[5].ends_with(&[1; 16]), "a long name is bound whole");
}

/// A plain session id (taken at a back door, or planted before the login) under a name that the app reads as the
/// sealed one, though it is written in another way.
#[tokio::test]
async fn i5_a_plain_value_passes_under_no_spelling_of_a_sealed_name() {
    let (world, mut app) = (World::new().await, app(HOUR));
    app.login.success.cookie = Some("Login.Id".to_owned());
    app.cookies.exempt.push("MY-SID".to_owned());
    let sealer = sealer(&world).await;
    sealed(&sealer, &app, "my_sid=x; HttpOnly", S).await;
    for smuggled in [
        "my.sid=plain",
        "my%2Esid=plain",
        "My_Sid=plain",
        "my sid=plain",
        "login_id=plain",
        "a=1, my_sid=plain",
        "a=1,my_sid=plain",
        "a=1 my_sid=plain",
        "a=1\tlogin.id = plain",
    ] {
        assert_eq!(up(&sealer, &app, &[smuggled], &[S]), "", "{smuggled}");
    }
    for tame in ["MY-SID=exempt", "mysid=1", "a=my_sid", "a=one, two", "q={\"a\":1,\"b\":2}"] {
        assert_eq!(up(&sealer, &app, &[tame], &[S]), tame);
    }
}

#[tokio::test]
async fn i5_hostile_cookie_lines_go_up_as_written_in_the_corpus() {
    let (world, mut app) = (World::new().await, app(HOUR));
    app.cookies.seal.push("named".to_owned());
    app.cookies.exempt.push("exempt".to_owned());
    app.login.success.cookie = Some("login".to_owned());
    let sealer = sealer(&world).await;
    sealed(&sealer, &app, "sid=x; HttpOnly", S).await;
    let boxed = |name: &str, value: &str, scope| {
        let opened = Opened {
            name: name.to_owned(),
            value: SecretBytes::new(value.as_bytes().to_vec()),
            attributes: Vec::new(),
        };
        sealer.reseal(&app, &opened, scope).unwrap().to_str().unwrap().to_owned()
    };
    let mut seen = 0;
    let corpus = include_str!("../../../tests/corpus/upstream-cookies.txt");
    for line in corpus.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (expected, raw) =
            line.split_once(" <- ").or_else(|| Some((line.strip_suffix(" <-")?, ""))).unwrap();
        let mut text = raw.replace("\\t", "\t").replace("\\n", "\n");
        for (mark, scope) in [("BOX(", S), ("OTHER(", OTHER)] {
            while let Some((head, (inside, tail))) =
                text.split_once(mark).map(|(head, rest)| (head, rest.split_once(')').unwrap()))
            {
                let (name, value) = inside.split_once('=').unwrap();
                text = format!("{head}{}{tail}", boxed(name, value, scope));
            }
        }
        let lines: Vec<_> = text.split('\n').collect();
        assert_eq!(up(&sealer, &app, &lines, &[S]), expected, "{line}");
        seen += 1;
    }
    assert!(seen > 45);
}

#[tokio::test]
async fn bytes_that_are_no_text_go_up_and_control_characters_do_not() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    let line: &[u8] = b"a=\xff\xfe; b=1\x002; c=\x7f; d=1\t2; e=\x1f";
    let mut out = Vec::new();
    sealer.up(&app, [line].into_iter(), &[S], &mut out);
    assert_eq!(out, b"a=\xff\xfe; d=1\t2");
}

#[tokio::test]
async fn only_the_value_changes_on_the_way_down() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    for attributes in [
        "; HttpOnly",
        ";httponly;path=/a b;;",
        "; Path=/x; Domain=.example.org; Max-Age=0099; Expires=Sat, 01 Jan 2099 00:00:00 GMT; Secure; HttpOnly; \
         SameSite=None; Partitioned; Priority=High",
        ";  HttpOnly = x ;SameSite=\"lax\"",
    ] {
        let set = sealed(&sealer, &app, &format!("sid=secret{attributes}"), S).await;
        assert!(set.starts_with("sid=s1.") && set.ends_with(attributes), "{set}");
        assert_eq!(set.len(), pair(&set).len() + attributes.len());
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.=".contains(&b);
        assert!(pair(&set).bytes().all(legal), "RFC 6265, 4.1.1: cookie-octet");
    }
    let bytes = HeaderValue::from_bytes(b"sid=\xff\xfe; Path=/\xe9; HttpOnly").unwrap();
    let Down::Sealed(set) = sealer.down(&app, &bytes, S).await.unwrap() else { panic!("not sealed") };
    assert!(set.as_bytes().ends_with(b"; Path=/\xe9; HttpOnly"));
    let cookie = set.as_bytes().split(|b| *b == b';').next().unwrap();
    let mut out = Vec::new();
    sealer.up(&app, [cookie].into_iter(), &[S], &mut out);
    assert_eq!(out, b"sid=\xff\xfe", "values are bytes");
}

#[tokio::test]
async fn what_scripts_may_read_passes_until_the_name_was_seen_http_only() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    assert!(matches!(down(&sealer, &app, "sid=a; Path=/", S).await, Down::Plain));
    assert_eq!(up(&sealer, &app, &["sid=a"], &[S]), "sid=a");
    sealed(&sealer, &app, "sid=b; HttpOnly", S).await;
    sealed(&sealer, &app, "sid=c; Path=/", S).await;
    assert_eq!(up(&sealer, &app, &["sid=a"], &[S]), "", "a value of before, or one that was planted");
    let restarted = self::sealer(&world.again().await).await;
    assert_eq!(up(&restarted, &app, &["sid=a"], &[S]), "", "also after a restart");
    let mut other = super::super::testing::app(HOUR);
    other.id = AppId::new("planning");
    assert!(
        matches!(down(&sealer, &other, "sid=a", S).await, Down::Plain),
        "another app's cookie is another"
    );
}

#[tokio::test]
async fn the_configuration_names_what_is_sealed_and_what_never_is() {
    let (world, mut app) = (World::new().await, app(HOUR));
    app.cookies.seal.push("named".to_owned());
    app.cookies.exempt.push("exempt".to_owned());
    app.login.success.cookie = Some("login".to_owned());
    let sealer = sealer(&world).await;
    for name in ["named", "login"] {
        let set = sealed(&sealer, &app, &format!("{name}=v; Path=/"), S).await;
        assert_eq!(up(&sealer, &app, &[pair(&set)], &[S]), format!("{name}=v"));
    }
    assert!(matches!(down(&sealer, &app, "exempt=v; HttpOnly", S).await, Down::Plain));
    assert_eq!(up(&sealer, &app, &["exempt=v"], &[S]), "exempt=v");
    app.login.success.cookie = Some("exempt".to_owned());
    assert!(matches!(down(&sealer, &app, "exempt=v; HttpOnly", S).await, Down::Plain));
    assert_eq!(up(&sealer, &app, &["exempt=v"], &[S]), "exempt=v", "exempt is exempt");
}

#[tokio::test]
async fn deletions_pass_as_they_are() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    sealed(&sealer, &app, "sid=b; HttpOnly", S).await;
    for deletion in [
        "sid=; HttpOnly",
        "sid=gone; Max-Age=0; HttpOnly",
        "sid=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly",
        "fresh=; HttpOnly; Max-Age=-1",
    ] {
        assert!(matches!(down(&sealer, &app, deletion, S).await, Down::Plain), "{deletion}");
    }
    assert_eq!(up(&sealer, &app, &["fresh=x"], &[S]), "fresh=x", "a deletion teaches nothing");
}

#[tokio::test]
async fn two_cookies_of_one_name_are_two_boxes() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    let a = sealed(&sealer, &app, "sid=a; Path=/a; HttpOnly", S).await;
    let b = sealed(&sealer, &app, "sid=b; Path=/; HttpOnly", S).await;
    assert_eq!(up(&sealer, &app, &[pair(&a), pair(&b)], &[S]), "sid=a; sid=b", "in the order of the browser");
    let again = sealed(&sealer, &app, "sid=a; Path=/a; HttpOnly", S).await;
    assert_ne!(pair(&a), pair(&again), "a new nonce each time");
}

#[tokio::test]
async fn what_is_ours_nameless_or_too_large_does_not_go_down() {
    let (world, mut app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    for bad in [
        "__Host-sluis-session=evil; Path=/; Secure",
        "sluis-session=evil",
        "sluis-device=; Max-Age=0",
        "=nameless; HttpOnly",
        "__Host-sluis-session",
        "=__Host-sluis-session=evil",
    ] {
        assert!(matches!(down(&sealer, &app, bad, S).await, Down::Dropped(_)), "{bad}");
    }
    let of = |len: usize| format!("big={}; HttpOnly", "v".repeat(len));
    // name 3, `=` not counted, prefix 3; the box: 34 and the attributes beside the value, in base64.
    let most = (4096 - 3 - 3) * 3 / 4 - 34 - "; HttpOnly".len();
    let fits = sealed(&sealer, &app, &of(most), S).await;
    assert!(pair(&fits).len() - 1 <= 4096);
    assert_eq!(up(&sealer, &app, &[pair(&fits)], &[S]).len(), most + 4);
    assert!(matches!(down_any(&sealer, &app, &of(most + 1)).await, Down::Dropped(_)));
    app.cookies.exempt.push("big".to_owned());
    assert!(matches!(down_any(&sealer, &app, &of(most + 1)).await, Down::Plain));
}

async fn down_any(sealer: &UpstreamCookies, app: &App, set_cookie: &str) -> Down {
    sealer.down(app, &HeaderValue::from_str(set_cookie).unwrap(), S).await.unwrap()
}

#[tokio::test]
async fn i5_a_login_without_rotation_seals_the_same_cookie_to_the_new_session() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    let set = sealed(&sealer, &app, "sid=kept; Path=/app; HttpOnly; Max-Age=600", D).await;
    let lines = format!("a=1; {}; sid=plain", pair(&set));
    let opened = sealer.opened(&app, [lines.as_bytes()].into_iter(), &[S, D]);
    assert_eq!(opened.len(), 1);
    assert_eq!((opened[0].name.as_str(), opened[0].value.expose()), ("sid", &b"kept"[..]));
    let again = sealer.reseal(&app, &opened[0], S).unwrap();
    let again = again.to_str().unwrap();
    assert!(again.ends_with("; Path=/app; HttpOnly; Max-Age=600"), "{again}");
    assert_eq!(up(&sealer, &app, &[pair(again)], &[S]), "sid=kept");
    assert_eq!(up(&sealer, &app, &[pair(again)], &[D]), "", "the device alone no longer opens it");
}

#[tokio::test]
async fn i9_a_name_that_cannot_be_kept_lets_nothing_go_out() {
    let store = Failing::after(memory::open(), usize::MAX);
    let clock = crate::base::clock::ManualClock::at(crate::base::clock::UnixMillis::from_secs(1_800_000_000));
    let world = World::over(store.clone(), clock).await;
    let (sealer, app) = (sealer(&world).await, app(HOUR));
    store.heal(0);
    let header = HeaderValue::from_static("sid=v; HttpOnly");
    assert!(sealer.down(&app, &header, S).await.is_err());
    assert!(sealer.down(&app, &header, S).await.is_err(), "still not known");
    store.heal(1);
    assert!(matches!(sealer.down(&app, &header, S).await, Ok(Down::Sealed(_))));
    assert!(matches!(sealer.down(&app, &header, S).await, Ok(Down::Sealed(_))), "known: no store is asked");
    assert_eq!(store.inner.sealed_names().await.unwrap().len(), 1);
    store.heal(0);
    let load = UpstreamCookies::load(world.keyring.clone(), store, NAMES, world.clock.clone()).await;
    assert!(load.is_err());
}

#[tokio::test]
async fn an_app_that_makes_names_up_does_not_fill_the_store() {
    let (world, app) = (World::new().await, app(HOUR));
    let sealer = sealer(&world).await;
    for n in 0..100 {
        sealed(&sealer, &app, &format!("n{n}=v; HttpOnly"), S).await;
    }
    assert_eq!(world.store.sealed_names().await.unwrap().len(), 64);
    assert_eq!(up(&sealer, &app, &["n0=plain; n99=plain"], &[S]), "n99=plain");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any value and attributes come back as they were; any flipped bit of the box, and nothing comes back.
    #[test]
    fn i5_what_is_sealed_comes_back_whole_or_not_at_all(
        value in proptest::collection::vec(0x20_u8..0x7f, 1..120),
        attributes in "(; [A-Za-z]{1,8}(=[!-:<-~]{0,20})?){0,4}",
        flip: prop::sample::Index,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (world, app) = (World::new().await, app(HOUR));
            let sealer = sealer(&world).await;
            let opened = Opened {
                name: "sid".to_owned(),
                value: SecretBytes::new(value.clone()),
                attributes: attributes.clone().into_bytes(),
            };
            let header = sealer.reseal(&app, &opened, S).unwrap();
            let cookie = header.to_str().unwrap().strip_suffix(attributes.as_str()).unwrap();
            let expected = [b"sid=", value.as_slice()].concat();
            prop_assert_eq!(up(&sealer, &app, &[cookie], &[S]).into_bytes(), expected);
            let again = sealer.opened(&app, [cookie.as_bytes()].into_iter(), &[S]);
            prop_assert_eq!(again[0].attributes.as_slice(), attributes.as_bytes());

            let mut boxed = URL_SAFE_NO_PAD.decode(cookie.strip_prefix("sid=s1.").unwrap()).unwrap();
            let bit = flip.index(boxed.len() * 8);
            boxed[bit / 8] ^= 1 << (bit % 8);
            let flipped = format!("sid=s1.{}", URL_SAFE_NO_PAD.encode(boxed));
            prop_assert_eq!(up(&sealer, &app, &[&flipped], &[S]), "");
            Ok(())
        })?;
    }

    /// Whatever comes in, nothing of ours and no control character goes up.
    #[test]
    fn i5_no_line_makes_it_stumble(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (world, app) = (World::new().await, app(HOUR));
            let sealer = sealer(&world).await;
            let mut out = Vec::new();
            sealer.up(&app, [line.as_slice()].into_iter(), &[S, D], &mut out);
            prop_assert!(out.iter().all(|b| *b >= 0x20 && *b != 0x7f || *b == b'\t'));
            prop_assert!(pairs(&out).all(|pair| !pair.name.is_empty() && !NAMES.is_ours(pair.name)));
            Ok(())
        })?;
    }
}
