//! The 0.1 rules language as it is written, in all its historical spellings: strings and numbers, no behaviour.
//!
//! Every field may be absent here; [`compile`](crate::compile) says which must be there. Fields of the language that
//! router does not do yet are not in these types but in [`NOT_SUPPORTED_YET`].

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Fields of the language that are refused by name, as paths without list positions. A field below one of these is
/// never reached.
pub const NOT_SUPPORTED_YET: &[(RuleKind, &str)] = {
    use RuleKind::{DestinationPolicy as Policy, RouteRule as Rule};
    &[
        (Rule, "mirror"),
        (Rule, "corsPolicy"),
        (Rule, "l4Fault"),
        (Rule, "match.tcp"),
        (Rule, "match.udp"),
        (Rule, "httpReqTimeout.custom"),
        (Rule, "httpReqRetries.custom"),
        (Policy, "source"),
        (Policy, "custom"),
        (Policy, "policy.custom"),
        (Policy, "loadBalancing.custom"),
        (Policy, "policy.loadBalancing.custom"),
        (Policy, "circuitBreaker.custom"),
        (Policy, "policy.circuitBreaker.custom"),
        (Policy, "circuitBreaker.simpleCb.httpMaxPendingRequests"),
        (Policy, "circuitBreaker.simpleCb.httpMaxRequests"),
        (Policy, "circuitBreaker.simpleCb.sleepWindow"),
        (Policy, "circuitBreaker.simpleCb.sleepWindowSeconds"),
        (Policy, "circuitBreaker.simpleCb.httpConsecutiveErrors"),
        (Policy, "circuitBreaker.simpleCb.httpDetectionInterval"),
        (Policy, "circuitBreaker.simpleCb.httpDetectionIntervalSeconds"),
        (Policy, "circuitBreaker.simpleCb.httpMaxRequestsPerConnection"),
        (Policy, "circuitBreaker.simpleCb.httpMaxEjectionPercent"),
        (Policy, "circuitBreaker.simpleCb.httpMaxRetries"),
    ]
};

/// Kinds of objects of the language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RuleKind {
    /// `route-rule`, `RouteRule`.
    RouteRule,
    /// `destination-policy`, `DestinationPolicy`.
    DestinationPolicy,
}

impl RuleKind {
    /// The kind's name in the `type` of an envelope.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RouteRule => "route-rule",
            Self::DestinationPolicy => "destination-policy",
        }
    }
}

/// How calls of a destination are routed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RouteRule {
    /// Service whose callers get this rule.
    pub destination: Option<ServiceReference>,
    /// Larger is tried first; 0.
    pub precedence: Option<i32>,
    /// Conditions; none: every call.
    pub r#match: Option<MatchCondition>,
    /// Weighted destinations; none: every instance.
    pub route: Option<Vec<DestinationWeight>>,
    /// Answer that sends the client elsewhere.
    pub redirect: Option<Address>,
    /// Another path or host towards the endpoint.
    pub rewrite: Option<Address>,
    /// Whether connections may become WebSockets; they may.
    #[serde(alias = "websocket_upgrade")]
    pub websocket_upgrade: Option<bool>,
    /// Fields added to what is forwarded.
    #[serde(alias = "append_headers")]
    pub append_headers: Option<BTreeMap<String, String>>,
    /// Limit of the whole request.
    #[serde(alias = "http_req_timeout")]
    pub http_req_timeout: Option<HttpTimeout>,
    /// Retries.
    #[serde(alias = "http_req_retries")]
    pub http_req_retries: Option<HttpRetry>,
    /// Faults to inject.
    #[serde(alias = "http_fault")]
    pub http_fault: Option<HttpFault>,
}

/// Conditions of a rule. All must hold.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct MatchCondition {
    /// Service of the caller.
    pub source: Option<ServiceReference>,
    /// Labels that the caller must carry.
    #[serde(alias = "source_tags")]
    pub source_tags: Option<Labels>,
    /// Conditions on headers, and on the pseudo headers `uri`, `scheme`, `method`, `authority`.
    #[serde(alias = "http_headers")]
    pub http_headers: Option<BTreeMap<String, StringMatch>>,
    /// The same in the spelling of 0.2.
    pub request: Option<RequestMatch>,
}

/// Conditions on a request, as 0.2 spells them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestMatch {
    /// As [`MatchCondition::http_headers`].
    pub headers: Option<BTreeMap<String, StringMatch>>,
}

/// Exactly one comparison.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StringMatch {
    /// The whole value.
    pub exact: Option<String>,
    /// The beginning of the value.
    pub prefix: Option<String>,
    /// Regular expression for the whole value.
    pub regex: Option<String>,
}

/// One weighted destination.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationWeight {
    /// Another service than the rule's.
    pub destination: Option<ServiceReference>,
    /// Labels of the instances.
    pub tags: Option<Labels>,
    /// The same in the spelling of 0.2.
    pub labels: Option<Labels>,
    /// Share in percent.
    pub weight: Option<i64>,
}

/// Pairs that select instances.
pub type Labels = BTreeMap<String, String>;

/// Another path, another host, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Address {
    /// The path.
    pub uri: Option<String>,
    /// The host, perhaps with a port.
    pub authority: Option<String>,
}

/// Limit of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpTimeout {
    /// The only kind.
    #[serde(alias = "simple_timeout")]
    pub simple_timeout: Option<SimpleTimeout>,
}

/// Limit of a request in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleTimeout {
    /// As text: `10s`.
    pub timeout: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "timeout_seconds")]
    pub timeout_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// Retries of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// The only kind.
    #[serde(alias = "simple_retry")]
    pub simple_retry: Option<SimpleRetry>,
}

