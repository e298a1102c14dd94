//! One request, from top to bottom.
//!
//! It says what happens in which order; how is the business of the modules that it calls.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION, request};
use http_body::Body as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use router_rules::{
    Snapshot,
    action::{AbortWith, Fault},
    gateway::Astray,
    matcher,
    snapshot::{Route, Rule, Subset},
    status::Http2Error,
};
use tokio::time::{Instant, sleep};

use super::{
    body::{Metered, Replay, RequestBody, ResponseBody, Transfer, Upstream},
    connection::Session,
    decide::{NoRoute, class, decide, decide_entry},
    disclosure::Additions,
    error::{Kind, ProxyError, Side},
    exchange::Exchange,
    forward::{Answer, Deadline, Destination, Outbound, OutboundBody, forward},
    headers::{self, BodyFraming},
    mirror::{self, Mirrors},
    respond::{self, Dialect, OwnAnswer},
    upgrade,
    upstream::limited_policy,
};

/// Serves a request.
///
/// # Errors
///
/// A rule's fault resets the request instead of answering it.
pub(crate) async fn serve(
    session: Arc<Session>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Reset> {
    let (head, body) = request.into_parts();
    let mut exchange = Exchange::begin(&session, &head);
    let dialect = exchange.dialect;
    let mut additions = Additions::default();
    let outcome = answer(&mut exchange, &mut additions, head, body)
        .await
        .map_err(|error| exchange.blame(error));
    additions.went(&exchange, outcome.as_ref().err().map(|error| error.kind));
    // Whoever sends a request that is refused for its form may mean the next bytes as something else as well.
    let malformed = outcome
        .as_ref()
        .is_err_and(|error| error.side() == Side::Downstream);
    let own = !matches!(outcome, Ok(Reply::Forwarded(_)));
    let mut response = match outcome {
        Ok(Reply::Forwarded(forwarded)) => forwarded.into_response(exchange),
        Ok(Reply::Own(own)) => respond::answer(own, exchange),
        Err(error) => match error.abort {
            Some(AbortWith::Http2Error(code)) => return Err(reset(code, &error, exchange)),
            _ => respond::refuse(error, dialect, exchange),
        },
    };
    additions.write(response.headers_mut());
    let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let spoilt = malformed || session.activity.answered(tunnel);
    // Nobody waits for the rest of a request whose answer no endpoint has sent.
    let cut = own && session.activity.is_unfinished();
    if (spoilt || cut || session.is_ending()) && !session.is_http2() && !tunnel {
        if spoilt {
            session.activity.refuse();
        }
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

/// A request that is neither forwarded nor answered, as its rule asks.
#[derive(Debug, thiserror::Error)]
#[error("a rule's fault resets the request")]
pub(crate) struct Reset(
    /// hyper looks for it among the causes, and resets the stream with its reason.
    #[source]
    h2::Error,
);

fn reset(code: Http2Error, error: &ProxyError, mut exchange: Exchange) -> Reset {
    exchange.fail(error);
    let session = exchange.session();
    if session.is_http2() {
        session.activity.resets_by_rule();
    } else {
        session.activity.abort();
    }
    Reset(h2::Reason::from(code.number()).into())
}

async fn answer(
    exchange: &mut Exchange,
    additions: &mut Additions,
    mut head: request::Parts,
    body: Incoming,
) -> Result<Reply, ProxyError> {
    let session = exchange.session().clone();
    let worker = &session.worker;
    let client = head.extensions.remove::<OnUpgrade>();
    exchange.admit(&mut head)?;
    if let Some(door) = &session.door {
        headers::at_edge(&mut head.headers, &session.forwarded_for, door.forwarded_proto());
    }
    let explained = worker.disclosure().explain.as_ref();
    let explained = explained.filter(|name| head.headers.remove(*name).is_some());
    // Rules are nobody's business outside.
    let explained = explained.filter(|_| session.door.is_none());

    let view = worker.views().load();
    let route = route(exchange, &session, &view.snapshot, &head)?;
    exchange.routed(&route);
    if let Some(name) = explained {
        let class = class(&view.snapshot, session.caller());
        additions.explain(name, &view.snapshot, &route, (class, &seen(&session, &head)));
    }
    if let Some(rule) = route.rule() {
        inject(rule.fault(&head.headers)).await?;
        if let Some(own) = own_answer(rule, &seen(&session, &head), additions)? {
            return Ok(Reply::Own(own));
        }
    }

    let turn = worker.views().take_turn(&view, &route);
    let subset = route
        .pick(turn)
        .map_err(|_| ProxyError::new(Kind::NoWeight, "every weight is zero"))?;
    exchange.picked(subset);
    let retries = route.rule().and_then(|rule| rule.retries(&head.headers));
    let state = worker.views().subset(&view, subset);
    let destination = Destination {
        subset,
        http2: speaks_http2(&route, subset, &session),
        state,
        load_balancing: route.load_balancing(subset),
        watch: state.watch(route.policy(subset)),
        limits: worker.views().request_limits(&view, &route, subset),
        policy: limited_policy(&view.snapshot, &route, subset),
        retries: retries.as_ref(),
    };

    let timeout = route.timeout(&head.headers);
    let http2 = destination.http2;
    let tunnel = client.filter(|_| !http2 && headers::is_upgrade(&head.headers));
    additions.picked(subset, timeout);
    let mut mirrors = Mirrors::choose(&session, &view, &route, &head);
    let body = outbound_body(exchange, &destination, &mut mirrors, body);
    forward_as(&mut head, &session, &route);
    exchange.forwarded(&head.headers);
    headers::append(&mut head.headers, route.rule().map_or(&[], Rule::append_headers));
    rewrite(&mut head, &route)?;
    mirrors.start(worker, &head, || {
        Deadline::new(mirror::timeout(timeout), Instant::now(), exchange.request.clone())
    });
    headers::address(&mut head, http2, framing(&body))?;

    let deadline = Deadline::new(timeout, Instant::now(), exchange.request.clone());
    let answer = forward(exchange, &destination, Outbound { head, body }, deadline.clone()).await?;
    Ok(Reply::Forwarded(Forwarded {
        answer,
        deadline,
        tunnel,
    }))
}

/// The answer to a request that its rule wants no endpoint to see. Of one that is forwarded, pages of an allowed origin
/// may read the response, also when it is a refusal.
fn own_answer(
    rule: &Rule,
    request: &matcher::Request<'_>,
    additions: &mut Additions,
) -> Result<Option<OwnAnswer>, ProxyError> {
    if let Some(cors) = rule.cors() {
        if let Some(allowed) = cors.preflight(request) {
            return Ok(Some(OwnAnswer::preflight(allowed)));
        }
        if let Some(origin) = cors.allowed_origin(request.headers) {
            cors.annotate(origin.clone(), additions.fields());
        }
    }
    let Some(redirect) = rule.redirect() else {
        if rule.refuses_upgrades() && headers::is_upgrade(request.headers) {
            let detail = "the rule allows no upgrades";
            return Err(ProxyError::new(Kind::UpgradeNotAllowed, detail));
        }
        return Ok(None);
    };
    let location = redirect.location(request);
    OwnAnswer::redirect(redirect.status, &location).map(Some)
}

/// Gives the request the path and host that its rule wants endpoints to see.
fn rewrite(head: &mut request::Parts, route: &Route<'_>) -> Result<(), ProxyError> {
    let Some(rewrite) = route.rule().map(Rule::rewrite).filter(|r| !r.is_empty()) else {
        return Ok(());
    };
    if let Some(host) = &rewrite.authority {
        headers::rewrite_host(head, host)?;
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    match route.rewritten_path(path) {
        Some(path) => headers::rewrite_path(head, &path),
        None => Ok(()),
    }
}

/// Where the request goes, from wherever it came.
fn route<'s>(
    exchange: &mut Exchange,
    session: &Session,
    snapshot: &'s Snapshot,
    head: &request::Parts,
) -> Result<Route<'s>, ProxyError> {
    const NO_ROUTE: ProxyError = ProxyError::new(Kind::NoRoute, "no rule of this port matches");
    let request = seen(session, head);
    let Some(door) = &session.door else {
        return Ok(decide(snapshot, &session.call(), &request)?);
    };
    let entrance = door.entrance(snapshot).ok_or(NO_ROUTE)?;
    match decide_entry(snapshot, entrance, &session.call(), &request) {
        Ok(entered) => {
            exchange.let_in(entered.rule);
            Ok(entered.route)
        }
        Err(Astray::NoRule) => Err(NO_ROUTE),
        Err(Astray::NoService(rule)) => {
            exchange.let_in(rule);
            Err(NoRoute::NoService.into())
        }
    }
}

const fn framing(body: &OutboundBody) -> BodyFraming {
    match body {
        OutboundBody::Empty => BodyFraming::Empty,
        OutboundBody::Once(_) | OutboundBody::Replay(_) => BodyFraming::Unknown,
    }
}

/// Says whose request it is and for which host. What is nobody's is not told whose it was.
fn forward_as(head: &mut request::Parts, session: &Session, route: &Route<'_>) {
    headers::complete_host(head, session.destination);
    if !route.port().is_elsewhere() {
        headers::add_forwarding(&mut head.headers, &session.forwarded_for);
    }
}

/// True when HTTP/2 is spoken to the endpoints. What is nobody's goes on as it came.
fn speaks_http2(route: &Route<'_>, subset: &Subset, session: &Session) -> bool {
    if route.port().is_elsewhere() {
        session.is_http2()
    } else {
        subset.protocol().is_http2()
    }
}

/// What the engine sees of a request.
fn seen<'h>(session: &Session, head: &'h request::Parts) -> matcher::Request<'h> {
    matcher::Request {
        method: &head.method,
        path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
        // At the node's own ports what clients say of their scheme is nothing to go by.
        scheme: match &session.door {
            Some(door) => door.scheme(),
            None => head.uri.scheme_str().unwrap_or("http"),
        },
        authority: headers::host(&head.headers),
        headers: &head.headers,
    }
}

