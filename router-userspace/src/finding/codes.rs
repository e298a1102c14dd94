//! The list of everything a configuration can be told: stable code, severity, and what it means.
//!
//! Documentation is generated from this list; a code is never renamed or given another meaning.

use super::Severity;

/// A kind of finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    /// Stable name in kebab-case.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means, in one line.
    pub explanation: &'static str,
}

macro_rules! codes {
    ($($constant:ident = $severity:ident $name:literal: $explanation:literal;)+) => {
        $(#[doc = $explanation]
        pub const $constant: Code = Code {
            name: $name,
            severity: Severity::$severity,
            explanation: $explanation,
        };)+

        /// Every code, in the order of this list.
        pub const ALL: &[Code] = &[$($constant),+];
    };
}

codes! {
    // Reading files.
    UNREADABLE_FILE = Error "unreadable-file": "The file or directory cannot be read, or is not UTF-8 text.";
    TOO_LARGE = Error "too-large": "The configuration is beyond a stated limit of size, files or documents.";
    SYNTAX = Error "syntax": "The text is not YAML, repeats a key, nests too deep, or expands aliases without end.";
    NO_CONFIGURATION = Warning "no-configuration": "There is no document to read.";
    // Documents.
    UNKNOWN_KIND = Error "unknown-kind": "The document is neither a rule nor a Kubernetes object.";
    IGNORED_KIND = Warning "ignored-kind": "A Kubernetes object of a kind that routing does not read was skipped.";
    NOT_SUPPORTED_YET = Error "not-supported-yet": "A field or kind of the rule languages that router does not do yet.";
    UNKNOWN_FIELD = Error "unknown-field": "The rule language has no field of this name here.";
    WRONG_TYPE = Error "wrong-type": "The value has another type than the field takes.";
    CONFLICTING_FIELDS = Error "conflicting-fields": "Two fields, or two spellings of one field, exclude each other.";
    CONTRADICTORY_ACTIONS = Error "contradictory-actions": "A rule has two actions of which one would keep the other from happening.";
    MISSING_FIELD = Error "missing-field": "A field that must be there is not.";
    INVALID_NAME = Error "invalid-name": "An object, namespace or service has a name that DNS would not take.";
    DUPLICATE_NAME = Error "duplicate-name": "Two objects of one kind have the same name.";
    OBJECT_IN_TWO_FILES = Error "object-in-two-files": "An object of the same kind and name is in another file; neither takes the place of the other.";
    // Values.
    MISSING_DESTINATION = Error "missing-destination": "The rule or policy does not say which service it is for.";
    INVALID_MATCH = Error "invalid-match": "A header condition must have exactly one of exact, prefix and regex.";
    INVALID_HEADER_NAME = Error "invalid-header-name": "HTTP allows no header of this name.";
    FORBIDDEN_HEADER = Error "forbidden-header": "A rule may not write a header that frames messages or names the host.";
    INVALID_REGEX = Error "invalid-regex": "The regular expression cannot be compiled for linear-time matching.";
    INVALID_DURATION = Error "invalid-duration": "The duration cannot be read, is zero, negative or too long.";
    PERCENT_OUT_OF_RANGE = Error "percent-out-of-range": "A percentage must be between 0 and 100.";
    WEIGHT_OUT_OF_RANGE = Error "weight-out-of-range": "A weight must be between 0 and 100.";
    INVALID_STATUS = Error "invalid-status": "An abort names an HTTP status, gRPC status or HTTP/2 error code that does not exist.";
    INVALID_VALUE = Error "invalid-value": "The value is not one that the field takes.";
    LIMIT_OF_ZERO = Error "limit-of-zero": "A limit of 0 could mean none or no limit, so it is not taken.";
    INVALID_SUBNET = Error "invalid-subnet": "A condition names a subnet that is neither an address nor an address and a prefix length.";
    INVALID_EGRESS_DESTINATION = Error "invalid-egress-destination": "An egress rule's destination is neither a domain, `*.domain`, an address nor a network.";
    DUPLICATE_PORT = Error "duplicate-port": "Egress rules open one port of a destination twice.";
    NO_ADDRESS_OF_ITS_OWN = Error "no-address-of-its-own": "A rule of another service routes or copies to a network, or to hosts below a name.";
    EGRESS_TO_SERVICE = Error "egress-to-service": "An egress rule's destination is a service of the registry.";
    INGRESS_PORT_TAKEN = Error "ingress-port-taken": "An ingress rule's port is one that the agent itself listens on.";
    INGRESS_TLS_CONFLICT = Error "ingress-tls-conflict": "Ingress rules of one port disagree on whether it speaks TLS.";
    UNKNOWN_SECRET = Error "unknown-secret": "An ingress rule names a Secret that there is not.";
    INCOMPLETE_SECRET = Error "incomplete-secret": "The Secret of an ingress rule lacks its certificate or its key.";
    INVALID_CERTIFICATE = Error "invalid-certificate": "The Secret of an ingress rule has no certificate in PEM that can be read.";
    INVALID_KEY = Error "invalid-key": "The Secret of an ingress rule has no private key in PEM that can be used.";
    KEY_MISMATCH = Error "key-mismatch": "The private key of a Secret is not that of its certificate.";
    INVALID_ADDRESS = Error "invalid-address": "A registry object has an address that is no IP address.";
    REGEX_DIFFERS = Warning "regex-differs": "A part of the regular expression means something else, or nothing, in ECMAScript.";
    IMPOSSIBLE_MATCH = Warning "impossible-match": "No request has what the rule asks for, so it can never match.";
    UNKNOWN_PORT = Warning "unknown-port": "A port is named that the service does not have.";
    // The registry.
    FRONTEND_CONFLICT = Error "frontend-conflict": "Two services claim one address and port.";
    CAPACITY = Error "capacity": "The configuration does not fit in the kernel's maps.";
    IGNORED_PORT = Warning "ignored-port": "A service port that is neither TCP nor UDP is not routed.";
    IGNORED_SERVICE = Warning "ignored-service": "A service that has no address of its own in the cluster is not routed.";
    IGNORED_ENDPOINTS = Warning "ignored-endpoints": "An EndpointSlice belongs to no known service or holds host names.";
    // What has no effect, or another than it seems.
    NO_SERVICES = Warning "no-services": "There are rules but no services, so rules were checked only by themselves.";
    UNKNOWN_SERVICE = Warning "unknown-service": "No service has the name that a rule or policy uses.";
    NO_MATCHING_ENDPOINTS = Warning "no-matching-endpoints": "No endpoint carries the tags of a route now; requests to it are refused.";
    NO_MATCHING_SOURCE = Warning "no-matching-source": "No workload satisfies the source condition now.";
    ORIGIN_NEVER_MATCHES = Warning "origin-never-matches": "An allowed origin is not written as browsers send origins, so it allows nothing.";
    UNMATCHED_TRANSPORT = Warning "unmatched-transport": "The rule is for TCP or UDP only, and no port of its destination is.";
    UNMATCHED_DESTINATION = Warning "unmatched-destination": "No address of the rule's destination is in the subnets that it asks for.";
    WEIGHTS_SUM = Warning "weights-sum": "The weights of a rule do not sum to 100; they are used in proportion.";
    CERTIFICATE_EXPIRED = Warning "certificate-expired": "The certificate of an ingress rule is not valid any more; clients refuse it.";
    CERTIFICATE_NOT_YET_VALID = Warning "certificate-not-yet-valid": "The certificate of an ingress rule is not valid yet; clients refuse it.";
    CERTIFICATE_OTHER_HOST = Warning "certificate-other-host": "No certificate of the port is for the host that an ingress rule asks for.";
    PRECEDENCE_TIE = Warning "precedence-tie": "Two rules of a destination have equal precedence; the object names decide.";
    UNREACHABLE_RULE = Warning "unreachable-rule": "An earlier rule takes everything that this one could match.";
    POLICY_NEVER_APPLIES = Warning "policy-never-applies": "No rule routes explicitly to the tags of this policy.";
    POLICY_TIE = Warning "policy-tie": "Two policies are for the same destination, tags and callers; the object names decide.";
    CUSTOM_HAS_NO_EFFECT = Warning "custom-has-no-effect": "The language leaves `custom` to the implementation; router does nothing with it.";
    LIMIT_HAS_NO_EFFECT = Warning "limit-has-no-effect": "The limit can never be reached as the policy is written.";
    L4_FAULT_HAS_NO_EFFECT = Warning "l4-fault-has-no-effect": "No connection can suffer the rule's l4Fault, or a part of it, as the rule is written.";
    HTTP_MATCH_ON_TCP_PORT = Warning "http-match-on-tcp-port": "The rule or policy needs HTTP, but no port of its destination speaks HTTP.";
    NO_EJECTION = Warning "no-ejection": "The policy is to eject failing endpoints, but some of them can never be ejected.";
    SHORT_SLEEP_WINDOW = Warning "short-sleep-window": "Ejections end with sweeps, so the sleep window lasts longer than it says.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_kebab_case() {
        let mut names: Vec<_> = ALL.iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(allowed)));
        assert!(ALL.iter().all(|c| c.explanation.ends_with('.')));
    }
}
