//! Answers "where does this go, and why?" from a snapshot, by the code that routes, and from what the kernel holds.
//!
//! It serves the admin address and the offline command alike, and knows neither of them.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use router_rules::{
    Snapshot,
    connection::Connection,
    explain::{self, Outcome as RuleOutcome},
    matcher::Request,
    snapshot::{Port, Route, Subset},
};

use super::dump::{
    Asked, Decision, EndpointDump, Explanation, KernelSide, KernelSubset, Outcome, PolicyDump, Step,
    TargetOutcome, snapshot::milliseconds,
};
use super::ejections::Ejections;
use crate::enforce::breaker::Breakers;
use crate::observe::{Held, Observed, Routing};

mod destination;
mod ingress;
pub(crate) mod words;

pub use destination::{Destination, DestinationError};

/// Header fields that a question may carry.
pub const MAX_HEADERS: usize = 100;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// `namespace/name` of the calling workload, or the address of an unknown caller; none: an unknown caller of which
    /// not even that is known.
    pub from: Option<String>,
    /// Method; `GET` unless given.
    pub method: Option<String>,
    /// Header fields as `Name: value`.
    pub headers: Vec<String>,
    /// URL, or host and port.
    pub destination: String,
    /// It is a request from outside, to the port of the node that the URL names; `from` is an address then.
    pub ingress: bool,
}

/// Why a question has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExplainError {
    /// The destination is none.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The caller is not known.
    #[error("no workload is called {name} ({hint})")]
    UnknownCaller {
        /// As asked.
        name: String,
        /// What there is instead.
        hint: String,
    },
    /// The method is none.
    #[error("{0:?} is no method (try GET)")]
    Method(String),
    /// A header field is none.
    #[error("{0:?} is no header field (write Name: value)")]
    Header(String),
    /// No ingress rule is for the port.
    #[error("no ingress rule is for port {port} of the node ({hint})")]
    NoGateway {
        /// As asked.
        port: u16,
        /// What there is instead.
        hint: String,
    },
    /// Only requests come in at ports of the node.
    #[error("ports of the node speak HTTP (write http:// or https:// in front)")]
    NotHttp,
    /// There are too many header fields.
    #[error("more than {MAX_HEADERS} header fields")]
    TooManyHeaders,
}

/// What is known beside the snapshot.
#[derive(Clone, Copy)]
pub struct Seen<'s> {
    /// The kernel half: use of limits and endpoints, and what it holds.
    pub observed: Option<&'s dyn Observed>,
    /// Who is ejected.
    pub ejections: &'s Ejections,
    /// What is under way under limits on requests; none: nobody knows.
    pub breakers: Option<&'s Breakers>,
}

/// Answers a question by `snapshot`, with what is `seen` of the running agent.
///
/// # Errors
///
/// The question names something that is not there, or makes no sense.
pub fn explain(
    snapshot: &Snapshot,
    seen: Seen<'_>,
    question: &Question,
) -> Result<Explanation, ExplainError> {
    if question.ingress {
        return ingress::explain(snapshot, seen, question);
    }
    let destination: Destination = question.destination.parse()?;
    let destination = destination.sending(sent_host(question));
    let client = question.from.as_deref().and_then(address);
    let from = question
        .from
        .as_deref()
        .filter(|_| client.is_none())
        .map(qualified);
    let caller = from.as_deref().map(|name| known(snapshot, name)).transpose()?;
    let namespace = from
        .as_deref()
        .and_then(|f| f.split_once('/'))
        .map_or(DEFAULT_NAMESPACE, |(ns, _)| ns);
    let confined = seen.observed.is_some_and(Observed::refuses_unknown);
    let port = destination.find(snapshot, namespace).map_err(|error| {
        if confined {
            Destination::judged(snapshot, error)
        } else {
            error
        }
    })?;
    let class = snapshot.class_of(caller);
    let parts = Parts::new(question, &destination, port)?;
    let request = parts.request();
    let frontend = destination.frontend(port);
    let connection = Connection {
        class,
        client,
        dialled: frontend.map(|frontend| frontend.ip()),
    };
    let route = match &request {
        Some(request) => snapshot.route_http(port, connection, request),
        None => snapshot.route_connection(port, connection),
    };
    let l4_fault = snapshot.route_connection(port, connection).l4_fault();
    let by_proxy = port.needs_proxy() || l4_fault.is_some();
    let transport = port.protocol().transport();
    let held = frontend.and_then(|f| seen.observed?.held(transport, f, from.as_deref()));
    Ok(Explanation {
        generation: snapshot.generation(),
        asked: Asked {
            from: from.or(client.map(|address| address.to_string())),
            class: class.0,
            method: request.is_some().then(|| parts.method.to_string()),
            destination: question.destination.clone(),
            headers: parts.shown_headers(),
        },
        service: port.service().to_string(),
        port: port.number(),
        protocol: port.protocol().name().to_owned(),
        frontends: port.frontends().to_vec(),
        routed_by: if by_proxy { "proxy" } else { "kernel" }.to_owned(),
        rules: steps(snapshot, port, connection, request.as_ref()),
        decision: Decision {
            connection_faults: l4_fault.map(words::l4_faults).unwrap_or_default(),
            ..decision(snapshot, seen, &route, request.as_ref())
        },
        kernel: held.as_ref().map(kernel_side),
        ingress: None,
    })
}

