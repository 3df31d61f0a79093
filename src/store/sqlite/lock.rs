//! The claim on a file: one process at a time, and nobody else may read it.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::OpenError;

/// Owner only.
pub(super) const PRIVATE: u32 = 0o600;

/// An exclusive advisory lock on `<path>.lock`, held as long as this lives. The system drops it when the
/// process ends, however it ends; the file stays.
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock_path = PathBuf::from(name);
        let fail = |what| {
            let path = lock_path.clone();
            move |source| OpenError::File { path, what, source }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(PRIVATE);
        let mut file = options.open(&lock_path).map_err(fail("could not be opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(fail("could not be locked")(source)),
        }
        // For the message above only, so a failure to write it is no reason not to serve.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        let _ = noted.and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// The one name of the file, through every link, so that two names cannot be locked apart.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let fail = |source| OpenError::File {
        path: path.to_owned(),
        what: "its directory could not be found (make it first, writable for Sluis only)",
        source,
    };
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput).map_err(|kind| fail(kind.into()))?;
    Ok(fs::canonicalize(directory).map_err(fail)?.join(name))
}

/// Makes the file if need be, and takes everybody else's rights away; SQLite gives `-wal` and `-shm` the same
/// mode. Only while the lock is held and no connection is open: closing a second descriptor of the file would
/// drop SQLite's own locks (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(super) fn make_private(path: &Path) -> Result<(), OpenError> {
    let fail = |what| move |source| OpenError::File { path: path.to_owned(), what, source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE);
    let file = options.open(path).map_err(fail("could not be opened for writing"))?;
    let mode = file.metadata().map_err(fail("could not be looked at"))?.permissions().mode() & 0o777;
    if mode != PRIVATE {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "store file was open to others");
        file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(fail("could not be made private"))?;
    }
    for beside in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        if let Ok(metadata) = fs::symlink_metadata(&name)
            && metadata.permissions().mode() & 0o777 != PRIVATE
        {
            fs::set_permissions(&name, Permissions::from_mode(PRIVATE))
                .map_err(fail("a file beside it could not be made private"))?;
        }
    }
    Ok(())
}
