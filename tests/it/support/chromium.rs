//! A real Chromium, driven by Debian's ChromeDriver.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use thirtyfour::{ChromeCapabilities, ChromiumLikeCapabilities, WebDriver, prelude::*};

use super::process::Process;

/// One browser window with a profile of its own.
pub struct Chromium {
    /// The window.
    pub driver: WebDriver,
    pictures: AtomicUsize,
    _process: Process,
    profile: Profile,
}

/// What the window is like.
#[derive(Clone, Copy)]
pub struct Look {
    /// Accepted language, as a person sets it.
    pub language: &'static str,
    /// Whether pages may run scripts.
    pub scripts: bool,
    /// Width in pixels.
    pub width: u32,
}

impl Default for Look {
    fn default() -> Self {
        Self { language: "en", scripts: true, width: 1100 }
    }
}

impl Chromium {
    /// Opens it.
    pub async fn open(look: Look) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let mut process = Process::start("chromedriver", &mut command);
        let port: u16 = process.await_line("port", |line| {
            line.split("started successfully on port ").nth(1)?.trim().trim_end_matches('.').parse().ok()
        });
        let profile = Profile(tempfile::tempdir().unwrap());
        let mut capabilities = DesiredCapabilities::chrome();
        prepare(&mut capabilities, look, profile.0.path());
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.unwrap();
        Self { driver, pictures: AtomicUsize::new(0), profile, _process: process }
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.driver.find(By::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses something and waits until the page has changed.
    pub async fn press(&self, css: &str) {
        let root = self.driver.find(By::Tag("html")).await.unwrap();
        self.driver.find(By::Css(css)).await.unwrap().click().await.unwrap();
        root.wait_until().stale().await.unwrap();
        self.picture().await;
    }

    /// With `SLUIS_TEST_PICTURES=folder` each page that a button leads to is kept there, to be looked at.
    async fn picture(&self) {
        let Some(folder) = std::env::var_os("SLUIS_TEST_PICTURES").map(PathBuf::from) else { return };
        let test = std::thread::current().name().unwrap_or("test").replace("::", ".");
        let number = self.pictures.fetch_add(1, Ordering::Relaxed);
        let browser = self.profile.0.path().file_name().unwrap().display().to_string();
        let file = folder.join(format!("{test}-{browser}-{number:02}.png"));
        std::fs::create_dir_all(&folder).unwrap();
        self.driver.screenshot(&file).await.unwrap();
    }

    /// The visible text of the page.
    pub async fn text(&self) -> String {
        self.driver.find(By::Tag("body")).await.unwrap().text().await.unwrap()
    }

    /// The page as it is now.
    pub async fn source(&self) -> String {
        self.driver.source().await.unwrap()
    }

    /// The path and query of the page.
    pub async fn path(&self) -> String {
        let url = self.driver.current_url().await.unwrap();
        url.query().map_or_else(|| url.path().to_owned(), |q| format!("{}?{q}", url.path()))
    }

    /// What axe-core finds wrong with the page, by WCAG 2.2 A and AA: empty when all is well.
    pub async fn accessibility_faults(&self) -> Vec<String> {
        let axe = std::fs::read_to_string(axe()).expect("axe-core is missing: `make test` installs it");
        self.driver.execute(axe, Vec::new()).await.unwrap();
        let found = self
            .driver
            .execute_async(
                "const done = arguments[arguments.length - 1];\
                 axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']})\
                 .then(r => done(r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | '))));",
                Vec::new(),
            )
            .await
            .unwrap();
        found.convert().unwrap()
    }

    /// Closes it.
    pub async fn close(self) {
        self.driver.quit().await.unwrap();
    }
}

/// The folder of one browser; the browser ends with it, also when its test has failed.
struct Profile(tempfile::TempDir);

impl Drop for Profile {
    fn drop(&mut self) {
        // ChromeDriver, killed, leaves its browser running. Chromium's lock names its process: `host-pid`.
        let Ok(lock) = std::fs::read_link(self.0.path().join("SingletonLock")) else { return };
        let pid = lock.to_str().and_then(|lock| lock.rsplit('-').next()?.parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn prepare(capabilities: &mut ChromeCapabilities, look: Look, profile: &Path) {
    capabilities.set_binary("/usr/bin/chromium").unwrap();
    for argument in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        &format!("--window-size={},1600", look.width),
        &format!("--user-data-dir={}", profile.display()),
        &format!("--accept-lang={}", look.language),
    ] {
        capabilities.add_arg(argument).unwrap();
    }
    let mut preferences = serde_json::json!({ "intl.accept_languages": look.language });
    if !look.scripts {
        preferences["profile.managed_default_content_settings.javascript"] = 2.into();
    }
    capabilities.add_experimental_option("prefs", preferences).unwrap();
}

fn axe() -> PathBuf {
    std::env::var_os("SLUIS_TEST_AXE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/node_modules/axe-core/axe.min.js"),
        PathBuf::from,
    )
}
