//! Real apps that were never changed: DokuWiki and Django's admin.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use super::process::{PATIENCE, Process};

/// An app as a process with files of its own.
pub struct App {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its files are.
    pub dir: tempfile::TempDir,
}

/// Debian's DokuWiki under PHP's own server, closed to anonymous readers; users anna and bram.
pub fn dokuwiki() -> App {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in [
        "conf",
        "data/pages",
        "data/meta",
        "data/media",
        "data/cache",
        "data/attic",
        "data/index",
        "data/locks",
        "data/tmp",
        "data/media_attic",
        "data/media_meta",
        "data/log",
        "sessions",
    ] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    let data = at("data").display().to_string();
    std::fs::write(
        at("conf/local.php"),
        format!(
            "<?php\n$conf['title'] = 'Wiki';\n$conf['useacl'] = 1;\n$conf['superuser'] = '@admin';\n\
             $conf['savedir'] = '{data}';\n$conf['updatecheck'] = 0;\n"
        ),
    )
    .unwrap();
    std::fs::write(at("conf/acl.auth.php"), "# <?php exit()?>\n*\t@ALL\t0\n*\t@user\t8\n").unwrap();
    let users = ["anna", "bram"].map(|user| {
        let hash = php(&format!("echo password_hash('{user}-secret', PASSWORD_BCRYPT);"));
        format!("{user}:{hash}:{user} Jansen:{user}@example.org:user\n")
    });
    std::fs::write(at("conf/users.auth.php"), format!("# <?php exit()?>\n{}", users.concat())).unwrap();
    std::fs::write(at("data/pages/start.txt"), "====== Confidential start page ======\n").unwrap();
    std::fs::write(at("prepend.php"), format!("<?php define('DOKU_CONF', '{}/');\n", at("conf").display()))
        .unwrap();

    let address = free_address();
    let mut command = Command::new("php");
    command
        .args(["-d", &format!("auto_prepend_file={}", at("prepend.php").display())])
        .args(["-d", &format!("session.save_path={}", at("sessions").display())])
        .args(["-S", &address.to_string(), "-t", "/usr/share/dokuwiki"])
        .env("PHP_CLI_SERVER_WORKERS", "4");
    let process = Process::start("dokuwiki", &mut command);
    await_port(address);
    App { process, address, dir }
}

/// Django's admin with CSRF tokens and session rotation; users anna and bram.
pub fn django() -> App {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site.py");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/django_site.py"), &site)
        .unwrap();
    let python = python();
    let made = Command::new(&python).arg(&site).arg("make-users").output().expect("Django's Python");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let address = free_address();
    let mut command = Command::new(&python);
    command.arg(&site).args(["runserver", "--noreload", "--insecure", &address.to_string()]);
    let process = Process::start("django", &mut command);
    await_port(address);
    App { process, address, dir }
}

/// The Python that `make test` has put Django into.
fn python() -> PathBuf {
    std::env::var_os("SLUIS_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/venv/bin/python"),
        PathBuf::from,
    )
}

/// What PHP prints for this code.
pub fn php(code: &str) -> String {
    let out =
        Command::new("php").args(["-r", code]).output().expect("php is missing: `make test` installs it");
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

/// An address that was free a moment ago, for servers that cannot be handed a socket.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until something listens there.
pub fn await_port(address: SocketAddr) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(std::time::Instant::now() < deadline, "nothing listens on {address}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}
