//! Actions in words. It knows no formats.

use std::num::NonZeroU32;

use http::{HeaderValue, header::UPGRADE};
use router_rules::{
    Snapshot,
    action::{AbortWith, DelayTime, Fault, Fraction, Retries},
    cors::Cors,
    l4_fault::{L4Fault, Shape, Start},
    matcher::Request,
    policy::{HttpLimits, OutlierDetection},
    snapshot::{Port, Route, Rule},
};

/// Names listed in a hint.
const MAX_NAMED: usize = 5;
/// Letters that may be wrong in a name that something else is suggested for.
const MAX_TYPOS: usize = 2;

/// `3 after the first attempt, each within 2s`
pub(crate) fn retries(retries: &Retries) -> String {
    let within = retries
        .per_try_timeout
        .map(|t| format!(", each within {t:?}"))
        .unwrap_or_default();
    format!("{} after the first attempt{within}", retries.attempts)
}

/// `redirect with 301 to http://new/`, `rewrite the path to /new`
pub(super) fn actions(snapshot: &Snapshot, route: &Route<'_>, request: &Request<'_>) -> Vec<String> {
    let Some(rule) = route.rule() else {
        return Vec::new();
    };
    if let Some(answer) = rule.cors().and_then(|cors| cors.preflight(request)) {
        let fields = answer
            .iter()
            .map(|(name, value)| format!("{name}: {}", text(value)));
        return [vec!["answer the preflight with 200".to_owned()], fields.collect()].concat();
    }
    let redirect = rule
        .redirect()
        .map(|r| format!("redirect with {} to {}", r.status, r.location(request)));
    let is_refused = rule.refuses_upgrades() && request.headers.contains_key(UPGRADE);
    let refusal = (redirect.is_none() && is_refused).then(|| "refuse the upgrade with 403".to_owned());
    let path = route
        .rewritten_path(request.path)
        .map(|path| format!("rewrite the path to {path}"));
    let host = &rule.rewrite().authority;
    let host = host.as_ref().map(|host| format!("rewrite the host to {host}"));
    let appended = rule.append_headers().iter();
    let appended = appended.map(|(name, value)| format!("append {name}: {}", text(value)));
    let origin = rule.cors().and_then(|cors| cors.allowed_origin(request.headers));
    let origin = origin.map(|origin| format!("let pages of {} read the response", text(origin)));
    let copies = mirrors(snapshot, rule)
        .into_iter()
        .map(|mirror| format!("copy {mirror}"));
    redirect
        .into_iter()
        .chain(refusal)
        .chain(appended)
        .chain(path)
        .chain(host)
        .chain(origin)
        .chain(copies)
        .collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What a rule changes of requests, or answers instead, whatever the request.
pub(crate) fn changes(snapshot: &Snapshot, rule: &Rule) -> Vec<(&'static str, String)> {
    let address = |authority: &Option<String>, uri: &Option<String>| {
        let host = authority.as_ref().map(|host| format!("host {host}"));
        let path = uri.as_ref().map(|path| format!("path {path}"));
        host.into_iter().chain(path).collect::<Vec<_>>().join(", ")
    };
    let redirect = rule.redirect().map(|r| {
        (
            "redirect",
            format!("{} to {}", r.status, address(&r.authority, &r.uri)),
        )
    });
    let rewrite = Some(rule.rewrite()).filter(|r| !r.is_empty());
    let rewrite = rewrite.map(|r| ("rewrite", address(&r.authority, &r.uri)));
    let headers: Vec<_> = rule
        .append_headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", text(value)))
        .collect();
    let headers = (!headers.is_empty()).then(|| ("headers", headers.join(", ")));
    let cors = rule.cors().map(|allowed| ("cors", cors(allowed)));
    let mirrors = mirrors(snapshot, rule);
    let mirrors = (!mirrors.is_empty()).then(|| ("mirror", mirrors.join(", ")));
    let upgrades = rule
        .refuses_upgrades()
        .then(|| ("upgrades", "refused".to_owned()));
    redirect
        .into_iter()
        .chain(rewrite)
        .chain(headers)
        .chain(cors)
        .chain(mirrors)
        .chain(upgrades)
        .collect()
}

/// `origins exact "https://shop.example"; methods GET,POST; for 1m; with credentials`
fn cors(cors: &Cors) -> String {
    let origins: Vec<_> = cors.origins.iter().map(ToString::to_string).collect();
    let listed = [
        ("methods", &cors.methods),
        ("headers", &cors.headers),
        ("exposed", &cors.expose),
    ];
    let listed = listed
        .into_iter()
        .filter_map(|(what, names)| Some(format!("{what} {}", text(names.as_ref()?))));
    let age = cors.max_age.map(|age| format!("for {age:?}"));
    let credentials = cors.credentials.then(|| "with credentials".to_owned());
    let origins = format!("origins {}", origins.join(" or "));
    [origins]
        .into_iter()
        .chain(listed)
        .chain(age)
        .chain(credentials)
        .collect::<Vec<_>>()
        .join("; ")
}

/// `every request to ratings.default.svc.cluster.local:9080 version=v2`
fn mirrors(snapshot: &Snapshot, rule: &Rule) -> Vec<String> {
    let mirror = |&(subset, fraction): &_| {
        let subset = snapshot.subset(subset);
        let (service, port, labels) = (subset.service(), subset.port(), subset.labels());
        let lost = if subset.endpoints().is_empty() {
            ", where there is no endpoint"
        } else {
            ""
        };
        format!("{} to {service}:{port} {labels}{lost}", share(fraction))
    };
    rule.mirrors().iter().map(mirror).collect()
}

fn share(fraction: Fraction) -> String {
    if fraction == Fraction::ALL {
        "every request".to_owned()
    } else {
        format!("{} % of requests", fraction.percent())
    }
}

/// `delay of 5s for 10 % of requests`
pub(crate) fn faults(fault: &Fault) -> Vec<String> {
    let time = |time: DelayTime| match time {
        DelayTime::Fixed(time) => format!("of {time:?}"),
        DelayTime::Exponential { mean } => format!("of {mean:?} on average"),
    };
    let with = |with: AbortWith| match with {
        AbortWith::HttpStatus(status) => format!("status {status}"),
        AbortWith::GrpcStatus(status) => format!("gRPC status {} ({})", status.number(), status.name()),
        AbortWith::Http2Error(code) => format!("a reset ({})", code.name()),
    };
    let delay = fault
        .delay
        .map(|d| format!("delay {} for {}", time(d.time), share(d.fraction)));
    let abort = fault
        .abort
        .map(|a| format!("abort with {} for {}", with(a.with), share(a.fraction)));
    delay.into_iter().chain(abort).collect()
}

/// What routes a port: `proxy`, `kernel`, or `by-rule`, where the rules that have faults for connections send theirs to the
/// proxy.
pub(crate) const fn routed_by(port: &Port) -> &'static str {
    if port.needs_proxy() {
        "proxy"
    } else if port.has_l4_faults() {
        "by-rule"
    } else {
        "kernel"
    }
}

