//! `sluis init`: a key and a first configuration, from answers.
//!
//! At a terminal it asks for what was not given; elsewhere what is missing is named. Nothing that is there is written over,
//! and what is written has passed the same check as any configuration.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use serde_json::Value;

use super::{
    Cli, ConfigFile, Done, Trouble,
    keys::{generate, write_new, write_private},
    read, say,
    shown::is_interactive,
};
use crate::base::random::SystemRandom;

#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    file: ConfigFile,
    /// The master key; made when it is not there [default: master.key beside the configuration]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Folder of store and audit log; made when it is not there
    #[arg(long, default_value = "/var/lib/sluis", value_name = "FOLDER")]
    data: PathBuf,
    /// Where people come in, as address and port [default: 0.0.0.0:443, without certificate 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Certificate and its chain (PEM); without it plain http, for behind a proxy that ends TLS
    #[arg(long, requires = "certificate_key", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "certificate", value_name = "FILE")]
    certificate_key: Option<PathBuf>,
    /// Metrics and health, as address and port
    #[arg(long, default_value = "127.0.0.1:9180", value_name = "ADDRESS:PORT")]
    operations: String,
    /// What people call the app
    #[arg(long)]
    name: Option<String>,
    /// The host name under which people reach it
    #[arg(long)]
    host: Option<String>,
    /// Where it is, like http://127.0.0.1:8000
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The page with its login form [default: the path of --login]
    #[arg(long, value_name = "PATH")]
    login_page: Option<String>,
    /// Where that form posts to
    #[arg(long, value_name = "PATH")]
    login: Option<String>,
    /// The form's field of the user name
    #[arg(long, value_name = "FIELD")]
    user_field: Option<String>,
    /// The status of the answer to a right password, and to no wrong one
    #[arg(long, value_name = "STATUS")]
    success_status: Option<u16>,
    /// A cookie that is set with that answer, and with no other
    #[arg(long, value_name = "COOKIE")]
    success_cookie: Option<String>,
    /// Where it logs out
    #[arg(long, value_name = "PATH")]
    logout: Option<String>,
    /// What the login page loads, with commas between: /static/*,/favicon.ico
    #[arg(long, value_name = "PATHS")]
    anonymous: Option<String>,
}

/// Makes key, folder and configuration.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let path = absolute(&options.file.config);
    if fs::symlink_metadata(&path).is_ok() {
        return Err(Trouble::new(format!("{} is there already, and is not written over", path.display()))
            .hint("name another with `--config FILE`"));
    }
    let answers = Answers::of(options, is_interactive())?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let key = options.key.as_deref().map_or_else(|| folder.join("master.key"), absolute);
    let data = absolute(&options.data);
    make_folder(&folder, 0o755)?;
    make_folder(&data, 0o700)?;
    if key.exists() {
        say(out, &format!("took the master key that is there: {}", key.display()))?;
    } else {
        write_private(&key, generate(&SystemRandom)?.expose())?;
        say(out, &format!("made a master key: {}", key.display()))?;
        say(out, "  keep a copy in a safe place: without it every user must enrol again")?;
    }
    write_new(&path, &text(&answers, options, &key, &data), 0o644)
        .map_err(|error| Trouble::new(format!("{} cannot be written: {error}", path.display())))?;
    let file = ConfigFile { config: path.clone() };
    if let Err(faults) = read(&file) {
        // Nobody has seen it yet.
        let _ = fs::remove_file(&path);
        return Err(Trouble {
            hint: Some("no configuration was written: give other answers".to_owned()),
            ..faults
        });
    }
    say(out, &format!("wrote the configuration: {}\n", path.display()))?;
    for (does, command) in next(&path) {
        say(out, &format!("  {does:<48}{command}"))?;
    }
    say(
        out,
        "\n  The app must be reachable through Sluis only: bind it to loopback, or close its port to others.",
    )
}

