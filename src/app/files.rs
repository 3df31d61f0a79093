//! Notices that files have changed: by looking at them once a second, as the path leads to them then.
//!
//! So it sees every way in which files change: written in place, renamed over, a symbolic link turned somewhere on the
//! way (Kubernetes swaps the folder `..data` of a mounted ConfigMap or Secret), on any file system, also one over the
//! network. A change counts when it has stood still for one look: a file that is being written is not read half.

use std::path::PathBuf;

use crate::config::Print;

/// The files on which the configuration depends.
pub(super) struct Watch {
    /// As they were when they were read.
    read: Vec<(PathBuf, Print)>,
    /// As they were at the last look.
    seen: Vec<Print>,
}

impl Watch {
    /// Looks after these, which were in this state before they were read.
    pub fn new(read: Vec<(PathBuf, Print)>) -> Self {
        let seen = read.iter().map(|(_, print)| *print).collect();
        Self { read, seen }
    }

    /// Looks: whether they are others than those that were read, and stand still.
    pub fn has_changed(&mut self) -> bool {
        let now: Vec<Print> = self.read.iter().map(|(file, _)| Print::of(file)).collect();
        let still = now == self.seen;
        self.seen = now;
        still && self.seen.iter().ne(self.read.iter().map(|(_, print)| print))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn seen_now(files: &[PathBuf]) -> Watch {
        Watch::new(files.iter().map(|file| (file.clone(), Print::of(file))).collect())
    }

    /// As often as a change needs to be noticed: it must stand still once.
    fn noticed(watch: &mut Watch) -> bool {
        let first = watch.has_changed();
        watch.has_changed() || first
    }

    #[test]
    fn every_way_of_changing_a_file_is_noticed_once_it_stands_still() {
        let d = tempfile::tempdir().unwrap();
        let at = |name: &str| d.path().join(name);
        std::fs::write(at("a"), "1").unwrap();
        let files = [at("a"), at("missing")];
        let mut watch = seen_now(&files);
        assert!(!noticed(&mut watch));

        std::fs::write(at("a"), "22").unwrap();
        assert!(!watch.has_changed(), "it may still be written");
        std::fs::write(at("a"), "333").unwrap();
        assert!(!watch.has_changed(), "it still is");
        assert!(watch.has_changed());
        watch = seen_now(&files);
        assert!(!noticed(&mut watch));

        std::fs::write(at("new"), "333").unwrap();
        std::fs::rename(at("new"), at("a")).unwrap();
        assert!(noticed(&mut watch), "another file of the same length");
        watch = seen_now(&files);
        std::fs::write(at("missing"), "").unwrap();
        assert!(noticed(&mut watch), "one that was not there");
        watch = seen_now(&files);
        std::fs::remove_file(at("a")).unwrap();
        assert!(noticed(&mut watch), "one that is gone");
    }

    /// How the kubelet replaces mounted files: a link to a folder is renamed over the old one.
    #[test]
    fn a_link_that_turns_on_the_way_is_noticed() {
        let d = tempfile::tempdir().unwrap();
        let at = |name: &str| d.path().join(name);
        for folder in ["..one", "..two"] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("key"), "same").unwrap();
        }
        symlink("..one", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let mut watch = seen_now(&[at("key")]);
        assert!(!noticed(&mut watch));
        symlink("..two", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(noticed(&mut watch));
    }
}
