//! The indexed engine against the naive reading, and its explanations against its decisions.

use std::net::IpAddr;

use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};
use router_rules::{
    Snapshot,
    connection::{Connection, Transport},
    explain::{Outcome, explain},
    id::ServiceName,
    matcher::{Mismatch, Request},
    model::{Match, Model},
    snapshot::Port,
    source::{ClassId, Workload, WorkloadId},
};

use crate::{
    generate,
    naive::{self, Call},
    world::decided,
};

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

/// The ports for connections: over TCP, over UDP, and for HTTP.
fn connected(snapshot: &Snapshot) -> impl Iterator<Item = (&'static str, &Port)> {
    let datagrams = |name| {
        Some((
            name,
            snapshot.port_carried_of(Transport::Udp, &ServiceName::new(name), 90)?,
        ))
    };
    let datagrams = generate::SERVICES.into_iter().filter_map(datagrams);
    ports(snapshot, 90).chain(ports(snapshot, 80)).chain(datagrams)
}

type Ends = (Option<IpAddr>, Option<IpAddr>);

fn connection(class: ClassId, (client, dialled): Ends) -> Connection {
    Connection {
        class,
        client,
        dialled,
    }
}

fn call<'c>(
    port: &Port,
    caller: Option<&'c Workload>,
    (client, dialled): Ends,
    request: Option<&'c Request<'c>>,
) -> Call<'c> {
    Call {
        transport: port.protocol().transport(),
        caller,
        client,
        dialled,
        request,
    }
}

fn name_of(rule: Option<&router_rules::model::Rule>) -> &str {
    rule.map_or("-", |rule| &*rule.origin.object)
}

/// The explanation names the rule that decided, and gives a true reason for every one before it.
fn check_explanation(
    snapshot: &Snapshot,
    model: &Model,
    port: &Port,
    id: Option<WorkloadId>,
    call: &Call<'_>,
) -> TestCaseResult {
    let connection = connection(snapshot.class_of(id), (call.client, call.dialled));
    let route = match call.request {
        Some(request) => snapshot.route_http(port, connection, request),
        None => snapshot.route_connection(port, connection),
    };
    let steps = explain(snapshot, port, connection, call.request);
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
                    prop_assert!(is_true(reason, alternative, call), "{reason}");
                }
            }
            Outcome::NotReached => prop_assert!(!reached),
        }
    }
    prop_assert_eq!(reached, route.rule().is_none());
    Ok(())
}

