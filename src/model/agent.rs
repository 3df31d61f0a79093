//! Which browser it is, by its `User-Agent`, in words of our own. It tells people; it decides nothing.

/// `Firefox, Windows`, or the browser alone; `None` when it is none of the well-known. Nothing of what a browser says of
/// itself is in it.
pub fn named(agent: &str) -> Option<String> {
    let find = |list: &[(&str, &'static str)]| {
        list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    let browser = find(&BROWSERS).filter(|name| *name != "Safari" || agent.contains("Safari/"))?;
    Some(find(&SYSTEMS).map_or_else(|| browser.to_owned(), |system| format!("{browser}, {system}")))
}

/// The first that is found says which browser it is: the later ones stand in the names of the earlier ones, too.
const BROWSERS: [(&str, &str); 12] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
];

/// The same for systems.
const SYSTEMS: [(&str, &str); 9] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows Phone", "Windows Phone"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
    ("X11", "Unix"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let mozilla = "Mozilla/5.0 ";
        for (agent, told) in [
            ("(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, Linux"),
            (
                "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0 Safari/537.36",
                "Chrome, Windows",
            ),
            (
                "(Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0 Safari/537.36 Edg/139.0",
                "Edge, Windows",
            ),
            (
                "(Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
                "Safari, macOS",
            ),
            (
                "(iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
                "Safari, iPhone",
            ),
            (
                "(iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/139.0 Mobile/15E148 Safari/604.1",
                "Chrome, iPad",
            ),
            (
                "(Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0 Mobile Safari/537.36",
                "Samsung Internet, Android",
            ),
            (
                "(Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0 Mobile Safari/537.36",
                "Chrome, Android",
            ),
        ] {
            assert_eq!(named(&format!("{mozilla}{agent}")).as_deref(), Some(told), "{agent}");
        }
    }

    #[test]
    fn nothing_of_its_own_words_is_repeated() {
        for agent in
            ["curl/8.5.0", "SomeApp/1.0 (Windows)", "visit http://evil.example <b>now</b>\r\nBcc: x@y.nl", ""]
        {
            assert_eq!(named(agent), None, "{agent}");
        }
        assert_eq!(named("<b>Firefox/140 (Windows)\r\nBcc: x@y.nl").as_deref(), Some("Firefox, Windows"));
    }
}