/// The `Host` among a question's header fields.
fn sent_host(question: &Question) -> Option<&str> {
    let fields = question.headers.iter().filter_map(|line| line.split_once(':'));
    let mut hosts = fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case("host"));
    hosts.next().map(|(_, host)| host.trim())
}

/// Namespace of names that say none.
const DEFAULT_NAMESPACE: &str = "default";

/// The address of a caller that is named by it: one that the registry does not know.
fn address(from: &str) -> Option<IpAddr> {
    let address: IpAddr = from.parse().ok()?;
    Some(address.to_canonical())
}

fn qualified(name: &str) -> String {
    if name.contains('/') {
        name.to_owned()
    } else {
        format!("{DEFAULT_NAMESPACE}/{name}")
    }
}

fn known(snapshot: &Snapshot, name: &str) -> Result<router_rules::source::WorkloadId, ExplainError> {
    snapshot
        .workload(name)
        .ok_or_else(|| ExplainError::UnknownCaller {
            name: name.to_owned(),
            hint: words::did_you_mean(name, snapshot.workloads().iter().map(|w| &*w.name)),
        })
}

/// The parts of a request, owned.
struct Parts {
    http: bool,
    method: Method,
    path: String,
    scheme: String,
    authority: String,
    headers: HeaderMap,
}

impl Parts {
    fn new(question: &Question, destination: &Destination, port: &Port) -> Result<Self, ExplainError> {
        let http = port.protocol().is_http();
        Ok(Self {
            http,
            ..Self::of_request(question, destination)?
        })
    }

    fn of_request(question: &Question, destination: &Destination) -> Result<Self, ExplainError> {
        let method = question.method.as_deref().unwrap_or("GET");
        let headers = headers(&question.headers)?;
        let host = headers.get(http::header::HOST).and_then(|h| h.to_str().ok());
        Ok(Self {
            http: destination.is_http(),
            method: method
                .parse()
                .map_err(|_| ExplainError::Method(method.to_owned()))?,
            path: destination.path.clone(),
            scheme: destination.http_scheme().to_owned(),
            authority: host.map_or_else(|| destination.authority(), str::to_owned),
            headers,
        })
    }

    fn request(&self) -> Option<Request<'_>> {
        self.http.then_some(Request {
            method: &self.method,
            path: &self.path,
            scheme: &self.scheme,
            authority: &self.authority,
            headers: &self.headers,
        })
    }

    fn shown_headers(&self) -> Vec<(String, String)> {
        let text = |v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        self.headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect()
    }
}

fn headers(lines: &[String]) -> Result<HeaderMap, ExplainError> {
    if lines.len() > MAX_HEADERS {
        return Err(ExplainError::TooManyHeaders);
    }
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || ExplainError::Header(line.clone());
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        headers.append(name, value.trim().parse().map_err(|_| wrong())?);
    }
    Ok(headers)
}

fn steps(
    snapshot: &Snapshot,
    port: &Port,
    connection: Connection,
    request: Option<&Request<'_>>,
) -> Vec<Step> {
    let step = |step: explain::Step| {
        let rule = snapshot.rule(step.rule);
        let origin = rule.origin();
        let (outcome, reasons) = outcome(&step.outcome);
        Step {
            rule: origin.object.to_string(),
            file: origin.file.to_string(),
            line: origin.line,
            precedence: rule.precedence(),
            conditions: explain::conditions(snapshot, rule),
            outcome,
            reasons,
        }
    };
    explain::explain(snapshot, port, connection, request)
        .into_iter()
        .map(step)
        .collect()
}

fn outcome(found: &RuleOutcome) -> (Outcome, Vec<String>) {
    match found {
        RuleOutcome::Matched => (Outcome::Matched, Vec::new()),
        RuleOutcome::NotReached => (Outcome::NotReached, Vec::new()),
        RuleOutcome::NotMatched(reasons) => (
            Outcome::NotMatched,
            reasons.iter().map(ToString::to_string).collect(),
        ),
    }
}