/// What to do next. Only commands that this version has.
fn next(config: &Path) -> Vec<(&'static str, String)> {
    let config = config.display();
    let has = |name: &str, below: &str| {
        Cli::command().find_subcommand(name).is_some_and(|command| command.find_subcommand(below).is_some())
    };
    let mut next = vec![
        ("look at what it says", format!("sluis check -c {config}")),
        ("look whether all of it is there and works", format!("sluis doctor -c {config}")),
        ("start it", format!("sluis serve -c {config}")),
    ];
    if has("admin", "invite") {
        next.push(("invite the first administrator", format!("sluis admin invite NAME -c {config}")));
    }
    next.push(("take over a list of users", format!("sluis user import LIST.csv -c {config}")));
    next
}

/// What has to be known of the app.
struct Answers {
    name: String,
    host: String,
    upstream: String,
    login: String,
    user_field: String,
    success_status: u16,
    success_cookie: Option<String>,
    logout: String,
    anonymous: Vec<String>,
}

impl Answers {
    fn of(given: &Options, ask: bool) -> Result<Self, Trouble> {
        if ask {
            let _ = writeln!(
                io::stderr(),
                "Some questions about the app. Enter takes what stands in [brackets].\n"
            );
        }
        let mut missing = Vec::new();
        let mut answer =
            |given: &Option<String>, flag: &'static str, question: &str, usual: Option<&str>| match (
                given, usual,
            ) {
                (Some(given), _) => Ok(given.clone()),
                (None, usual) if ask => asked(question, usual),
                (None, Some(usual)) => Ok(usual.to_owned()),
                (None, None) => {
                    missing.push(flag);
                    Ok(String::new())
                }
            };
        let name = answer(&given.name, "--name", "What do people call the app?", Some("App"))?;
        let host = answer(&given.host, "--host", "Under which host name do they reach it?", None)?;
        let upstream = answer(
            &given.upstream,
            "--upstream",
            "Where is the app itself, like http://127.0.0.1:8000?",
            None,
        )?;
        let login =
            answer(&given.login, "--login", "Which path does its login form post to?", Some("/login"))?;
        let user_field = answer(
            &given.user_field,
            "--user-field",
            "What is the form's field of the user name called?",
            None,
        )?;
        let status = given.success_status.map(|status| status.to_string());
        let status = answer(
            &status,
            "--success-status",
            "Which status has the answer to a right password (and to no wrong one)?",
            Some("302"),
        )?;
        let success_status = status.trim().parse().map_err(|_| {
            Trouble::new(format!("`{status}` is no status")).hint("a number, such as 302 or 200")
        })?;
        let cookie = answer(
            &given.success_cookie,
            "--success-cookie",
            "Which cookie is set with that answer, and with no other? (none: Enter)",
            Some(""),
        )?;
        let logout = answer(&given.logout, "--logout", "Which path logs out?", Some("/logout"))?;
        let anonymous = answer(
            &given.anonymous,
            "--anonymous",
            "What does the login page load, with commas between? (nothing: -)",
            Some("/static/*"),
        )?;
        if !missing.is_empty() {
            return Err(Trouble::new(format!("nobody can be asked here; missing: {}", missing.join(", ")))
                .hint("give them, or run this at a terminal; `sluis init --help` explains each"));
        }
        let list = anonymous.split(',').map(str::trim).filter(|path| !path.is_empty() && *path != "-");
        Ok(Self {
            name,
            host,
            upstream,
            login,
            user_field,
            success_status,
            success_cookie: Some(cookie).filter(|cookie| !cookie.is_empty()),
            logout,
            anonymous: list.map(str::to_owned).collect(),
        })
    }
}

