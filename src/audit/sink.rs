//! Where lines go.

use std::io::{self, Write};

use super::{
    event::Entry,
    file::FileSink,
    syslog::{Copy, Syslog},
};

/// A place for lines.
pub(super) enum Sink {
    /// Standard output, or any stream.
    Stream(Box<dyn Write + Send>),
    /// A file, and perhaps a copy of it.
    File(Box<FileSink>, Option<Box<Copy>>),
    /// A syslog daemon.
    Syslog(Box<Syslog>),
}

/// A line was not written.
pub(super) struct Broken {
    /// Why.
    pub error: io::Error,
    /// How many of its bytes stand there nevertheless.
    pub left: usize,
}

impl Sink {
    /// Writes one line; `text` is it without line break. `closes` is set when a torn line must be closed before it.
    pub fn put(&mut self, entry: &Entry, text: &str, closes: bool) -> Result<(), Broken> {
        let bytes = || [if closes { "\n" } else { "" }, text, "\n"].concat();
        match self {
            Self::File(file, copy) => {
                file.put(bytes().as_bytes())?;
                if let Some(copy) = copy {
                    copy.send(entry, text);
                }
                Ok(())
            }
            Self::Syslog(syslog) => syslog.send(entry, text).map_err(|error| Broken { error, left: 0 }),
            Self::Stream(stream) => {
                let bytes = bytes();
                let mut done = 0;
                while let Some(rest) = bytes.as_bytes().get(done..).filter(|rest| !rest.is_empty()) {
                    let error = match stream.write(rest) {
                        Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                        Ok(some) => {
                            done = done.saturating_add(some);
                            continue;
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => error,
                    };
                    return Err(Broken { error, left: done });
                }
                stream.flush().map_err(|error| Broken { error, left: 0 })
            }
        }
    }

    /// Brings what was written to the disk, where there is one.
    pub fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.sync(),
            Self::Stream(stream) => stream.flush(),
            Self::Syslog(_) => Ok(()),
        }
    }
}
