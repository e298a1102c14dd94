//! What `explain` says is what happens: random rules, random requests, and both are compared.
//!
//! Ten thousand requests a run or more, over HTTP/1.1, HTTP/2, gRPC and TCP, through a real proxy to real servers. The seed is
//! printed on failure; `ROUTER_TEST_SEED=N` runs it again, and the failing configuration is the first of that run.

mod traffic;
mod world;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use futures_util::future::join_all;
use router_rules::Snapshot;
use router_userspace::{
    admin::{
        dump::Explanation,
        ejections::Ejections,
        explain::{self, Question},
    },
    compile::compile,
    config::Documents,
    enforce::Origin,
};

use self::{
    traffic::{Client, Dialect, Seen, instance, source},
    world::{Ask, CALLERS, INSTANCES, SERVICES},
};
use super::{
    bed::{Bed, Line, until},
    server::Server,
};

/// Configurations of a run, at least.
const WORLDS: usize = 50;
/// And at most, where something has hardly happened.
const MOST_WORLDS: usize = 250;
/// Requests under each.
const REQUESTS: usize = 200;
/// What can become of a request or connection.
const OUTCOMES: usize = 8;
/// Who asks for what; each the same number of times.
const DIALECTS: [(Dialect, &str); 4] = [
    (Dialect::Http1, "http"),
    (Dialect::Http2, "http"),
    (Dialect::Grpc, "grpc"),
    (Dialect::Tcp, "tcp"),
];

#[tokio::test]
async fn what_explain_says_is_what_happens() {
    let given = std::env::var("ROUTER_TEST_SEED").ok();
    let seed = given.map_or_else(
        || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .subsec_nanos()
                .into()
        },
        |text| text.parse::<u64>().unwrap(),
    );
    let mut servers = Vec::new();
    for service in &SERVICES {
        let instances = (0..INSTANCES).map(|_| instance(service));
        servers.push(join_all(instances).await);
    }
    let addresses: Vec<Vec<SocketAddr>> = servers
        .iter()
        .map(|of| of.iter().map(|server: &Server| server.address).collect())
        .collect();
    let mut bed = Bed::start(router_rules::model::Model::default());
    tell_origins(&bed);
    let mut outcomes = BTreeMap::new();
    let mut worlds = 0;
    // Nothing is shown by a run in which little happens.
    while worlds < WORLDS || !is_telling(&outcomes) {
        assert!(worlds < MOST_WORLDS, "{outcomes:?}");
        agree(
            &mut bed,
            seed.wrapping_add(worlds as u64),
            &addresses,
            &mut outcomes,
        )
        .await;
        worlds += 1;
    }
    assert_eq!(outcomes.values().sum::<usize>(), worlds * REQUESTS);
}

/// True when everything that can happen has, and not just once or twice.
fn is_telling(outcomes: &Outcomes) -> bool {
    outcomes.len() == OUTCOMES && outcomes.values().all(|&count| count > 10)
}

/// Every pair of service and caller has a source address of its own.
fn tell_origins(bed: &Bed) {
    let mut origins = bed.kernel.origins.lock().unwrap();
    for (index, service) in SERVICES.iter().enumerate() {
        for caller in 0..=CALLERS {
            let origin = Origin {
                destination: service.address(),
                cgroup: 100 + u64::from(caller),
                confined: false,
            };
            origins.insert(source(index, caller), origin);
        }
    }
    let mut workloads = bed.kernel.workloads.lock().unwrap();
    for caller in 1..=CALLERS {
        workloads.insert(100 + u64::from(caller), workload(caller).into());
    }
}

fn workload(caller: u8) -> String {
    format!("default/caller-{caller}")
}

/// How often what became of requests.
type Outcomes = BTreeMap<&'static str, usize>;

/// One configuration: publishes it, asks, and compares.
async fn agree(bed: &mut Bed, seed: u64, addresses: &[Vec<SocketAddr>], outcomes: &mut Outcomes) {
    let mut rng = Rng::with_seed(seed);
    let yaml = world::configuration(&mut rng, addresses);
    let mut documents = Documents::default();
    documents.add_text("world.yaml", &yaml);
    let compiled =
        compile(&documents).unwrap_or_else(|findings| panic!("seed {seed}: {findings:#?}\n{yaml}"));
    bed.publish(compiled.model);
    let snapshot = bed.live.load();
    let mut batches: BTreeMap<(usize, usize, u8), Vec<Ask>> = BTreeMap::new();
    for number in 0..REQUESTS {
        let dialect = number % DIALECTS.len();
        let ask = world::ask(&mut rng, DIALECTS[dialect].1, number);
        batches
            .entry((dialect, ask.service, ask.caller))
            .or_default()
            .push(ask);
    }
    let proxy = bed.address();
    let answers = join_all(batches.into_iter().map(|((dialect, ..), asks)| async move {
        let dialect = DIALECTS[dialect].0;
        let mut client = Client::new(proxy, dialect);
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            let seen = client.send(&ask).await;
            answers.push((dialect, ask, seen));
        }
        answers
    }))
    .await;
    until("every access line", || bed.log.count() >= REQUESTS).await;
    let lines = Lines::new(bed.log.take());
    let mut turns = Turns::default();
    for (dialect, ask, seen) in answers.into_iter().flatten() {
        let explanation = explained(&snapshot, dialect, &ask);
        match compare(dialect, &ask, &explanation, &seen, &lines, &mut turns) {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(difference) => panic!(
                "{difference}\nasked {dialect:?} {ask:#?}\nexplained {:#?}\nseen {seen:#?}\n{yaml}\n\
                 again: ROUTER_TEST_SEED={seed} cargo test -p tests --test wire agreement",
                explanation.decision
            ),
        }
    }
    if let Err(difference) = turns.are_fair(&lines) {
        panic!(
            "{difference}\n{yaml}\nagain: ROUTER_TEST_SEED={seed} cargo test -p tests --test wire agreement"
        );
    }
}

