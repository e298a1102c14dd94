//! HTTP rules through the proxy, with callers that only the kernel can tell apart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use router_common::{
    ABI_VERSION,
    abi::HANDOVERS,
    connection::{Origin, Tuple},
};
use tests::{
    cluster::{Cluster, HTTP, RULES, WEB, WEB_HOST, WEB6, route, rule, split},
    harness::Test,
    protocol::{Behaviour, Connect, Http, HttpRequest},
    wait,
};

pub(crate) const TESTS: &[Test] = &[
    ("requests_are_split_by_weight", requests_are_split),
    ("headers_choose_a_version", headers_choose),
    ("ipv6_requests_pass_the_proxy", ipv6),
    ("callers_labels_choose_a_version", callers_choose),
    ("faults_delay_and_abort", faults),
    ("a_timeout_answers_504", timeout),
    ("retries_hide_failures", retries),
    ("hand_overs_leave_nothing_behind", handovers_end),
    (
        "who_was_not_sent_to_the_proxy_is_not_served",
        nobody_else_is_served,
    ),
    (
        "a_service_without_rules_never_meets_the_proxy",
        without_rules_direct,
    ),
];

fn requests_are_split() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("web", &[("v1", 75), ("v2", 25)]))?;
    for http in [
        Cluster::get(400),
        Cluster::get(400).http2(),
        Cluster::get(40).no_keep_alive(),
    ] {
        let count = http.count;
        let seen = cluster.a.http(http)?;
        let even = seen.from("v1").abs_diff(count * 3 / 4) <= 1;
        ensure!(
            even && seen.from("v1") + seen.from("v2") == count,
            "{seen:?}\n{}",
            agent.log_tail()
        );
    }
    let seen = cluster.servers[0].seen(HTTP)?;
    let request = seen.recent.last().expect("v1 has seen requests");
    let header = |name: &str| {
        request
            .headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    ensure!(header("host") == Some(WEB_HOST), "{request:?}");
    ensure!(header("x-request-id").is_some(), "{request:?}");
    let caller = cluster.a.v4(0).ip().to_string();
    ensure!(header("x-forwarded-for") == Some(&caller), "{request:?}");
    Ok(())
}

fn headers_choose() -> Result<()> {
    let cluster = Cluster::new()?;
    let matching = |name: &str, headers: &str, version: &str| {
        let fields = format!("  precedence: 2\n  match:\n    httpHeaders:\n{headers}");
        rule(name, "web", &(fields + &route(&[(version, 100)])))
    };
    let header = matching("foo", "      Foo: {exact: bar}\n", "v2");
    let jason = matching(
        "jason",
        "      Cookie: {regex: \"^(.*?;)?(user=jason)(;.*)?$\"}\n",
        "v3",
    );
    let _agent = cluster.agent(&(header + &jason + &split("web", &[("v1", 100)])))?;
    let get = || HttpRequest::get("/");
    for (request, version) in [
        (get(), "v1"),
        (get().header("Foo", "bar"), "v2"),
        (get().header("fOO", "bar"), "v2"),
        (get().header("Foo", "baz"), "v1"),
        (get().header("Cookie", "a=b;user=jason;c=d"), "v3"),
        (get().header("Cookie", "user=jasonx"), "v1"),
    ] {
        let seen = cluster.a.http(Cluster::send(request.clone(), 10))?;
        ensure!(seen.from(version) == 10, "{request:?}: {seen:?}");
    }
    Ok(())
}

fn ipv6() -> Result<()> {
    let cluster = Cluster::new()?;
    let condition = "  precedence: 2\n  match:\n    sourceTags: {version: b}\n";
    let for_b = rule("for-b", "web6", &(condition.to_owned() + &route(&[("v2", 100)])));
    let agent = cluster.agent(&(for_b + &split("web6", &[("v1", 100)])))?;
    for (pod, version) in [(&cluster.a, "v1"), (&cluster.b, "v2")] {
        let http = Http::to(WEB6, "web6.default", HttpRequest::get("/"), 20);
        let seen = pod.http(http)?;
        ensure!(
            seen.from(version) == 20,
            "{}: {seen:?}\n{}",
            pod.name(),
            agent.log_tail()
        );
    }
    // An IPv6 socket that connects to an IPv4 service, as many runtimes do.
    agent.change(RULES, &split("web", &[("v3", 100)]))?;
    let mapped = (
        std::net::Ipv4Addr::new(10, 96, 0, 20).to_ipv6_mapped(),
        WEB.port(),
    )
        .into();
    let seen = cluster
        .a
        .http(Http::to(mapped, WEB_HOST, HttpRequest::get("/"), 20))?;
    ensure!(seen.from("v3") == 20, "{seen:?}\n{}", agent.log_tail());
    let seen = cluster.servers[0].seen(HTTP)?;
    let request = seen.recent.last().expect("v1 has seen requests");
    let caller = cluster.a.v6(0).ip().to_string();
    ensure!(
        request
            .headers
            .iter()
            .any(|(n, v)| n == "x-forwarded-for" && *v == caller),
        "{request:?}"
    );
    Ok(())
}

