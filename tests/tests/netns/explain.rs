//! `router explain` says what really happens: two thousand random requests and connections, each compared with the
//! explanation of the running agent.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    bed::{Agent, Pod, agent::ADMIN},
    cluster::{Cluster, STORE, TCP, WEB, WEB_HOST, route, rule, split},
    harness::{Test, note},
    protocol::{Connect, Http, HttpRequest, Reply},
    require::scaled,
};

pub(crate) const TESTS: &[Test] = &[
    ("explanations_agree_with_the_proxy", agrees_with_proxy),
    ("explanations_agree_with_the_kernel", agrees_with_kernel),
];

/// Seed of the random requests, so that a failure can be repeated.
const SEED: u64 = 0x0072_6f75_7465_7221;

/// Rules that overlap in every condition the language has.
fn web_rules() -> String {
    let matching = |name: &str, precedence: u32, condition: &str, weights: &[(&str, u32)]| {
        let fields = format!("  precedence: {precedence}\n  match:\n{condition}");
        rule(name, "web", &(fields + &route(weights)))
    };
    let headers = |lines: &str| format!("    httpHeaders:\n{lines}");
    let source = "    source: client.default.svc.cluster.local\n    sourceTags: {version: b}\n";
    [
        matching(
            "jason",
            9,
            &headers("      Cookie: {regex: \"^(.*?;)?(user=jason)(;.*)?$\"}\n"),
            &[("v3", 100)],
        ),
        matching(
            "b-posts",
            8,
            &(source.to_owned() + &headers("      method: {exact: POST}\n")),
            &[("v2", 100)],
        ),
        matching(
            "foo-api",
            7,
            &headers("      Foo: {exact: bar}\n      uri: {prefix: /api/}\n"),
            &[("v1", 50), ("v2", 50)],
        ),
        matching(
            "exact",
            6,
            &headers("      uri: {exact: /api/v1}\n"),
            &[("v3", 100)],
        ),
        matching("b", 5, source, &[("v2", 0), ("v3", 100)]),
        matching("prefix", 4, &headers("      Foo: {prefix: ba}\n"), &[("v1", 100)]),
        matching(
            "host",
            3,
            &headers("      authority: {prefix: web.}\n      uri: {regex: \"/items/[0-9]+\"}\n"),
            &[("v2", 100)],
        ),
        matching(
            "nowhere",
            2,
            &headers("      uri: {exact: /nowhere}\n"),
            &[("v9", 100)],
        ),
        split("web", &[("v1", 70), ("v2", 30)]),
    ]
    .concat()
}

/// A random request that may meet any of the rules.
fn random_request(random: &mut fastrand::Rng) -> HttpRequest {
    const PATHS: [&str; 8] = [
        "/",
        "/api/v1",
        "/api/v1?q=1",
        "/api/v2",
        "/api",
        "/items/7",
        "/items/seven",
        "/nowhere",
    ];
    const FOO: [Option<&str>; 4] = [None, Some("bar"), Some("baz"), Some("qux")];
    const COOKIES: [Option<&str>; 4] = [None, None, Some("user=jason"), Some("a=b; user=jasons")];
    let mut request = HttpRequest::get(pick(random, &PATHS));
    request.method = pick(random, &["GET", "GET", "POST", "DELETE"]).into();
    if let Some(value) = pick(random, &FOO) {
        request = request.header("Foo", value);
    }
    if let Some(value) = pick(random, &COOKIES) {
        request = request.header("Cookie", value);
    }
    request
}

fn pick<T: Copy>(random: &mut fastrand::Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

fn agrees_with_proxy() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&web_rules())?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let each = scaled(1000, 1);
    let mut rules = std::collections::BTreeMap::<String, u64>::new();
    for pod in [&cluster.a, &cluster.b] {
        let requests: Vec<_> = (0..each).map(|_| random_request(&mut random)).collect();
        let sent = Http {
            requests: requests.clone(),
            ..Cluster::get(each).connections(4).trace()
        };
        let replies = pod.http(sent)?.replies;
        let explanations = explain(&agent, pod, &requests)?;
        ensure!(replies.len() == requests.len(), "{} replies", replies.len());
        for reply in &replies {
            let explanation = &explanations[reply.request];
            let rule = explanation["decision"]["rule"].as_str().unwrap_or("none");
            *rules.entry(rule.to_owned()).or_default() += 1;
            check(reply, explanation)
                .with_context(|| format!("{:?} from {}", requests[reply.request], pod.name()))?;
        }
    }
    note(&format!("{} requests agree; by rule: {rules:?}", 2 * each));
    ensure!(rules.len() == 9, "a rule was never met: {rules:?}");
    Ok(())
}

