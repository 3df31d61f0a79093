//! The vocabulary that all parts use: plain values without I/O.

pub mod agent;
pub mod email;
pub mod ids;
pub mod method;
pub mod name;
pub mod path;
pub mod profile;
pub mod request;
pub mod revocation;
pub mod user;

pub use ids::{AppId, AuthenticatorId, DeviceId, Epoch, LoginId, Realm, SessionId};
pub use method::{Method, MethodSet};
pub use path::{CanonicalPath, NotCanonical, Tolerance};
pub use profile::{
    CodeHash, Encounter, Invite, KnownDevice, PasswordHash, PersonalExemption, Presence, Profile, Role,
    Sealed, SessionRecord, Terms,
};
pub use request::{OwnCookies, RequestId, RequestView, Wants};
pub use revocation::Revocation;
pub use user::{Authenticator, UserKey, UserName};