/// Number of retries, with the limit of each try in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleRetry {
    /// Tries after the first.
    pub attempts: Option<i64>,
    /// As text.
    #[serde(alias = "per_try_timeout")]
    pub per_try_timeout: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "per_try_timeout_seconds")]
    pub per_try_timeout_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// Faults to inject.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpFault {
    /// Before forwarding.
    pub delay: Option<Delay>,
    /// Instead of forwarding.
    pub abort: Option<Abort>,
}

/// A delay in one of two spellings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Delay {
    /// Share of requests; all.
    pub percent: Option<f64>,
    /// As text.
    #[serde(alias = "fixed_delay")]
    pub fixed_delay: Option<DurationText>,
    /// In seconds.
    #[serde(alias = "fixed_delay_seconds")]
    pub fixed_delay_seconds: Option<f64>,
    /// Mean of delays that differ, as text.
    #[serde(alias = "exponential_delay")]
    pub exponential_delay: Option<DurationText>,
    /// The same in seconds.
    #[serde(alias = "exponential_delay_seconds")]
    pub exponential_delay_seconds: Option<f64>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// An answer instead of forwarding.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Abort {
    /// Share of requests; all.
    pub percent: Option<f64>,
    /// Status of the answer.
    #[serde(alias = "http_status")]
    pub http_status: Option<i64>,
    /// gRPC status of the answer.
    #[serde(alias = "grpc_status")]
    pub grpc_status: Option<StatusText>,
    /// HTTP/2 error code that the stream is reset with.
    #[serde(alias = "http2_error")]
    pub http2_error: Option<StatusText>,
    /// Header whose value takes the place of the rule's.
    #[serde(alias = "override_header_name")]
    pub override_header_name: Option<String>,
}

/// What holds for every call of a destination, in the flat and in the list layout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DestinationPolicy {
    /// The service.
    pub destination: Option<ServiceReference>,
    /// Flat: labels that a rule must route to explicitly.
    pub tags: Option<Labels>,
    /// Flat: how an endpoint is picked.
    #[serde(alias = "load_balancing")]
    pub load_balancing: Option<LoadBalancing>,
    /// Flat: limits.
    #[serde(alias = "circuit_breaker")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// List: one policy per set of labels.
    pub policy: Option<Vec<VersionPolicy>>,
}

/// One entry of the list layout.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct VersionPolicy {
    /// As [`DestinationPolicy::tags`].
    pub tags: Option<Labels>,
    /// As [`DestinationPolicy::load_balancing`].
    #[serde(alias = "load_balancing")]
    pub load_balancing: Option<LoadBalancing>,
    /// As [`DestinationPolicy::circuit_breaker`].
    #[serde(alias = "circuit_breaker")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// Limits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    /// The only kind.
    #[serde(alias = "simple_cb")]
    pub simple_cb: Option<SimpleCircuitBreaker>,
}

/// Limits by number.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SimpleCircuitBreaker {
    /// Connections that may be open at once.
    #[serde(alias = "max_connections")]
    pub max_connections: Option<i64>,
}

/// A service by its name, or in the structured form of 0.2.
#[derive(Debug)]
pub enum ServiceReference {
    /// `reviews.default.svc.cluster.local`, or the beginning of it.
    Name(String),
    /// Structured.
    Structured(IstioService),
}

/// A service in the structured form of 0.2.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IstioService {
    /// Short name.
    pub name: Option<String>,
    /// Namespace; the rule's own.
    pub namespace: Option<String>,
    /// What follows the namespace; `svc.cluster.local`.
    pub domain: Option<String>,
    /// The full name, instead of the three above.
    pub service: Option<String>,
    /// Labels of its instances.
    pub labels: Option<Labels>,
}

/// Load balancing as `RANDOM`, `2` or `{name: RANDOM}`.
#[derive(Debug)]
pub struct LoadBalancing(
    /// The name or number as written.
    pub String,
);

/// A duration as text; a bare number is kept as text too, so that the finding can say how to write it.
#[derive(Debug)]
pub struct DurationText(
    /// The text.
    pub String,
);

/// A status by its name or number, as text.
#[derive(Debug)]
pub struct StatusText(
    /// The name or number as written.
    pub String,
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedLoadBalancing {
    name: LoadBalancing,
}

/// Takes a scalar as text, or an object.
struct ScalarOr<T, O> {
    expecting: &'static str,
    scalar: fn(String) -> T,
    object: Option<fn(O) -> T>,
    _object: PhantomData<O>,
}

impl<'de, T, O: Deserialize<'de>> Visitor<'de> for ScalarOr<T, O> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        Ok((self.scalar)(value.to_owned()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let Some(object) = self.object else {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        O::deserialize(MapAccessDeserializer::new(map)).map(object)
    }
}

impl<'de> Deserialize<'de> for ServiceReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr {
            expecting: "a service's name",
            scalar: Self::Name,
            object: Some(Self::Structured),
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for LoadBalancing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr {
            expecting: "ROUND_ROBIN, RANDOM or LEAST_CONN",
            scalar: Self,
            object: Some(|object: NamedLoadBalancing| object.name),
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr::<Self, serde::de::IgnoredAny> {
            expecting: "a duration such as \"10s\"",
            scalar: Self,
            object: None,
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for StatusText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr::<Self, serde::de::IgnoredAny> {
            expecting: "a status such as UNAVAILABLE",
            scalar: Self,
            object: None,
            _object: PhantomData,
        })
    }
}
