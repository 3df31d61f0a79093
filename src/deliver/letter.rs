//! A message as it goes out: plain text and HTML, nothing loaded from elsewhere, nothing that tells who has read it.
//!
//! Promises: what stands in a value stays in that value. A line break, a control character or a sign that turns the
//! direction of text never gets into a header; markup is escaped where words become HTML (`notices::words`). All bytes
//! are ASCII, so that any server takes them.

use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart, MultiPartKind, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};

use crate::{
    base::{
        clock::UnixMillis,
        random::{Random, bytes},
    },
    config::Mail,
    i18n::Language,
};

/// What a message says.
pub struct Content {
    /// One line.
    pub subject: String,
    /// For programs that show text.
    pub text: String,
    /// For all others.
    pub html: String,
    /// In which language.
    pub language: Language,
}

/// A message with its addresses: the same bytes, with the same `Message-ID`, at each attempt.
pub struct Letter {
    envelope: Envelope,
    bytes: Vec<u8>,
}

/// A message could not be made. The text has no address in it.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be made: {0}")]
pub struct Unwritten(&'static str);

impl Letter {
    /// Puts it together.
    ///
    /// # Errors
    /// When the address is none, or the machine gives no random bytes.
    pub fn new(
        mail: &Mail,
        to: &str,
        content: Content,
        now: UnixMillis,
        random: &dyn Random,
    ) -> Result<Self, Unwritten> {
        let address = |text: &str, why| text.parse::<Address>().map_err(|_| Unwritten(why));
        let from = address(&mail.from, "its sender is no address")?;
        let to = address(to, "its recipient is no address")?;
        let drawn: [u8; 32] = bytes(random).map_err(|_| Unwritten("the machine gave no random bytes"))?;
        let drawn = data_encoding::HEXLOWER.encode(&drawn);
        let (id, boundary) = drawn.split_at_checked(32).unwrap_or((&drawn, &drawn));
        let domain = from.domain().to_owned();
        let parts = MultiPart::builder()
            .kind(MultiPartKind::Alternative)
            .boundary(boundary)
            .singlepart(SinglePart::plain(content.text))
            .singlepart(SinglePart::html(content.html));
        let message = Message::builder()
            .from(Mailbox::new(mail.from_name.as_deref().map(one_line), from))
            .to(Mailbox::new(None, to))
            .subject(one_line(&content.subject))
            .raw_header(header("Date", date(now)))
            .raw_header(header("Message-ID", format!("<{id}@{domain}>")))
            // RFC 3834, section 5: nobody's vacation program answers it. The second one is what Exchange reads.
            .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
            .raw_header(header("X-Auto-Response-Suppress", "All".to_owned()))
            .raw_header(header("Content-Language", content.language.code().to_owned()))
            .multipart(parts)
            .map_err(|_| Unwritten("its header cannot be"))?;
        Ok(Self { bytes: message.formatted(), envelope: message.envelope().clone() })
    }

    /// From whom and to whom, as the server is told.
    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A text as one line of visible characters: nothing that begins a header, and nothing that turns the direction of what
/// comes after it.
pub(super) fn one_line(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let line: String = text.chars().map(|c| if breaks(c) { ' ' } else { c }).filter(|c| !turns(*c)).collect();
    // Nor an encoded word (RFC 2047) that would become something else where it is shown.
    line.trim().replace("=?", "= ?")
}

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(name), value.clone(), value)
}

/// RFC 5322, section 3.3, in UTC.
fn date(now: UnixMillis) -> String {
    let millis = i64::try_from(now.0).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    moment.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::random::SystemRandom,
        deliver::testing::{mail, parsed},
    };

    fn letter(subject: &str, text: &str) -> Letter {
        let content = Content {
            subject: subject.to_owned(),
            text: text.to_owned(),
            html: "<p>€</p>".to_owned(),
            language: Language::Dutch,
        };
        let now = UnixMillis::from_secs(1_795_830_000);
        Letter::new(&mail("smtp://localhost:1"), "anna@example.nl", content, now, &SystemRandom).unwrap()
    }

    #[test]
    fn a_message_has_what_the_standards_ask() {
        let letter = letter("Nieuwe authenticator – Zórg", "Eén regel\n.\n.. nog één");
        assert!(letter.bytes().is_ascii());
        let read = parsed(letter.bytes());
        assert_eq!(read["headers"]["subject"], "Nieuwe authenticator – Zórg");
        assert_eq!(read["headers"]["from"], "Sluis <sluis@example.nl>");
        assert_eq!(read["headers"]["to"], "anna@example.nl");
        assert_eq!(read["headers"]["date"], "Sat, 28 Nov 2026 01:40:00 +0000");
        assert_eq!(read["headers"]["auto-submitted"], "auto-generated");
        assert_eq!(read["headers"]["content-language"], "nl");
        let id = read["headers"]["message-id"].as_str().unwrap();
        assert!(id.starts_with('<') && id.ends_with("@example.nl>") && id.len() > 40, "{id}");
        assert_eq!(read["text"].as_str().unwrap().trim_end(), "Eén regel\n.\n.. nog één");
        assert_eq!(read["html"].as_str().unwrap().trim_end(), "<p>€</p>");
        assert_eq!(read["defects"], serde_json::json!([]));
        assert_eq!(read["kinds"], serde_json::json!(["multipart/alternative", "text/plain", "text/html"]));
    }

    #[test]
    fn nothing_in_a_value_becomes_a_header() {
        for hostile in [
            "x\r\nBcc: mallory@example.org",
            "x\nBcc: mallory@example.org\n\n<html>",
            "x\rBcc: mallory@example.org",
            "x\u{2028}Bcc: mallory@example.org",
            "x =?utf-8?q?=0D=0ABcc:_mallory@example.org?=",
            "\u{202e}x\r\n Bcc: mallory@example.org",
        ] {
            let read = parsed(letter(hostile, "x").bytes());
            let headers = read["headers"].as_object().unwrap();
            assert!(!headers.contains_key("bcc"), "{hostile:?}: {headers:?}");
            let mut names: Vec<_> = headers.keys().map(String::as_str).collect();
            names.sort_unstable();
            let known = [
                "auto-submitted",
                "content-language",
                "content-type",
                "date",
                "from",
                "message-id",
                "mime-version",
                "subject",
                "to",
                "x-auto-response-suppress",
            ];
            assert_eq!(names, known, "{hostile:?}");
            assert!(!read["headers"]["subject"].as_str().unwrap().contains(['\r', '\n', '\u{202e}']));
        }
    }

    #[test]
    fn what_is_no_address_gets_no_message() {
        let content = || Content {
            subject: "x".to_owned(),
            text: "x".to_owned(),
            html: "x".to_owned(),
            language: Language::English,
        };
        for to in ["", "anna", "anna@example.nl\r\nRCPT TO:<x@y.nl>", "a@b.nl, c@d.nl", "<a@b.nl>"] {
            let made =
                Letter::new(&mail("smtp://localhost:1"), to, content(), UnixMillis::default(), &SystemRandom);
            assert!(made.is_err(), "{to:?}");
        }
    }
}
