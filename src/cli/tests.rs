//! What a command line means and what it shows.

use clap::CommandFactory;

use super::*;
use crate::base::random::SystemRandom;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
    for line in [
        "sluis serve --config x.yaml",
        "sluis user list ann --limit 5 --json -c x.yaml",
        "sluis user reset anna --realm zorg --yes",
        "sluis user set anna --email a@b.nl --clear number --reason because",
        "sluis user set anna --exempt-until 2027-01-31T17:00:00Z --reason phone",
        "sluis user sign-out anna --reason lost",
        "sluis user import list.csv --dry-run --delimiter ;",
        "sluis user export --realm zorg",
        "sluis init --host a.example --upstream http://127.0.0.1:1 --user-field u",
        "sluis backup /tmp/copy.db",
        "sluis keys generate --out key",
        "sluis store copy --from old.yaml --to sqlite:/new.db --merge",
        "sluis demo --app-only --listen 127.0.0.1:0 --keep-cookie",
        "sluis completions bash",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    assert!(Cli::try_parse_from(["sluis", "user", "reset"]).is_err(), "whom?");
    for line in [
        "sluis user set anna",
        "sluis user set anna --exempt-until 2027-01-31T17:00:00Z",
        "sluis user set anna --clear role",
        "sluis user remove-authenticator anna 12",
        "sluis user import list.csv --delimiter x",
        "sluis init --certificate tls.crt",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

#[test]
fn a_missing_configuration_says_what_to_do() {
    let file = ConfigFile { config: "/nonexistent/sluis.yaml".into() };
    let trouble = load(&file).err().unwrap();
    assert!(trouble.what.contains("/nonexistent/sluis.yaml"), "{}", trouble.what);
    assert!(trouble.hint.unwrap().contains("--config"));
}

#[test]
fn a_key_is_private_and_never_written_over() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("master.key");
    let first = keys::generate(&SystemRandom).unwrap();
    keys::write_private(&path, first.expose()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(data_encoding::BASE64.decode(first.expose().as_bytes()).unwrap().len(), 32);
    let second = keys::generate(&SystemRandom).unwrap();
    assert!(keys::write_private(&path, second.expose()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), first.expose());
    assert_ne!(first.expose(), second.expose());
}

#[test]
fn a_table_is_aligned_and_harmless() {
    let mut table = shown::Table::new(&["USER", "STATE"]);
    table.row(&["zoë", "active"]);
    table.row(&["a\u{1b}[31mnna\n", "locked"]);
    assert_eq!(table.text(), "USER        STATE\nzoë         active\na\u{fffd}[31mnna\u{fffd}  locked");
}

#[test]
fn completions_and_schema_go_to_standard_output() {
    let mut out = Vec::new();
    run(Command::Completions { shell: clap_complete::Shell::Bash }, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("complete "));
}
