//! Why a decision was made: every rule in order, with the condition that failed.
//!
//! It evaluates the same conditions that decide; that both agree is a property test.

use crate::{
    connection::Connection,
    gateway::{Entrance, EntranceRule},
    matcher::{Conditions, Mismatch, Request, are_none},
    snapshot::{Port, Rule, RuleId, Snapshot},
    source::ClassId,
};

/// A rule that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The rule.
    pub rule: RuleId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It matched; evaluation ended here.
    Matched,
    /// No alternative held; one reason per alternative.
    NotMatched(Vec<Mismatch>),
    /// An earlier rule had matched.
    NotReached,
}

/// Explains the decision on a request, or on a connection when there is none.
pub fn explain(
    snapshot: &Snapshot,
    port: &Port,
    connection: impl Into<Connection>,
    request: Option<&Request<'_>>,
) -> Vec<Step> {
    steps(snapshot, port, connection, request).collect()
}

/// As [`explain`], rule by rule: one that is not asked for is not evaluated.
pub fn steps<'s>(
    snapshot: &'s Snapshot,
    port: &'s Port,
    connection: impl Into<Connection>,
    request: Option<&'s Request<'_>>,
) -> impl Iterator<Item = Step> + 's {
    let connection = connection.into();
    let mut matched = false;
    port.rules().iter().map(move |&rule| {
        let outcome = if matched {
            Outcome::NotReached
        } else {
            outcome(snapshot, &snapshot.rule(rule).any_of, &connection, request)
        };
        matched |= outcome == Outcome::Matched;
        Step { rule, outcome }
    })
}

/// The conditions of a rule in words, one text per alternative: `uri prefix "/x", source reviews{version=v2}`. Empty:
/// it always matches.
pub fn conditions(snapshot: &Snapshot, rule: &Rule) -> Vec<String> {
    in_words(snapshot, &rule.any_of)
}

/// As [`conditions`], of a gateway's rule.
pub fn conditions_of_entrance(snapshot: &Snapshot, rule: &EntranceRule) -> Vec<String> {
    in_words(snapshot, &rule.any_of)
}

/// Explains which rule of a gateway lets a request in; `connection` and `request` as for [`Snapshot::enter`].
pub fn entrance_steps<'s>(
    snapshot: &Snapshot,
    entrance: &'s Entrance,
    connection: Connection,
    request: &Request<'_>,
) -> Vec<(&'s EntranceRule, Outcome)> {
    let connection = Connection {
        class: ClassId::UNKNOWN,
        ..connection
    };
    let request = entrance.seen(request);
    let mut matched = false;
    let rules = entrance.rules().iter();
    rules
        .map(|rule| {
            let outcome = if matched {
                Outcome::NotReached
            } else {
                outcome(snapshot, &rule.any_of, &connection, Some(&request))
            };
            matched |= outcome == Outcome::Matched;
            (rule, outcome)
        })
        .collect()
}

fn in_words(snapshot: &Snapshot, any_of: &[Conditions]) -> Vec<String> {
    if are_none(any_of) {
        return Vec::new();
    }
    let alternatives = any_of.iter();
    alternatives.map(|one| one.in_words(&snapshot.sources)).collect()
}

fn outcome(
    snapshot: &Snapshot,
    any_of: &[Conditions],
    connection: &Connection,
    request: Option<&Request<'_>>,
) -> Outcome {
    let mut reasons = Vec::new();
    for alternative in any_of {
        match alternative.mismatch(&snapshot.sources, connection, request) {
            None => return Outcome::Matched,
            Some(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        Outcome::Matched
    } else {
        Outcome::NotMatched(reasons)
    }
}
