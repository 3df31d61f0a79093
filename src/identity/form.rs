//! Reads the user name out of a login body: urlencoded, multipart or JSON. What can be read in two ways is refused.

use crate::config::app::Watch;

/// Why a login body is refused (400), or is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadForm {
    /// The user field, or the field that tells a login, is there twice, also under another spelling.
    #[error("a field is there twice")]
    Twice,
    /// A content type that cannot be watched.
    #[error("unknown content type")]
    ContentType,
    /// A compressed body, or another charset than UTF-8.
    #[error("unknown encoding")]
    Encoding,
    /// Not what its content type says.
    #[error("malformed body")]
    Malformed,
    /// No user name in it.
    #[error("no user name")]
    NoUser,
}

/// What a request to a watched path is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// A login with this typed name.
    Login {
        /// As typed.
        user: String,
    },
    /// Not a login: the pair that tells one (`watch.with`) is missing.
    Other,
}

/// Reads a whole body. `content_type` and `content_encoding` as in the request's header; `query` raw.
///
/// # Errors
/// When it cannot be read in one way only.
pub async fn read(
    _watch: &Watch,
    _query: Option<&str>,
    _content_type: Option<&str>,
    _content_encoding: Option<&str>,
    _body: bytes::Bytes,
) -> Result<Claim, BadForm> {
    todo!()
}
