//! Conditions that no request can meet, whatever the services are.
//!
//! It knows what requests look like, and nothing of rules.

use router_rules::text::TextMatch;

/// Methods whose names are upper case; requests that spell them otherwise have another method.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
/// Schemes that a request can have.
const SCHEMES: [&str; 2] = ["http", "https"];

/// What is wrong, and what to do about it.
type Problem = (String, &'static str);

/// Why no request has such a `part`, which is a pseudo header or the name of a header in lower case; none when some
/// may have it.
pub(super) fn reason(part: &str, wanted: &TextMatch) -> Option<Problem> {
    if matches!(wanted, TextMatch::Regex(regex) if regex.is_impossible()) {
        let message = "the regular expression matches no value at all".to_owned();
        return Some((message, "an empty class, `[]`, matches nothing"));
    }
    match part {
        "uri" => path(wanted),
        "scheme" => scheme(wanted),
        "method" => method(wanted),
        "authority" => authority(wanted),
        _ => header(wanted),
    }
}

fn path(wanted: &TextMatch) -> Option<Problem> {
    let begins = match wanted {
        // A request to the server as a whole has the path `*`.
        TextMatch::Exact(text) => text.starts_with('/') || text == "*",
        TextMatch::Prefix(text) => text.starts_with('/') || text == "*",
        TextMatch::Regex(regex) => regex.may_begin_with('/') || wanted.matches("*"),
        TextMatch::Present => true,
    };
    if !begins {
        return Some((
            "every path begins with `/`".to_owned(),
            "write it with a `/` in front",
        ));
    }
    let (TextMatch::Exact(text) | TextMatch::Prefix(text)) = wanted else {
        return None;
    };
    if text.contains('?') {
        let hint = "leave the query out; it is not looked at";
        return Some(("the path is compared without its query".to_owned(), hint));
    }
    let strange = text.chars().find(|c| c.is_control() || matches!(c, ' ' | '#'));
    strange.map(|c| {
        let message = format!("no path has the character {c:?}");
        (message, "write it as the request does, as %XX")
    })
}

fn scheme(wanted: &TextMatch) -> Option<Problem> {
    let never = !SCHEMES.iter().any(|scheme| wanted.matches(scheme));
    never.then(|| {
        let message = "the scheme of a request is http or https".to_owned();
        (message, "write it in lower case, without `://`")
    })
}

fn method(wanted: &TextMatch) -> Option<Problem> {
    let TextMatch::Exact(text) = wanted else {
        return None;
    };
    if http::Method::from_bytes(text.as_bytes()).is_err() {
        return Some((format!("`{text}` is no method"), "name one method, such as GET"));
    }
    let upper = text.to_ascii_uppercase();
    let misspelled = *text != upper && METHODS.contains(&upper.as_str());
    misspelled.then(|| {
        let message = format!("no client sends `{text}`: methods mind case");
        (message, "write it in upper case")
    })
}

fn authority(wanted: &TextMatch) -> Option<Problem> {
    let TextMatch::Exact(text) = wanted else {
        return None;
    };
    text.parse::<http::uri::Authority>().is_err().then(|| {
        let message = format!("`{text}` is no host with or without a port");
        (
            message,
            "write it as reviews.example.com or reviews.example.com:8080",
        )
    })
}

fn header(wanted: &TextMatch) -> Option<Problem> {
    let is_space = |c: char| matches!(c, ' ' | '\t');
    let (text, padded) = match wanted {
        TextMatch::Exact(text) => (text, text.starts_with(is_space) || text.ends_with(is_space)),
        TextMatch::Prefix(text) => (text, text.starts_with(is_space)),
        TextMatch::Regex(_) | TextMatch::Present => return None,
    };
    if padded {
        let hint = "leave the white space out";
        return Some(("white space around a value is not part of it".to_owned(), hint));
    }
    let control = text.chars().find(|&c| c.is_control() && c != '\t');
    control.map(|c| (format!("no value has the character {c:?}"), ""))
}

#[cfg(test)]
mod tests {
    use router_rules::text::WholeRegex;

    use super::*;

    #[test]
    fn only_what_no_request_has_is_reported() {
        let exact = |text: &str| TextMatch::Exact(text.to_owned());
        let prefix = |text: &str| TextMatch::Prefix(text.to_owned());
        let regex = |text| TextMatch::Regex(WholeRegex::ecmascript(text).unwrap().0);
        let impossible = [
            ("uri", exact("reviews")),
            ("uri", prefix("reviews")),
            ("uri", regex("reviews/.*")),
            ("uri", exact("/a?b=c")),
            ("uri", prefix("/a b")),
            ("scheme", exact("HTTP")),
            ("scheme", prefix("http:")),
            ("scheme", regex("ftp|ws")),
            ("method", exact("get")),
            ("method", exact("GET POST")),
            ("authority", exact("a/b")),
            ("x-user", exact(" jason")),
            ("x-user", prefix("\tjason")),
            ("x-user", exact("a\nb")),
            ("x-user", regex("a[]")),
        ];
        for (part, wanted) in &impossible {
            assert!(reason(part, wanted).is_some(), "{part} {wanted}");
        }
        let possible = [
            ("uri", exact("/")),
            ("uri", exact("*")),
            ("uri", regex(".*/x")),
            ("scheme", prefix("http")),
            ("method", exact("PURGE")),
            ("method", exact("purge")),
            ("authority", exact("a:80")),
            ("x-user", exact("")),
            ("x-user", prefix("jason ")),
            ("x-user", TextMatch::Present),
        ];
        for (part, wanted) in &possible {
            assert_eq!(reason(part, wanted), None, "{part} {wanted}");
        }
    }
}
