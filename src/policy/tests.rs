use proptest::prelude::*;

use super::*;
use crate::{config::sample, model::Method};

fn rule(users: &[&str], networks: &[&str], then: Then) -> Rule {
    Rule {
        users: users.iter().map(|u| (*u).to_owned()).collect(),
        networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
        then,
    }
}

/// Of a user for whom nothing is set.
fn facts(user: &UserName) -> Facts<'_> {
    static NOTHING: LazyLock<Terms> = LazyLock::new(Terms::default);
    Facts { user, client: IpAddr::from([0; 4]), terms: &NOTHING, now: UnixMillis(1000) }
}

fn exempt(reason: &str) -> Then {
    Then::Exempt { reason: reason.to_owned() }
}

fn require(hours: u64) -> Then {
    Then::Require(sample::requirement(Duration::from_secs(hours * 3600), false))
}

fn app(rules: Vec<Rule>) -> App {
    App { policy: rules, ..sample::app() }
}

/// `exempt: <reason>` or `require: <hours>`.
fn says(app: &App, user: &str, client: &str) -> String {
    let user = UserName::canonical(user);
    let facts = Facts { client: client.parse().unwrap(), ..facts(&user) };
    match decide(app, &facts) {
        Decision::Exempt(exemption) => format!("exempt: {}", exemption.reason()),
        Decision::Require(requirement) => format!("require: {}", requirement.validity.as_secs() / 3600),
        Decision::Elsewhere => "elsewhere".to_owned(),
    }
}

#[test]
fn the_first_rule_that_matches_wins() {
    let app = app(vec![
        rule(&["anna"], &[], require(1)),
        rule(&["anna", "bram"], &["10.0.0.0/8"], exempt("office")),
        rule(&[], &["10.0.0.0/8"], require(2)),
        rule(&[], &[], require(12)),
    ]);
    assert_eq!(says(&app, "anna", "10.1.2.3"), "require: 1", "an earlier rule hides a later one");
    assert_eq!(says(&app, "bram", "10.1.2.3"), "exempt: office");
    assert_eq!(says(&app, "bram", "192.0.2.1"), "require: 12", "user and network must both match");
    assert_eq!(says(&app, "carl", "10.1.2.3"), "require: 2");
    assert_eq!(says(&app, "brambo", "10.1.2.3"), "require: 2", "names match whole");
}

// [I9]
#[test]
fn i9_when_no_rule_matches_everything_is_required_and_nothing_open() {
    for rules in
        [vec![], vec![rule(&["anna"], &[], exempt("x"))], vec![rule(&[], &["10.0.0.0/8"], exempt("x"))]]
    {
        let app = app(rules);
        let user = UserName::canonical("bram");
        let facts = Facts { client: "192.0.2.1".parse().unwrap(), ..facts(&user) };
        let Decision::Require(requirement) = decide(&app, &facts) else { panic!("fell through to a pass") };
        assert_eq!(requirement.validity, Duration::ZERO);
        assert!(Method::ALL.iter().all(|m| methods(requirement).contains(*m)));
        assert_eq!(may_enrol(requirement, facts.client), Enrolment::Closed);
        assert_eq!(explain(&app, &facts).last().unwrap().reason, Reason::NoRuleLeft);
    }
}

#[test]
fn an_ipv4_address_is_the_same_however_the_socket_writes_it() {
    let v4 = app(vec![rule(&[], &["10.0.0.0/8"], exempt("v4"))]);
    assert_eq!(says(&v4, "anna", "10.9.9.9"), "exempt: v4");
    assert_eq!(says(&v4, "anna", "::ffff:10.9.9.9"), "exempt: v4");
    assert_eq!(says(&v4, "anna", "::10.9.9.9"), "require: 0", "deprecated IPv4-compatible form is IPv6");
    let mapped = app(vec![rule(&[], &["::ffff:10.0.0.0/104"], exempt("mapped"))]);
    assert_eq!(says(&mapped, "anna", "10.9.9.9"), "exempt: mapped");
    assert_eq!(says(&mapped, "anna", "11.9.9.9"), "require: 0");
    let v6 = app(vec![rule(&[], &["::/0"], exempt("v6"))]);
    assert_eq!(says(&v6, "anna", "2001:db8::1"), "exempt: v6");
    assert_eq!(says(&v6, "anna", "10.9.9.9"), "require: 0", "all of IPv6 is not IPv4");
    assert_eq!(says(&v6, "anna", "::ffff:10.9.9.9"), "require: 0");
}

