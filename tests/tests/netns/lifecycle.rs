//! The agent comes and goes: restart, crash, uninstall.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use router_common::abi::{PROGRAM_SOCK_OPS, PROGRAMS};
use tests::{
    bed::{Agent, remote},
    cluster::{Cluster, HTTP, RULES, STORE, TCP, WEB, limit, split},
    harness::{Test, note},
    protocol::{Behaviour, Command, Connect},
    wait,
};

use crate::changes::endless;

pub(crate) const TESTS: &[Test] = &[
    (
        "rules_of_the_meantime_are_in_force_after_a_restart",
        rules_of_the_meantime,
    ),
    ("a_restarted_agent_adopts_what_is_pinned", restart_adopts),
    (
        "without_the_proxy_http_goes_direct_within_a_second",
        proxy_down_goes_direct,
    ),
    (
        "without_the_proxy_http_is_refused_where_asked",
        proxy_down_refuses,
    ),
    ("a_stopping_proxy_finishes_its_requests", stop_is_graceful),
    ("uninstall_leaves_nothing", uninstall_leaves_nothing),
    (
        "the_hand_over_is_attached_only_while_something_is_proxied",
        hand_over_on_demand,
    ),
];

fn restart_adopts() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules = split("store", &[("v1", 50), ("v2", 50)]) + &limit("store", 1000);
    let mut agent = cluster.agent(&rules)?;
    let held = cluster.b.begin(Command::Connect(Connect::to(STORE, 40).hold()))?;
    let id = held.id();
    ensure!(held.connected()?.established() == 40, "held connections failed");
    let before = hooks(&agent.status()?)?;
    let load = cluster.a.begin(Command::Connect(endless(STORE)))?;
    for end in [true, false, true] {
        if end {
            agent.kill()?;
        } else {
            let status = agent.terminate()?;
            ensure!(status.success(), "the agent ended with {status}");
        }
        // Nobody is there, and the kernel routes.
        let alone = cluster.b.connect(Connect::to(STORE, 100))?;
        ensure!(alone.from("v1") + alone.from("v2") == 100, "{alone:?}");
        agent.run()?;
    }
    let seen = remote::connected(load.stop()?)?;
    ensure!(seen.failed() == 0, "{seen:?}");
    ensure!(
        hooks(&agent.status()?)?.len() == before.len(),
        "{:?}",
        agent.status()
    );
    let kept = wait::until("only the held connections to count", SOON, || {
        agent.limit("store-limit").ok().filter(|l| l.active == 40)
    });
    kept.with_context(|| format!("{:?}", agent.limit("store-limit")))?;
    cluster.b.release(id, 40)?;
    wait::until("nothing to count", SOON, || {
        agent.limit("store-limit").ok().filter(|l| l.active == 0)
    })?;
    let held = endpoints_in_use(&agent)?;
    ensure!(
        held == 0,
        "{held} connections to endpoints are counted, none is open"
    );
    // And the new agent is the one that writes.
    agent.change(RULES, &split("store", &[("v3", 100)]))?;
    let after = cluster.b.connect(Connect::to(STORE, 30))?;
    ensure!(after.from("v3") == 30, "{after:?}");
    note(&format!(
        "{} connects over three restarts, none failed",
        seen.established()
    ));
    Ok(())
}

/// Connections that the kernel counts as open to the endpoints of `store`.
fn endpoints_in_use(agent: &Agent<'_>) -> Result<u64> {
    let explanation = agent.json(&format!("/explain?destination=tcp://{STORE}"))?;
    let subsets = explanation["kernel"]["subsets"]
        .as_array()
        .context("no subsets")?;
    let endpoints = subsets.iter().filter_map(|s| s["endpoints"].as_array()).flatten();
    Ok(endpoints.filter_map(|e| e["active"].as_u64()).sum())
}

fn rules_of_the_meantime() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut agent = cluster.agent(&split("store", &[("v1", 100)]))?;
    agent.kill()?;
    agent.write(RULES, &(split("store", &[("v2", 100)]) + &limit("store", 5)))?;
    // Until the agent is back the old rules are in force, then the new ones, with nothing in between.
    let before = cluster.a.connect(Connect::to(STORE, 50))?;
    ensure!(before.from("v1") == 50, "{before:?}");
    agent.run()?;
    let after = cluster.a.connect(Connect::to(STORE, 10).hold())?;
    ensure!(after.from("v2") == 5 && after.failed() == 5, "{after:?}");
    // A broken file at the start: what is pinned goes on.
    agent.kill()?;
    agent.write(RULES, "destination: [\n")?;
    ensure!(agent.run_unready().is_ok(), "{}", agent.log_tail());
    cluster.a.kill();
    wait::until("the places to be free", SOON, || {
        cluster.b.connect_once(STORE).ok()?.ok()
    })?;
    let kept = cluster.b.connect(Connect::to(STORE, 10))?;
    ensure!(kept.from("v2") == 10, "{kept:?}");
    agent.write(RULES, &split("store", &[("v3", 100)]))?;
    wait::until("the mended file to be in force", SOON, || {
        (agent.admin("/readyz").ok()?.status == 200).then_some(())
    })?;
    let mended = cluster.b.connect(Connect::to(STORE, 10))?;
    ensure!(mended.from("v3") == 10, "{mended:?}");
    Ok(())
}

