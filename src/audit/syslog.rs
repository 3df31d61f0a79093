//! A syslog daemon as sink: RFC 5424 over a Unix datagram socket, UDP (RFC 5426) or TCP with octet counting (RFC 6587,
//! section 3.4.1).
//!
//! The message is the whole line of the chain, in ASCII, so that it can be checked wherever it ends up. Syslog
//! acknowledges nothing: what the kernel took may be lost on the way, which the chain shows later. Nothing waits longer
//! than [`PATIENCE`] for a daemon that does not read.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::UnixDatagram,
    time::Duration,
};

use super::event::{Entry, Outcome};
use crate::{base::clock::Stopwatch, config::SyslogTarget};

/// Facility 13, "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const INFORMATIONAL: u8 = 6;
/// Longest wait for a connection or for room in its buffer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A copy is not tried again for so long after a failure: the file must not wait for it.
const PAUSE: Duration = Duration::from_secs(10);

/// A daemon.
pub(super) struct Syslog {
    target: SyslogTarget,
    host: String,
    open: Option<Socket>,
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    /// Connects at the first line, and again whenever the connection is lost.
    pub fn new(target: SyslogTarget, host: &str) -> Self {
        // HOSTNAME and its like are printable ASCII without spaces (RFC 5424, section 6)
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        Self { target, host: if host.is_empty() { "-".to_owned() } else { host }, open: None }
    }

    /// Sends one line.
    pub fn send(&mut self, entry: &Entry, text: &str) -> io::Result<()> {
        let message = self.message(entry, text);
        // A connection may have been closed at the other end since: once again with a new one.
        let had = self.open.is_some();
        match self.try_send(&message) {
            Err(_) if had => self.try_send(&message),
            sent => sent,
        }
    }

    fn try_send(&mut self, message: &str) -> io::Result<()> {
        let socket = match self.open.take() {
            Some(socket) => socket,
            None => connect(&self.target)?,
        };
        match &socket {
            Socket::Unix(unix) => whole(unix.send(message.as_bytes())?, message)?,
            Socket::Udp(udp) => whole(udp.send(message.as_bytes())?, message)?,
            Socket::Tcp(tcp) => {
                if is_closed(tcp) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                (&*tcp).write_all(format!("{} {message}", message.len()).as_bytes())?;
            }
        }
        self.open = Some(socket);
        Ok(())
    }

    fn message(&self, entry: &Entry, text: &str) -> String {
        let severity = match entry.outcome {
            Outcome::Success => INFORMATIONAL,
            Outcome::Failure => NOTICE,
        };
        let priority = FACILITY.saturating_mul(8).saturating_add(severity);
        // MSGID has at most 32 characters; no structured data: everything is in the line
        let id: String = entry.name.chars().take(32).collect();
        let process = std::process::id();
        format!("<{priority}>1 {} {} sluis {process} {id} - {text}", entry.time, self.host)
    }
}

/// A copy of what goes to a file: best effort. What it misses, its chain shows; the file has it.
pub(super) struct Copy {
    syslog: Syslog,
    failed_at: Option<Stopwatch>,
}

impl Copy {
    /// A copy to this daemon.
    pub fn new(syslog: Syslog) -> Self {
        Self { syslog, failed_at: None }
    }

    /// Sends one line, unless the daemon has just failed.
    pub fn send(&mut self, entry: &Entry, text: &str) {
        if self.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        match self.syslog.send(entry, text) {
            Ok(()) if self.failed_at.take().is_some() => tracing::info!("the syslog daemon works again"),
            Ok(()) => {}
            Err(error) => {
                if self.failed_at.is_none() {
                    tracing::warn!(%error, daemon = %self.syslog.target, "the syslog daemon takes no copy of the audit log");
                }
                self.failed_at = Some(Stopwatch::start());
            }
        }
    }
}

fn connect(target: &SyslogTarget) -> io::Result<Socket> {
    match target {
        SyslogTarget::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Unix(socket))
        }
        SyslogTarget::Udp(name) => {
            let to = resolve(name)?;
            let from: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            Ok(Socket::Udp(socket))
        }
        SyslogTarget::Tcp(name) => {
            let socket = TcpStream::connect_timeout(&resolve(name)?, PATIENCE)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_nodelay(true)?;
            Ok(Socket::Tcp(socket))
        }
    }
}

fn resolve(name: &str) -> io::Result<SocketAddr> {
    name.to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Whether the daemon has closed: it never says anything else.
fn is_closed(tcp: &TcpStream) -> bool {
    let _ = tcp.set_nonblocking(true);
    let peeked = tcp.peek(&mut [0]);
    let _ = tcp.set_nonblocking(false);
    match peeked {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn whole(sent: usize, message: &str) -> io::Result<()> {
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