fn decision(
    snapshot: &Snapshot,
    seen: Seen<'_>,
    route: &Route<'_>,
    request: Option<&Request<'_>>,
) -> Decision {
    let rule = route.rule();
    let for_request = rule.filter(|_| request.is_some());
    let headers = request.map(|request| request.headers);
    let forwarded = for_request.is_none_or(|rule| {
        let preflight = request.and_then(|request| rule.cors()?.preflight(request));
        rule.redirect().is_none() && preflight.is_none()
    });
    // The table that routes says the shares: apportionment may round what was written.
    let share = |target: usize| match rule.map(|r| r.table().slots()) {
        None => 100.0,
        Some([]) => 0.0,
        Some(slots) => {
            let own = slots.iter().filter(|&&s| usize::from(s) == target).count();
            own as f64 * 100.0 / slots.len() as f64
        }
    };
    let targets = route.targets().enumerate();
    Decision {
        rule: rule.map(|r| r.origin().object.to_string()),
        refusal: route
            .pick(0)
            .is_err()
            .then(|| router_common::reason::Reason::NoWeight.name().to_owned()),
        actions: request
            .map(|request| words::actions(snapshot, route, request))
            .unwrap_or_default(),
        timeout_ms: for_request
            .filter(|_| forwarded)
            .zip(headers)
            .map(|(_, headers)| milliseconds(route.timeout(headers))),
        retries: for_request
            .zip(headers)
            .filter(|_| forwarded)
            .and_then(|(rule, headers)| rule.retries(headers))
            .filter(|retries| retries.attempts > 0)
            .map(|retries| words::retries(&retries)),
        faults: for_request
            .zip(headers)
            .map(|(rule, headers)| words::faults(&rule.fault(headers)))
            .unwrap_or_default(),
        connection_faults: Vec::new(),
        targets: targets
            .filter(|_| forwarded)
            .map(|(i, (subset, weight))| target(snapshot, seen, (route, subset), (weight, share(i))))
            .collect(),
    }
}

fn target(
    snapshot: &Snapshot,
    Seen {
        observed,
        ejections,
        breakers,
    }: Seen<'_>,
    (route, subset): (&Route<'_>, &Subset),
    (weight, share): (u32, f64),
) -> TargetOutcome {
    let policy = route.policy(subset).map(|id| snapshot.policy(id));
    // The kernel counts where somebody acts on the number; the proxy's own connections are always counted.
    let counted = snapshot.acts_on_connections(subset) || route.port().needs_proxy();
    let endpoint = |e: &router_rules::model::Endpoint| {
        let in_use = observed.and_then(|o| o.endpoint(e.address));
        EndpointDump {
            address: e.address,
            workload: e.workload.as_deref().map(str::to_owned),
            active: in_use.filter(|_| counted).map(|u| u.active),
            connects: in_use.map(|u| u.connects),
            ejected_until: ejections.until(snapshot, route.policy(subset), (subset.protocol(), e)),
        }
    };
    let no_endpoints = router_common::reason::Reason::NoEndpoints.name();
    TargetOutcome {
        service: subset.service().to_string(),
        port: subset.port(),
        labels: subset.labels().to_string(),
        weight,
        share,
        load_balancing: route.load_balancing(subset).name().to_owned(),
        policy: policy.map(|p| {
            let limit = p.max_connections.and_then(|_| observed?.limit(&p.origin.object));
            let requests = breakers.and_then(|b| b.usage(&p.origin.object));
            PolicyDump::new(p, limit.map(Into::into), requests)
        }),
        refusal: subset.endpoints().is_empty().then(|| no_endpoints.to_owned()),
        endpoints: subset.endpoints().iter().map(endpoint).collect(),
    }
}

fn kernel_side(held: &Held) -> KernelSide {
    let refusal = match held.routing {
        Routing::Refuse(reason) => Some(reason.map_or("unknown", |r| r.name()).to_owned()),
        _ => None,
    };
    let subsets = held.subsets.iter().map(|subset| KernelSubset {
        slots: subset.slots,
        balance: subset.balance.to_owned(),
        limit: subset.limit.map(Into::into),
        endpoints: subset
            .endpoints
            .iter()
            .map(|&(address, in_use)| EndpointDump {
                address,
                workload: None,
                active: subset.counted.then_some(in_use.active),
                connects: Some(in_use.connects),
                ejected_until: None,
            })
            .collect(),
    });
    KernelSide {
        routing: held.routing.name().to_owned(),
        refusal,
        cursor: held.cursor,
        subsets: subsets.collect(),
    }
}

#[cfg(test)]
mod tests;
