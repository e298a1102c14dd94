//! Kinds of objects as people type them. It knows no fields.

use crate::config::rules_v1alpha1::RuleKind;

/// The kinds, as messages list them.
pub(super) const KINDS: &str = "destination-policy, egress-rule, ingress-rule, route-rule";

/// A word that names no kind of the language.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no configuration type {0}, the types are {KINDS}")]
pub(super) struct UnknownKind(String);

/// Reads `route-rule`, `route-rules`, and the `routerule` of the generation after.
pub(super) fn parse(word: &str) -> Result<RuleKind, UnknownKind> {
    let plain = word.to_ascii_lowercase().replace('-', "");
    let is_named = |kind: &RuleKind| {
        let name = kind.name().replace('-', "");
        let plural = match name.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{name}s"),
        };
        plain == name || plain == plural
    };
    let found = RuleKind::ALL.into_iter().find(is_named);
    found.ok_or_else(|| UnknownKind(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_in_every_spelling() {
        for (kind, words) in [
            (
                RuleKind::RouteRule,
                ["route-rule", "route-rules", "routerule", "RouteRule"],
            ),
            (
                RuleKind::DestinationPolicy,
                [
                    "destination-policy",
                    "destination-policies",
                    "destinationpolicy",
                    "DestinationPolicies",
                ],
            ),
            (
                RuleKind::IngressRule,
                ["ingress-rule", "ingress-rules", "ingressrule", "IngressRules"],
            ),
            (
                RuleKind::EgressRule,
                ["egress-rule", "egress-rules", "egressrule", "EgressRules"],
            ),
        ] {
            for word in words {
                assert_eq!(parse(word), Ok(kind), "{word}");
            }
        }
        assert_eq!(
            parse("pod").unwrap_err().to_string(),
            "there is no configuration type pod, the types are destination-policy, egress-rule, ingress-rule, route-rule"
        );
        assert_eq!(
            KINDS,
            RuleKind::ALL.map(RuleKind::name).join(", "),
            "the kinds as messages list them"
        );
    }
}
