//! Header fields that a rule adds to what is forwarded.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::Compiler;
use crate::finding::codes;

/// Fields that say where a message ends, whom it is for or what becomes of the connection.
const FORBIDDEN: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Compiler<'_> {
    pub(super) fn append_headers(
        &mut self,
        fields: Option<&BTreeMap<String, String>>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in fields.into_iter().flatten() {
            let Some((name, value)) = self.append_header(name, value) else {
                continue;
            };
            if headers.iter().any(|(other, _)| *other == name) {
                let message = format!("`{name}` is there in another case already");
                let hint = "names of headers do not mind case; keep one";
                let field = format!("appendHeaders.{name}");
                self.report(&codes::CONFLICTING_FIELDS, &field, message, hint);
            }
            headers.push((name, value));
        }
        headers
    }

    fn append_header(&mut self, name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
        let field = format!("appendHeaders.{name}");
        let Ok(header) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) else {
            let message = format!("`{name}` is no name of a header");
            self.report(&codes::INVALID_HEADER_NAME, &field, message, "");
            return None;
        };
        if FORBIDDEN.contains(&header.as_str()) {
            let message = format!("`{name}` is not a rule's to write");
            let hint = if header == http::header::HOST {
                "use `rewrite.authority`"
            } else {
                "remove it"
            };
            self.report(&codes::FORBIDDEN_HEADER, &field, message, hint);
            return None;
        }
        match HeaderValue::from_str(value) {
            Ok(valid) if !value.trim().is_empty() => Some((header, valid)),
            _ => {
                let message = "the value is empty, or has characters that no header takes";
                self.report(&codes::INVALID_VALUE, &field, message, "");
                None
            }
        }
    }
}