/// `throttle of every connection: 8000 bit/s to the client; after 5s`, `reset of 10 % of connections at once`
pub(crate) fn l4_faults(fault: &L4Fault) -> Vec<String> {
    let of = |fraction| match fraction {
        Fraction::ALL => "every connection".to_owned(),
        part => format!("{} % of connections", part.percent()),
    };
    let throttle = fault
        .throttle
        .map(|t| format!("throttle of {}: {}", of(t.fraction), shape(&t.shape)));
    let terminate = fault.terminate.map(|t| {
        let when = if t.after.is_zero() {
            "at once".to_owned()
        } else {
            format!("after {:?}", t.after)
        };
        format!("reset of {} {when}", of(t.fraction))
    });
    throttle.into_iter().chain(terminate).collect()
}

fn shape(shape: &Shape) -> String {
    let to_client = shape
        .to_client
        .map(|limit| format!("{limit} bit/s to the client"));
    let to_endpoint = shape
        .to_endpoint
        .map(|limit| format!("{limit} bit/s to the endpoint"));
    let start = match shape.start {
        Start::AT_ONCE => None,
        Start::After(time) => Some(format!("after {time:?}")),
        Start::AfterBytes(bytes) => Some(format!("after {bytes} bytes to the endpoint")),
    };
    let duration = shape.duration.map(|time| format!("for {time:?}"));
    let limits: Vec<_> = to_client.into_iter().chain(to_endpoint).collect();
    [limits.join(", ")]
        .into_iter()
        .chain(start)
        .chain(duration)
        .collect::<Vec<_>>()
        .join("; ")
}

/// `did you mean a?`, else `there are a, b, c and 4 more`.
pub(super) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    // By distance, not by likeness: names of one namespace share most of their letters.
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(k, name), k))
        .min();
    match near {
        None => "there is none".to_owned(),
        Some((distance, near)) if distance <= MAX_TYPOS => format!("did you mean {near}?"),
        Some(_) if known.len() <= MAX_NAMED => format!("there are {}", known.join(", ")),
        Some(_) => format!(
            "there are {} and {} more",
            known[..MAX_NAMED].join(", "),
            known.len() - MAX_NAMED
        ),
    }
}

/// Ejection of failing endpoints: `up to 10 % after 5 errors in a row, for 30s or more`.
pub(crate) fn outlier_detection(settings: &OutlierDetection) -> String {
    let errors = match settings.consecutive_errors {
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors in a row"),
    };
    format!(
        "up to {} % after {errors}, for {:?} or more",
        settings.max_ejection_percent, settings.base_ejection
    )
}

/// Limits on requests: `at most 100 requests`, `at most 20 waiting`.
pub(crate) fn http_limits(limits: &HttpLimits) -> Vec<String> {
    let said = [
        (limits.max_requests, "at most {} at once"),
        (limits.max_pending_requests, "at most {} waiting"),
        (
            limits.max_requests_per_connection.map(NonZeroU32::get),
            "at most {} per connection",
        ),
        (limits.max_retries, "at most {} retries at once"),
    ];
    let limits = said.into_iter().filter_map(|(max, text)| Some((max?, text)));
    limits
        .map(|(max, text)| text.replace("{}", &max.to_string()))
        .collect()
}