fn callers_choose() -> Result<()> {
    let cluster = Cluster::new()?;
    let condition = "  precedence: 2\n  match:\n    sourceTags: {version: b}\n";
    let for_b = rule("for-b", "web", &(condition.to_owned() + &route(&[("v2", 100)])));
    let _agent = cluster.agent(&(for_b + &split("web", &[("v1", 100)])))?;
    for (pod, version) in [(&cluster.a, "v1"), (&cluster.b, "v2"), (&cluster.a, "v1")] {
        let seen = pod.http(Cluster::get(50).connections(2))?;
        ensure!(seen.from(version) == 50, "{}: {seen:?}", pod.name());
    }
    Ok(())
}

fn faults() -> Result<()> {
    let cluster = Cluster::new()?;
    let delay = "  httpFault:\n    delay: {fixedDelaySeconds: 0.3}\n";
    let agent = cluster.agent(&(split("web", &[("v1", 100)]) + delay))?;
    let seen = cluster.a.http(Cluster::get(5))?;
    ensure!(seen.from("v1") == 5 && seen.latency_us[0] >= 300_000, "{seen:?}");
    let abort = "  httpFault:\n    abort: {percent: 25, httpStatus: 418}\n";
    agent.change(RULES, &(split("web", &[("v1", 100)]) + abort))?;
    let seen = cluster.a.http(Cluster::get(2000).connections(4))?;
    let aborted = seen.status(418);
    ensure!(
        aborted + seen.from("v1") == 2000 && seen.failed() == 0,
        "{seen:?}"
    );
    // Five standard deviations of a draw of 2,000.
    ensure!(
        (400..=600).contains(&aborted),
        "{aborted} of 2000 aborted, expected about 500"
    );
    Ok(())
}

fn timeout() -> Result<()> {
    let cluster = Cluster::new()?;
    let limit = "  httpReqTimeout:\n    simpleTimeout: {timeoutSeconds: 0.3}\n";
    let _agent = cluster.agent(&(split("web", &[("v1", 100)]) + limit))?;
    let quick = cluster.a.http(Cluster::get(5))?;
    ensure!(quick.status(200) == 5, "{quick:?}");
    cluster.servers[0].behave(
        HTTP,
        Behaviour {
            delay_ms: 5000,
            ..Behaviour::default()
        },
    )?;
    let slow = cluster.a.http(Cluster::get(3))?;
    ensure!(slow.status(504) == 3, "{slow:?}");
    let slowest = Duration::from_micros(slow.latency_us[2]);
    ensure!(slowest < Duration::from_secs(3), "{slowest:?}");
    Ok(())
}

fn retries() -> Result<()> {
    let cluster = Cluster::new()?;
    let limit = "  httpReqRetries:\n    simpleRetry: {attempts: 3}\n";
    let agent = cluster.agent(&(split("web", &[("v1", 100)]) + limit))?;
    let fail = |fail_first| {
        cluster.servers[0].behave(
            HTTP,
            Behaviour {
                fail_first,
                ..Behaviour::default()
            },
        )
    };
    fail(3)?;
    let hidden = cluster.a.http(Cluster::get(1))?;
    ensure!(hidden.status(200) == 1, "{hidden:?}\n{}", agent.log_tail());
    let before = cluster.servers[0].seen(HTTP)?.requests;
    fail(10)?;
    let shown = cluster.a.http(Cluster::get(1))?;
    ensure!(shown.status(503) == 1, "{shown:?}");
    let attempts = cluster.servers[0].seen(HTTP)?.requests - before;
    ensure!(attempts == 4, "{attempts} attempts for three retries");
    Ok(())
}

fn handovers_end() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("web", &[("v1", 100)]))?;
    let seen = cluster.a.http(Cluster::get(200).no_keep_alive().connections(8))?;
    ensure!(seen.status(200) == 200, "{seen:?}");
    // Connections that are opened and dropped at once, and a client that dies with some open.
    cluster.a.connect(Connect::to(WEB, 200).by_peer().threads(8))?;
    cluster.b.connect(Connect::to(WEB, 50).by_peer().hold())?;
    cluster.b.kill();
    let pin = cluster
        .node
        .scratch()
        .pins()
        .join(format!("v{ABI_VERSION}"))
        .join(HANDOVERS);
    let map = Map::HashMap(MapData::from_pin(&pin).with_context(|| pin.display().to_string())?);
    let handovers: HashMap<_, Tuple, Origin> = HashMap::try_from(map)?;
    wait::until("no hand-over to be left", SOON, || {
        (handovers.keys().count() == 0).then_some(())
    })?;
    drop(agent);
    Ok(())
}

const SOON: Duration = Duration::from_secs(60);

fn nobody_else_is_served() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent(&split("web", &[("v1", 100)]))?;
    let proxy = "169.254.77.1:15001".parse()?;
    let seen = cluster
        .a
        .http(Http::to(proxy, WEB_HOST, HttpRequest::get("/"), 3).no_keep_alive())?;
    ensure!(seen.failed() == 3, "{seen:?}");
    ensure!(
        cluster.servers[0].seen(HTTP)?.requests == 0,
        "served: {}",
        agent.log_tail()
    );
    Ok(())
}

fn without_rules_direct() -> Result<()> {
    let cluster = Cluster::new()?;
    let agent = cluster.agent("")?;
    let seen = cluster.a.http(Cluster::get(30).no_keep_alive())?;
    ensure!(
        cluster.servers.iter().all(|s| seen.from(s.name()) == 10),
        "{seen:?}"
    );
    let web = agent.service("web", WEB.port())?;
    ensure!(web.routed == 30 && web.proxied == 0, "{web:?}");
    Ok(())
}