/// Asks on standard error until there is an answer.
fn asked(question: &str, usual: Option<&str>) -> Result<String, Trouble> {
    loop {
        let shown =
            usual.filter(|usual| !usual.is_empty()).map_or_else(String::new, |usual| format!(" [{usual}]"));
        let _ = write!(io::stderr(), "{question}{shown} ");
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) => return Err(Trouble::new("nothing was made: the answers ended")),
            Ok(_) => {}
            Err(error) => return Err(Trouble::new(format!("no answer: {error}"))),
        }
        match (line.trim(), usual) {
            ("", Some(usual)) => return Ok(usual.to_owned()),
            ("", None) => {}
            (typed, _) => return Ok(typed.to_owned()),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn make_folder(folder: &Path, mode: u32) -> Done {
    match DirBuilder::new().recursive(true).mode(mode).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Trouble::new(format!("the folder {} cannot be made: {error}", folder.display()))
                .hint("run this as root, or name others with `--config` and `--data`"))
        }
        _ => Ok(()),
    }
}

/// A JSON string, which is a YAML string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn text(answers: &Answers, options: &Options, key: &Path, data: &Path) -> String {
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let is_local = answers.host == "localhost" || answers.host.starts_with("127.");
    let listen = match (&options.certificate, &options.certificate_key) {
        (Some(certificate), Some(key)) => format!(
            "https:\n    address: {}\n    certificate_file: {}\n    key_file: {}",
            quoted(options.listen.as_deref().unwrap_or("0.0.0.0:443")),
            path(&absolute(certificate)),
            path(&absolute(key))
        ),
        _ => format!("http:\n    address: {}", quoted(options.listen.as_deref().unwrap_or("127.0.0.1:8080"))),
    };
    let insecure = if is_local && options.certificate.is_none() {
        "insecure_cookies: true      # only for http://localhost: leave this out elsewhere\n"
    } else {
        ""
    };
    let page = options.login_page.as_deref().unwrap_or(&answers.login);
    let mut anonymous = vec![page.to_owned()];
    anonymous.extend([answers.login.clone()]);
    anonymous.extend(answers.anonymous.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    anonymous.retain(|path| seen.insert(path.clone()));
    let anonymous: Vec<String> = anonymous.iter().map(|path| format!("\n      - {}", quoted(path))).collect();
    let cookie = answers
        .success_cookie
        .as_deref()
        .map_or_else(String::new, |name| format!("\n        cookie: {}", quoted(name)));
    format!(
        "# Made by `sluis init`. Every key there is stands in config.example.yaml; `sluis schema` describes them for editors.
listen:
  {listen}
  operations: {operations}
{insecure}keys:
  - file: {key}
store:
  sqlite:
    path: {store}
audit:
  file: {audit}
apps:
  - id: {id}
    name: {name}
    hosts: [{host}]
    upstreams:
      - {upstream}
    login:
      page: {page}
      watch:
        - path: {login}
          user_field: {user_field}
      success:
        status: {status}{cookie}
    logout:
      - {logout}
    anonymous:{anonymous}
    policy:
      - require:
          methods: [totp]
          validity: 12h
",
        operations = quoted(&options.operations),
        key = path(key),
        store = path(&data.join("sluis.db")),
        audit = path(&data.join("audit.jsonl")),
        id = id_of(&answers.name),
        name = quoted(&answers.name),
        host = quoted(&answers.host),
        upstream = quoted(&answers.upstream),
        page = quoted(page),
        login = quoted(&answers.login),
        user_field = quoted(&answers.user_field),
        status = answers.success_status,
        logout = quoted(&answers.logout),
        anonymous = anonymous.concat(),
    )
}

/// An id of the name's letters and digits.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            id.push(c);
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    let id: String = id.chars().take(40).collect();
    let id = id.trim_end_matches('-');
    if id.is_empty() { "app".to_owned() } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_a_name() {
        for (name, id) in [
            ("Care records", "care-records"),
            ("  Zorg (test)! ", "zorg-test"),
            ("日本", "app"),
            ("HR2", "hr2"),
        ] {
            assert_eq!(id_of(name), id);
        }
        assert_eq!(id_of(&"long name ".repeat(10)).len(), 39);
    }
}