fn is_true(reason: &Mismatch, alternative: &Match, call: &Call<'_>) -> bool {
    let transport = alternative.transport.as_ref();
    match reason {
        Mismatch::Transport { wanted } => {
            transport.is_some_and(|t| t.transport == *wanted && t.transport != call.transport)
        }
        Mismatch::Destination { wanted, found } => transport.is_some_and(|t| {
            let same = t.destinations.to_string() == *wanted && *found == call.dialled;
            same && !naive::is_dialled(&t.destinations, call)
        }),
        Mismatch::SourceSubnet { wanted, .. } => {
            transport.is_some_and(|t| t.sources.to_string() == *wanted && !naive::is_from(&t.sources, call))
        }
        Mismatch::Source { wanted } => alternative
            .source
            .as_ref()
            .is_some_and(|s| s.to_string() == *wanted && !naive::is_caller(s, call.caller)),
        Mismatch::NeedsHttp => call.request.is_none() && !naive::parts(alternative).is_empty(),
        Mismatch::Part { part, wanted, found } => {
            let Some(request) = call.request else { return false };
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
        requests in vec((generate::request(), generate::ends()), 1..12),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in ports(&snapshot, 80) {
            for (id, caller) in callers(&model) {
                for (asked, ends) in &requests {
                    let request = asked.request();
                    let route = snapshot.route_http(port, connection(snapshot.class_of(id), *ends), &request);
                    let expected = naive::first(&model, name, &call(port, caller, *ends, Some(&request)));
                    prop_assert_eq!(decided(&route), name_of(expected), "{:?}", request);
                }
            }
        }
    }

    #[test]
    fn connections_are_decided_as_the_language_says(
        model in generate::model(),
        ends in vec(generate::ends(), 1..4),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in connected(&snapshot) {
            let default = snapshot.default_route(port);
            for ((id, caller), &ends) in callers(&model).flat_map(|c| ends.iter().map(move |e| (c, e))) {
                let class = snapshot.class_of(id);
                prop_assert!(class.0 < snapshot.class_count());
                let route = snapshot.route_connection(port, connection(class, ends));
                let expected = naive::first(&model, name, &call(port, caller, ends, None));
                prop_assert_eq!(decided(&route), name_of(expected));
                if !port.tells_connections_apart() {
                    prop_assert_eq!(decided(&route), decided(&default));
                }
            }
            let transport = port.protocol().transport();
            let asks_nothing = |m: &Match| {
                let t = m.transport.as_ref();
                Match { transport: None, ..m.clone() }.is_empty()
                    && t.is_none_or(|t| t.transport == transport && t.sources.is_empty() && t.destinations.is_empty())
            };
            let unconditional = |rule: &&router_rules::model::Rule| {
                rule.any_of.is_empty() || rule.any_of.iter().any(asks_nothing)
            };
            let expected = naive::ordered(&model, name).into_iter().find(unconditional);
            prop_assert_eq!(decided(&default), name_of(expected));
        }
    }

    #[test]
    fn what_is_decided_stays_so_however_much_is_learned_of_the_caller(
        model in generate::model(),
        ends in vec(generate::ends(), 1..6),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (_, port) in connected(&snapshot) {
            // The kernel always knows what was dialled.
            for &(client, dialled) in ends.iter().filter(|(_, dialled)| dialled.is_some()) {
                for class in (0..snapshot.class_count()).map(ClassId) {
                    let little = connection(class, (None, dialled));
                    if snapshot.is_undecided(port, little) {
                        continue;
                    }
                    let decision = decided(&snapshot.route_connection(port, little));
                    let much = connection(class, (client, dialled));
                    prop_assert_eq!(decision, decided(&snapshot.route_connection(port, much)));
                    let known = callers(&model).map(|(id, _)| snapshot.class_of(id));
                    for known in known.filter(|_| class == ClassId::UNKNOWN) {
                        let known = connection(known, (client, dialled));
                        prop_assert_eq!(decision, decided(&snapshot.route_connection(port, known)));
                    }
                }
            }
        }
    }

    #[test]
    fn frontends_of_a_group_are_told_apart_by_no_rule(
        mut model in generate::model(),
        client in proptest::option::of(generate::address()),
    ) {
        model.services[0].addresses = generate::ADDRESSES.iter().map(|a| a.parse().unwrap()).collect();
        let snapshot = Snapshot::build(model, 1);
        for port in snapshot.ports().iter().filter(|p| !p.frontends().is_empty()) {
            let groups = snapshot.frontend_groups(port);
            prop_assert_eq!(groups.iter().flatten().count(), port.frontends().len());
            for (group, class) in groups.iter().flat_map(|g| (0..snapshot.class_count()).map(move |c| (g, c))) {
                let route = |frontend: &std::net::SocketAddr| {
                    let dialled = Some(frontend.ip());
                    let client = client.filter(|c| c.is_ipv4() == frontend.is_ipv4());
                    decided(&snapshot.route_connection(port, connection(ClassId(class), (client, dialled))))
                };
                // Clients over the other family are others.
                let same = group.iter().filter(|f| f.is_ipv4() == group[0].is_ipv4());
                prop_assert!(same.clone().all(|frontend| route(frontend) == route(&group[0])));
            }
        }
    }

    #[test]
    fn explanations_say_what_was_decided_and_why(
        model in generate::model(),
        requests in vec((generate::request(), generate::ends()), 1..4),
    ) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for ((id, caller), (asked, ends)) in callers(&model).flat_map(|c| requests.iter().map(move |r| (c, r))) {
            for (_, port) in ports(&snapshot, 80) {
                let call = call(port, caller, *ends, None);
                let request = asked.request();
                check_explanation(&snapshot, &model, port, id, &Call { request: Some(&request), ..call })?;
            }
            for (_, port) in connected(&snapshot) {
                check_explanation(&snapshot, &model, port, id, &call(port, caller, *ends, None))?;
            }
        }
    }

    #[test]
    fn targets_are_those_of_the_rule(model in generate::model(), asked in generate::request(), cursor: u64) {
        let snapshot = Snapshot::build(model.clone(), 1);
        for (name, port) in ports(&snapshot, 80) {
            let route = snapshot.route_http(port, snapshot.class_of(None), &asked.request());
            let written = naive::first(&model, name, &Call::of(None, Some(&asked.request())));
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
