//! Finds the end of an HTTP/1 request header in the bytes as they come, without keeping them.
//!
//! It decides nothing about the header but its size: pingora parses it. What counts as an end is what `httparse`
//! takes as one (RFC 9112 section 2.2: a bare LF may end a line, empty lines before the request line are skipped),
//! so that no client can make this page believe in an end that the parser does not see.

/// What the bytes so far amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scanned {
    /// The end is still to come.
    More,
    /// The header is complete.
    Complete,
    /// More bytes than allowed.
    TooLarge,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum At {
    /// Before the request line: empty lines may stand here.
    #[default]
    Start,
    /// Within a line.
    Line,
    /// After a line feed.
    LineFeed,
    /// After a line feed and a carriage return.
    Return,
}

/// Follows one header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScanner {
    bytes: usize,
    at: At,
}

impl HeadScanner {
    /// Takes the next bytes. After [`Scanned::Complete`] a new scanner is needed.
    pub(super) fn feed(&mut self, chunk: &[u8], limit: usize) -> Scanned {
        // Nearly every header comes in one piece that ends with it: no need to look at each byte. Whatever stands
        // before, four such bytes end a header, once its first line has begun.
        let begun = match self.at {
            At::Start => !matches!(chunk.first(), Some(b'\r' | b'\n') | None),
            _ => true,
        };
        if begun && chunk.ends_with(b"\r\n\r\n") && self.bytes.saturating_add(chunk.len()) <= limit {
            return Scanned::Complete;
        }
        for &byte in chunk {
            self.bytes = self.bytes.saturating_add(1);
            if self.bytes > limit {
                return Scanned::TooLarge;
            }
            self.at = match (self.at, byte) {
                (At::Start, b'\r' | b'\n') => At::Start,
                (At::LineFeed | At::Return, b'\n') => return Scanned::Complete,
                (At::LineFeed, b'\r') => At::Return,
                (_, b'\n') => At::LineFeed,
                _ => At::Line,
            };
        }
        Scanned::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pieces: &[&str], limit: usize) -> Scanned {
        let mut scanner = HeadScanner::default();
        let mut last = Scanned::More;
        for piece in pieces {
            last = scanner.feed(piece.as_bytes(), limit);
            if last != Scanned::More {
                break;
            }
        }
        last
    }

    #[test]
    fn d20_ends_are_found_wherever_the_bytes_are_cut() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "\r\n\r\nGET / HTTP/1.1\n\r\n",
        ] {
            for cut in 0..head.len() {
                let (a, b) = head.split_at(cut);
                assert_eq!(scan(&[a, b], 1000), Scanned::Complete, "{head:?} cut at {cut}");
                assert_eq!(scan(&[a], 1000), Scanned::More, "{head:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn d20_empty_lines_before_a_request_are_not_its_end() {
        assert_eq!(scan(&["\r\n\r\n"], 1000), Scanned::More);
        assert_eq!(scan(&["\r\n", "\r\n", "GET / HTTP/1.1\r\n"], 1000), Scanned::More);
    }

    #[test]
    fn d20_size_counts_the_header_and_not_what_follows() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";
        let with_body = format!("{head}{}", "x".repeat(5000));
        assert_eq!(scan(&[&with_body], head.len()), Scanned::Complete);
        assert_eq!(scan(&[&with_body], head.len() - 1), Scanned::TooLarge);
        assert_eq!(scan(&[head], head.len() - 1), Scanned::TooLarge);
        assert_eq!(scan(&["\r\n".repeat(50).as_str()], 99), Scanned::TooLarge, "empty lines count");
    }

    proptest::proptest! {
        /// The scanner and the parser agree on where a header ends.
        #[test]
        fn agrees_with_the_parser(lines in proptest::collection::vec("[ -~]{0,6}(\r\n|\n)", 0..6), cut in 0usize..60) {
            let text = format!("GET / HTTP/1.1\r\n{}", lines.concat());
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Request::new(&mut headers).parse(text.as_bytes());
            let (a, b) = text.split_at(cut.min(text.len()));
            let scanned = scan(&[a, b], 1000);
            match parsed {
                Ok(httparse::Status::Complete(_)) => assert_eq!(scanned, Scanned::Complete),
                Ok(httparse::Status::Partial) => assert_eq!(scanned, Scanned::More),
                Err(_) => {} // answered with 400
            }
        }
    }
}