/// Holds the request up, then answers it, as the rule's draws say.
async fn inject(fault: Fault) -> Result<(), ProxyError> {
    if let Some(delay) = &fault.delay
        && delay.fraction.takes(fastrand::u64(..))
    {
        sleep(delay.time.duration(fastrand::u64(..))).await;
    }
    if let Some(abort) = &fault.abort
        && abort.fraction.takes(fastrand::u64(..))
    {
        return Err(ProxyError::fault(abort.with));
    }
    Ok(())
}

fn outbound_body(
    exchange: &mut Exchange,
    destination: &Destination<'_>,
    mirrors: &mut Mirrors,
    body: Incoming,
) -> OutboundBody {
    if body.is_end_stream() {
        return OutboundBody::Empty;
    }
    let transfer = Arc::new(Transfer::default());
    exchange.request = Some(transfer.clone());
    let mut body = Metered::new(body, transfer);
    body.allow(exchange.allowance());
    mirrors.tap(&mut body, exchange.session().worker.limits().mirror_bytes);
    if destination.retries.is_some_and(|retries| retries.attempts > 0) {
        let bound = exchange.session().worker.limits().replay_bytes;
        OutboundBody::Replay(Replay::new(body, bound))
    } else {
        OutboundBody::Once(Some(RequestBody::Stream(Box::new(body))))
    }
}