fn explained(snapshot: &Arc<Snapshot>, dialect: Dialect, ask: &Ask) -> Explanation {
    let service = &SERVICES[ask.service];
    let mut headers: Vec<String> = ask
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.push(format!("host: {}", ask.host));
    if dialect == Dialect::Grpc {
        headers.push("content-type: application/grpc".to_owned());
    }
    let scheme = if dialect == Dialect::Tcp { "tcp" } else { "http" };
    let question = Question {
        from: (ask.caller > 0).then(|| workload(ask.caller)),
        method: Some(ask.method.to_owned()),
        headers,
        destination: format!("{scheme}://{}{}", service.address(), ask.path),
        ingress: false,
    };
    let seen = explain::Seen {
        observed: None,
        ejections: &Ejections::default(),
        breakers: None,
    };
    explain::explain(snapshot, seen, &question).unwrap()
}

/// The access log: of requests by their paths, of connections all together.
struct Lines {
    requests: HashMap<String, Line>,
    connections: Vec<Line>,
}

impl Lines {
    fn new(lines: Vec<Line>) -> Self {
        let (connections, requests): (Vec<_>, Vec<_>) = lines.into_iter().partition(|l| l.protocol == "TCP");
        let requests = requests.into_iter().map(|line| {
            let number = line
                .path
                .rsplit_once("n=")
                .map_or(String::new(), |(_, number)| number.to_owned());
            (number, line)
        });
        Self {
            requests: requests.collect(),
            connections,
        }
    }

    fn of(&self, ask: &Ask) -> Option<&Line> {
        let number = ask.path.rsplit_once("n=").map_or("", |(_, number)| number);
        self.requests.get(number)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, explained: T, happened: T) -> Result<(), String> {
    if explained == happened {
        return Ok(());
    }
    Err(format!("{what}: explained {explained:?}, happened {happened:?}"))
}

fn compare(
    dialect: Dialect,
    ask: &Ask,
    explanation: &Explanation,
    seen: &Seen,
    lines: &Lines,
    turns: &mut Turns,
) -> Result<&'static str, String> {
    let decision = &explanation.decision;
    let terminated = decision
        .connection_faults
        .contains(&"reset of every connection at once".to_owned());
    if terminated && dialect != Dialect::Tcp {
        return same("status", None, seen.status).map(|()| "terminated");
    }
    if dialect == Dialect::Tcp {
        turns.request(explanation);
        if terminated {
            return same("status", None, seen.status).map(|()| "terminated");
        }
        let reached = explanation.decision.targets.iter().filter(|t| t.share > 0.0);
        let endpoints: Vec<String> = reached
            .clone()
            .flat_map(|t| &t.endpoints)
            .map(|e| e.address.to_string())
            .collect();
        let may_fail = decision.refusal.is_some() || reached.clone().any(|t| t.refusal.is_some());
        return match seen.status {
            Some(_) if endpoints.iter().any(|e| e == seen.header("x-endpoint")) => Ok("connected"),
            None if may_fail => Ok("not connected"),
            _ => Err(format!("the connection did not reach one of {endpoints:?}")),
        };
    }
    let line = lines.of(ask).ok_or("there is no access line")?;
    same("rule", decision.rule.as_deref().unwrap_or(""), &line.rule)?;
    if let Some(abort) = decision
        .faults
        .iter()
        .find_map(|f| f.strip_prefix("abort with ")?.strip_suffix(" for every request"))
    {
        return aborted(dialect, abort, seen).map(|()| "aborted");
    }
    if let Some(location) = decision
        .actions
        .iter()
        .find_map(|a| a.strip_prefix("redirect with 301 to "))
    {
        same("status", Some(301), seen.status)?;
        return same("location", location, seen.header("location")).map(|()| "redirected");
    }
    let refused = |reason: &str| {
        same("reason", reason, seen.header("x-router-reason"))?;
        match dialect {
            Dialect::Grpc => same("gRPC status", "14", seen.header("grpc-status")),
            _ => same("status", Some(503), seen.status),
        }
    };
    if let Some(reason) = &decision.refusal {
        return refused(reason).map(|()| "no weight");
    }
    turns.request(explanation);
    let chosen = decision.targets.iter().filter(|t| t.share > 0.0);
    let target = chosen
        .clone()
        .find(|t| format!("{} {}", t.service, t.labels) == line.subset);
    let target = target.ok_or_else(|| format!("subset {} is not explained", line.subset))?;
    if let Some(reason) = &target.refusal {
        return refused(reason).map(|()| "no endpoint");
    }
    same("status", Some(200), seen.status)?;
    let endpoint = line.endpoint.ok_or("no endpoint was logged")?;
    let known = target.endpoints.iter().any(|e| e.address == endpoint);
    same("endpoint is of the target", true, known)?;
    forwarded(dialect, ask, explanation, seen).map(|()| "forwarded")
}

