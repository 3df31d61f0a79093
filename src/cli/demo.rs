//! `sluis demo`: Sluis in front of the small legacy app that ships with it, in one process.
//!
//! It makes an ordinary configuration in its state folder and serves that, so that every other command works on it.

use std::{
    fs,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;

use super::{
    ConfigFile, Done, Trouble,
    keys::{generate, write_private},
    read, say, written,
};
use crate::{
    app,
    base::{
        clock::SystemClock,
        random::{SystemRandom, bytes},
    },
    demo, log,
};

#[derive(clap::Args)]
pub struct Options {
    /// Where to listen; with port 0 the system chooses one
    #[arg(short, long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Keep users and authenticators in this folder; otherwise all is forgotten at the end
    #[arg(short, long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Only the legacy app, without Sluis
    #[arg(long, conflicts_with = "state")]
    app_only: bool,
    /// The app keeps its session cookie at a login instead of making a new one, as careless apps do
    #[arg(long)]
    keep_cookie: bool,
    /// The app knows everybody whose password is their name and `-secret`
    #[arg(long)]
    any_user: bool,
}

/// Runs the demo until it is stopped.
pub fn run(options: &Options, out: &mut dyn Write) -> Done {
    let app_options = demo::Options { keep_cookie: options.keep_cookie, any_user: options.any_user };
    if options.app_only {
        let listener = bind(options.listen)?;
        say(out, &format!("listening on http://{}", local(&listener)?))?;
        written(out.flush())?;
        return serve_app(listener, app_options)
            .map_err(|error| Trouble::new(format!("the app stopped: {error}")));
    }

    let app = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let app_address = local(&app)?;
    // looked at before anything is made, so that a port in use is told at once
    let listen = local(&bind(options.listen)?)?;
    let operations = local(&bind(OPERATIONS).or_else(|_| bind(SocketAddr::from(([127, 0, 0, 1], 0))))?)?;
    let state = State::open(options.state.as_deref())?;
    let config = state.write_config(listen, operations, app_address)?;
    let file = ConfigFile { config };
    let (loaded, files) = read(&file)?;
    let log = log::start(&loaded.config.log)?;

    let started = std::thread::Builder::new().name("legacy app".to_owned()).spawn(move || {
        if let Err(error) = serve_app(app, app_options) {
            tracing::error!(%error, "the legacy app stopped");
        }
    });
    started.map_err(|error| Trouble::new(format!("no thread for the app: {error}")))?;
    say(out, &banner(listen, operations, app_address, &state))?;
    written(out.flush())?;
    Ok(app::run(loaded.config, app::Source { file: file.config, files, log })?)
}

fn serve_app(listener: TcpListener, options: demo::Options) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(demo::serve(listener, options, Arc::new(SystemClock), Arc::new(SystemRandom)))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Trouble> {
    TcpListener::bind(address).map_err(|error| {
        Trouble::new(format!("cannot listen on {address}: {error}"))
            .hint("choose another with `--listen 127.0.0.1:PORT` (0 = any free one)")
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Trouble> {
    listener.local_addr().map_err(|error| Trouble::new(format!("no address: {error}")))
}

/// The folder of a demo; a temporary one is removed at the end.
struct State {
    folder: PathBuf,
    temporary: bool,
}

impl State {
    fn open(folder: Option<&Path>) -> Result<Self, Trouble> {
        let state = match folder {
            Some(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
                Self { folder, temporary: false }
            }
            None => {
                let drawn: [u8; 8] = bytes(&SystemRandom).map_err(|error| Trouble::new(error.to_string()))?;
                let name = format!("sluis-demo-{}", HEXLOWER.encode(&drawn));
                Self { folder: std::env::temp_dir().join(name), temporary: true }
            }
        };
        let made = fs::DirBuilder::new().mode(0o700).recursive(!state.temporary).create(&state.folder);
        made.map_err(|error| Trouble::new(format!("{} cannot be made: {error}", state.folder.display())))?;
        Ok(state)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes key and configuration; a key that is there is kept.
    fn write_config(
        &self,
        listen: SocketAddr,
        operations: SocketAddr,
        app: SocketAddr,
    ) -> Result<PathBuf, Trouble> {
        let key = self.file("master.key");
        if !key.exists() {
            write_private(&key, generate(&SystemRandom)?.expose())?;
        }
        // JSON strings are YAML strings
        let quoted = |path: PathBuf| serde_json::Value::from(path.to_string_lossy().into_owned()).to_string();
        let text = CONFIG
            .replace("{listen}", &listen.to_string())
            .replace("{operations}", &operations.to_string())
            .replace("{app}", &app.to_string())
            .replace("{control}", &quoted(self.file("sluis.sock")))
            .replace("{key}", &quoted(key))
            .replace("{store}", &quoted(self.file("sluis.db")))
            .replace("{audit}", &quoted(self.file("audit.log")));
        let path = self.file("sluis.yaml");
        fs::write(&path, text)
            .map_err(|error| Trouble::new(format!("{} cannot be written: {error}", path.display())))?;
        Ok(path)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn banner(listen: SocketAddr, operations: SocketAddr, app: SocketAddr, state: &State) -> String {
    let users: Vec<String> =
        demo::USERS.iter().map(|(name, password)| format!("{name} / {password}")).collect();
    let host = if listen.ip().is_loopback() { "localhost".to_owned() } else { listen.ip().to_string() };
    let kept = if state.temporary { "everything is forgotten" } else { "the state folder stays" };
    format!(
        "\
Sluis stands in front of a small legacy app.

  Open         http://{host}:{port}
  Log in as    {users}
  A code       scan the QR code with any authenticator app, or without a phone:
                 oathtool --totp -b 'SETUP KEY FROM THE PAGE'
  Try          log out and in again: no code is asked on this browser;
               then log in as the other user: the first one's cookies are dead;
               Headers, in the app, shows what the app is told
  Without it   http://{app} is the app itself
  Operate      sluis user list -c {config}
               curl http://{operations}/metrics   …/readyz?verbose
               tail -f {audit}
  Stop         Ctrl-C ({kept})
",
        port = listen.port(),
        users = users.join("  or  "),
        config = state.file("sluis.yaml").display(),
        audit = state.file("audit.log").display(),
    )
}

/// Where the demo's metrics are, when that is free.
const OPERATIONS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);

const CONFIG: &str = r#"# Made by `sluis demo`. A real one looks much the same; what must differ is marked.
listen:
  http:
    address: "{listen}"
  operations: "{operations}"
  control: {control}
insecure_cookies: true      # only for http://localhost: leave this out
keys:
  - file: {key}
store:
  sqlite:
    path: {store}
audit:
  file: {audit}
log:
  format: text
  filter: warn              # info
apps:
  - id: records
    name: Zorggroep De Linde
    hosts: "*"              # the names under which people reach the app
    upstreams:
      - "http://{app}"
    login:
      page: /login
      watch:
        - path: /login
          user_field: username
      success:
        status: 302
        location: "^/$"
    logout:
      - /logout
    anonymous:
      - /login
      - /static/*
      - /favicon.ico
    policy:
      - require:
          methods: [totp]
          validity: 12h
"#;
