//! What Sluis says to people, in English and Dutch (Fluent).
//!
//! Messages hold plain text, never markup: templates escape whatever comes from here. A message that is
//! missing in one language, used nowhere or defined nowhere fails a test.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use fluent_templates::{LanguageIdentifier, Loader, fluent_bundle::FluentValue, langid};

fluent_templates::static_loader! {
    static MESSAGES = {
        locales: "./src/i18n",
        fallback_language: "en",
        // Both languages run from left to right; names of users stand in <bdi> on the pages.
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

static ENGLISH: LanguageIdentifier = langid!("en");
static DUTCH: LanguageIdentifier = langid!("nl");

/// A language that Sluis speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Language {
    /// English: for everybody who asks for a language that we do not speak.
    #[default]
    English,
    /// Dutch.
    Dutch,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: &[Self] = &[Self::Dutch, Self::English];

    /// The language's tag (RFC 5646), as in `lang` attributes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Dutch => "nl",
        }
    }

    /// The language's own name for itself.
    pub const fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Dutch => "Nederlands",
        }
    }

    /// Reads a tag; regions and scripts do not matter (`nl-BE` is Dutch).
    pub fn parse(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.iter().copied().find(|l| l.code().eq_ignore_ascii_case(primary))
    }

    /// The language for an `Accept-Language` header (RFC 9110, section 12.5.4): the one with the highest
    /// weight that we speak, the first among equals, English when there is none.
    pub fn accepted(header: Option<&str>) -> Self {
        let mut best = (0, Self::default());
        for range in header.unwrap_or_default().split(',') {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = weight_in_thousandths(parameters);
            if let Some(language) = Self::parse(tag)
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The message `key`.
    pub fn text(self, key: &str) -> String {
        MESSAGES.lookup(self.id(), key)
    }

    /// The message `key` with one value put in.
    pub fn text_with<'a>(self, key: &str, name: &'static str, value: impl Into<FluentValue<'a>>) -> String {
        let args = HashMap::from([(Cow::Borrowed(name), value.into())]);
        MESSAGES.lookup_with_args(self.id(), key, &args)
    }

    /// A length of time in words, rounded up: seconds below 90 s, minutes below 90 min, else hours.
    pub fn duration(self, duration: Duration) -> String {
        let secs = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1);
        let (key, count) = match secs {
            0..90 => ("seconds", secs),
            90..5400 => ("minutes", secs.div_ceil(60)),
            _ => ("hours", secs.div_ceil(3600)),
        };
        self.text_with(key, "count", count)
    }

    fn id(self) -> &'static LanguageIdentifier {
        match self {
            Self::English => &ENGLISH,
            Self::Dutch => &DUTCH,
        }
    }
}

/// The `q` of a language range: 1000 when there is none, 0 when it cannot be read.
fn weight_in_thousandths(parameters: &str) -> u32 {
    let Some(q) = parameters.split(';').find_map(|p| p.trim().strip_prefix("q=")) else { return 1000 };
    match q.trim().parse::<f32>() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 1000 by the guard"
        )]
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
