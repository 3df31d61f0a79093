//! Which steps a code may belong to, and what it means when it belongs to another (RFC 6238, sections 5.2 and 6).
//!
//! The step of our clock counts, the one before (the way, the typing) and the one after (a clock a little ahead). A
//! phone that is further off is met half-way: the offset of its last accepted code is remembered, at most two
//! steps, and the steps beside that one count as well. What was learned only widens, it never takes the usual
//! three away: one code typed slowly, or a phone whose clock was put right, must not shut anybody out. So at most
//! five codes of a million are right at any moment.

use totp_rs::{Algorithm, Builder, Totp};

/// Seconds of a step (RFC 6238, section 4.1).
pub(super) const STEP_SECS: u64 = 30;
/// Digits of a code.
pub(super) const DIGITS: usize = 6;

/// Steps beside now, and beside the learned drift, that are accepted.
const SLACK: u64 = 1;
/// The largest drift that is learned, in steps.
const MOST_DRIFT: i8 = 2;
/// How far around now a wrong code is explained as one of a wrong clock, in steps.
const EXPLAINED: i64 = 10;

/// What a code is, held against one authenticator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Right and not spent, as far as is known: the store decides that ([`crate::store::Enrolments::advance_step`]).
    Right {
        step: u64,
        /// The drift to remember.
        drift_steps: i8,
    },
    /// It was right, and that step or a later one has been used.
    Used,
    /// It is right on a clock so many steps ahead (+) or behind (-).
    Off { step: u64, steps: i64 },
    /// It is none of this authenticator's.
    Nothing,
}

/// What one authenticator's codes are checked with.
pub(super) struct Codes(Totp);

impl Codes {
    /// SHA-1, six digits: what every authenticator app speaks.
    pub(super) fn of(secret: &[u8]) -> Option<Self> {
        Self::shaped(secret, Algorithm::SHA1, DIGITS)
    }

    /// `None` for a secret shorter than RFC 4226, section 4, R6 demands (128 bits).
    fn shaped(secret: &[u8], algorithm: Algorithm, digits: usize) -> Option<Self> {
        Builder::new()
            .with_algorithm(algorithm)
            .with_digits(u8::try_from(digits).ok()?)
            .with_skew(0)
            .with_step_duration(STEP_SECS)
            .with_secret(secret)
            .build()
            .ok()
            .map(Self)
    }

    /// Whether `code` is the one of `step`; compared in constant time.
    fn gives(&self, code: &str, step: u64) -> bool {
        self.0.check(code, step.saturating_mul(STEP_SECS)).is_some()
    }

