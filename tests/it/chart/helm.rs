//! Real Helm, twice, from tests/.cache.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// A version of Helm.
#[derive(Clone, Copy, Debug)]
pub enum Helm {
    /// 3.17.
    Three,
    /// 4.3.
    Four,
}

/// Both.
pub const HELMS: [Helm; 2] = [Helm::Three, Helm::Four];

/// A directory with a chart.
pub struct Chart {
    /// Its path.
    pub path: String,
}

impl Chart {
    /// The one that is shipped.
    pub fn ours() -> Self {
        Self { path: repository("charts/sluis") }
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

impl Helm {
    /// Runs it.
    ///
    /// # Errors
    /// What it said, when it failed.
    pub fn run(self, arguments: &[&str]) -> Result<String, String> {
        let binary = match self {
            Self::Three => "helm/helm-3",
            Self::Four => "helm/helm-4",
        };
        tool(binary, arguments, "")
    }

    /// `helm template` of a release `rel` in namespace `care`, with these files and what is set beside them.
    ///
    /// # Errors
    /// What it said, when it refused.
    pub fn template(self, chart: &Chart, files: &[&str], set: &Value) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let values = dir.path().join("values.yaml");
        std::fs::write(&values, set.to_string()).unwrap();
        let files: Vec<String> = files.iter().map(|file| chart.file(file)).collect();
        let mut arguments = vec!["template", "rel", &chart.path, "--namespace", "care"];
        for file in &files {
            arguments.extend(["--values", file]);
        }
        arguments.extend(["--values", values.to_str().unwrap()]);
        self.run(&arguments)
    }
}

/// The chart of an app of somebody's own, with ours below it.
pub fn parent_chart() -> (tempfile::TempDir, Chart) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("legacy");
    copy(Path::new(&repository("tests/chart/parent")), &path);
    copy(Path::new(&repository("charts/sluis")), &path.join("charts/sluis"));
    let chart = Chart { path: path.display().to_string() };
    (dir, chart)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A path in the repository.
pub fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// Runs something from tests/.cache; standard output and error together.
///
/// # Errors
/// What it said, when it failed.
pub fn tool(name: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let path = repository(&format!("tests/.cache/{name}"));
    assert!(Path::new(&path).exists(), "{name} is missing: run scripts/install-test.sh");
    run(&path, arguments, input)
}

/// Runs a program with this input.
///
/// # Errors
/// What it said, when it failed.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    // Nothing of the machine's own Helm: no cache, no plug-ins, no cluster.
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .env("HOME", home.path())
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        Ok(said)
    } else {
        Err(format!("{said}{}", String::from_utf8_lossy(&out.stderr)))
    }
}