/// What a request is answered with.
enum Reply {
    Forwarded(Forwarded),
    /// No endpoint was asked.
    Own(OwnAnswer),
}

/// An endpoint's answer with what is needed to pass it on.
struct Forwarded {
    answer: Answer,
    deadline: Deadline,
    /// The client's side of the tunnel that it asked for.
    tunnel: Option<OnUpgrade>,
}

impl Forwarded {
    fn into_response(self, mut exchange: Exchange) -> Response<ResponseBody> {
        let Answer {
            response,
            lease,
            under_way,
        } = self.answer;
        let (mut head, body) = response.into_parts();
        let upstream = head.extensions.remove::<OnUpgrade>();
        head.version = http::Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(client), Some(upstream)) = (self.tunnel, upstream) else {
                let error = ProxyError::new(Kind::UpstreamProtocolError, "protocol error");
                return respond::refuse(error, Dialect::Http, exchange);
            };
            headers::sanitise_response(&mut head.headers, true);
            exchange.responds(head.status.as_u16());
            upgrade::splice(client, upstream, under_way, exchange);
            return Response::from_parts(head, ResponseBody::none());
        }
        headers::sanitise_response(&mut head.headers, false);
        exchange.responds(head.status.as_u16());
        let upstream = Upstream {
            body,
            lease: Some(lease),
            under_way,
            deadline: self.deadline,
            expiry: None,
        };
        Response::from_parts(head, ResponseBody::upstream(upstream, exchange))
    }
}
