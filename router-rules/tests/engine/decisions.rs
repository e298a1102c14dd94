//! The indexed engine against the naive reading, and its explanations against its decisions.

use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};
use router_rules::{
    Snapshot,
    explain::{Outcome, explain},
    id::ServiceName,
    matcher::{Mismatch, Request},
    model::{Match, Model},
    snapshot::Port,
    source::{Workload, WorkloadId},
};

use crate::{generate, naive, world::decided};

/// Every caller of the model, and one that it does not know.
fn callers(model: &Model) -> impl Iterator<Item = (Option<WorkloadId>, Option<&Workload>)> {
    let known = model.workloads.iter();
    let known = known
        .zip((0..).map(WorkloadId))
        .map(|(w, id)| (Some(id), Some(w)));
    known.chain([(None, None)])
}

fn ports(snapshot: &Snapshot, number: u16) -> impl Iterator<Item = (&'static str, &Port)> {
    let of = move |name| Some((name, snapshot.port_of(&ServiceName::new(name), number)?));
    generate::SERVICES.into_iter().filter_map(of)
}

fn name_of(rule: Option<&router_rules::model::Rule>) -> &str {
    rule.map_or("-", |rule| &*rule.origin.object)
}

/// The explanation names the rule that decided, and gives a true reason for every one before it.
fn check_explanation(
    snapshot: &Snapshot,
    model: &Model,
    port: &Port,
    (id, caller): (Option<WorkloadId>, Option<&Workload>),
    request: Option<&Request<'_>>,
) -> TestCaseResult {
    let class = snapshot.class_of(id);
    let route = match request {
        Some(request) => snapshot.route_http(port, class, request),
        None => snapshot.route_tcp(port, class),
    };
    let steps = explain(snapshot, port, class, request);
    let written = naive::ordered(model, port.service().as_str());
    prop_assert_eq!(steps.len(), written.len());
    let mut reached = true;
    for (step, rule) in steps.iter().zip(written) {
        prop_assert_eq!(&snapshot.rule(step.rule).origin().object, &rule.origin.object);
        match &step.outcome {
            Outcome::Matched => {
                prop_assert!(reached);
                prop_assert_eq!(route.rule().map(|r| r.id()), Some(step.rule));
                reached = false;
            }
            Outcome::NotMatched(reasons) => {
                prop_assert!(reached);
                prop_assert_eq!(reasons.len(), rule.any_of.len());
                for (reason, alternative) in reasons.iter().zip(&rule.any_of) {
                    prop_assert!(is_true(reason, alternative, caller, request), "{reason}");
                }
            }
            Outcome::NotReached => prop_assert!(!reached),
        }
    }
    prop_assert_eq!(reached, route.rule().is_none());
    Ok(())
}

fn is_true(
    reason: &Mismatch,
    alternative: &Match,
    caller: Option<&Workload>,
    request: Option<&Request<'_>>,
) -> bool {
    match reason {
        Mismatch::Source { wanted } => alternative
            .source
            .as_ref()
            .is_some_and(|s| s.to_string() == *wanted && !naive::is_caller(s, caller)),
        Mismatch::NeedsHttp => request.is_none() && !naive::parts(alternative).is_empty(),
        Mismatch::Part { part, wanted, found } => {
            let Some(request) = request else { return false };
            naive::parts(alternative).into_iter().any(|(name, condition)| {
                name == *part
                    && condition.to_string() == *wanted
                    && naive::value(request, &name) == *found
                    && !found.as_ref().is_some_and(|v| naive::compare(condition, v))
            })
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn requests_are_decided_as_the_language_says(
        model in generate::model(),
        requests in vec(generate::request(), 1..12),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in ports(&snapshot, 80) {
            for (id, caller) in callers(&model) {
                for asked in &requests {
                    let request = asked.request();
                    let route = snapshot.route_http(port, snapshot.class_of(id), &request);
                    let expected = naive::first(&model, name, caller, Some(&request));
                    prop_assert_eq!(decided(&route), name_of(expected), "{:?}", request);
                }
            }
        }
    }

    #[test]
    fn connections_are_decided_as_the_language_says(model in generate::model()) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in ports(&snapshot, 90).chain(ports(&snapshot, 80)) {
            let default = snapshot.default_route(port);
            for (id, caller) in callers(&model) {
                let class = snapshot.class_of(id);
                prop_assert!(class.0 < snapshot.class_count());
                let route = snapshot.route_tcp(port, class);
                prop_assert_eq!(decided(&route), name_of(naive::first(&model, name, caller, None)));
                if !port.tells_callers_apart() {
                    prop_assert_eq!(decided(&route), decided(&default));
                }
            }
            let unconditional = |rule: &&router_rules::model::Rule| {
                rule.any_of.is_empty() || rule.any_of.iter().any(Match::is_empty)
            };
            let expected = naive::ordered(&model, name).into_iter().find(unconditional);
            prop_assert_eq!(decided(&default), name_of(expected));
        }
    }

    #[test]
    fn explanations_say_what_was_decided_and_why(
        model in generate::model(),
        requests in vec(generate::request(), 1..4),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for caller in callers(&model) {
            for (_, port) in ports(&snapshot, 80) {
                for asked in &requests {
                    check_explanation(&snapshot, &model, port, caller, Some(&asked.request()))?;
                }
            }
            for (_, port) in ports(&snapshot, 90) {
                check_explanation(&snapshot, &model, port, caller, None)?;
            }
        }
    }

    #[test]
    fn targets_are_those_of_the_rule(model in generate::model(), asked in generate::request(), cursor: u64) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in ports(&snapshot, 80) {
            let route = snapshot.route_http(port, snapshot.class_of(None), &asked.request());
            let written = naive::first(&model, name, None, Some(&asked.request()));
            let written: Vec<_> = written.iter().flat_map(|rule| &rule.targets).collect();
            prop_assert_eq!(route.targets().len(), written.len().max(1));
            for ((subset, weight), target) in route.targets().zip(&written) {
                prop_assert_eq!((subset.labels(), weight), (&target.labels, target.weight));
            }
            for (subset, _) in route.targets() {
                let all = model.services.iter().find(|s| s.name == *subset.service());
                let selected = all
                    .into_iter()
                    .flat_map(|service| &service.ports[0].endpoints)
                    .filter(|e| naive::carries(&e.labels, subset.labels()));
                prop_assert!(selected.eq(subset.endpoints()));
            }
            match route.pick(cursor) {
                Ok(picked) => prop_assert!(route.targets().any(|(s, w)| s.id() == picked.id() && w > 0)),
                Err(_) => prop_assert!(route.targets().all(|(_, weight)| weight == 0)),
            }
        }
    }
}