const SOON: Duration = Duration::from_secs(60);

/// Ids of the attached programs.
fn hooks(status: &serde_json::Value) -> Result<Vec<u32>> {
    let hooks = status["hooks"].as_array().context("no hooks")?;
    let id = |v: &serde_json::Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = hooks
        .iter()
        .filter(|h| h["attached"] == true)
        .map(|h| id(&h["programId"]));
    let ids: Vec<_> = ids.flatten().collect();
    let idle = hooks
        .iter()
        .filter(|h| h["idle"] == true && h["attached"] == false);
    ensure!(
        ids.len() + idle.count() == PROGRAMS.len(),
        "a hook is not attached: {status}"
    );
    Ok(ids)
}

fn hand_over_on_demand() -> Result<()> {
    let cluster = Cluster::new()?;
    let (routed, proxied) = (
        split("store", &[("v1", 100)]),
        split("web", &[("v1", 50), ("v2", 50)]),
    );
    let mut agent = cluster.agent(&routed)?;
    ensure!(!hands_over(&agent)?, "{:?}", agent.status());
    for round in 0..2 {
        // The first connection that is sent to the proxy is handed over already.
        agent.change(RULES, &proxied)?;
        let through = cluster.a.http(Cluster::get(20))?;
        ensure!(
            through.from("v1") == 10 && through.from("v2") == 10,
            "{round}: {through:?}"
        );
        ensure!(hands_over(&agent)?, "{:?}", agent.status());
        // Another agent goes on with what is attached.
        agent.kill()?;
        agent.run()?;
        let adopted = cluster.a.http(Cluster::get(20))?;
        ensure!(adopted.status(200) == 20, "{adopted:?}");
        ensure!(hands_over(&agent)?, "{:?}", agent.status());
        if round == 0 {
            removed_pin_comes_back(&cluster, &agent)?;
        }
        agent.change(RULES, &routed)?;
        let kept = cluster.a.connect(Connect::to(STORE, 10))?;
        ensure!(kept.from("v1") == 10, "{kept:?}");
        ensure!(hands_over(&agent)?, "detached at once");
        // waits: for the second time that the agent looks after its maps.
        wait::until("the hand-over to be detached", TWO_LOOKS, || {
            hands_over(&agent).ok().filter(|hands_over| !hands_over)
        })?;
    }
    Ok(())
}

/// Whoever removes the pin detaches the hook: that is told, and mended when the agent looks after its maps.
fn removed_pin_comes_back(cluster: &Cluster, agent: &Agent<'_>) -> Result<()> {
    std::fs::remove_file(cluster.node.scratch().pins().join("links").join(PROGRAM_SOCK_OPS))?;
    let status = agent.status()?;
    let hooks = status["hooks"].as_array().context("no hooks")?;
    let hook = hooks.iter().find(|h| h["program"] == PROGRAM_SOCK_OPS);
    let missed = hook.is_some_and(|h| h["attached"] == false && h["idle"] == false);
    ensure!(missed, "its loss is not told: {status}");
    wait::until("the hand-over to be attached again", TWO_LOOKS, || {
        hands_over(agent).ok().filter(|hands_over| *hands_over)
    })?;
    let again = cluster.a.http(Cluster::get(20).no_keep_alive())?;
    ensure!(again.status(200) == 20, "{again:?}");
    Ok(())
}

/// The agent looks after its maps every 30 seconds.
const TWO_LOOKS: Duration = Duration::from_secs(90);

/// Whether the hook that hands connections over to the proxy is attached.
fn hands_over(agent: &Agent<'_>) -> Result<bool> {
    let status = agent.status()?;
    let hooks = status["hooks"].as_array().context("no hooks")?;
    let mut hook = hooks.iter().filter(|h| h["program"] == PROGRAM_SOCK_OPS);
    hook.next()
        .and_then(|h| h["attached"].as_bool())
        .context("no such hook")
}

