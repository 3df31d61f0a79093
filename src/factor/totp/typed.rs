//! What people type and paste: a code as six ASCII digits, a name that is fit to be shown.

use crate::factor::totp::window::DIGITS;

/// A code in its one form: six ASCII digits.
pub(super) struct Code(String);

impl Code {
    /// Reads a code as typed or pasted: white space, dashes and invisible marks in it do not count, digits of
    /// other scripts (full-width, Arabic, Devanagari …) count as what they mean. `None` when that does not leave
    /// exactly six digits.
    pub(super) fn read(typed: &str) -> Option<Self> {
        if typed.len() > MOST_TYPED_BYTES {
            return None;
        }
        let mut digits = String::with_capacity(DIGITS);
        for c in typed.chars().filter(|c| !is_filler(*c)) {
            digits.push(char::from_digit(digit(c)?, 10)?);
        }
        (digits.len() == DIGITS).then_some(Self(digits))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name as the user gave it, fit to be shown: one line, at most 60 characters, nothing invisible that would
/// turn the text around it.
pub fn authenticator_name(typed: &str) -> String {
    let visible =
        typed.chars().filter(|c| !is_invisible(*c)).map(|c| if c.is_whitespace() { ' ' } else { c });
    let visible: String = visible.filter(|c| !c.is_control()).collect();
    let name: String = visible.trim().chars().take(MOST_NAME_CHARS).collect();
    let name = name.trim_end();
    if name.is_empty() { DEFAULT_NAME.to_owned() } else { name.to_owned() }
}

fn is_filler(c: char) -> bool {
    c.is_whitespace() || is_invisible(c) || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Marks without a width: joiners, direction marks, byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// The value of a decimal digit of any script.
fn digit(c: char) -> Option<u32> {
    c.to_digit(10).or_else(|| {
        let zero = ZEROS.iter().rev().find(|zero| **zero <= c)?;
        Some(u32::from(c).saturating_sub(u32::from(*zero))).filter(|value| *value < 10)
    })
}

/// The zeros of the scripts of the Basic Multilingual Plane (Unicode, general category Nd); their digits follow
/// them in order. Ascending.
const ZEROS: &[char] = &[
    '\u{660}', '\u{6F0}', '\u{7C0}', '\u{966}', '\u{9E6}', '\u{A66}', '\u{AE6}', '\u{B66}', '\u{BE6}',
    '\u{C66}', '\u{CE6}', '\u{D66}', '\u{DE6}', '\u{E50}', '\u{ED0}', '\u{F20}', '\u{1040}', '\u{1090}',
    '\u{17E0}', '\u{1810}', '\u{1946}', '\u{19D0}', '\u{1A80}', '\u{1A90}', '\u{1B50}', '\u{1BB0}',
    '\u{1C40}', '\u{1C50}', '\u{A620}', '\u{A8D0}', '\u{A900}', '\u{A9D0}', '\u{A9F0}', '\u{AA50}',
    '\u{ABF0}', '\u{FF10}',
];

/// More than this is no code, whatever is in it.
const MOST_TYPED_BYTES: usize = 64;
const MOST_NAME_CHARS: usize = 60;
const DEFAULT_NAME: &str = "Authenticator app";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b10_a_code_is_read_as_people_type_and_paste_it() {
        for typed in [
            "123456",
            " 123 456\r\n",
            "123-456",
            "123\u{a0}456",
            "1 2 3 4 5 6",
            "１２３４５６",
            "١٢٣٤٥٦",
            "۱۲۳۴۵۶",
            "१२३४५६",
            "\u{200e}123456\u{202c}",
            "\u{feff}123456",
            "123\u{2013}456",
            "1२3۴5６",
        ] {
            assert_eq!(Code::read(typed).map(|c| c.0).as_deref(), Some("123456"), "{typed:?}");
        }
        assert_eq!(Code::read("000 000").unwrap().as_str(), "000000");
    }

    #[test]
    fn what_is_no_code_is_not_guessed_at() {
        let long = " ".repeat(59) + "123456";
        for typed in [
            "",
            " ",
            "12345",
            "1234567",
            "12345a",
            "+12345",
            "0x1234",
            "1234.5",
            "l23456",
            "123456\0",
            "①②③④⑤⑥",
            "Ⅰ23456",
            "½23456",
            "一二三四五六",
            "12345²",
            long.as_str(),
        ] {
            assert!(Code::read(typed).is_none(), "{typed:?}");
        }
    }

    #[test]
    fn zeros_ascend_and_begin_ten_digits_each() {
        assert!(ZEROS.windows(2).all(|w| u32::from(w[0]) + 10 <= u32::from(w[1])));
        for zero in ZEROS {
            let nine = char::from_u32(u32::from(*zero) + 9).unwrap();
            assert!(zero.is_numeric() && nine.is_numeric());
            assert_eq!((digit(*zero), digit(nine)), (Some(0), Some(9)));
        }
    }

    #[test]
    fn a_name_is_one_visible_line() {
        for (typed, name) in [
            ("  Work phone ", "Work phone"),
            ("", "Authenticator app"),
            (" \t\u{200b}\u{202e}", "Authenticator app"),
            ("a\u{202e}b\0c\u{7f}\nd", "abc d"),
            ("Zoë's 📱", "Zoë's 📱"),
        ] {
            assert_eq!(authenticator_name(typed), name);
        }
        assert_eq!(authenticator_name(&"é".repeat(200)).chars().count(), 60);
    }
}