    /// Looks a code up around `now_secs`. Every step is computed, whatever matches, so that the time it takes
    /// tells nothing.
    pub(super) fn find(&self, code: &str, now_secs: u64, last_step: u64, drift_steps: i8) -> Found {
        let now_step = now_secs / STEP_SECS;
        let matching: Vec<(i64, u64)> = (-EXPLAINED..=EXPLAINED)
            .filter_map(|steps| now_step.checked_add_signed(steps).map(|step| (steps, step)))
            .filter(|(_, step)| self.gives(code, *step))
            .collect();
        let accepted = |steps: i64| {
            let drift = i64::from(drift_steps.clamp(-MOST_DRIFT, MOST_DRIFT));
            steps.abs_diff(0) <= SLACK || steps.abs_diff(drift) <= SLACK
        };
        // The latest: where two steps have the same code, both are spent with it.
        if let Some((steps, step)) = matching.iter().rev().find(|(steps, _)| accepted(*steps)) {
            let drift = (*steps).clamp(-i64::from(MOST_DRIFT), i64::from(MOST_DRIFT));
            return if *step > last_step {
                Found::Right { step: *step, drift_steps: i8::try_from(drift).unwrap_or_default() }
            } else {
                Found::Used
            };
        }
        let nearest = matching.into_iter().min_by_key(|(steps, _)| steps.unsigned_abs());
        nearest.map_or(Found::Nothing, |(steps, step)| Found::Off { step, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"12345678901234567890";

    fn rows(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
        file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
    }

    #[test]
    fn rfc_4226_appendix_d() {
        let codes = Codes::of(KEY).unwrap();
        let mut tried = 0;
        for row in rows(include_str!("../../../tests/corpus/otp/rfc4226.tsv")) {
            let counter: u64 = row[0].parse().unwrap();
            assert!(codes.gives(row[1], counter), "{row:?}");
            assert!(!codes.gives(row[1], counter + 1), "{row:?}");
            tried += 1;
        }
        assert_eq!(tried, 10);
    }

    #[test]
    fn rfc_6238_appendix_b() {
        let mut tried = 0;
        for row in rows(include_str!("../../../tests/corpus/otp/rfc6238.tsv")) {
            let (now, algorithm, code) = (row[0].parse::<u64>().unwrap(), row[1].parse().unwrap(), row[2]);
            let length = match algorithm {
                Algorithm::SHA256 => 32,
                Algorithm::SHA512 => 64,
                _ => 20,
            };
            let key: Vec<u8> = KEY.iter().copied().cycle().take(length).collect();
            let codes = Codes::shaped(&key, algorithm, 8).unwrap();
            let right = Found::Right { step: now / 30, drift_steps: 0 };
            assert_eq!(codes.find(code, now, 0, 0), right, "{row:?}");
            if algorithm == Algorithm::SHA1 {
                // Six digits are the last six of eight (RFC 4226, section 5.3).
                assert_eq!(Codes::of(KEY).unwrap().find(code.get(2..).unwrap(), now, 0, 0), right, "{row:?}");
            }
            tried += 1;
        }
        assert_eq!(tried, 18);
    }

    /// Which offsets from now are accepted with a learned drift.
    fn accepted(drift: i8) -> Vec<i64> {
        let (codes, now_step) = (Codes::of(KEY).unwrap(), 60_000_000_u64);
        let code_at = |steps| codes.0.generate(now_step.checked_add_signed(steps).unwrap() * 30).to_string();
        (-12..=12)
            .filter(|steps| {
                matches!(codes.find(&code_at(*steps), now_step * 30, 0, drift), Found::Right { .. })
            })
            .collect()
    }

    #[test]
    fn what_was_learned_widens_the_window_to_five_steps_at_most() {
        assert_eq!(accepted(0), [-1, 0, 1]);
        assert_eq!(accepted(1), [-1, 0, 1, 2]);
        assert_eq!(accepted(-1), [-2, -1, 0, 1]);
        assert_eq!(accepted(2), [-1, 0, 1, 2, 3]);
        assert_eq!(accepted(-2), [-3, -2, -1, 0, 1]);
        assert_eq!(accepted(100), accepted(2), "never more than two steps of drift");
        assert_eq!(accepted(i8::MIN), accepted(-2));
    }

    #[test]
    fn a_code_is_explained_up_to_five_minutes_around() {
        let (codes, now_step) = (Codes::of(KEY).unwrap(), 60_000_000_u64);
        for steps in (-10..=-2).chain(2..=10) {
            let step = now_step.checked_add_signed(steps).unwrap();
            let code = codes.0.generate(step * 30).to_string();
            assert_eq!(codes.find(&code, now_step * 30 + 29, u64::MAX, 0), Found::Off { step, steps });
        }
        for steps in [-11, 11] {
            let step = now_step.checked_add_signed(steps).unwrap();
            let code = codes.0.generate(step * 30).to_string();
            assert_eq!(codes.find(&code, now_step * 30, 0, 0), Found::Nothing);
        }
    }

    #[test]
    fn i4_a_step_that_is_not_later_than_the_last_is_used() {
        let (codes, now_step) = (Codes::of(KEY).unwrap(), 60_000_000_u64);
        let code = codes.0.generate(now_step * 30).to_string();
        for last in [now_step, now_step + 1, u64::MAX] {
            assert_eq!(codes.find(&code, now_step * 30, last, 0), Found::Used);
        }
        let right = Found::Right { step: now_step, drift_steps: 0 };
        assert_eq!(codes.find(&code, now_step * 30, now_step - 1, 0), right);
    }

    #[test]
    fn the_first_minutes_of_1970_and_the_end_of_time_are_no_trouble() {
        let codes = Codes::of(KEY).unwrap();
        assert_eq!(codes.find("755224", 0, 0, 0), Found::Used, "step 0 can never exceed the last");
        assert_eq!(codes.find("287082", 0, 0, 0), Found::Right { step: 1, drift_steps: 1 });
        codes.find("000000", u64::MAX, 0, 0);
        assert!(Codes::of(&KEY[..15]).is_none(), "RFC 4226, R6");
    }
}