fn proxy_down_goes_direct() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut agent = cluster.agent(&split("web", &[("v1", 50), ("v2", 50)]))?;
    let through = cluster.a.http(Cluster::get(20))?;
    ensure!(
        through.from("v1") == 10 && through.from("v2") == 10,
        "{through:?}"
    );
    let proxied = agent.service("web", WEB.port())?.proxied;
    ensure!(proxied > 0, "not through the proxy");
    agent.kill()?;
    let killed = Instant::now();
    wait::until("HTTP to go direct", SOON, || {
        let seen = cluster.a.http(Cluster::get(1).no_keep_alive()).ok()?;
        (seen.status(200) == 1).then_some(())
    })?;
    let gap = killed.elapsed();
    note(&format!(
        "HTTP went direct {} ms after the proxy was killed",
        gap.as_millis()
    ));
    ensure!(gap < Duration::from_secs(3), "only after {gap:?}");
    let direct = cluster.a.http(Cluster::get(20).no_keep_alive())?;
    ensure!(direct.status(200) == 20 && direct.from("v3") == 0, "{direct:?}");
    agent.run()?;
    let again = agent.service("web", WEB.port())?.proxied;
    let through = cluster.a.http(Cluster::get(20))?;
    ensure!(through.status(200) == 20, "{through:?}");
    let now = agent.service("web", WEB.port())?.proxied;
    ensure!(now > again, "not through the proxy again: {again} → {now}");
    Ok(())
}

fn proxy_down_refuses() -> Result<()> {
    let cluster = Cluster::new()?;
    let rules = split("web", &[("v1", 100)]);
    let mut agent = cluster.agent_with(&rules, &["--on-proxy-down", "reject"])?;
    let through = cluster.a.http(Cluster::get(5))?;
    ensure!(through.from("v1") == 5, "{through:?}");
    agent.kill()?;
    let refused = || {
        // Never to a pod, from the moment of the kill; refused by nobody's listening at first, by name later.
        let seen = cluster.a.connect_once(WEB).ok()?;
        Some(seen == Err("ECONNREFUSED".into()))
    };
    let end = Instant::now() + 2 * STALE;
    while Instant::now() < end {
        ensure!(
            refused() == Some(true),
            "not refused: {:?}",
            cluster.a.connect_once(WEB)
        );
    }
    agent.run()?;
    ensure!(agent.verdict("proxy-down")? > 0, "{:?}", agent.status());
    let again = cluster.a.http(Cluster::get(5))?;
    ensure!(again.from("v1") == 5, "{again:?}");
    Ok(())
}

/// Age of the heartbeat beyond which the proxy is down.
const STALE: Duration = Duration::from_secs(1);

fn stop_is_graceful() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut agent = cluster.agent(&split("web", &[("v1", 100)]))?;
    let slow = Behaviour {
        delay_ms: 50,
        ..Behaviour::default()
    };
    cluster.servers[0].behave(HTTP, slow)?;
    let kept = cluster
        .a
        .begin(Command::Http(Cluster::get(u64::MAX).connections(4)))?;
    let fresh = cluster.b.begin(Command::Http(
        Cluster::get(u64::MAX).connections(4).no_keep_alive(),
    ))?;
    for _ in 0..2 {
        let served = cluster.servers[0].seen(HTTP)?.requests;
        wait::until("requests to flow", SOON, || {
            cluster.servers[0]
                .seen(HTTP)
                .ok()
                .filter(|seen| seen.requests > served + 50)
        })?;
        agent.terminate()?;
        agent.run()?;
    }
    for load in [kept, fresh] {
        let seen = remote::replies(load.stop()?)?;
        note(&format!(
            "{} requests over two restarts: {:?}",
            seen.status(200),
            seen.errors
        ));
        ensure!(
            seen.failed() == 0 && seen.statuses.len() == 1,
            "{seen:?}\n{}",
            agent.log_tail()
        );
    }
    Ok(())
}

fn uninstall_leaves_nothing() -> Result<()> {
    let cluster = Cluster::new()?;
    let mut agent = cluster.agent(&split("store", &[("v1", 100)]))?;
    let seen = cluster.a.connect(Connect::to(STORE, 10))?;
    ensure!(seen.from("v1") == 10, "{seen:?}");
    let hooks = hooks(&agent.status()?)?;
    agent.terminate()?;
    let pins = cluster.node.scratch().pins();
    ensure!(pins.exists(), "SIGTERM removed the pins");
    let pin_dir = pins.to_string_lossy();
    let output = agent.router(&["uninstall", "--pin-dir", &pin_dir])?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(!pins.exists(), "{} is left", pins.display());
    let left = wait::until("programs and links to be gone", SOON, || {
        let programs: Vec<_> = aya::programs::loaded_programs()
            .filter_map(Result::ok)
            .map(|p| p.id())
            .collect();
        hooks
            .iter()
            .all(|program| !programs.contains(program))
            .then_some(())
    });
    left.with_context(|| format!("{hooks:?}"))?;
    // The address of the service leads nowhere now; pods reach each other as before.
    let gone = cluster.a.connect_once(STORE)?;
    ensure!(gone.is_err(), "{gone:?}");
    let direct = cluster.a.connect_once(cluster.servers[0].v4(TCP))?;
    ensure!(direct == Ok("v1".into()), "{direct:?}");
    Ok(())
}
