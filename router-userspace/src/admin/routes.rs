//! Path → answer. It knows no sockets.

use http::{Method, StatusCode, Uri, header};
use serde::Serialize;

use super::{
    View,
    dump::SnapshotDump,
    ejections::Ejections,
    explain::{Question, Seen, explain},
};

/// Paths and what they answer.
pub const ENDPOINTS: &[(&str, &str)] = &[
    ("/healthz", "200 while the agent runs"),
    ("/readyz", "200 when it routes; 503 with what it waits for"),
    ("/status", "configuration, hooks, services, limits (JSON)"),
    ("/metrics", "metrics in the OpenMetrics text format"),
    ("/snapshot", "the compiled configuration in force (JSON)"),
    ("/maps", "what the kernel holds (JSON)"),
    (
        "/explain",
        "?destination=URL[&from=ns/pod][&method=M][&header=Name: value]…[&ingress=true] (JSON)",
    ),
];

/// Length of a query that is read, in bytes.
const MAX_QUERY: usize = 16 * 1024;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer with its whole body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Answers a request.
pub(super) fn answer(view: &View, method: &Method, uri: &Uri) -> http::Response<String> {
    let answer = match *method {
        Method::GET | Method::HEAD => get(view, uri),
        _ => text(
            StatusCode::METHOD_NOT_ALLOWED,
            "the admin address is read-only: use GET",
        ),
    };
    let mut response = http::Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(answer.content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn get(view: &View, uri: &Uri) -> Answer {
    match uri.path() {
        "/" => text(StatusCode::OK, &index()),
        "/healthz" => text(StatusCode::OK, "ok"),
        "/readyz" => readyz(view),
        "/status" => json(&view.status()),
        "/metrics" => Answer {
            status: StatusCode::OK,
            content_type: METRICS_TYPE,
            body: view.metrics.encode(),
        },
        "/snapshot" => json(&SnapshotDump::new(
            &view.live.load(),
            &Ejections::now(&view.outliers),
        )),
        "/maps" => match view.maps() {
            Ok(maps) => json(&maps),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        },
        "/explain" => explained(view, uri.query().unwrap_or_default()),
        _ => text(StatusCode::NOT_FOUND, &index()),
    }
}

fn index() -> String {
    ENDPOINTS
        .iter()
        .map(|(path, what)| format!("{path:10} {what}\n"))
        .collect()
}

fn readyz(view: &View) -> Answer {
    match &view.readiness.blockers()[..] {
        [] => text(StatusCode::OK, "ready"),
        blockers => text(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("waiting for {}", blockers.join(", ")),
        ),
    }
}

fn explained(view: &View, query: &str) -> Answer {
    let question = match question(query) {
        Ok(question) => question,
        Err(problem) => return text(StatusCode::BAD_REQUEST, &problem),
    };
    let ejections = Ejections::now(&view.outliers);
    let seen = Seen {
        observed: view.observed.as_deref(),
        ejections: &ejections,
        breakers: Some(&view.breakers),
    };
    match explain(&view.live.load(), seen, &question) {
        Ok(explanation) => json(&explanation),
        Err(error) => text(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

fn question(query: &str) -> Result<Question, String> {
    if query.len() > MAX_QUERY {
        return Err(format!("the query is longer than {MAX_QUERY} bytes"));
    }
    let mut question = Question::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*name {
            "destination" => question.destination = value,
            "from" => question.from = Some(value),
            "method" => question.method = Some(value),
            "header" => question.headers.push(value),
            "ingress" => question.ingress = value != "false",
            other => {
                return Err(format!(
                    "unknown parameter {other:?} (use destination, from, method, header, ingress)"
                ));
            }
        }
    }
    if question.destination.is_empty() {
        return Err("the parameter destination is missing".to_owned());
    }
    Ok(question)
}

fn text(status: StatusCode, text: &str) -> Answer {
    Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: format!("{}\n", text.trim_end()),
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(body) => Answer {
            status: StatusCode::OK,
            content_type: "application/json",
            body: body + "\n",
        },
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{live::Live, metrics::Metrics, readiness::Readiness};

    fn view() -> View {
        let live = Arc::new(Live::default());
        View {
            outliers: Arc::default(),
            breakers: Arc::default(),
            listening: Arc::default(),
            metrics: Arc::new(Metrics::new(live.clone(), None)),
            live,
            observed: None,
            readiness: Readiness::default(),
            config: "/etc/router".into(),
        }
    }

    fn ask(view: &View, method: Method, uri: &str) -> (StatusCode, String) {
        let response = answer(view, &method, &uri.parse().unwrap());
        (response.status(), response.into_body())
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let view = view();
        let block = view.readiness.block("configuration");
        let (status, body) = ask(&view, Method::GET, "/readyz");
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for configuration\n")
        );
        assert_eq!(ask(&view, Method::GET, "/healthz").0, StatusCode::OK);
        drop(block);
        assert_eq!(ask(&view, Method::GET, "/readyz").0, StatusCode::OK);
    }

    #[test]
    fn only_reading_is_allowed() {
        let response = answer(&view(), &Method::POST, &"/status".parse().unwrap());
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
    }

    #[test]
    fn every_path_answers() {
        let view = view();
        for (path, _) in ENDPOINTS {
            assert_ne!(ask(&view, Method::GET, path).0, StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(ask(&view, Method::GET, "/nothing").0, StatusCode::NOT_FOUND);
        let (_, status) = ask(&view, Method::GET, "/status");
        assert!(
            status.contains("\"hooksError\": \"the kernel half is not loaded\""),
            "{status}"
        );
    }

    #[test]
    fn questions_are_read_from_the_query() {
        let read =
            question("destination=http%3A%2F%2Freviews%3A9080%2F&from=default/a&header=Foo:+bar&header=A:b");
        let read = read.unwrap();
        assert_eq!(read.destination, "http://reviews:9080/");
        assert_eq!(read.headers, ["Foo: bar", "A:b"]);
        assert!(question("").unwrap_err().contains("missing"));
        assert!(
            question("destinatoin=x")
                .unwrap_err()
                .contains("unknown parameter")
        );
        assert!(
            question(&"x".repeat(MAX_QUERY + 1))
                .unwrap_err()
                .contains("longer")
        );
        assert_eq!(
            ask(&view(), Method::GET, "/explain?destination=a:1").0,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}