/// What the endpoint saw.
fn forwarded(dialect: Dialect, ask: &Ask, explanation: &Explanation, seen: &Seen) -> Result<(), String> {
    let actions = &explanation.decision.actions;
    let said = |prefix: &str| actions.iter().find_map(|action| action.strip_prefix(prefix));
    same(
        "path",
        said("rewrite the path to ").unwrap_or(&ask.path),
        seen.header("x-path"),
    )?;
    same(
        "host",
        said("rewrite the host to ").unwrap_or(ask.host),
        seen.header("x-host"),
    )?;
    same(
        "header",
        said("append x-added: ").unwrap_or(""),
        seen.header("x-was-added"),
    )?;
    same("method", ask.method, seen.header("x-method"))?;
    if dialect == Dialect::Grpc {
        let status = seen.trailers.get("grpc-status").map(|status| status.as_bytes());
        same("trailers", Some(&b"0"[..]), status)?;
    }
    Ok(())
}

/// `status 418`, `gRPC status 14 (UNAVAILABLE)` or `a reset (REFUSED_STREAM)`.
fn aborted(dialect: Dialect, abort: &str, seen: &Seen) -> Result<(), String> {
    if let Some(code) = abort
        .strip_prefix("a reset (")
        .and_then(|code| code.strip_suffix(')'))
    {
        same("status", None, seen.status)?;
        return match dialect {
            Dialect::Http1 => Ok(()),
            _ => same("code", Some(code), seen.reset.as_deref()),
        };
    }
    same("reason", "fault-abort", seen.header("x-router-reason"))?;
    if let Some(status) = abort.strip_prefix("gRPC status ") {
        let number = status.split(' ').next().unwrap_or_default();
        same("status", Some(200), seen.status)?;
        return same("gRPC status", number, seen.header("grpc-status"));
    }
    let status = abort
        .strip_prefix("status ")
        .ok_or_else(|| format!("`{abort}` is not understood"))?;
    match dialect {
        // 404 is UNIMPLEMENTED there, 418 nothing in particular.
        Dialect::Grpc => same(
            "gRPC status",
            if status == "404" { "12" } else { "2" },
            seen.header("grpc-status"),
        ),
        _ => same("status", status.parse().ok(), seen.status),
    }
}

/// How often each rule let its targets take turns, to be compared with the shares that were explained.
#[derive(Default)]
struct Turns {
    /// By rule and port: how often, and the explained shares by subset.
    explained: BTreeMap<(String, String), (usize, BTreeMap<String, f64>)>,
}

impl Turns {
    fn request(&mut self, explanation: &Explanation) {
        let rule = explanation.decision.rule.clone().unwrap_or_default();
        let entry = self
            .explained
            .entry((explanation.service.clone(), rule))
            .or_default();
        entry.0 += 1;
        entry.1.clear();
        for target in &explanation.decision.targets {
            *entry
                .1
                .entry(format!("{} {}", target.service, target.labels))
                .or_default() += target.share;
        }
    }

    /// Shares are exact in every whole turn of a table, and off by a few in a part of one. That a rule decided as
    /// often as was explained holds for connections too, of which nothing else tells them apart.
    fn are_fair(&self, lines: &Lines) -> Result<(), String> {
        for ((service, rule), (count, shares)) in &self.explained {
            let of_rule: Vec<_> = lines
                .requests
                .values()
                .chain(&lines.connections)
                .filter(|line| line.rule == *rule && line.service == *service)
                .filter(|line| !line.subset.is_empty() || line.reason == "no-weight")
                .collect();
            same(
                &format!("decisions of {rule} for {service}"),
                *count,
                of_rule.len(),
            )?;
            for (subset, share) in shares {
                let taken = of_rule.iter().filter(|line| line.subset == *subset).count() as f64;
                let wanted = *count as f64 * share / 100.0;
                if (taken - wanted).abs() > 3.0 {
                    return Err(format!(
                        "{rule}: {subset} was chosen {taken} times of {count}, share {share}"
                    ));
                }
            }
        }
        Ok(())
    }
}
