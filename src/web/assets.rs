//! Style, script and icon: inside the binary, named by their content, so that a browser may keep them for ever.

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{
    reply::{self, Fault},
    visitor::Visitor,
};

struct Asset {
    /// As templates name it: `sluis.css`.
    name: &'static str,
    /// As browsers do: `sluis-1f2e3d4c5b6a.css`.
    file: String,
    content_type: &'static str,
    bytes: &'static [u8],
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    vec![
        asset("sluis.css", "text/css; charset=utf-8", include_bytes!("assets/sluis.css")),
        asset("sluis.js", "text/javascript; charset=utf-8", include_bytes!("assets/sluis.js")),
        asset("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ]
});

/// Where the asset `name` is, below `prefix`.
pub(crate) fn url(prefix: &str, name: &str) -> String {
    let file = ASSETS.iter().find(|a| a.name == name).map_or(name, |a| a.file.as_str());
    format!("{prefix}/static/{file}")
}

/// `GET static/{file}`
pub(crate) async fn serve(Path(file): Path<String>, visitor: Visitor) -> Response {
    let Some(asset) = ASSETS.iter().find(|a| a.file == file) else {
        return visitor.reply(Err(Fault::Status(StatusCode::NOT_FOUND)));
    };
    let mut response = Response::new(Body::from(asset.bytes));
    let headers = response.headers_mut();
    reply::harden(headers, visitor.secure());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}

fn asset(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    let digest = Sha256::digest(bytes);
    let hash: String = HEXLOWER.encode(&digest).chars().take(12).collect();
    let file = match name.split_once('.') {
        Some((stem, extension)) => format!("{stem}-{hash}.{extension}"),
        None => format!("{name}-{hash}"),
    };
    Asset { name, file, content_type, bytes }
}

/// Whether a file of this name is served.
#[cfg(test)]
pub(crate) fn exists(file: &str) -> bool {
    ASSETS.iter().any(|a| a.file == file)
}

/// All files with their bytes.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    ASSETS.iter().map(|a| (a.file.as_str(), a.bytes))
}
