//! A client with a cookie jar that the test can look into, copy and put back. Follows no redirect by itself.

use std::collections::BTreeMap;

use reqwest::{
    Client, Method, RequestBuilder, StatusCode,
    header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE},
};

/// One browser profile for one origin.
#[derive(Clone)]
pub struct Browser {
    client: Client,
    origin: String,
    /// Host header, when it differs from the origin.
    host: Option<String>,
    /// Cookies by name.
    pub jar: BTreeMap<String, String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header.
    pub headers: HeaderMap,
    /// Body as text.
    pub body: String,
}

impl Answer {
    /// The `Location`, or "".
    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The value of a hidden field of the first form that has it.
    pub fn field(&self, name: &str) -> String {
        let marker = format!("name=\"{name}\"");
        let tag = self
            .body
            .split('<')
            .find(|tag| tag.contains(&marker) && tag.contains("value=\""))
            .unwrap_or_else(|| panic!("no field {name} in:\n{}", self.body));
        tag.split("value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    /// A fresh profile.
    pub fn new(origin: &str) -> Self {
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self::with_client(client, origin)
    }

    /// A fresh profile that talks by this client, which must follow no redirect.
    pub fn with_client(client: Client, origin: &str) -> Self {
        Self { client, origin: origin.to_owned(), host: None, jar: BTreeMap::new() }
    }

    /// The same with another `Host`.
    pub fn with_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The origin it talks to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// A request as a browser's navigation makes it, with this profile's cookies.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.origin))
            .header("accept", "text/html,application/xhtml+xml")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-dest", "document");
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        if !self.jar.is_empty() {
            let line = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
            request = request.header(COOKIE, line);
        }
        request
    }

    /// Sends it and keeps the cookies of the answer.
    pub async fn send(&mut self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        for line in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie::Cookie::parse(line.to_str().unwrap().to_owned()).unwrap();
            let gone = cookie.max_age().is_some_and(|a| a.is_zero() || a.is_negative())
                || cookie.expires_datetime().is_some_and(|t| t.unix_timestamp() < 1_000_000_000);
            if gone {
                self.jar.remove(cookie.name());
            } else {
                self.jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    /// GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path);
        self.send(request).await
    }

    /// GET, following redirects on this origin.
    pub async fn visit(&mut self, path: &str) -> Answer {
        let mut answer = self.get(path).await;
        for _ in 0..10 {
            if !answer.status.is_redirection() {
                return answer;
            }
            answer = self.follow(&answer).await;
        }
        panic!("too many redirects from {path}");
    }

    /// Goes where an answer points.
    pub async fn follow(&mut self, answer: &Answer) -> Answer {
        let location = answer.location().strip_prefix(&self.origin).unwrap_or(answer.location()).to_owned();
        assert!(location.starts_with('/'), "off this origin: {location:?} from {answer:?}");
        self.get(&location).await
    }

    /// POST of a form.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .request(Method::POST, path)
            .header("origin", &self.origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.send(request).await
    }

    /// POST of a form on a page of this host.
    pub async fn post_from(&mut self, host: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .request(Method::POST, path)
            .header("origin", format!("http://{host}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        self.send(request).await
    }

    /// A request as a script's `fetch` makes it.
    pub fn fetch(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.origin))
            .header("accept", "application/json")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-site", "same-origin");
        if !self.jar.is_empty() {
            let line = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
            request = request.header(COOKIE, line);
        }
        request
    }
}
