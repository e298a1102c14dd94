//! Kinds of objects as people type them. It knows no fields.

use crate::config::rules_v1alpha1::RuleKind;

/// The kinds, as messages list them.
pub(super) const KINDS: &str = "destination-policy, egress-rule, ingress-rule, route-rule";

/// Why a word names no kind that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KindError {
    /// Not a kind of the language.
    #[error("there is no configuration type {0}, the types are {KINDS}")]
    Unknown(String),
    /// One that router does not do yet.
    #[error("{0} is not supported yet")]
    NotSupportedYet(&'static str),
}

/// Reads `route-rule`, `route-rules`, and the `routerule` of the generation after.
pub(super) fn parse(word: &str) -> Result<RuleKind, KindError> {
    let plain = word.to_ascii_lowercase().replace('-', "");
    match plain.as_str() {
        "routerule" | "routerules" => Ok(RuleKind::RouteRule),
        "destinationpolicy" | "destinationpolicies" => Ok(RuleKind::DestinationPolicy),
        "ingressrule" | "ingressrules" => Err(KindError::NotSupportedYet("ingress-rule")),
        "egressrule" | "egressrules" => Err(KindError::NotSupportedYet("egress-rule")),
        _ => Err(KindError::Unknown(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_in_every_spelling() {
        for word in ["route-rule", "route-rules", "routerule", "RouteRule"] {
            assert_eq!(parse(word).unwrap(), RuleKind::RouteRule);
        }
        for word in ["destination-policy", "destination-policies", "destinationpolicy"] {
            assert_eq!(parse(word).unwrap(), RuleKind::DestinationPolicy);
        }
        assert!(matches!(
            parse("ingress-rules"),
            Err(KindError::NotSupportedYet("ingress-rule"))
        ));
        assert!(matches!(
            parse("egress-rule"),
            Err(KindError::NotSupportedYet("egress-rule"))
        ));
        assert_eq!(
            parse("pod").unwrap_err().to_string(),
            "there is no configuration type pod, the types are destination-policy, egress-rule, ingress-rule, route-rule"
        );
    }
}