/// Explanations of requests from `pod`, in their order.
fn explain(agent: &Agent<'_>, pod: &Pod, requests: &[HttpRequest]) -> Result<Vec<Value>> {
    let questions = requests.iter().map(|request| {
        let destination = format!("http://{WEB_HOST}:{}{}", WEB.port(), request.path);
        let mut path = format!("/explain?destination={}", encoded(&destination));
        path.push_str(&format!("&from=default/{}&method={}", pod.name(), request.method));
        for (name, value) in &request.headers {
            path.push_str(&format!("&header={}", encoded(&format!("{name}: {value}"))));
        }
        HttpRequest::get(&path)
    });
    ask(agent, questions.collect())
}

/// Asks the admin address, all questions on one connection; answers in the order of the questions.
fn ask(agent: &Agent<'_>, questions: Vec<HttpRequest>) -> Result<Vec<Value>> {
    let asked = Http {
        count: questions.len().try_into()?,
        requests: questions,
        ..Http::to(ADMIN, "admin", HttpRequest::get("/"), 1).trace()
    };
    let mut replies = agent.node().remote().http(asked)?.replies;
    replies.sort_by_key(|reply| reply.request);
    let parse = |reply: Reply| {
        ensure!(reply.status == 200, "{reply:?}");
        Ok(serde_json::from_str(&reply.body)?)
    };
    replies.into_iter().map(parse).collect()
}

/// The pod that answered is one of those that the explanation allows; no pod answers where it says so.
fn check(reply: &Reply, explanation: &Value) -> Result<()> {
    let targets = explanation["decision"]["targets"]
        .as_array()
        .context("no targets")?;
    let taken = |t: &&Value| t["share"].as_f64().is_some_and(|share| share > 0.0);
    let mut endpoints = Vec::new();
    for target in targets.iter().filter(taken) {
        let listed = target["endpoints"].as_array().context("no endpoints")?;
        endpoints.extend(listed.iter().filter_map(|e| e["workload"].as_str()));
    }
    let server = format!("default/{}", reply.pod);
    let agrees = if endpoints.is_empty() {
        reply.status == 503 && reply.pod.is_empty()
    } else {
        reply.status == 200 && endpoints.contains(&server.as_str())
    };
    ensure!(agrees, "{reply:?} but {explanation}");
    Ok(())
}

fn agrees_with_kernel() -> Result<()> {
    let cluster = Cluster::new()?;
    let condition = "  precedence: 2\n  match:\n    sourceTags: {version: b}\n";
    let weights: [&[(&str, u32)]; 3] = [
        &[("v2", 100)],
        &[("v1", 10), ("v2", 30), ("v3", 60)],
        &[("v3", 1), ("v1", 9)],
    ];
    let connects = scaled(200, 10);
    for (for_a, for_b) in [
        (weights[0], weights[1]),
        (weights[1], weights[2]),
        (weights[2], weights[0]),
    ] {
        let rules = rule("for-b", "store", &(condition.to_owned() + &route(for_b))) + &split("store", for_a);
        let agent = cluster.agent(&rules)?;
        for pod in [&cluster.a, &cluster.b] {
            let destination = format!("tcp://{STORE}");
            let path = format!(
                "/explain?destination={}&from=default/{}",
                encoded(&destination),
                pod.name()
            );
            let question = || vec![HttpRequest::get(&path)];
            let before = ask(&agent, question())?.remove(0);
            let seen = pod.connect(Connect::to(STORE, connects))?;
            for server in &cluster.servers {
                let expected = connects as f64 * share(&before, server.name()) / 100.0;
                let got = seen.from(server.name()) as f64;
                ensure!(
                    (got - expected).abs() < 1.0,
                    "{}: {got}, but {before}",
                    server.name()
                );
            }
            let after = ask(&agent, question())?.remove(0);
            let turns = |explanation: &Value| explanation["kernel"]["cursor"].as_u64();
            let (before, after) = (turns(&before), turns(&after));
            ensure!(
                after
                    .zip(before)
                    .is_some_and(|(after, before)| after - before == connects),
                "the cursor went from {before:?} to {after:?} in {connects} connects"
            );
        }
    }
    note(&format!("{} connections agree", 6 * connects));
    ensure!(
        cluster.servers.iter().map(|s| s.seen(TCP)).all(|s| s.is_ok()),
        "a server is gone"
    );
    Ok(())
}

/// The share in percent that the explanation gives to a version.
fn share(explanation: &Value, version: &str) -> f64 {
    let targets = explanation["decision"]["targets"].as_array();
    let label = format!("version={version}");
    let target = targets.and_then(|list| list.iter().find(|t| t["labels"] == label.as_str()));
    target.and_then(|t| t["share"].as_f64()).unwrap_or(0.0)
}

/// `text` as a value in a query.
fn encoded(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| {
            if safe(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