#[test]
fn enrolment_is_open_where_the_rule_says() {
    let at = |enrol: Enrol, client: &str| {
        let requirement = Requirement { enrol, ..sample::requirement(Duration::ZERO, false) };
        may_enrol(&requirement, client.parse().unwrap()) == Enrolment::Open
    };
    let office = || Enrol::Networks(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    assert!(at(Enrol::Open, "192.0.2.1"));
    assert!(!at(Enrol::Invite, "192.0.2.1"), "the password alone is not enough");
    assert!(!at(Enrol::Closed, "10.0.0.1"));
    assert!(at(office(), "10.0.0.1") && at(office(), "::ffff:10.0.0.1") && at(office(), "2001:db8::1"));
    assert!(!at(office(), "192.0.2.1") && !at(office(), "2001:db9::1"));
    assert!(!at(Enrol::Networks(vec![]), "10.0.0.1"));
}

#[test]
fn the_walk_names_each_rule_and_why() {
    let app = app(vec![
        rule(&["bram"], &[], exempt("x")),
        rule(&["anna"], &["10.0.0.0/8"], exempt("office")),
        rule(&[], &[], require(12)),
        rule(&[], &[], exempt("never reached")),
    ]);
    let user = UserName::canonical("anna");
    let facts = Facts { client: "192.0.2.1".parse().unwrap(), ..facts(&user) };
    let printed: Vec<String> = explain(&app, &facts).iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["rule 1: other_user", "rule 2: other_network", "rule 3: requires"]);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let users = proptest::sample::subsequence(vec!["anna", "bram", "carl"], 0..=3);
    let networks = proptest::sample::subsequence(vec!["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"], 0..=3);
    (users, networks, any::<bool>()).prop_map(|(users, networks, exempts)| {
        rule(&users, &networks, if exempts { exempt("x") } else { require(1) })
    })
}

proptest! {
    #[test]
    fn what_is_explained_is_what_is_decided(
        rules in proptest::collection::vec(any_rule(), 0..6),
        user in proptest::sample::select(vec!["anna", "bram", "dora"]),
        client in proptest::sample::select(vec!["10.0.0.1", "192.0.2.7", "203.0.113.9", "2001:db8::5"]),
    ) {
        let app = app(rules);
        let user = UserName::canonical(user);
        let facts = Facts { client: client.parse().unwrap(), ..facts(&user) };
        let steps = explain(&app, &facts);
        let last = steps.last().unwrap();
        let exempted = matches!(decide(&app, &facts), Decision::Exempt(_));
        prop_assert_eq!(last.reason == Reason::Exempts, exempted);
        // Every step but the last passed its rule by, and none is left out.
        for (index, step) in steps.iter().enumerate() {
            prop_assert_eq!(step.rule, index + 1);
            let passed_by = matches!(step.reason, Reason::OtherUser | Reason::OtherNetwork);
            prop_assert_eq!(passed_by, index + 1 < steps.len());
        }
        // [I9] A pass has a rule that gave it.
        if exempted {
            let exempts = matches!(app.policy[last.rule - 1].then, Then::Exempt { .. });
            prop_assert!(exempts);
        }
    }
}

/// [B13] What is set for a user comes before every rule: first where they may come from, then an exemption.
#[test]
fn b13_what_is_set_for_a_user_comes_first() {
    let app = app(vec![rule(&[], &["10.0.0.0/8"], exempt("office")), rule(&[], &[], require(12))]);
    let user = UserName::canonical("anna");
    let says = |networks: &[&str], exempt_until: Option<u64>, client: &str| {
        let networks = networks.iter().map(|n| n.parse().unwrap()).collect();
        let terms = Terms { networks, exempt_until: exempt_until.map(UnixMillis) };
        let facts = Facts { client: client.parse().unwrap(), terms: &terms, ..facts(&user) };
        let last = *explain(&app, &facts).last().unwrap();
        let decided = match decide(&app, &facts) {
            Decision::Exempt(_) => "exempt",
            Decision::Require(_) => "require",
            Decision::Elsewhere => "elsewhere",
        };
        format!("{decided} by {last}")
    };
    let home = ["192.0.2.0/24", "2001:db8::/32"];
    for (networks, exempt_until, client, expected) in [
        (&[][..], None, "10.0.0.1", "exempt by rule 1: exempts"),
        (&home, None, "10.0.0.1", "elsewhere by rule 0: not_from_here"),
        (&home, Some(9999), "10.0.0.1", "elsewhere by rule 0: not_from_here"),
        (&home, None, "192.0.2.9", "require by rule 2: requires"),
        (&home, None, "::ffff:192.0.2.9", "require by rule 2: requires"),
        (&home, None, "2001:db8::1", "require by rule 2: requires"),
        (&[], Some(1001), "203.0.113.1", "exempt by rule 0: exempt_for_a_while"),
        (&[], Some(1000), "203.0.113.1", "require by rule 2: requires"),
    ] {
        assert_eq!(says(networks, exempt_until, client), expected, "{networks:?} {exempt_until:?} {client}");
    }
}
