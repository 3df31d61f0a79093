//! Ways to prove a second factor.

use std::fmt;

/// A kind of second factor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Method {
    /// A code from an authenticator app (RFC 6238).
    Totp = 0,
    /// A code that was shown once and kept on paper.
    Recovery = 2,
}

impl Method {
    /// Every method, in the order in which they are offered.
    pub const ALL: &[Self] = &[Self::Totp, Self::Recovery];

    /// The name in configuration, headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Recovery => "recovery",
        }
    }

    /// Reads what [`Self::name`] gives.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.name() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of methods, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MethodSet(u16);

impl MethodSet {
    /// No method.
    pub const EMPTY: Self = Self(0);

    /// Every method.
    pub const ALL: Self = {
        let (mut all, mut rest) = (Self::EMPTY, Method::ALL);
        while let [first, more @ ..] = rest {
            (all, rest) = (all.with(*first), more);
        }
        all
    };

    /// The set of one method.
    pub const fn of(method: Method) -> Self {
        Self(1 << method as u8)
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | Self::of(method).0)
    }

    /// Whether `method` is in the set.
    pub const fn contains(self, method: Method) -> bool {
        self.0 & Self::of(method).0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits, as tokens carry them.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From bits; unknown ones are kept out.
    pub fn from_bits(bits: u16) -> Self {
        Method::ALL.iter().filter(|m| bits & Self::of(**m).0 != 0).fold(Self::EMPTY, |set, m| set.with(*m))
    }

    /// The methods in it, in the order of [`Method::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.iter().copied().filter(move |m| self.contains(*m))
    }
}
